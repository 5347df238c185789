//! Arrays, vectors, pictures and labels, in both directions.

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::input::Inputs;

#[test]
fn npy_codes_in_both_bit_orders() {
    let origin = file("t.npy", npy("|u1", false, "(2, 2)", &[0xf0, 0x10, 0x01, 0x80]));
    assert_eq!(hex_codes(&origin, &codes(16, BitOrder::Msb)), ["f010", "0180"]);
    assert_eq!(hex_codes(&origin, &codes(16, BitOrder::Lsb)), ["0f08", "8001"]);
    assert_fault(&origin, &codes(8, BitOrder::Msb), &["expected 1 bytes a row for 8 bits, got 2"]);
    assert_fault(&origin, &default(), &["uint8", "--preset vector", "--codes"]);
    // Of 12 bits the last four must be zero: the first row is right in one order, the second in
    // neither.
    let (records, error) = read(&origin, &codes(12, BitOrder::Msb));
    assert!(error.is_none() && records[0].is_ok());
    assert!(records[1].is_ok());
    let (records, _) = read(&origin, &codes(11, BitOrder::Msb));
    assert!(
        records[0].as_ref().is_err_and(|e| e.starts_with("t.npy row 0: code: bits are set beyond"))
    );
    let as_vectors = ReadOptions { source: Some(SourceKind::Vector), ..default() };
    assert_eq!(vectors(&origin, &as_vectors)[0], [240.0, 16.0]);

    let int8 = file("t.npy", npy("|i1", false, "(2, 2)", b"abcd"));
    assert_fault(&int8, &codes(16, BitOrder::Msb), &["ubinary"]);
    let words = file("t.npy", npy("<u8", false, "(1, 1)", b"abcdefgh"));
    assert_fault(
        &words,
        &codes(64, BitOrder::Msb),
        &["expected codes as uint8 of shape (rows, 8)"],
    );
    let width = Width::new(16).unwrap();
    assert_eq!(
        load_codes(&origin, width, &default()).unwrap().to_bytes(),
        [0xf0, 0x10, 0x01, 0x80]
    );
}

#[test]
fn headers_that_lie() {
    let huge = npy("<f4", false, "(1152921504606846976, 2)", &floats(&[1.0, 2.0]));
    assert_fault(&file("t.npy", &huge[..]), &default(), &["1152921504606846976", "cut short"]);
    let (records, error) = read(&file("t.npy.gz", gzip(&huge)), &default());
    assert!(records.len() == 1 && error.unwrap().contains("1152921504606846976 rows, there are 1"));
    let huge_fortran = npy("<f4", true, "(1152921504606846976, 2)", &floats(&[1.0, 2.0]));
    assert_fault(&file("t.npy.gz", gzip(&huge_fortran)), &default(), &["cut short"]);
    let overflow = npy("<f4", false, "(4611686018427387904, 4611686018427387904)", &[]);
    assert_fault(&file("t.npy", overflow), &default(), &["too large to be"]);
    let wide = npy("<f4", false, "(1, 1152921504606846976)", &[]);
    assert_fault(&file("t.npy", wide), &default(), &["at most 16777216 bytes a row"]);
    let long = npy("<f4", false, "(1, 1)", &floats(&[1.0, 2.0]));
    assert_fault(&file("t.npy", &long[..]), &default(), &["too long", "4 bytes; there are 8"]);
    assert_fault(&file("t.npy.gz", gzip(&long)), &default(), &["too long for its 1 rows"]);
    for shape in ["(0, 4)", "(4, 0)", "(0,)"] {
        assert_fault(
            &file("t.npy", npy("<f4", false, shape, &[])),
            &default(),
            &["there are no rows"],
        );
    }
    assert_fault(&file("t.npy", npy("<f4", false, "()", &[0; 4])), &default(), &["rank 1 to 3"]);
    let one = npy("<f4", false, "(2,)", &floats(&[1.0, 2.0]));
    assert_fault(&file("t.npy", one), &default(), &["rank 1 (2 of float32)", "reshape", "(1, 2)"]);

    let idx_huge = idx(8, &[u32::MAX, u32::MAX, u32::MAX], b"abc");
    assert_fault(&file("t.idx", idx_huge), &default(), &["too large to be"]);
    let idx_rows = idx(8, &[u32::MAX, 1, 3], b"abc");
    assert_fault(&file("t.idx", idx_rows), &default(), &["cut short", "4294967295"]);
    assert_fault(&file("t.idx", idx(8, &[3], b"abc")), &default(), &["rank 1", "--labels"]);
    for dim in [0, -1, i32::MAX] {
        let bytes = [&dim.to_le_bytes()[..], &[0; 12]].concat();
        assert_fault(&file("t.fvecs", bytes), &default(), &["dimension", &dim.to_string()]);
    }
    // The bytes of these dimensions begin a pickle, and what gzip writes.
    for dim in [1152, 35_615] {
        let bytes = [&i32::to_le_bytes(dim)[..], &vec![0; 4 * dim as usize]].concat();
        assert_eq!(vectors(&file("t.fvecs.gz", gzip(&bytes)), &default())[0].len(), dim as usize);
    }
    let uneven = [&2i32.to_le_bytes()[..], &[0; 8], &3i32.to_le_bytes(), &[0; 8]].concat();
    assert_fault(
        &file("t.fvecs", uneven),
        &default(),
        &["t.fvecs row 1: expected a dimension of 2, got 3"],
    );
}

#[test]
fn pictures() {
    for bytes in [
        idx(8, &[2, 2, 3], b"abcdefghijkl"),
        npy("|u1", false, "(2, 2, 3)", b"abcdefghijkl"),
        npy("|u1", true, "(2, 2, 3)", b"agdjbhekcifl"),
    ] {
        let data = load(&file("digits", bytes), &default()).unwrap();
        let Inputs::Images(images) = data.inputs else { panic!("expected pictures") };
        assert_eq!((images.height, images.width), (2, 3));
        assert_eq!((images.row(0), images.row(1)), (&b"abcdef"[..], &b"ghijkl"[..]));
        assert_eq!((data.ids, data.labels), (vec!["0".to_owned(), "1".to_owned()], None));
    }
}

#[test]
fn labels_from_a_second_file() {
    let pictures = file("x", idx(8, &[2, 1, 1], b"ab"));
    let with = |labels: Origin| ReadOptions { labels: Some(labels), ..default() };
    for labels in [
        file("y", gzip(&idx(8, &[2], &[7, 3]))),
        file("y.npy", npy("<i8", false, "(2,)", &[7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0])),
        file("y.npy", npy(">i2", false, "(2, 1)", &[0, 7, 0, 3])),
        file("y.jsonl", "{\"label\":7}\n{\"label\":\"3\"}\n"),
        file("y.csv", "label\n7\n3\n"),
    ] {
        let data = load(&pictures, &with(labels)).unwrap();
        assert_eq!(data.labels.unwrap(), ["7", "3"]);
    }
    let joined = file("y.jsonl", "{\"id\":\"a\",\"label\":7,\"text\":\"seven\"}\n{\"id\":\"b\"}\n");
    let records = good(&pictures, &with(joined.clone()));
    assert_eq!(records[0].id.as_ref().unwrap().as_str(), "a");
    assert_eq!(records[0].payload.to_json(), r#"{"label":7,"text":"seven"}"#);
    // One row without a label: there are none, unless they were asked for.
    assert_eq!(load(&pictures, &with(joined.clone())).unwrap().labels, None);
    let asked = ReadOptions { label_field: Some("label".into()), ..with(joined) };
    assert!(
        load(&pictures, &asked).unwrap_err().to_string().contains("x row 1: there is no label")
    );

    assert_fault(
        &pictures,
        &with(file("y", idx(8, &[1], &[7]))),
        &["y: ", "y ends after 1 and x goes on"],
    );
    assert_fault(
        &pictures,
        &with(file("y", idx(8, &[3], &[7; 3]))),
        &["x ends after 2 and y goes on"],
    );
    assert_fault(
        &pictures,
        &with(file("y", idx(8, &[2, 2], &[7; 4]))),
        &["expected labels as integers"],
    );
    let floats = file("y.npy", npy("<f4", false, "(2,)", &[0; 8]));
    assert_fault(&pictures, &with(floats), &["expected labels as integers", "float32"]);
}

#[test]
fn written_files_appear_when_they_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    std::fs::write(&path, "before").unwrap();
    let mut writer = NpyWriter::<f32>::create(&path, 2).unwrap();
    writer.write(&[1.0, 2.0]).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let mut writer = NpyWriter::<f32>::create(&path, 2).unwrap();
    writer.write(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    writer.write(&[5.0, 6.0]).unwrap();
    assert_eq!(writer.finish().unwrap(), 3);
    assert_eq!(
        vectors(&Origin::from(path.as_path()), &default()),
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    );
    let numpy = npy("<f4", false, "(3, 2)", &floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(std::fs::read(&path).unwrap(), numpy);

    let error = NpyWriter::<u8>::create(folder.path(), 2).err().unwrap();
    assert!(matches!(error, Error::Invalid { .. }));
    let error = NpyWriter::<u8>::create(&folder.path().join("no/a.npy"), 2).err().unwrap();
    assert!(matches!(error, Error::Io { doing: "create", .. }));
}

/// Every number, order of bytes, and order of dimensions reads as what it says.
fn numbers_as(descr: &str, values: &[i8]) -> Vec<u8> {
    let big = descr.starts_with('>');
    values
        .iter()
        .flat_map(|&x| {
            let mut bytes = match &descr[1..] {
                "u1" => vec![x.unsigned_abs()],
                "i1" => vec![x as u8],
                "i2" => i16::from(x).to_le_bytes().to_vec(),
                "u4" => u32::from(x.unsigned_abs()).to_le_bytes().to_vec(),
                "i4" => i32::from(x).to_le_bytes().to_vec(),
                "i8" => i64::from(x).to_le_bytes().to_vec(),
                "f2" => f16::from_f32(f32::from(x)).to_le_bytes().to_vec(),
                "f4" => f32::from(x).to_le_bytes().to_vec(),
                "f8" => f64::from(x).to_le_bytes().to_vec(),
                other => panic!("{other}"),
            };
            if big {
                bytes.reverse();
            }
            bytes
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn npy_of_every_kind(
        rows in 1usize..6,
        cols in 1usize..6,
        values in prop::collection::vec(any::<i8>(), 25),
        kind in prop::sample::select(vec!["u1", "i1", "i2", "u4", "i4", "i8", "f2", "f4", "f8"]),
        big in any::<bool>(),
        fortran in any::<bool>(),
        packed in any::<bool>(),
    ) {
        let descr = format!("{}{kind}", if big { '>' } else { '<' });
        let value = |r: usize, c: usize| values[r * cols + c];
        let stored: Vec<i8> = if fortran {
            (0..cols).flat_map(|c| (0..rows).map(move |r| value(r, c))).collect()
        } else {
            (0..rows).flat_map(|r| (0..cols).map(move |c| value(r, c))).collect()
        };
        let bytes = npy(&descr, fortran, &format!("({rows}, {cols})"), &numbers_as(&descr, &stored));
        let origin = file("t.npy", if packed { gzip(&bytes) } else { bytes });
        let asked = ReadOptions { source: Some(SourceKind::Vector), ..ReadOptions::default() };
        let unsigned = kind.starts_with('u');
        let expected: Vec<Vec<f32>> = (0..rows)
            .map(|r| {
                (0..cols)
                    .map(|c| if unsigned { f32::from(value(r, c).unsigned_abs()) } else { value(r, c).into() })
                    .collect()
            })
            .collect();
        prop_assert_eq!(vectors(&origin, &asked), expected);
    }
}
