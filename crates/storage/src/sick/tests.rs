use futures::FutureExt as _;

use super::*;
use crate::bucket::{Bucket, BucketError};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn store(sickness: Sickness) -> Arc<SickStore> {
    Arc::new(SickStore::new(sickness, Bucket::memory()))
}

fn zero() -> Sickness {
    Sickness::from(Profile::Zero).seeded(1)
}

fn bytes(count: u64) -> Vec<Bytes> {
    vec![vec![7; usize::try_from(count).unwrap()].into()]
}

/// Latencies of many requests, sorted, in milliseconds.
fn drawn(latencies: &Latencies, kind: Kind, bytes: u64, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let draw = |_| latencies.draw(kind, bytes, &mut rng).as_secs_f64() * 1000.0;
    let mut drawn: Vec<f64> = (0..20_000).map(draw).collect();
    drawn.sort_by(f64::total_cmp);
    drawn
}

fn near(found: f64, wanted: f64) {
    let off = (found / wanted - 1.0).abs();
    assert!(off < 0.05, "{found} is not {wanted}");
}

#[test]
fn latencies_have_the_medians_spreads_and_tails_they_should() {
    let standard = Latencies::STANDARD;
    for (kind, size, median) in [
        (Kind::Put, 0, 32.0),
        (Kind::Put, MIB, 43.0),
        (Kind::Put, 8 * MIB, 32.0 + 11.0 * 8_f64.powf(0.8)),
        (Kind::Get, KIB, 22.0),
        (Kind::Get, 8 * MIB, 122.0),
    ] {
        let drawn = drawn(&standard, kind, size, 3);
        near(drawn[10_000], median);
        // One standard deviation above: 84.1 % of those that are not in the tail.
        near(drawn[16_800], median * 0.38_f64.exp());
    }
    let gets = drawn(&standard, Kind::Get, KIB, 4);
    // At 22 ms and a sigma of 0.38 nothing else gets there.
    let tail: Vec<f64> = gets.into_iter().filter(|millis| *millis > 149.9).collect();
    assert!((50..110).contains(&tail.len()), "{}", tail.len());
    assert!(tail[tail.len() - 1] <= 8_000.0);
    assert!(tail[tail.len() - 1] > 4_000.0, "{tail:?}");
    near(drawn(&Latencies::EXPRESS, Kind::Put, 0, 5)[10_000], 6.5);
    let bad = drawn(&Latencies::BAD_DAY, Kind::Put, 0, 5)[10_000];
    assert!(bad > 150.0, "{bad}");
}

#[tokio::test(start_paused = true)]
async fn requests_take_as_long_as_they_should() {
    let store = store(Sickness::from(Profile::Standard).seeded(9));
    let mut times = Vec::new();
    for key in 0..400 {
        let began = Instant::now();
        store.put(&key.to_string(), &bytes(KIB)).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    let median = times[200].as_secs_f64() * 1000.0;
    assert!((28.0..37.0).contains(&median), "{median}");
    let began = Instant::now();
    let healthy = SickStore::new(zero(), Bucket::memory());
    healthy.put("key", &bytes(MIB)).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// What became of a row of requests, and when.
async fn history(seed: u64) -> Vec<(Duration, String)> {
    let sickness = Sickness::from(Profile::BadDay)
        .with(Fault::Hang, 0.0)
        .seeded(seed);
    let store = store(sickness);
    let began = Instant::now();
    let mut history = Vec::new();
    for number in 0..100 {
        let key = (number % 10).to_string();
        let put = store.put(&key, &bytes(100)).await;
        let got = store.get(&key, 0..100).await;
        history.push((began.elapsed(), format!("{put:?} {got:?}")));
    }
    history
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_fates() {
    let first = history(5).await;
    assert_eq!(history(5).await, first);
    assert_ne!(history(6).await, first);
}

#[tokio::test(start_paused = true)]
async fn faults_come_at_their_rates_and_are_counted() {
    let sickness = zero()
        .with(Fault::Error, 0.1)
        .with(Fault::SlowDown, 0.05)
        .with(Fault::Truncated, 0.1)
        .with(Fault::Corrupt, 0.1);
    let store = store(sickness);
    store.inner.put("key", &bytes(100)).await.unwrap();
    let mut seen = [0_u64; 4];
    for _ in 0..2000 {
        match store.get("key", 0..100).await {
            Err(Failure::Unavailable(_)) => seen[0] += 1,
            Err(Failure::SlowDown(_)) => seen[1] += 1,
            Ok(body) if body.len() < 100 => seen[2] += 1,
            Ok(body) => {
                let wrong: u32 = body.iter().map(|byte| (byte ^ 7).count_ones()).sum();
                assert!(wrong <= 1, "one bit is flipped");
                seen[3] += u64::from(wrong);
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    for (count, wanted) in seen.iter().zip([200, 100, 200, 200]) {
        let range = wanted * 7 / 10..wanted * 13 / 10;
        assert!(range.contains(count), "{seen:?}");
    }
    let counts = store.counts().of(Kind::Get);
    let faults = [
        Fault::Error,
        Fault::SlowDown,
        Fault::Truncated,
        Fault::Corrupt,
    ];
    assert_eq!(faults.map(|fault| counts.faults(fault)), seen);
    assert_eq!(counts.requests, 2000);
    assert!(counts.bytes < (2000 - seen[0] - seen[1]) * 100 && counts.bytes > 100_000);
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_put_is_there_and_a_bucket_finds_its_own() {
    let store = store(zero().with(Fault::Ambiguous, 1.0));
    let put = store.put("key", &bytes(10)).await;
    assert!(matches!(put, Err(Failure::Unavailable(_))), "{put:?}");
    assert_eq!(store.get("key", 0..10).await.unwrap(), bytes(10)[0]);
    let bucket = Bucket::over("sick", Arc::clone(&store) as Arc<dyn Store>);
    bucket.create("other", bytes(10)).await.unwrap();
    bucket.delete("other").await.unwrap_err();
    assert_eq!(store.counts().faults(Fault::Ambiguous), 2 + 6);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_request_is_ended_by_the_bucket_and_tried_again() {
    let store = store(zero().with(Fault::Hang, 0.3));
    let bucket = Bucket::over("sick", Arc::clone(&store) as Arc<dyn Store>);
    let began = Instant::now();
    for number in 0..20 {
        let key = number.to_string();
        bucket.create(&key, bytes(10)).await.unwrap();
        assert_eq!(bucket.read(&key, 0..10).await.unwrap(), bytes(10)[0]);
    }
    assert!(store.counts().faults(Fault::Hang) > 5);
    assert!(began.elapsed() > Duration::from_secs(50));
}

#[tokio::test(start_paused = true)]
async fn a_cut_body_is_read_again() {
    let store = store(zero().with(Fault::Truncated, 0.25));
    let bucket = Bucket::over("sick", Arc::clone(&store) as Arc<dyn Store>);
    bucket.create("key", bytes(100)).await.unwrap();
    for _ in 0..20 {
        assert_eq!(bucket.read("key", 0..100).await.unwrap(), bytes(100)[0]);
    }
    assert!(store.counts().faults(Fault::Truncated) > 3);
}

#[tokio::test(start_paused = true)]
async fn it_is_off_while_a_file_exists_and_while_a_window_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let switch = dir.path().join("off");
    let mut sickness = zero();
    sickness.off = vec![
        Off::File(switch.clone()),
        Off::Window {
            from: Duration::from_secs(60),
            lasts: Duration::from_secs(60),
        },
    ];
    let off = store(sickness.clone());
    let is_off = || {
        let off = Arc::clone(&off);
        async move { matches!(off.list("", None, 1).await, Err(Failure::Unavailable(_))) }
    };
    assert!(!is_off().await);
    std::fs::write(&switch, "").unwrap();
    assert!(is_off().await);
    std::fs::remove_file(&switch).unwrap();
    assert!(!is_off().await);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(is_off().await);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!is_off().await);
    assert_eq!(off.counts().faults(Fault::Off), 2);
    std::fs::write(&switch, "").unwrap();
    sickness.hangs_when_off = true;
    let hangs = store(sickness);
    assert!(hangs.head("key").now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_store_with_a_limit_is_asked_less_until_it_is_content() {
    let mut sickness = zero();
    sickness.limit = Some(50);
    let store = store(sickness);
    let bucket = Bucket::over("sick", Arc::clone(&store) as Arc<dyn Store>);
    bucket.create("key", bytes(10)).await.unwrap();
    let readers = (0..100).map(|_| async {
        let mut failed = 0;
        for _ in 0..20 {
            match bucket.read("key", 0..10).await {
                Ok(_) => {}
                Err(BucketError::Unavailable { .. }) => {
                    failed += 1;
                    sleep(Duration::from_secs(5)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
        failed
    });
    let began = Instant::now();
    let failed: u32 = futures::future::join_all(readers).await.iter().sum();
    let took = began.elapsed().as_secs_f64();
    let refused = store.counts().faults(Fault::SlowDown);
    let requests = store.counts().requests();
    assert!(refused * 3 < requests, "{refused} of {requests} refused");
    assert!(failed < 1500, "{failed}");
    assert!(took < 300.0, "{took}");
    assert!(bucket.health().rate.is_some());
}
