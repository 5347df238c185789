//! Files in memory that remember every operation: from them every image can be made that a crash
//! may leave, and any operation can be made to fail.
//!
//! A crash leaves what was synced, and of the rest any part, in any order: bytes of a write and
//! not others, a longer file without its bytes, a name without its file's content, the new name
//! and not the old. A name is durable after a sync of its directory only; that of a file does not
//! help it. After a sync that failed the bytes that were to be synced stay in doubt for ever, as
//! the kernel may have dropped them and call the next sync a success. (Of names this is not
//! assumed: a file system that cannot write its journal takes no more writes.)

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::medium::{Medium, MediumFile, Mode, Node};
use super::memory::{Entry, Memory, MemoryFile};

/// What happened.
#[derive(Clone, Debug)]
enum Event {
    Write {
        inode: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        inode: u64,
        len: u64,
    },
    Sync {
        inode: u64,
        done: bool,
    },
    /// A name was made: of a file, or of a directory.
    Name {
        path: PathBuf,
        inode: Option<u64>,
    },
    Unname {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        inode: Option<u64>,
    },
    SyncDir {
        dir: PathBuf,
        done: bool,
    },
}

/// Which operations a [`Fault`] makes fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Which {
    /// The one, whatever it is.
    One,
    /// The one and all after it, as when the process is killed.
    AllFrom,
    /// From there on all that need room.
    NeedingRoom,
}

/// An operation that is to fail.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Fault {
    /// Its number, counted from 0 on as the medium is used.
    pub(in crate::store) at: u64,
    pub(in crate::store) which: Which,
    /// How it fails. A write that fails has written half of its bytes.
    pub(in crate::store) error: ErrorKind,
}

/// Files in memory that remember. A clone is the same medium.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Recorder {
    memory: Memory,
    /// What it held in the beginning, all of it durable.
    base: Arc<BTreeMap<PathBuf, Entry>>,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    operations: u64,
    fault: Option<Fault>,
    /// The operations that failed, in words.
    failed: Vec<String>,
    /// How long a sync takes, of a file and of a directory.
    slowness: [Duration; 2],
}

impl Recorder {
    /// Remembers from here on.
    pub(in crate::store) fn on(memory: Memory) -> Self {
        Self { base: Arc::new(memory.entries()), memory, log: Arc::default() }
    }

    /// How many events there are: a moment, for [`Recorder::image`].
    pub(in crate::store) fn now(&self) -> usize {
        self.log().events.len()
    }

    /// How many operations there were, reads among them.
    pub(in crate::store) fn operations(&self) -> u64 {
        self.log().operations
    }

    /// Sets what is to fail, or that nothing is.
    pub(in crate::store) fn set_fault(&self, fault: Option<Fault>) {
        self.log().fault = fault;
    }

    /// The operations that failed since this was asked last, in words.
    pub(in crate::store) fn take_failed(&self) -> Vec<String> {
        std::mem::take(&mut self.log().failed)
    }

    /// Makes each sync of a file and of a directory take so long.
    pub(in crate::store) fn set_slowness(&self, file: Duration, dir: Duration) {
        self.log().slowness = [file, dir];
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) {
        self.log().events.push(event);
    }

    /// Counts an operation, and fails where it is to fail.
    fn count(&self, doing: &str, path: &Path, needs_room: bool) -> io::Result<()> {
        let mut log = self.log();
        let number = log.operations;
        log.operations += 1;
        let fails = log.fault.filter(|fault| match fault.which {
            Which::One => number == fault.at,
            Which::AllFrom => number >= fault.at,
            Which::NeedingRoom => number >= fault.at && needs_room,
        });
        let Some(fault) = fails else { return Ok(()) };
        let name = path.file_name().unwrap_or_default().display().to_string();
        log.failed.push(format!("{doing} {name}"));
        Err(fault.error.into())
    }

    /// What a crash at the moment `end` may leave; which of all possible images, `rng` decides.
    pub(in crate::store) fn image(&self, end: usize, rng: &mut impl Rng) -> Memory {
        let log = self.log();
        let events = &log.events[..end];
        let mut image = Image::new(&self.base);
        let mut fate = Fate::draw(events.len(), rng);
        for (i, (event, durable)) in events.iter().zip(durable(events)).enumerate() {
            image.apply(event, if durable { Kept::Whole } else { fate.of(i, rng) }, rng);
        }
        image.into_memory()
    }
}

/// Which events a later sync made durable.
fn durable(events: &[Event]) -> Vec<bool> {
    let (mut files, mut dirs) = (BTreeSet::new(), BTreeSet::new());
    let parent = |path: &Path| path.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut durable = vec![false; events.len()];
    for (i, event) in events.iter().enumerate().rev() {
        durable[i] = match event {
            Event::Write { inode, .. } | Event::SetLen { inode, .. } => files.contains(inode),
            Event::Name { path, .. } | Event::Unname { path } => dirs.contains(&parent(path)),
            Event::Rename { from, to, .. } => {
                dirs.contains(&parent(from)) && dirs.contains(&parent(to))
            }
            Event::Sync { inode, done: true } => files.insert(*inode),
            Event::SyncDir { dir, done: true } => dirs.insert(dir.clone()),
            // A later success says nothing of what this one was to make durable.
            Event::Sync { inode, done: false } => files.remove(inode),
            Event::SyncDir { done: false, .. } => false,
        };
    }
    durable
}

/// What becomes of an event that was not durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    Whole,
    /// A write: some of its pieces of so many bytes.
    Torn(usize),
    Lost,
}

/// What becomes of all events that were not durable.
enum Fate {
    /// All are kept, as when only the process was killed.
    Kept,
    /// All are lost.
    Lost,
    /// Those before this are kept, it is torn, the others are lost.
    UpTo(usize),
    /// Each for itself, this many of 8 kept.
    Any(u8),
}

impl Fate {
    fn draw(events: usize, rng: &mut impl Rng) -> Self {
        match rng.random_range(0..8) {
            0 => Self::Kept,
            1 => Self::Lost,
            // Near the end, where the events are that are not durable.
            2 | 3 => Self::UpTo(events.saturating_sub(rng.random_range(0..6))),
            _ => Self::Any(rng.random_range(1..8)),
        }
    }

    fn of(&mut self, i: usize, rng: &mut impl Rng) -> Kept {
        let mut torn = || Kept::Torn([1, 16, 64, 512, 4096][rng.random_range(0..5)]);
        match self {
            Self::Kept => Kept::Whole,
            Self::Lost => Kept::Lost,
            Self::UpTo(last) => match i.cmp(last) {
                std::cmp::Ordering::Less => Kept::Whole,
                std::cmp::Ordering::Equal => torn(),
                std::cmp::Ordering::Greater => Kept::Lost,
            },
            Self::Any(share) => {
                let torn = torn();
                match rng.random_range(0..8) < *share {
                    true if rng.random_bool(0.5) => torn,
                    true => Kept::Whole,
                    false => Kept::Lost,
                }
            }
        }
    }
}

/// Files as a crash leaves them, while they are put together.
struct Image {
    /// The file that has a name; none for a directory.
    names: BTreeMap<PathBuf, Option<u64>>,
    files: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    fn new(base: &BTreeMap<PathBuf, Entry>) -> Self {
        let mut image = Self { names: BTreeMap::new(), files: BTreeMap::new() };
        for (path, entry) in base {
            let inode = match entry {
                Entry::Dir => None,
                Entry::File(file) => {
                    image.files.insert(file.inode, file.bytes().clone());
                    Some(file.inode)
                }
            };
            image.names.insert(path.clone(), inode);
        }
        image
    }

    fn apply(&mut self, event: &Event, kept: Kept, rng: &mut impl Rng) {
        match (event, kept) {
            (Event::Write { inode, offset, bytes }, Kept::Whole | Kept::Torn(_)) => {
                let piece = if let Kept::Torn(piece) = kept { piece } else { bytes.len() };
                let file = self.files.entry(*inode).or_default();
                write(file, *offset as usize, bytes, piece.max(1), kept != Kept::Whole, rng);
            }
            (Event::SetLen { inode, len }, Kept::Whole) => {
                self.files.entry(*inode).or_default().resize(*len as usize, 0);
            }
            (Event::Name { path, inode }, Kept::Whole) => {
                self.names.insert(path.clone(), *inode);
            }
            (Event::Unname { path }, Kept::Whole) => {
                self.names.remove(path);
            }
            (Event::Rename { from, to, inode: Some(inode) }, Kept::Whole) => {
                if self.names.get(from) == Some(&Some(*inode)) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), Some(*inode));
            }
            (Event::Rename { from, to, inode: None }, Kept::Whole) => {
                let all = std::mem::take(&mut self.names);
                self.names.extend(all.into_iter().map(
                    |(path, inode)| match path.strip_prefix(from) {
                        Ok(rest) if rest.as_os_str().is_empty() => (to.clone(), inode),
                        Ok(rest) => (to.join(rest), inode),
                        Err(_) => (path, inode),
                    },
                ));
            }
            _ => {}
        }
    }

    fn into_memory(self) -> Memory {
        let Self { names, files } = self;
        let entries = names.into_iter().map(|(path, inode)| {
            let entry = inode.map_or(Entry::Dir, |inode| {
                let file = MemoryFile::new(inode);
                file.bytes().extend(files.get(&inode).into_iter().flatten());
                Entry::File(file)
            });
            (path, entry)
        });
        Memory::with(entries.collect())
    }
}

/// Writes the pieces of `bytes` that the crash left; all of them unless it is `torn`.
fn write(
    file: &mut Vec<u8>,
    offset: usize,
    bytes: &[u8],
    piece: usize,
    torn: bool,
    rng: &mut impl Rng,
) {
    let before = file.len();
    // The length may have come to the disk before the bytes did: they are zeros then, or what
    // some other file left there.
    if torn && rng.random_bool(0.5) && before < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
        if rng.random_bool(0.25) {
            rng.fill(&mut file[before..]);
        }
    }
    let mut at = offset;
    while at < offset + bytes.len() {
        let end = ((at / piece + 1) * piece).min(offset + bytes.len());
        if !torn || rng.random_bool(0.5) {
            if file.len() < end {
                file.resize(end, 0);
            }
            file[at..end].copy_from_slice(&bytes[at - offset..end - offset]);
        }
        at = end;
    }
}

impl Medium for Recorder {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn MediumFile>> {
        self.count("open", path, !matches!(mode, Mode::Read | Mode::Existing))?;
        let was = self.memory.inode(path);
        let file = self.memory.open_file(path, mode)?;
        match (was, mode) {
            (None, _) => {
                self.push(Event::Name { path: path.to_path_buf(), inode: Some(file.inode) });
            }
            (Some(inode), Mode::Emptied) => self.push(Event::SetLen { inode, len: 0 }),
            (Some(_), _) => {}
        }
        Ok(Box::new(RecordedFile { recorder: self.clone(), path: path.to_path_buf(), file }))
    }

    fn look(&self, path: &Path) -> io::Result<Option<Node>> {
        self.count("look for", path, false)?;
        self.memory.look(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.count("list", dir, false)?;
        self.memory.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.count("create", dir, true)?;
        self.memory.create_dir(dir)?;
        self.push(Event::Name { path: dir.to_path_buf(), inode: None });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let [_, slowness] = self.log().slowness;
        thread::sleep(slowness);
        let done =
            self.count("sync directory", dir, false).and_then(|()| self.memory.sync_dir(dir));
        self.push(Event::SyncDir { dir: dir.to_path_buf(), done: done.is_ok() });
        done
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count("rename", from, false)?;
        let inode = self.memory.inode(from);
        self.memory.rename(from, to)?;
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        self.push(Event::Rename { from, to, inode });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count("link", to, true)?;
        self.memory.link(from, to)?;
        let inode = self.memory.inode(from);
        self.push(Event::Name { path: to.to_path_buf(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path, node: Node) -> io::Result<()> {
        self.count("remove", path, false)?;
        self.memory.remove(path, node)?;
        self.push(Event::Unname { path: path.to_path_buf() });
        Ok(())
    }
}

/// An open file that remembers.
#[derive(Debug)]
struct RecordedFile {
    recorder: Recorder,
    path: PathBuf,
    file: MemoryFile,
}

impl MediumFile for RecordedFile {
    fn len(&self) -> io::Result<u64> {
        self.recorder.count("ask the length of", &self.path, false)?;
        self.file.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.recorder.count("read", &self.path, false)?;
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // What stands in the place of older bytes has its room already.
        let longer = offset + bytes.len() as u64 > self.file.len()?;
        let done = self.recorder.count("write", &self.path, longer);
        let written = if done.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.file.write_at(written, offset)?;
        let bytes = written.to_vec();
        self.recorder.push(Event::Write { inode: self.file.inode, offset, bytes });
        done
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.recorder.count("cut", &self.path, false)?;
        self.file.set_len(len)?;
        self.recorder.push(Event::SetLen { inode: self.file.inode, len });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let [slowness, _] = self.recorder.log().slowness;
        thread::sleep(slowness);
        let done = self.recorder.count("sync", &self.path, false);
        self.recorder.push(Event::Sync { inode: self.file.inode, done: done.is_ok() });
        done
    }
}
