//! Where things are: the data directory, a collection in it, files to be written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use nearbit::formats::{SourceKind, nearest_name};
use nearbit::model::Model;
use nearbit::{Collection, Database, Durability, Error, InputKind, Width};

use super::exit::Failure;

/// A data directory.
#[derive(Args)]
pub struct DataDir {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

impl DataDir {
    /// Opens the database, which must be there.
    pub fn open(&self) -> Result<Database, Failure> {
        self.check_exists()?;
        Ok(Database::open(&self.data_dir)?)
    }

    /// The same for what needs no index in memory.
    pub fn open_on_disk(&self) -> Result<Database, Failure> {
        self.check_exists()?;
        Ok(Database::open_on_disk(&self.data_dir)?)
    }

    /// An error where the directory is missing or empty: only what makes a collection, or serves them,
    /// makes a database. What else may be there, the library knows.
    pub fn check_exists(&self) -> Result<(), Failure> {
        let dir = &self.data_dir;
        let what = match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "data directory",
            Ok(true) => "database in the directory",
            _ => return Ok(()),
        };
        let name = dir.display().to_string();
        let hint = format!("make one with: nearbit collection create NAME --data-dir {name} ...");
        Err(Error::not_found(what, name, hint).into())
    }

    /// The same, and makes the database where there is none.
    pub fn open_or_create_on_disk(&self) -> Result<Database, Failure> {
        Ok(Database::open_on_disk(&self.data_dir)?)
    }
}

/// A collection in a data directory.
#[derive(Args)]
pub struct InCollection {
    #[command(flatten)]
    pub dir: DataDir,
    /// The collection
    #[arg(long, short, value_name = "NAME")]
    pub collection: String,
}

impl InCollection {
    /// Opens the database and finds the collection.
    pub fn open(&self) -> Result<(Database, Collection), Failure> {
        self.find(self.dir.open()?)
    }

    /// The same for what needs no index in memory.
    pub fn open_on_disk(&self) -> Result<(Database, Collection), Failure> {
        self.find(self.dir.open_on_disk()?)
    }

    fn find(&self, database: Database) -> Result<(Database, Collection), Failure> {
        let collection = find(&database, &self.collection)?;
        Ok((database, collection))
    }
}

/// A model file, or a narrower model that is nested in it.
#[derive(Args)]
pub struct ModelFile {
    /// The model
    #[arg(long = "model", value_name = "FILE")]
    pub file: PathBuf,
    /// Take the first N bits of its codes: a width that it was trained for with --nested
    /// [default: all bits]
    #[arg(long, value_name = "N", value_parser = width)]
    pub bits: Option<Width>,
}

impl ModelFile {
    /// Reads the model.
    pub fn load(&self) -> Result<Model, Error> {
        let model = Model::load(&self.file)?;
        let named = |error: Error| error.within(&format!("{}: ", self.file.display()));
        self.bits.map_or(Ok(model.clone()), |bits| model.truncated(bits).map_err(named))
    }
}

/// The collection of that name, or an error with the name that may be meant.
pub fn find(database: &Database, name: &str) -> Result<Collection, Failure> {
    database.collection(name).map_err(|error| {
        let collections = database.collections();
        match (error, nearest_name(name, collections.iter().map(Collection::name))) {
            (Error::NotFound { kind, name, hint }, Some(near)) => {
                Error::NotFound { kind, name, hint: format!("did you mean {near:?}? {hint}") }
                    .into()
            }
            (error, _) => error.into(),
        }
    })
}

/// How to read files for an encoder; pictures are known by their files.
pub fn source_kind(input: InputKind) -> Option<SourceKind> {
    match input {
        InputKind::Text => Some(SourceKind::Text),
        InputKind::Vector { .. } => Some(SourceKind::Vector),
        InputKind::Image { .. } => None,
    }
}

/// A number of bits, for clap.
pub fn width(text: &str) -> Result<Width, String> {
    let bits = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    Width::new(bits).map_err(|_| format!("expected 1 to {}", Width::MAX))
}

/// When a write is durable, for clap.
pub fn durability(text: &str) -> Result<Durability, String> {
    text.parse().map_err(|error| match error {
        Error::Invalid { message, .. } => message,
        other => other.to_string(),
    })
}

/// An error where what is to be written is read too, or written twice: before it is lost.
pub fn check_apart<'a>(
    written: impl IntoIterator<Item = &'a PathBuf>,
    read: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<(), Failure> {
    let file = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).unwrap_or_default();
        fs::canonicalize(path).unwrap_or_else(|_| folder.join(name))
    };
    let (read, mut before): (Vec<_>, Vec<_>) = (read.into_iter().map(file).collect(), Vec::new());
    for path in written {
        let file = file(path);
        let what = match () {
            () if read.contains(&file) => "is read",
            () if before.contains(&file) => "is written",
            () => {
                before.push(file);
                continue;
            }
        };
        let message = format!("it {what} by the same command; name another file to write");
        return Err(Error::invalid(path.display().to_string(), message).into());
    }
    Ok(())
}

/// An error where `path` cannot become a file: before hours of work, not after.
pub fn check_writable(path: &Path) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        let message = "expected the name of a file to write, got a directory";
        return Err(Error::invalid(path.display().to_string(), message).into());
    }
    let probe = folder.join(format!(".nearbit-{}", std::process::id()));
    fs::File::create(&probe).map_err(Error::io("create a file in", folder))?;
    // Only whether it could be made was the question.
    let _ = fs::remove_file(&probe);
    Ok(())
}
