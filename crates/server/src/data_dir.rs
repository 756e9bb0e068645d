//! The data directory: who holds it, and who this agent is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use alluvium_storage::bucket::plain_url;
use alluvium_storage::disk::{LocalDisk, create_dir_durable};

use crate::error::StartError;

/// The file that names the store whose objects the directory's metadata is about.
const STORE: &str = "store";
/// What it says of the default store, which moves with the directory.
const OWN_FOLDER: &str = "the folder objects in this directory";

/// A data directory that this process holds until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The operating system lets go of the lock when the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder where it is missing, and takes it. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let named = |error: io::Error| StartError::DataDir {
            dir: path.to_owned(),
            reason: format!("{error}; choose another --data-dir or make it writable"),
        };
        create_dir_durable(&LocalDisk, path).map_err(named)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(named)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock);
                return Err(StartError::InUse {
                    dir: path.to_owned(),
                    holder,
                });
            }
            Err(TryLockError::Error(error)) => return Err(named(error)),
        }
        // For people and for the message above only: the lock itself is what counts.
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.write_all(pid.as_bytes()))
            .map_err(named)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder of the metadata voter.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.path.join("metadata")
    }

    /// Refuses the directory when it was opened with another store before, for its metadata then names
    /// objects that lie elsewhere. `named` is the store that was configured, `None` for the default,
    /// the folder in this directory; `url` is where that is now. Blocks.
    pub(crate) fn belongs_to(&self, named: Option<&str>, url: &str) -> Result<(), StartError> {
        // However sick it is made, it is the same store.
        let (named, url) = (named.map(plain_url), plain_url(url));
        let failed = |verb: &str, error: io::Error| StartError::DataDir {
            dir: self.path.clone(),
            reason: format!("cannot {verb} the file {STORE}: {error}"),
        };
        let text = match fs::read_to_string(self.path.join(STORE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Nothing in memory outlives the process.
                if url.starts_with("memory:") {
                    return Ok(());
                }
                let text = format!("{}\n", named.unwrap_or(OWN_FOLDER));
                return write_durably(&self.path, STORE, &text)
                    .map_err(|error| failed("write", error));
            }
            Err(error) => return Err(failed("read", error)),
        };
        let before = text.trim();
        let is_same = match (before, named) {
            (OWN_FOLDER, None) => true,
            (OWN_FOLDER, Some(named)) => is_folder(named, &self.path.join("objects")),
            (before, None) => is_folder(before, &self.path.join("objects")),
            (before, Some(named)) => before.trim_end_matches('/') == named.trim_end_matches('/'),
        };
        if is_same {
            return Ok(());
        }
        Err(StartError::OtherStore {
            dir: self.path.clone(),
            before: before.to_owned(),
            now: url.to_owned(),
        })
    }

    /// This agent's identity, drawn and written durably at the first start. Blocks.
    pub(crate) fn identity(&self) -> Result<u128, StartError> {
        let path = self.path.join("identity");
        let named = |reason: String| StartError::DataDir {
            dir: self.path.clone(),
            reason,
        };
        match fs::read_to_string(&path) {
            Ok(text) => u128::from_str_radix(text.trim(), 16).map_err(|_| {
                named(
                    "the file identity does not hold 32 hexadecimal digits; restore it, or remove \
                     it and this agent gets a new node id"
                        .to_owned(),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = rand::random::<u128>();
                write_durably(&self.path, "identity", &format!("{identity:032x}\n"))
                    .map_err(|error| named(format!("cannot write the file identity: {error}")))?;
                Ok(identity)
            }
            Err(error) => Err(named(format!("cannot read the file identity: {error}"))),
        }
    }
}

/// Whether a URL names this folder.
fn is_folder(store: &str, folder: &Path) -> bool {
    let named = url::Url::parse(store)
        .ok()
        .filter(|url| url.scheme() == "file")
        .and_then(|url| url.to_file_path().ok());
    let folder = std::path::absolute(folder).ok();
    named.is_some() && named == folder
}

/// Who wrote its process id into the lock file.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock
        .rewind()
        .and_then(|()| lock.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("pid {pid}"),
        _ => "pid unknown".to_owned(),
    }
}

/// A file that is there whole or not at all.
fn write_durably(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let draft = dir.join(format!("{name}.new"));
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_holds_a_directory_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let held = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("is in use by another alluvium process"),
            "{error}"
        );
        assert!(
            error.contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        assert!(error.contains("--data-dir"), "{error}");
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_belongs_to_the_store_it_was_opened_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let open = |named: Option<&str>| {
            let url = named.unwrap_or("file:///default");
            DataDir::open(&path).unwrap().belongs_to(named, url)
        };
        open(Some("memory://")).unwrap();
        open(Some("s3://bucket/a")).unwrap();
        open(Some("s3://bucket/a/")).unwrap();
        for other in [Some("s3://bucket/b"), Some("memory://"), None] {
            let error = open(other).unwrap_err().to_string();
            assert!(error.contains("s3://bucket/a"), "{error}");
            assert!(
                error.contains(other.unwrap_or("file:///default")),
                "{error}"
            );
            assert!(error.contains("data/store"), "says what to remove: {error}");
        }
        // The default is the same place after the directory was moved, and when it is named.
        fs::remove_file(path.join(STORE)).unwrap();
        open(None).unwrap();
        let own = format!("file://{}", path.join("objects").display());
        open(Some(&own)).unwrap();
        assert!(open(Some("file:///elsewhere")).is_err());
    }

    #[test]
    fn an_identity_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap().identity().unwrap();
        assert_eq!(
            DataDir::open(dir.path()).unwrap().identity().unwrap(),
            first
        );
        fs::write(dir.path().join("identity"), "what?").unwrap();
        let error = DataDir::open(dir.path())
            .unwrap()
            .identity()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("identity") && error.contains("remove"),
            "{error}"
        );
    }
}
