use super::*;

fn command(size: usize) -> Option<Bytes> {
    Some(vec![1; size].into())
}

#[test]
fn entries_are_read_in_order_and_in_bounds() {
    let feed = Feed::new(1 << 20);
    assert_eq!(feed.read(0, 100), Stretch::End);
    for index in 0..10 {
        feed.push(index, (index % 3 != 0).then(|| Bytes::from(vec![0; 36])));
    }
    let Stretch::Entries(all) = feed.read(0, usize::MAX) else {
        panic!("nothing")
    };
    assert_eq!(all.len(), 10);
    assert!(all[0].is_none() && all[1].is_some());
    let Stretch::Entries(some) = feed.read(4, 200) else {
        panic!("nothing")
    };
    assert_eq!(some.len(), 2);
    // The next one comes whatever its size.
    let Stretch::Entries(some) = feed.read(4, 0) else {
        panic!("nothing")
    };
    assert_eq!(some.len(), 1);
    assert_eq!(feed.read(10, 100), Stretch::End);
    assert_eq!(feed.read(99, 100), Stretch::End);
}

#[test]
fn what_is_old_goes() {
    let feed = Feed::new(1_000);
    for index in 0..10 {
        feed.push(index, command(236));
    }
    assert_eq!(feed.read(6, 1_000), Stretch::Gone);
    assert!(matches!(feed.read(7, 1_000), Stretch::Entries(entries) if entries.len() == 3));
    assert_eq!(feed.begin(10), 7);
    feed.push(10, command(5_000));
    assert_eq!(feed.read(9, 1_000), Stretch::Gone);
    assert!(matches!(feed.read(10, 1), Stretch::Entries(entries) if entries.len() == 1));
}

#[test]
fn a_gap_begins_it_anew() {
    let feed = Feed::new(1_000);
    feed.push(0, None);
    feed.push(50, None);
    assert_eq!(feed.read(0, 100), Stretch::Gone);
    assert_eq!(feed.read(50, 100), Stretch::Entries(vec![None]));
    assert_eq!(feed.begin(51), 50);
    // A snapshot was installed behind its back.
    assert_eq!(feed.begin(80), 80);
}
