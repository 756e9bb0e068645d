use super::*;

fn write(disk: &dyn Disk, path: &str, contents: &'static [u8]) -> Arc<dyn DiskFile> {
    let file = disk.create_new(Path::new(path)).unwrap();
    file.write_at(&[Bytes::from_static(contents)], 0).unwrap();
    file
}

#[test]
fn forgetful_disk_keeps_only_what_was_synced() {
    let disk = ForgetfulDisk::default();
    create_dir_durable(&disk, Path::new("/data/log")).unwrap();
    let both = write(&disk, "/data/log/both", b"kept");
    both.sync().unwrap();
    let _name_only = write(&disk, "/data/log/name", b"lost");
    disk.sync_dir(Path::new("/data/log")).unwrap();
    let contents_only = write(&disk, "/data/log/contents", b"lost");
    contents_only.sync().unwrap();
    both.write_at(&[Bytes::from_static(b"LATE")], 0).unwrap();

    let after = disk.crash();
    let file = after.open(Path::new("/data/log/both")).unwrap();
    assert_eq!(file.read_at(0, 10).unwrap(), "kept");
    assert!(
        after
            .open(Path::new("/data/log/name"))
            .unwrap()
            .is_empty()
            .unwrap()
    );
    let gone = after.open(Path::new("/data/log/contents")).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert!(
        both.read_at(0, 1).is_err(),
        "a handle from before the crash must fail"
    );
    assert!(disk.list(Path::new("/data")).is_err());
}

#[test]
fn folders_that_were_not_synced_are_lost_with_their_files() {
    let disk = ForgetfulDisk::default();
    disk.create_dir_all(Path::new("/a/b")).unwrap();
    write(&disk, "/a/b/file", b"x").sync().unwrap();
    disk.sync_dir(Path::new("/a/b")).unwrap();
    assert!(!disk.crash().is_dir(Path::new("/a")).unwrap());
}

#[test]
fn rename_is_durable_after_the_folder_is_synced() {
    let disk = ForgetfulDisk::default();
    write(&disk, "/old", b"x").sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/old"), Path::new("/new")).unwrap();
    let disk = disk.crash();
    assert!(disk.open(Path::new("/old")).is_ok() && disk.open(Path::new("/new")).is_err());
    disk.rename(Path::new("/old"), Path::new("/new")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let disk = disk.crash();
    assert!(disk.open(Path::new("/old")).is_err() && disk.open(Path::new("/new")).is_ok());
}

/// Both disks must answer alike, or tests on one prove nothing about the other.
#[test]
fn both_disks_behave_alike() {
    let folder = tempfile::tempdir().unwrap();
    let forgetful = ForgetfulDisk::default();
    forgetful.create_dir_all(folder.path()).unwrap();
    for disk in [LocalDisk::shared(), forgetful.shared()] {
        let root = folder.path().join("deep/er");
        create_dir_durable(disk.as_ref(), &root).unwrap();
        let path = root.join("file");
        let file = disk.create_new(&path).unwrap();
        assert_eq!(
            disk.create_new(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let parts = [
            Bytes::from(vec![1; 3000]),
            Bytes::new(),
            Bytes::from(vec![2; 200_000]),
        ];
        file.write_at(&parts, 10).unwrap();
        assert_eq!(file.len().unwrap(), 203_010);
        assert_eq!(
            file.read_at(0, 11).unwrap(),
            [&[0u8; 10][..], &[1]].concat()
        );
        assert_eq!(file.read_at(3009, 3).unwrap(), vec![1, 2, 2]);
        assert_eq!(file.read_at(203_000, 100).unwrap().len(), 10);
        assert!(file.read_at(400_000, 100).unwrap().is_empty());
        file.set_len(5).unwrap();
        file.set_len(20).unwrap();
        assert_eq!(file.read_at(0, 50).unwrap(), vec![0; 20]);
        file.sync().unwrap();

        let link = root.join("link");
        disk.hard_link(&path, &link).unwrap();
        let taken = disk.hard_link(&path, &link).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        disk.remove_file(&path).unwrap();
        assert_eq!(
            disk.open(&path).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(disk.open(&link).unwrap().len().unwrap(), 20);
        disk.sync_dir(&root).unwrap();
        let names = disk.list(&root).unwrap();
        assert_eq!(
            names,
            vec![DiskEntry {
                path: link,
                is_dir: false
            }]
        );
        assert!(disk.is_dir(&root).unwrap() && !disk.is_dir(&path).unwrap());
        let missing = disk.list(&root.join("no")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
