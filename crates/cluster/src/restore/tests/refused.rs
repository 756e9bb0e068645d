//! Restores that are not made.

use super::*;

#[tokio::test]
async fn of_two_restores_at_once_one_is_told_that_it_lost() {
    for _ in 0..20 {
        let world = World::new().await;
        let other = RestoreConfig {
            disk: ForgetfulDisk::default().shared(),
            ..world.config()
        };
        let mine = world.config();
        let (first, second) = tokio::join!(restore(&mine, &|_| ()), restore(&other, &|_| ()));
        let Some(lost) = first.err().or(second.err()) else {
            // One had ended before the other looked, and was restored by it.
            continue;
        };
        assert!(matches!(lost, RestoreError::Raced(_)), "{lost}");
        assert_eq!(
            world.shelf.keys("quorum/history/"),
            [keys::marker(0), keys::marker(1)]
        );
        return;
    }
    panic!("they never met");
}

#[tokio::test]
async fn a_bucket_without_an_archive_says_so() {
    let world = World::new().await;
    let config = RestoreConfig {
        bucket: Arc::new(Shelf::default()).bucket(),
        ..world.config()
    };
    let error = restore(&config, &|_| ()).await.unwrap_err();
    assert!(
        error.to_string().contains("holds no archived cluster"),
        "{error}"
    );
    let disk: Arc<dyn Disk> = config.disk;
    assert!(!disk.is_dir(Path::new(DIR)).unwrap());
}
