//! A disk in memory for tests: it knows what was synced, and loses the rest when the power is cut.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use alluvium_types::hash::HashMap;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Disk, DiskEntry, DiskFile};

/// Bytes that reach the platter together or not at all.
const SECTOR: usize = 512;

/// A disk in memory that loses, on [`ForgetfulDisk::crash`], whatever was not synced. For tests.
///
/// Clones share the disk. A file's contents survive as of its last sync, a name as of the last
/// sync of its folder; a name that was synced and contents that never were give an empty file.
#[derive(Clone, Debug, Default)]
pub struct ForgetfulDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    /// Names as the running system sees them.
    live: BTreeMap<PathBuf, Node>,
    /// Names as a machine would find them after a crash.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names since their folders were synced, each one whole or not at all.
    unsynced: Vec<Vec<(PathBuf, Option<Node>)>>,
    crashed: bool,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Faults {
    /// Syncs that succeed before the failing ones.
    passing_syncs: u64,
    failing_syncs: u64,
    failing_writes: u64,
    ignore_file_syncs: bool,
    ignore_dir_syncs: bool,
    syncs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

#[derive(Debug)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync.
    dirty: Vec<Range<usize>>,
    modified: SystemTime,
}

impl ForgetfulDisk {
    /// What a machine finds after its power was cut: the synced contents under the synced names.
    /// Handles opened before go on failing.
    #[must_use]
    pub fn crash(&self) -> Self {
        self.cut(None)
    }

    /// Like [`ForgetfulDisk::crash`], but of what was not synced some is there by chance (by `seed`):
    /// sectors of contents in no order, changes of names up to some moment, as with a real disk.
    #[must_use]
    pub fn crash_torn(&self, seed: u64) -> Self {
        self.cut(Some(StdRng::seed_from_u64(seed)))
    }

    /// A shared handle.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// The next `count` syncs, of files and folders, fail.
    pub fn fail_syncs(&self, count: u64) {
        self.fail_syncs_after(0, count);
    }

    /// After `passing` more that succeed, `count` syncs fail.
    pub fn fail_syncs_after(&self, passing: u64, count: u64) {
        let mut state = self.lock();
        state.faults.passing_syncs = passing;
        state.faults.failing_syncs = count;
    }

    /// The next `count` writes fail as on a full disk.
    pub fn fail_writes(&self, count: u64) {
        self.lock().faults.failing_writes = count;
    }

    /// From now on a sync of a file says that it succeeded and does nothing: what a program without
    /// that call would get.
    pub fn ignore_file_syncs(&self, ignore: bool) {
        self.lock().faults.ignore_file_syncs = ignore;
    }

    /// The same for folders.
    pub fn ignore_dir_syncs(&self, ignore: bool) {
        self.lock().faults.ignore_dir_syncs = ignore;
    }

    /// How many syncs were asked for so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().faults.syncs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.crashed {
            return Err(io::Error::other("the power was cut"));
        }
        Ok(state)
    }

    fn cut(&self, mut chance: Option<StdRng>) -> Self {
        let mut old = self.lock();
        old.crashed = true;
        let mut names = old.durable.clone();
        if let Some(chance) = &mut chance {
            let kept = chance.random_range(0..=old.unsynced.len());
            for (path, node) in old.unsynced.iter().take(kept).flatten() {
                match node {
                    Some(node) => names.insert(path.clone(), *node),
                    None => names.remove(path),
                };
            }
        }
        let mut next = State {
            next_inode: old.next_inode,
            ..State::default()
        };
        for (path, node) in &names {
            if !next.has_dir(parent(path)) {
                continue;
            }
            next.live.insert(path.clone(), *node);
            let Node::File(number) = node else { continue };
            if let Some(inode) = old.inodes.get(number) {
                next.inodes
                    .entry(*number)
                    .or_insert_with(|| inode.after_crash(chance.as_mut()));
            }
        }
        next.durable = next.live.clone();
        Self {
            state: Arc::new(Mutex::new(next)),
        }
    }

    fn handle(&self, inode: u64) -> Arc<dyn DiskFile> {
        Arc::new(ForgetfulFile {
            disk: self.clone(),
            inode,
        })
    }
}

impl State {
    fn has_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty()
            || path == Path::new("/")
            || self.live.get(path) == Some(&Node::Dir)
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn free_name(&self, path: &Path) -> io::Result<()> {
        if self.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !self.has_dir(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }

    /// Changes names, all of them at once.
    fn change<const N: usize>(&mut self, names: [(PathBuf, Option<Node>); N]) {
        for (path, node) in &names {
            match node {
                Some(node) => self.live.insert(path.clone(), *node),
                None => self.live.remove(path),
            };
        }
        self.unsynced.push(names.into());
    }

    fn sync_asked(&mut self) -> io::Result<()> {
        self.faults.syncs += 1;
        if self.faults.failing_syncs > 0 && self.faults.passing_syncs > 0 {
            self.faults.passing_syncs -= 1;
            return Ok(());
        }
        if self.faults.failing_syncs > 0 {
            self.faults.failing_syncs -= 1;
            return Err(io::Error::other("sync failed (asked for by the test)"));
        }
        Ok(())
    }
}

impl Inode {
    fn after_crash(&self, chance: Option<&mut StdRng>) -> Self {
        let mut contents = self.durable.clone();
        if let Some(chance) = chance {
            if contents.len() != self.live.len() && chance.random_bool(0.5) {
                contents.resize(self.live.len(), 0);
            }
            for range in &self.dirty {
                let mut start = range.start;
                while start < range.end {
                    let end = range.end.min((start / SECTOR + 1) * SECTOR);
                    let end = end.min(contents.len()).min(self.live.len());
                    if start >= end {
                        break;
                    }
                    if chance.random_bool(0.5) {
                        contents[start..end].copy_from_slice(&self.live[start..end]);
                    }
                    start = end;
                }
            }
        }
        Self {
            live: contents.clone(),
            durable: contents,
            dirty: Vec::new(),
            modified: self.modified,
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for range in self.dirty.drain(..) {
            let end = range.end.min(self.live.len());
            if range.start < end {
                self.durable[range.start..end].copy_from_slice(&self.live[range.start..end]);
            }
        }
    }
}

/// Paths without `.` parts and trailing slashes, so that equal names compare equal.
fn clean(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl Disk for ForgetfulDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.running()?;
        let mut missing: Vec<&Path> = path.ancestors().filter(|p| !state.has_dir(p)).collect();
        missing.reverse();
        for folder in missing {
            if state.live.contains_key(folder) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            state.change([(folder.to_path_buf(), Some(Node::Dir))]);
        }
        Ok(())
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = clean(path);
        let mut state = self.running()?;
        state.free_name(&path)?;
        let number = state.next_inode;
        state.next_inode += 1;
        let inode = Inode {
            live: Vec::new(),
            durable: Vec::new(),
            dirty: Vec::new(),
            modified: SystemTime::now(),
        };
        state.inodes.insert(number, inode);
        state.change([(path, Some(Node::File(number)))]);
        Ok(self.handle(number))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.running()?.file(&clean(path))?;
        Ok(self.handle(number))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DiskEntry>> {
        let path = clean(path);
        let state = self.running()?;
        if !state.has_dir(&path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = state
            .live
            .range(path.clone()..)
            .skip_while(|(name, _)| **name == path);
        let inside = children.take_while(|(name, _)| name.starts_with(&path));
        let direct = inside.filter(|(name, _)| parent(name) == path);
        let entry = |(name, node): (&PathBuf, &Node)| DiskEntry {
            path: name.clone(),
            is_dir: *node == Node::Dir,
        };
        Ok(direct.map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (clean(from), clean(to));
        let mut state = self.running()?;
        let inode = state.file(&from)?;
        if !state.has_dir(parent(&to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.live.get(&to) == Some(&Node::Dir) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.change([(from, None), (to, Some(Node::File(inode)))]);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = clean(to);
        let mut state = self.running()?;
        let inode = state.file(&clean(from))?;
        state.free_name(&to)?;
        state.change([(to, Some(Node::File(inode)))]);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.running()?;
        state.file(&path)?;
        state.change([(path, None)]);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.running()?;
        state.sync_asked()?;
        if !state.has_dir(&path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.faults.ignore_dir_syncs {
            return Ok(());
        }
        let state = &mut *state;
        for change in &mut state.unsynced {
            change.retain(|(name, _)| parent(name) != path);
        }
        state.unsynced.retain(|change| !change.is_empty());
        state.durable.retain(|name, _| parent(name) != path);
        for (name, node) in &state.live {
            if parent(name) == path {
                state.durable.insert(name.clone(), *node);
            }
        }
        Ok(())
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        Ok(self.running()?.has_dir(&clean(path)))
    }
}

#[derive(Debug)]
struct ForgetfulFile {
    disk: ForgetfulDisk,
    inode: u64,
}

impl ForgetfulFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.running()?;
        act(state
            .inodes
            .get_mut(&self.inode)
            .ok_or(io::ErrorKind::NotFound)?)
    }
}

impl DiskFile for ForgetfulFile {
    fn write_at(&self, parts: &[Bytes], offset: u64) -> io::Result<()> {
        let mut state = self.disk.running()?;
        if state.faults.failing_writes > 0 {
            state.faults.failing_writes -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = index(offset)?;
        let end = start + parts.iter().map(Bytes::len).sum::<usize>();
        let inode = state
            .inodes
            .get_mut(&self.inode)
            .ok_or(io::ErrorKind::NotFound)?;
        if inode.live.len() < end {
            let old = inode.live.len();
            inode.live.resize(end, 0);
            inode.dirty.push(old.min(start)..start);
        }
        let mut at = start;
        for part in parts {
            inode.live[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        inode.dirty.push(start..end);
        inode.modified = SystemTime::now();
        Ok(())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let start = index(offset)?;
        self.with(|inode| {
            let end = start.saturating_add(length).min(inode.live.len());
            Ok(Bytes::copy_from_slice(
                inode.live.get(start..end).unwrap_or_default(),
            ))
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|inode| Ok(inode.live.len() as u64))
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.with(|inode| Ok(inode.modified))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = index(length)?;
        self.with(|inode| {
            let old = inode.live.len();
            inode.live.resize(length, 0);
            if old < length {
                inode.dirty.push(old..length);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.running()?;
        state.sync_asked()?;
        let ignore = state.faults.ignore_file_syncs;
        let inode = state
            .inodes
            .get_mut(&self.inode)
            .ok_or(io::ErrorKind::NotFound)?;
        if !ignore {
            inode.sync();
        }
        Ok(())
    }
}
