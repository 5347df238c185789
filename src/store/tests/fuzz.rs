//! Files that only the store reads, damaged at random: never a panic, and never much more memory
//! than input. See `tests/it/fuzz.rs`, which has the readers of other people's files.
//!
//! Nearly every change is found by a checksum. So each input is read twice: as it is, and with its
//! checksums made right, as nobody but an attacker or a bug would leave it. What then reads must
//! read back as the same.
//!
//! ```text
//! NEARBIT_RUNS=10000000 cargo test --release --lib store::tests::fuzz    ten million inputs a target
//! NEARBIT_RUN=17 cargo test --lib store::tests::fuzz::manifests         input 17 of a target again
//! ```

use std::hint::black_box;

use super::super::OLDEST_READABLE;
use super::super::block::{Block, Run};
use super::super::closed;
use super::super::files::memory::Memory;
use super::super::format::{
    GROUP_HEADER_BYTES, GROUP_MAGIC, Kind, Layout, SEGMENT_HEADER_BYTES, check_format_bytes,
    read_next_record, write_crc, write_delete_body, write_record,
};
use super::super::manifest::{Known, write_manifest};
use super::super::replay;
use super::super::snapshot::{Manifest as SnapshotManifest, SnapshotFile};
use super::super::trees::Trees;
use super::super::walk::{Hints, Piece, walk};
use super::super::wire::Reader;
use super::*;
use crate::mutate::fuzz;

/// Gives changed examples to `read`, as they are, and once more after `seal` made their checksums
/// right.
fn fuzz_sealed(examples: &[&[u8]], seal: impl Fn(&mut Vec<u8>), read: impl Fn(&[u8])) {
    fuzz(examples, |bytes| {
        read(bytes);
        let mut sealed = bytes.to_vec();
        seal(&mut sealed);
        read(&sealed);
    });
}

/// Makes the checksum right that ends a file.
fn seal_end(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len().saturating_sub(4));
    write_crc(bytes, 0);
}

/// Makes the checksums of records right, as far as they can be told apart; the first put has the
/// number `next`.
fn seal_records(bytes: &mut [u8], mut next: u64) {
    let mut start = 0;
    loop {
        let mut reader = Reader(&bytes[start..]);
        let Some(record) = reader.bytes().filter(|record| record.len() > 5) else { return };
        let end = bytes.len() - reader.0.len();
        let gap = match record[4] {
            3 => Reader(&record[6..]).varint().unwrap_or(0),
            _ => 0,
        };
        let number = next.wrapping_add(gap);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &record[4..]);
        let at = end - record.len();
        next = number.wrapping_add(u64::from(record[4] != 2));
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        start = end;
    }
}

/// Makes all checksums of a segment right, as far as its groups can be told apart.
fn seal_segment(bytes: &mut [u8]) {
    if bytes.len() < SEGMENT_HEADER_BYTES {
        return;
    }
    let (header, mut rest) = bytes.split_at_mut(SEGMENT_HEADER_BYTES);
    let segment_crc = crc32c::crc32c(&header[..48]);
    header[48..].copy_from_slice(&segment_crc.to_le_bytes());
    let mut previous = segment_crc;
    while let Some((group, behind)) = rest.split_at_mut_checked(GROUP_HEADER_BYTES)
        && group[..4] == GROUP_MAGIC
    {
        let number = |at: usize| Reader(&group[at..]).u64().unwrap_or(0);
        let (length, first) = (number(4) as u32 as usize, number(16));
        let Some((body, behind)) = behind.split_at_mut_checked(length) else { return };
        seal_records(body, first);
        group[12..16].copy_from_slice(&previous.to_le_bytes());
        group[32..36].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        previous = crc32c::crc32c_append(segment_crc, &group[..36]);
        group[36..].copy_from_slice(&previous.to_le_bytes());
        rest = behind;
    }
}

/// Records of every kind and with every part, some after a gap.
fn records(width: Width) -> Vec<Operation> {
    let with = |name: &str, text: Option<&str>, vector: Option<Vec<f32>>, vectors| {
        let payload = Payload::from_json(r#"{"label": "x", "n": [1, 2.5]}"#).unwrap();
        let (text, record) = (text.map(str::to_owned), record(name, Some(code(width, 0b1011))));
        Operation::Put { record: Record { payload, text, vector, ..record }, vectors }
    };
    vec![
        put(record("plain", Some(code(width, 7)))),
        with("text", Some("Über den Wolken"), None, Precision::F32),
        with("f32", None, Some(vec![0.5, -2.0, 3.0]), Precision::F32),
        with("f16", None, Some(vec![0.5, -2.0, 3.0]), Precision::F16),
        put(record("plain", None)),
        Operation::Delete(id("text")),
        put(record(name(1), None)),
    ]
}

/// A closed collection of 16-bit codes on files in memory, with several segments, one of which was
/// compacted and has gaps.
fn closed(version: u32) -> Result<(Place, Memory)> {
    let memory = Memory::default();
    let limits = Limits { segment_bytes: 400, ..SMALL };
    let mut place = Place { version, ..Place::on(Files::on(memory.clone()), limits)? };
    drop(place.create(16)?);
    let store = place.open_lean()?;
    for operation in records(store.width()) {
        store.commit(vec![operation])?;
    }
    put_singly(&store, 0..12)?;
    put_singly(&store, 3..5)?;
    store.compact(|| Ok(()))?;
    put_singly(&store, 20..24)?;
    drop(store);
    Ok((place, memory))
}

#[test]
fn segment_records() -> Result<()> {
    let width = Width::new(16)?;
    let read = |bytes: &[u8]| {
        let (mut reader, mut next) = (Reader(bytes), 5);
        while let Ok(record) = read_next_record(&mut reader, next, width) {
            let put = record.kind == Kind::Put;
            drop(record.to_record(width));
            let mut again = Vec::new();
            let (kind, number, killed) = (record.kind, record.number, record.killed);
            for layout in [Layout::Long, Layout::Short] {
                let mut body = Vec::new();
                let parts = match kind {
                    Kind::Put => record.body.write(layout, &mut body),
                    Kind::Delete => {
                        write_delete_body(&record.body.id.text(), &mut body);
                        0
                    }
                };
                again.clear();
                write_record(kind, parts, next, number, killed, &body, &mut again);
                let reread = read_next_record(&mut Reader(&again), next, width);
                assert_eq!(reread.map(|reread| format!("{reread:?}")), Ok(format!("{record:?}")));
            }
            next = number + u64::from(put);
        }
    };
    // The records of each segment in a row, without what stands between them.
    let (long, short) = (segments(&closed(2)?.0)?, segments(&closed(FORMAT_VERSION)?.0)?);
    let examples: Vec<Vec<u8>> = [long, short]
        .iter()
        .flatten()
        .map(|segment| {
            let mut records = Vec::new();
            let hints = Hints { width: Some(width), ..Hints::NONE };
            walk(segment, hints, &mut |piece| {
                if let Piece::Record { range, .. } = piece {
                    records.extend_from_slice(&segment[range.start as usize..range.end as usize]);
                }
            });
            records
        })
        .collect();
    let examples: Vec<&[u8]> = examples.iter().map(Vec::as_slice).collect();
    fuzz_sealed(&examples, |bytes| seal_records(bytes, 5), read);
    Ok(())
}

/// The bytes of all segments.
fn segments(place: &Place) -> Result<Vec<Vec<u8>>> {
    let paths = place.files.list(&place.collection().join("segments"))?;
    paths.iter().map(|path| place.files.read(path, 1 << 16)).collect()
}

/// A segment as a whole, for who believes it (`replay`) and for who does not (`walk`).
#[test]
fn whole_segments() -> Result<()> {
    let (place, _) = closed(FORMAT_VERSION)?;
    let (mut examples, width) = (segments(&place)?, Width::new(16)?);
    // One whose first group has numbers at which sums end.
    let mut late = examples[0].clone();
    late[SEGMENT_HEADER_BYTES + 16..][..8].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
    examples.push(late);
    let manifest = Manifest::read(&place.files, &place.collection())?;
    let segment = manifest.segments[0].segment;
    let file = place.files.open(&Segment::path(&place.collection(), segment))?;
    let examples: Vec<&[u8]> = examples.iter().map(Vec::as_slice).collect();
    fuzz_sealed(
        &examples,
        |bytes| seal_segment(bytes),
        |bytes| {
            file.truncate(0).and_then(|()| file.write_at(bytes, 0)).unwrap();
            let known = Known { segment, length: 0, checksum: 0 };
            let mut replayed = 0;
            if let Ok(segment) = replay::open(&place.files, &place.collection(), &known) {
                let (header, end) = (segment.header, bytes.len() as u64);
                let file = segment.file.as_ref();
                let read =
                    replay::replay(file, &header, segment.crc, &known, end, |_, _, record| {
                        replayed += 1;
                        record.to_record(header.width).map(drop)
                    });
                if read.is_err() {
                    replayed = 0;
                }
            }
            let mut walked = 0;
            walk(bytes, Hints { width: Some(width), ..Hints::NONE }, &mut |piece| {
                walked += u64::from(matches!(piece, Piece::Record { .. }));
            });
            assert!(walked >= replayed, "the walk finds {walked} records, the replay {replayed}");
        },
    );
    Ok(())
}

#[test]
fn manifests() -> Result<()> {
    let known = |segment| Known { segment, length: 1000 * segment, checksum: 17 };
    let manifest = Manifest {
        version: 2,
        collection: *b"0123456789abcdef",
        width: Width::new(64)?,
        settings: br#"{"keep": "text"}"#.to_vec(),
        next: 70,
        segments: [1, 6, 5, 69].map(known).to_vec(),
    };
    let old =
        Manifest { version: 1, next: 3, segments: vec![known(1), known(2)], ..manifest.clone() };
    let path = Path::new("MANIFEST");
    fuzz_sealed(&[&write_manifest(&manifest), &write_manifest(&old)], seal_end, |bytes| {
        if let Ok(read) = Manifest::read_bytes(path, bytes) {
            assert_eq!(Manifest::read_bytes(path, &write_manifest(&read)).unwrap(), read);
        }
    });
    Ok(())
}

#[test]
fn table_blocks() {
    let name = b"the name of the block";
    let block = |key_bytes: usize, numbers: std::ops::Range<u64>, step: u64| {
        let mut run = Run::new(key_bytes);
        for number in numbers {
            run.push(&(number / 3).to_be_bytes()[8 - key_bytes..], number * step);
        }
        run.write_block(0..run.len(), name, 1000)
    };
    for key_bytes in [1, 2, 8] {
        let blocks = [
            block(key_bytes, 5..40, 1),
            block(key_bytes, 0..9, 1 << 50),
            block(key_bytes, 0..0, 1),
        ];
        let seal = |bytes: &mut Vec<u8>| {
            if let Some((stored, rest)) = bytes.split_first_chunk_mut() {
                *stored = crc32c::crc32c_append(crc32c::crc32c(name), rest).to_le_bytes();
            }
        };
        fuzz_sealed(&blocks.each_ref().map(|block| &block[..]), seal, |bytes| {
            let Ok(block) = Block::read(name, bytes, key_bytes) else { return };
            let entries = block.iter().count();
            let told = usize::from(u16::from_le_bytes([bytes[20], bytes[21]]));
            assert_eq!((block.len(), told, block.bytes()), (entries, entries, bytes.len()));
            let run = block.to_run();
            if let (Some(key), Some(first)) = (block.last_key(), run.first()) {
                let mut found = 0;
                block.find(key, |_| found += 1);
                block.find(&first[..key_bytes], |_| found += 1);
                assert!(Block::read_again(bytes, key_bytes).unwrap().from(first).len() <= entries);
            }
            let again = run.write_block(0..run.len(), name, block.reach);
            assert_eq!(Block::read(name, &again, key_bytes).unwrap().to_run(), run);
        });
    }
}

/// `CLOSED`, and the segments that come of it.
#[test]
fn closed_notes() -> Result<()> {
    let (mut place, _) = closed(FORMAT_VERSION)?;
    let (dir, table) = (place.collection(), place.table()?);
    let (manifest, path) = (Manifest::read(&place.files, &dir)?, dir.join("CLOSED"));
    let trees = Trees::open(&table, manifest.collection, manifest.width)
        .map_err(|broken| table.error(broken))?;
    let good = place.files.read(&path, 1 << 20)?;
    assert!(closed::read(&place.files, &dir, &manifest, &trees).is_ok());
    let file = place.files.open(&path)?;
    fuzz_sealed(&[&good], seal_end, |bytes| {
        file.truncate(0).and_then(|()| file.write_at(bytes, 0)).unwrap();
        let Ok((closed, _)) = closed::read(&place.files, &dir, &manifest, &trees) else { return };
        let (mut segments, mut ids) = (closed.segments, closed.known_ids);
        ids.insert(7);
        assert!(ids.may_hold(7));
        ids.room();
        let live: Vec<u64> =
            std::iter::successors(segments.live_from(0), |number| segments.live_from(number + 1))
                .collect();
        assert_eq!(live.len() as u64, segments.live());
        for number in live {
            assert!(segments.stands(number) && segments.is_live(number));
            if let Some(place) = segments.locate(number) {
                drop(place.read(manifest.width, |record| record.to_record(manifest.width)));
            }
            segments.kill(number);
        }
        black_box((segments.live_bytes(), segments.dead(), segments.next()));
        segments.iter().for_each(|segment| _ = segment.spare_bytes(|number| number % 2 == 0));
    });
    Ok(())
}

#[test]
fn snapshot_manifests() -> Result<()> {
    let file = |path: &str| SnapshotFile {
        path: path.to_owned(),
        bytes: 17,
        blake3: blake3::hash(b"x").to_hex().to_string(),
    };
    let manifest = SnapshotManifest {
        version: 1,
        name: "nightly".to_owned(),
        created: 1_790_000_000,
        collections: vec![("c".to_owned(), 7), ("d".to_owned(), 0)],
        files: vec![file("FORMAT"), file("collections/c/MANIFEST"), file("models/m@1.safetensors")],
    };
    let example = manifest.to_text();
    let seal = |bytes: &mut Vec<u8>| {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let digest = blake3::hash(&bytes[..end]).to_hex();
        bytes.truncate(end);
        bytes.extend_from_slice(format!("\n{digest}\n").as_bytes());
    };
    let path = Path::new("SNAPSHOT");
    fuzz_sealed(&[example.as_bytes()], seal, |bytes| {
        let Ok(read) = SnapshotManifest::parse(bytes.to_vec(), path) else { return };
        black_box((read.bytes(), read.records()));
        assert_eq!(SnapshotManifest::parse(read.to_text().into_bytes(), path).unwrap(), read);
    });
    Ok(())
}

#[test]
fn format_files() -> Result<()> {
    let place = Place::new(SMALL)?;
    crate::store::create_format(place.dir.path())?;
    let good = Files::disk().read(&place.dir.path().join("FORMAT"), 16)?;
    fuzz_sealed(&[&good], seal_end, |bytes| {
        if let Ok(version) = check_format_bytes(Path::new("FORMAT"), bytes) {
            assert!((OLDEST_READABLE..=FORMAT_VERSION).contains(&version));
        }
    });
    Ok(())
}
