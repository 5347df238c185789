//! Each format as others write it, and as nobody should.

use std::io::Write as _;

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::input::Inputs;
use crate::record::{NewRecord, Source};

/// A file in memory.
fn file(name: &str, bytes: impl Into<Vec<u8>>) -> Origin {
    Origin::Bytes { name: name.to_owned(), bytes: bytes.into().leak() }
}

/// Every record of a file, bad rows as text, and the error that ended it.
fn read(
    origin: &Origin,
    options: &ReadOptions,
) -> (Vec<Result<NewRecord, String>>, Option<String>) {
    let rows = match open(origin, options) {
        Ok(rows) => rows,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut records = Vec::new();
    for row in rows {
        match row {
            Ok(row) => records.push(row.record.map_err(|error| error.to_string())),
            Err(error) => return (records, Some(error.to_string())),
        }
    }
    (records, None)
}

/// Every record of a file without a fault.
fn good(origin: &Origin, options: &ReadOptions) -> Vec<NewRecord> {
    let (records, error) = read(origin, options);
    assert_eq!(error, None);
    records.into_iter().collect::<Result<_, _>>().unwrap()
}

/// The first thing that is wrong with a file: a row, or the file itself.
fn fault(origin: &Origin, options: &ReadOptions) -> String {
    let (records, error) = read(origin, options);
    records.into_iter().find_map(Result::err).or(error).expect("the file should be refused")
}

#[track_caller]
fn assert_fault(origin: &Origin, options: &ReadOptions, parts: &[&str]) {
    let fault = fault(origin, options);
    for part in parts {
        assert!(fault.contains(part), "expected {part:?} in {fault:?}");
    }
}

fn vectors(origin: &Origin, options: &ReadOptions) -> Vec<Vec<f32>> {
    let vector = |record: NewRecord| match record.source {
        Some(Source::Vector(vector)) => vector,
        other => panic!("expected a vector, got {other:?}"),
    };
    good(origin, options).into_iter().map(vector).collect()
}

fn hex_codes(origin: &Origin, options: &ReadOptions) -> Vec<String> {
    let hex = |record: NewRecord| match record.source {
        Some(Source::Code(code)) => code.to_hex(),
        other => panic!("expected a code, got {other:?}"),
    };
    good(origin, options).into_iter().map(hex).collect()
}

fn default() -> ReadOptions {
    ReadOptions::default()
}

fn codes(bits: usize, bit_order: BitOrder) -> ReadOptions {
    let width = Width::new(bits).unwrap();
    ReadOptions { source: Some(SourceKind::Code { width, bit_order }), ..default() }
}

fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((118u16).to_le_bytes());
    bytes.extend(format!("{text:<117}\n").bytes());
    bytes.extend(data);
    bytes
}

fn idx(kind: u8, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// One small file of each format, with the options to read it.
fn samples() -> Vec<(&'static str, Vec<u8>, ReadOptions)> {
    let matrix = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let fvecs: Vec<u8> = [3i32.to_le_bytes(); 2]
        .iter()
        .zip(matrix.chunks(12))
        .flat_map(|(d, v)| [d, v].concat())
        .collect();
    vec![
        ("t.jsonl", b"{\"id\":1,\"text\":\"a\"}\n{\"id\":2,\"text\":\"b\"}\n".to_vec(), default()),
        ("t.csv", b"id,text\n1,a\n2,\"b,\nc\"\n".to_vec(), default()),
        ("t.tsv", b"id\ttext\n1\ta\n2\tb\n".to_vec(), default()),
        ("t.npy", npy("<f4", false, "(2, 3)", &matrix), default()),
        ("t.npy", npy("<f4", true, "(2, 3)", &matrix), default()),
        ("t.npy", npy("|u1", false, "(2, 3)", b"abcdef"), codes(24, BitOrder::Msb)),
        ("t.fvecs", fvecs, default()),
        ("t.bvecs", b"\x03\0\0\0abc\x03\0\0\0def".to_vec(), default()),
        ("t-idx3-ubyte", idx(8, &[2, 1, 3], b"abcdef"), default()),
    ]
}

#[test]
fn compression_changes_nothing() {
    for (name, bytes, options) in samples() {
        let plain = good(&file(name, &bytes[..]), &options);
        assert_eq!(plain.len(), 2, "{name}");
        for (ending, packed) in [(".gz", gzip(&bytes)), (".zst", zstd(&bytes)), ("", gzip(&bytes))]
        {
            assert_eq!(good(&file(&format!("{name}{ending}"), packed), &options), plain, "{name}");
        }
        // Two gzip members, one after the other, are one stream.
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        assert_eq!(good(&file(name, [gzip(head), gzip(tail)].concat()), &options), plain);
    }
}

#[test]
fn cut_anywhere_is_an_error_and_never_a_panic() {
    for (name, bytes, options) in samples() {
        for packed in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
            let is_text = packed == bytes && !name.contains("vecs") && name.contains("sv")
                || packed == bytes && name.contains("json");
            for length in 0..packed.len() {
                let (records, error) = read(&file(name, &packed[..length]), &options);
                if !is_text {
                    // A file of vectors that is cut between two is a whole file.
                    let between =
                        name.contains("vecs") && packed == bytes && length * 2 == bytes.len();
                    let refused = error.is_some() || records.iter().any(Result::is_err);
                    assert!(refused || between, "{name} cut at {length}: {records:?}");
                }
            }
        }
    }
}

#[test]
fn damage_anywhere_never_panics() {
    for (name, bytes, options) in samples() {
        for packed in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
            for i in 0..packed.len() {
                for value in [0, 0x7f, 0xff, packed[i] ^ 1] {
                    let mut damaged = packed.clone();
                    damaged[i] = value;
                    read(&file(name, damaged), &options);
                }
            }
        }
    }
}

#[test]
fn jsonl_fields() {
    let text = "\u{feff}{\"id\": 7, \"text\": \"Moon\", \"label\": \"sky\", \"year\": 1969}\n\n\
                {\"id\": \"b\", \"text\": \"\", \"label\": null}";
    let records = good(&file("t.jsonl", text), &default());
    let moon = &records[0];
    assert_eq!(moon.id.as_ref().unwrap().as_str(), "7");
    assert_eq!(moon.source, Some(Source::Text("Moon".into())));
    assert_eq!(moon.payload.to_json(), r#"{"label":"sky","year":1969}"#);
    assert_eq!(records[1].id.as_ref().unwrap().as_str(), "b");

    let named =
        ReadOptions { text_field: Some("title".into()), id_field: Some("key".into()), ..default() };
    let records = good(&file("t.json", r#"{"key":"k","title":"T","text":"x","id":1}"#), &named);
    assert_eq!(records[0].id.as_ref().unwrap().as_str(), "k");
    assert_eq!(records[0].source, Some(Source::Text("T".into())));
    assert_eq!(records[0].payload.to_json(), r#"{"id":1,"text":"x"}"#);
}

#[test]
fn rows_without_ids_are_numbered() {
    let text = "{\"text\":\"a\"}\nbroken\n{\"text\":\"b\"}\n";
    let continued = ReadOptions { first_row: 10, ..default() };
    let (records, error) = read(&file("t.jsonl", text), &continued);
    assert_eq!(error, None);
    let ids: Vec<_> = records.iter().flatten().map(|r| r.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["10", "12"]);
}

#[test]
fn the_source_is_what_was_asked_for() {
    let both = file("t.jsonl", r#"{"text":"a","vector":[1,2.5],"code":"0xff"}"#);
    assert_eq!(good(&both, &default())[0].source.as_ref().unwrap().kind(), "text");
    let vector = ReadOptions { source: Some(SourceKind::Vector), ..default() };
    let record = &good(&both, &vector)[0];
    assert_eq!(record.source, Some(Source::Vector(vec![1.0, 2.5])));
    assert_eq!(record.payload.to_json(), r#"{"code":"0xff","text":"a"}"#);

    let code =
        file("t.jsonl", "{\"code\":\"f000\"}\n{\"code\":\"0b000000000001\"}\n{\"code\":\"gBA=\"}");
    assert_eq!(hex_codes(&code, &codes(12, BitOrder::Msb)), ["f000", "0010", "8010"]);
    let code =
        file("t.jsonl", "{\"code\":\"0f00\"}\n{\"code\":\"0b000000000001\"}\n{\"code\":\"AQg=\"}");
    assert_eq!(hex_codes(&code, &codes(12, BitOrder::Lsb)), ["f000", "0010", "8010"]);
    assert_fault(&code, &default(), &["--bits"]);
}

#[test]
fn a_bad_row_is_named_and_the_next_is_read() {
    let mut lines: Vec<String> =
        (0..20).map(|i| format!("{{\"id\":{i},\"text\":\"t\"}}")).collect();
    lines[16] = "{\"id\":16,\"text\":".into();
    let (records, error) = read(&file("t.jsonl", lines.join("\n")), &default());
    assert_eq!((records.len(), error), (20, None));
    let bad: Vec<_> = records.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(
        bad,
        ["t.jsonl:17: expected a JSON object, got EOF while parsing a value at column 16"]
    );

    let id = "x".repeat(10_000_000);
    for (row, parts) in [
        ("[1]", &["t.jsonl:2: expected a JSON object"][..]),
        (r#"{"id":2}"#, &["t.jsonl:2: text: the field is missing"]),
        (r#"{"text":"t"}"#, &["t.jsonl:2: id: the field is missing"]),
        (r#"{"id":2,"text":7}"#, &["t.jsonl:2: text: expected a string, got the number 7"]),
        (r#"{"id":2.5,"text":"t"}"#, &["t.jsonl:2: id: expected a string or an integer"]),
        (r#"{"id":"","text":"t"}"#, &["t.jsonl:2: id: expected 1 to 512 bytes, got 0"]),
        (&format!(r#"{{"id":"{id}","text":"t"}}"#), &["id: expected 1 to 512", "10000000"]),
        (&format!(r#"{{"id":2,"text":"t","x":"{id}"}}"#), &["payload: expected at most 1048576"]),
        (&"x".repeat(MAX_ROW_BYTES + 9), &["t.jsonl:2: expected a line of at most 16777216 bytes"]),
        ("{\"id\":2,\"text\":\"\u{1}\"}", &["t.jsonl:2: expected a JSON object", "control"]),
    ] {
        let text = format!("{{\"id\":1,\"text\":\"a\"}}\n{row}\n{{\"id\":3,\"text\":\"c\"}}\n");
        let origin = file("t.jsonl", text);
        assert_fault(&origin, &default(), parts);
        let (records, error) = read(&origin, &default());
        assert!(error.is_none() && records.len() == 3 && records[2].is_ok(), "{parts:?}");
    }
}

#[test]
fn bad_vectors_are_named() {
    for (row, part) in [
        ("[1,2]", "expected vectors of 3 numbers as in the first row, got vectors of 2 numbers"),
        ("[1,2,1e300]", "expected finite 32-bit numbers, got inf in column 2"),
        ("[1,2,null]", "vector: expected a number in column 2, got null"),
        ("[1,2,NaN]", "expected a JSON object, got expected value at column 16"),
        ("[]", "vector: expected numbers, got none"),
        ("7", "vector: expected an array of numbers, got the number 7"),
    ] {
        let text = format!("{{\"vector\":[1,2,3]}}\n{{\"vector\":{row}}}\n");
        assert_fault(&file("t.jsonl", text), &default(), &["t.jsonl:2: ", part]);
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let data = floats(&[1.0, 2.0, 3.0, bad]);
        let origin = file("t.npy", npy("<f4", false, "(2, 2)", &data));
        assert_fault(&origin, &default(), &["t.npy row 1: expected finite", "in column 1"]);
    }
}

#[test]
fn a_wrong_field_name_ends_the_file_with_advice() {
    let row = r#"{"id":1,"body":"a","titel":"b"}"#;
    let origin = file("t.jsonl", format!("{row}\n{row}\n"));
    let parts =
        ["t.jsonl: there is no field \"text\"", "\"body\", \"id\", \"titel\"", "--text-field"];
    assert_fault(&origin, &default(), &parts);
    assert_eq!(read(&origin, &default()).0.len(), 0);
    let named = ReadOptions { text_field: Some("title".into()), ..default() };
    assert_fault(&origin, &named, &["did you mean --text-field titel?"]);
    let named =
        ReadOptions { text_field: Some("body".into()), id_field: Some("key".into()), ..default() };
    assert_fault(&origin, &named, &["there is no field \"key\"", "--id-field"]);
}

#[test]
fn csv_and_tsv() {
    let text = "\u{feff}id,text,vector\r\n007,\"a, \"\"b\"\"\nc\",\"[1, 2.5]\"\r\n8,d,3 4\r\n";
    let records = good(&file("t.csv", text), &default());
    assert_eq!(records[0].id.as_ref().unwrap().as_str(), "007");
    assert_eq!(records[0].source, Some(Source::Text("a, \"b\"\nc".into())));
    assert_eq!(records[0].payload.to_json(), r#"{"vector":"[1, 2.5]"}"#);
    let vector = ReadOptions { source: Some(SourceKind::Vector), ..default() };
    assert_eq!(vectors(&file("t.csv", text), &vector), [[1.0, 2.5], [3.0, 4.0]]);
    assert_eq!(
        good(&file("t.tsv", "text\tx\na,b\t1\n"), &default())[0].payload.to_json(),
        r#"{"x":"1"}"#
    );

    let (records, error) = read(&file("t.csv", "id,text\n1,a\n2,b,c\n3\n4,d\n"), &default());
    assert_eq!(error, None);
    assert!(records[0].is_ok() && records[3].is_ok());
    let message = "t.csv:3: expected 2 values as in the header, got 3";
    assert_eq!(records[1], Err(message.to_owned()));
    assert_fault(&file("t.csv", "text,text\n"), &default(), &["names the field \"text\" twice"]);
    assert_fault(&file("t.csv", "id,text\n"), &default(), &["t.csv: the file holds no rows"]);
    assert_fault(&file("t.csv", &b"text\n\xff\n"[..]), &default(), &["t.csv:2: expected UTF-8"]);
    let open_quote = format!("text\n\"{}", "x\n".repeat(MAX_ROW_BYTES));
    assert_fault(&file("t.csv", open_quote), &default(), &["t.csv:2", "is a quote open?"]);
}

#[test]
fn npy_codes_in_both_bit_orders() {
    let origin = file("t.npy", npy("|u1", false, "(2, 2)", &[0xf0, 0x10, 0x01, 0x80]));
    assert_eq!(hex_codes(&origin, &codes(16, BitOrder::Msb)), ["f010", "0180"]);
    assert_eq!(hex_codes(&origin, &codes(16, BitOrder::Lsb)), ["0f08", "8001"]);
    assert_fault(&origin, &codes(8, BitOrder::Msb), &["expected 1 bytes a row for 8 bits, got 2"]);
    assert_fault(&origin, &default(), &["uint8", "--bits"]);
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
fn a_folder_of_texts() {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("sky/moon.txt", &b"The moon"[..]),
        ("sky/deep/star.txt", b"A star"),
        ("sea/fish.txt.gz", &gzip(b"A fish")),
        ("root.txt", b"No label"),
        (".hidden/x.txt", b"hidden"),
        ("sea/latin1.txt", b"caf\xe9"),
        ("sea/empty.txt", b""),
    ] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (records, error) = read(&Origin::from(root.path()), &default());
    assert_eq!(error, None);
    let shown: Vec<String> = records
        .iter()
        .map(|record| match record {
            Ok(NewRecord { id: Some(id), source: Some(Source::Text(text)), payload }) => {
                format!("{} [{text}] {}", id.as_str(), payload.to_json())
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.rsplit('/').next().unwrap().to_owned(),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "root.txt [No label] {}",
            "empty.txt: the file is empty",
            r#"sea/fish.txt.gz [A fish] {"label":"sea"}"#,
            "latin1.txt: expected UTF-8 text, got another byte at 3; convert it with iconv",
            r#"sky/deep/star.txt [A star] {"label":"sky/deep"}"#,
            r#"sky/moon.txt [The moon] {"label":"sky"}"#,
        ]
    );
    let empty = tempfile::tempdir().unwrap();
    assert_fault(&Origin::from(empty.path()), &default(), &["the file holds no rows"]);
}

#[test]
fn formats_are_found_or_named() {
    for (name, bytes, part) in [
        ("x.npy", &b""[..], "x.npy: the file is empty"),
        ("x.npy", b"no numpy", "does not begin with \\x93NUMPY"),
        ("x.idx", b"\x01\x02\x03\x04", "this is no IDX file"),
        ("x.npz", b"PK\x03\x04", "numpy.save"),
        ("x.parquet", b"PAR1", "JSONL"),
        ("x.json", b" [{}]", "one object a line"),
        ("x", b"hello", "--format: jsonl, csv, tsv, npy, fvecs, bvecs, ivecs, idx, folder"),
        ("x.fvecs", b"\x01", "cut short in the dimension"),
        ("x.jsonl", b"\n \n", "the file holds no rows"),
    ] {
        assert_fault(&file(name, bytes), &default(), &[part]);
    }
    assert_eq!(good(&file("x", "\n{\"text\":\"a\"}"), &default()).len(), 1);
    let named = ReadOptions { format: Some(Format::Csv), ..default() };
    assert_eq!(good(&file("x", "text\na\nb\n"), &named).len(), 2);
    let missing = open(&Origin::Path("no/such.jsonl".into()), &default()).err().unwrap();
    assert!(matches!(missing, Error::NotFound { kind: "file", .. }));
}

#[test]
fn totals_are_told_only_when_the_file_confirms_them() {
    for (name, bytes, options) in samples() {
        let rows = open(&file(name, &bytes[..]), &options).unwrap();
        let binary = !name.contains("sv") && !name.contains("json");
        assert_eq!(rows.total_rows(), binary.then_some(2), "{name}");
        let progress = rows.progress();
        rows.for_each(drop);
        assert_eq!(
            (progress.read(), progress.total()),
            (bytes.len() as u64, Some(bytes.len() as u64))
        );
        let packed = open(&file(name, gzip(&bytes)), &options).unwrap();
        assert_eq!(packed.total_rows(), None, "{name}");
    }
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
