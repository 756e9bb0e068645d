use std::path::Path;
use std::sync::Arc;

use alluvium_storage::disk::{Disk, ForgetfulDisk, create_dir_durable};

use super::{SnapshotFileError, Snapshots};
use crate::checkpoint::{Checkpoint, LogPosition, Members};
use crate::view::Current;

const DIR: &str = "/snapshots";

fn disk() -> (ForgetfulDisk, Arc<dyn Disk>) {
    let disk = ForgetfulDisk::default();
    let shared = disk.shared();
    create_dir_durable(shared.as_ref(), Path::new(DIR)).unwrap();
    (disk, shared)
}

fn at(index: u64) -> Current {
    let place = LogPosition {
        term: 2,
        leader: 1,
        index,
    };
    Current {
        checkpoint: Checkpoint {
            last: Some(place),
            members_at: Some(LogPosition {
                term: 1,
                leader: 1,
                index: 0,
            }),
            members: Members {
                configs: vec![[1].into()],
                nodes: [(1, "node-1:9093".to_owned())].into(),
            },
        },
        ..Current::default()
    }
}

fn files(disk: &dyn Disk) -> Vec<String> {
    let mut names: Vec<String> = disk
        .list(Path::new(DIR))
        .unwrap()
        .iter()
        .map(|entry| {
            entry
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

fn flip(disk: &dyn Disk, name: &str, at: u64) {
    let file = disk.open(&Path::new(DIR).join(name)).unwrap();
    let byte = file.read_at(at, 1).unwrap()[0];
    file.write_at(&[vec![byte ^ 0x40].into()], at).unwrap();
    file.sync().unwrap();
}

#[test]
fn the_newest_survives_a_crash_and_the_others_go() {
    let (disk, shared) = disk();
    let (snapshots, _) = Snapshots::open(Arc::clone(&shared), Path::new(DIR), 0).unwrap();
    assert!(snapshots.current().is_none());
    snapshots.write(&at(7)).unwrap();
    snapshots.write(&at(99)).unwrap();
    assert_eq!(files(shared.as_ref()), ["snapshot-00000000000000000100"]);

    let after = disk.crash().shared();
    let (snapshots, current) = Snapshots::open(after, Path::new(DIR), 90).unwrap();
    assert_eq!(current.checkpoint, at(99).checkpoint);
    assert_eq!(
        snapshots.current().unwrap().read().unwrap().checkpoint,
        at(99).checkpoint
    );
}

#[test]
fn a_crash_while_writing_leaves_the_one_before() {
    let (disk, shared) = disk();
    let (snapshots, _) = Snapshots::open(Arc::clone(&shared), Path::new(DIR), 0).unwrap();
    snapshots.write(&at(7)).unwrap();
    disk.fail_syncs(1);
    snapshots.write(&at(99)).unwrap_err();
    assert_eq!(snapshots.current().unwrap().checkpoint, at(7).checkpoint);
    let after = disk.crash().shared();
    let (snapshots, current) = Snapshots::open(after, Path::new(DIR), 8).unwrap();
    assert_eq!(current.checkpoint, at(7).checkpoint);
    // What is left of the attempt is in nobody's way.
    snapshots.write(&at(100)).unwrap();
}

#[test]
fn damage_anywhere_is_refused_by_name() {
    let (_, shared) = disk();
    let (snapshots, _) = Snapshots::open(Arc::clone(&shared), Path::new(DIR), 0).unwrap();
    snapshots.write(&at(7)).unwrap();
    let name = "snapshot-00000000000000000008";
    let length = shared
        .open(&Path::new(DIR).join(name))
        .unwrap()
        .len()
        .unwrap();
    for place in 0..length {
        flip(shared.as_ref(), name, place);
        let error = Snapshots::open(Arc::clone(&shared), Path::new(DIR), 8).unwrap_err();
        assert!(
            matches!(error, SnapshotFileError::Damaged { .. }),
            "byte {place}: {error}"
        );
        assert!(error.to_string().contains(name), "{error}");
        flip(shared.as_ref(), name, place);
    }
    let file = shared.open(&Path::new(DIR).join(name)).unwrap();
    file.set_len(length - 1).unwrap();
    Snapshots::open(Arc::clone(&shared), Path::new(DIR), 8).unwrap_err();
    file.set_len(0).unwrap();
    Snapshots::open(Arc::clone(&shared), Path::new(DIR), 8).unwrap_err();
}

#[test]
fn a_damaged_one_is_passed_over_when_the_log_holds_what_it_held() {
    let (_, shared) = disk();
    let (snapshots, _) = Snapshots::open(Arc::clone(&shared), Path::new(DIR), 0).unwrap();
    snapshots.write(&at(7)).unwrap();
    flip(shared.as_ref(), "snapshot-00000000000000000008", 30);
    let (snapshots, current) = Snapshots::open(Arc::clone(&shared), Path::new(DIR), 0).unwrap();
    assert!(snapshots.current().is_none());
    assert_eq!(current.checkpoint, Checkpoint::default());
    assert_eq!(
        files(shared.as_ref()),
        ["snapshot-00000000000000000008.damaged"]
    );
}

#[test]
fn a_later_version_is_not_taken_for_damage() {
    let (_, shared) = disk();
    let (snapshots, _) = Snapshots::open(Arc::clone(&shared), Path::new(DIR), 0).unwrap();
    snapshots.write(&at(7)).unwrap();
    let path = Path::new(DIR).join("snapshot-00000000000000000008");
    let file = shared.open(&path).unwrap();
    let length = usize::try_from(file.len().unwrap()).unwrap();
    let mut content = file.read_at(0, length - 4).unwrap().to_vec();
    content[8] = 2;
    let sum = super::checksum(&[&content]);
    content.extend(sum);
    file.write_at(&[content.into()], 0).unwrap();
    let error = Snapshots::open(shared, Path::new(DIR), 0).unwrap_err();
    assert!(
        matches!(error, SnapshotFileError::Version { version: 2, .. }),
        "{error}"
    );
}
