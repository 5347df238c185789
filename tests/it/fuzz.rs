//! Inputs from elsewhere, damaged at random: never a panic, and never much more memory than input.
//!
//! Each target starts from good inputs and changes them in a few places. An error is fine, and what
//! is read is read to the end. Whatever the input says of its own size, no more is allocated at
//! once than eight times its bytes, and what every reader takes for itself. What only the store reads
//! is changed in `src/store/tests/fuzz.rs`, in the same way.
//!
//! ```text
//! NEARBIT_RUNS=10000000 cargo test --release --test it fuzz::     ten million inputs a target
//! NEARBIT_RUN=17 cargo test --test it fuzz::npy                   input 17 of a target again
//! ```

use nearbit::database::{pack_snapshot, unpack_snapshot};
use nearbit::formats::{BitOrder, Format, Origin, ReadOptions, SourceKind, open};
use nearbit::model::Model;
use nearbit::{Code, CollectionSettings, Database, EncoderSpec, Filter, Payload, RecordId, Width};

use crate::mutate::fuzz;

/// Reads a file in each way that its kind of content may be meant.
fn rows(name: &'static str, format: Format, examples: &[&[u8]]) {
    let width = Width::new(16).unwrap();
    fuzz(examples, |bytes| {
        let origin = Origin::Bytes { name: name.to_owned(), bytes: bytes.into() };
        let code = SourceKind::Code { width, bit_order: BitOrder::Lsb };
        for source in [None, Some(SourceKind::Text), Some(SourceKind::Vector), Some(code)] {
            let options = ReadOptions { format: Some(format), source, ..ReadOptions::default() };
            // As other programs go on behind a bad row, within reason.
            open(&origin, &options).into_iter().flatten().take(2000).for_each(drop);
        }
    });
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    header += &" ".repeat((63 - (10 + header.len()) % 64) % 64);
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

#[test]
fn npy_files() {
    let floats: Vec<u8> = (0..12u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let halves = [0u8, 60, 0, 64].repeat(4);
    let examples = [
        npy("<f4", "(3, 4)", &floats),
        npy("<f2", "(4, 2)", &halves),
        npy("|u1", "(6, 2)", &[7; 12]),
        npy("|u1", "(2, 3, 2)", &[9; 12]),
        npy("<i8", "(2,)", &[1; 16]),
    ];
    rows("a.npy", Format::Npy, &examples.each_ref().map(|example| &example[..]));
    let fortran = String::from_utf8_lossy(&examples[0][..64]).replace("False", "True ");
    let fortran = [fortran.as_bytes(), &floats].concat();
    rows("a.npy", Format::Npy, &[&fortran]);
}

#[test]
fn idx_files() {
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 2][..], &[5; 12]].concat();
    let floats =
        [&[0, 0, 13, 2, 0, 0, 0, 2, 0, 0, 0, 1][..], &[63, 128, 0, 0, 64, 0, 0, 0]].concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 4][..], &[1, 2, 3, 4]].concat();
    rows("a.idx", Format::Idx, &[&images, &floats, &labels]);
}

#[test]
fn vecs_files() {
    let row = |dim: u32, data: &[u8]| [&dim.to_le_bytes()[..], data].concat();
    let floats = [row(2, &[0, 0, 128, 63, 0, 0, 0, 64]), row(2, &[0; 8])].concat();
    let bytes = [row(4, &[1, 2, 3, 4]), row(4, &[5, 6, 7, 8])].concat();
    rows("a.fvecs", Format::Fvecs, &[&floats]);
    rows("a.bvecs", Format::Bvecs, &[&bytes]);
    rows("a.ivecs", Format::Ivecs, &[&floats]);
}

#[test]
fn jsonl_files() {
    let texts = br#"{"id": "a", "text": "caf\u00e9 au lait", "label": "x", "n": [1, 2.5e-3, null]}
{"id": 7, "text": "", "deep": {"a": {"b": [[[]]]}}}
"#;
    let vectors = br#"{"vector": [0.5, -1e3, 0], "id": "b"}
{"code": "0b1010101010101010"}
{"code": "beef", "payload": true}"#;
    rows("a.jsonl", Format::Jsonl, &[texts, vectors]);
}

#[test]
fn csv_files() {
    let texts = b"id,text,label\n1,\"a \"\"b\"\", c\",x\n2,plain,\n3,\"two\nlines\",y\n";
    let vectors = b"id,vector\r\n1,\"[1, 2, 3]\"\r\n2,\"[4,5,6]\"\r\n";
    rows("a.csv", Format::Csv, &[texts, vectors]);
    rows("a.tsv", Format::Tsv, &[b"id\ttext\n1\ta b\n2\tc\n"]);
}

#[test]
fn filters() {
    let examples: [&[u8]; 6] = [
        br#"label == "sci.space" and year >= 1990"#,
        b"not (a.b in [1, 2.5, true, \"x\"] or tags contains any [\"u\", 'v'])",
        b"id in [\"a\", \"b\"] and missing exists or n is null",
        b"date >= \"2024-02-29T12:00:00+01:00\" and date < \"2025-01-01\"",
        b"a != 1 and not b not in [2] or (((c == -1e-3)))",
        b"tags contains all [\"x\"] and `odd name`.`x y` <= 7",
    ];
    let payload =
        r#"{"label": "sci.space", "year": 1991, "a": {"b": 1}, "tags": ["u"], "n": null}"#;
    let payload = Payload::from_json(payload).unwrap();
    let id = RecordId::new("a").unwrap();
    fuzz(&examples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(filter) = Filter::parse(&text) {
            filter.check().unwrap();
            filter.matches(&id, &payload);
            // What is shown of a filter reads back as the same.
            let shown = filter.to_string();
            assert_eq!(Filter::parse(&shown).unwrap(), filter, "{shown}");
        }
    });
}

#[test]
fn codes() {
    let examples: [&[u8]; 5] =
        [b"0123456789abcdef", b"0b0101010111110000", b"ASNFZ4mrze8=", b"0x0123", b"beef"];
    fuzz(&examples, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for bits in [1, 16, 64, 1024] {
            let width = Width::new(bits).unwrap();
            if let Ok(code) = Code::parse(&text, width) {
                assert_eq!(Code::parse(&code.to_hex(), width).unwrap(), code);
            }
            drop(Code::from_bytes(width, bytes));
        }
    });
}

#[test]
fn models() {
    let model = |kind| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fixtures/model-1-");
        std::fs::read(format!("{folder}{kind}.safetensors")).unwrap()
    };
    let examples = ["image", "text", "vector"].map(model);
    fuzz(&examples.each_ref().map(|example| &example[..]), |bytes| {
        drop(Model::from_bytes(bytes));
    });
}

/// Makes the checksums of the headers of a tar archive right, as far as they can be told apart: the
/// sum of the bytes, with blanks in place of the sum.
fn seal_entries(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = str::from_utf8(&header[124..136]).unwrap_or_default();
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at += 512 + size.min(bytes.len()).next_multiple_of(512);
    }
}

/// Snapshots as tar archives, not compressed: damaged zstd seldom gets further than its checksum.
/// Each is read twice, the second time with the checksums of its headers made right.
#[test]
fn snapshot_archives() {
    let dir = super::directory::directory();
    let path = |name: &str| dir.path().join(name);
    let database = Database::open(path("db")).unwrap();
    let settings = CollectionSettings::new(EncoderSpec::Codes { width: Width::new(16).unwrap() });
    database.create_collection("c", &settings).unwrap();
    let snapshot = database.create_snapshot("s").unwrap();
    pack_snapshot(&snapshot.dir, &path("s.tar.zst")).unwrap();
    let packed = std::fs::File::open(path("s.tar.zst")).unwrap();
    let archive = zstd::decode_all(packed).unwrap();
    let (changed, out) = (path("changed.tar"), path("out"));
    let unpack = |bytes: &[u8]| {
        std::fs::write(&changed, bytes).unwrap();
        if unpack_snapshot(&changed, &out).is_ok() {
            std::fs::remove_dir_all(&out).unwrap();
        }
    };
    fuzz(&[&archive], |bytes| {
        unpack(bytes);
        let mut sealed = bytes.to_vec();
        seal_entries(&mut sealed);
        unpack(&sealed);
    });
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left behind");
}
