//! Each format as others write it, and as nobody should.

mod binary;
mod text;

use std::io::Write as _;

use super::*;
use crate::record::{NewRecord, Source};

/// A file in memory.
fn file(name: &str, bytes: impl Into<Vec<u8>>) -> Origin {
    Origin::Bytes { name: name.to_owned(), bytes: bytes.into().into() }
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
fn parts_and_rows_spread_evenly_are_those_of_the_whole_file() {
    for (name, bytes, options) in samples() {
        let origin = file(name, bytes);
        let Ok(whole) = load(&origin, &options) else { continue };
        let n = whole.ids.len();
        for most in [1, 2, 3, n, n + 1] {
            let count = n.min(most);
            let numbers: Vec<usize> = (0..count).map(|i| i * n / count).collect();
            let some = load_spread(&origin, &options, n, most).unwrap();
            assert_eq!(some.inputs, whole.inputs.select(&numbers), "{name}: {most} of {n}");
            assert_eq!(some.ids.len(), count);
        }
        let parts = open(&origin, &options).unwrap().into_inputs();
        let rows: usize = parts.map(|part| part.unwrap().len()).sum();
        assert_eq!(rows, n, "{name}");
    }
    let lines: String = (0..20_000).map(|i| format!("{{\"text\":\"word{i}\"}}\n")).collect();
    let origin = file("t.jsonl", lines);
    let parts: Result<Vec<_>> = open(&origin, &default()).unwrap().into_inputs().collect();
    let parts = parts.unwrap();
    assert!(parts.len() > 2, "{} parts", parts.len());
    let texts = parts.into_iter().flat_map(|part| match part {
        crate::input::Inputs::Texts(texts) => texts,
        other => panic!("{}", other.kind()),
    });
    assert!(texts.eq((0..20_000).map(|i| format!("word{i}"))));
}
