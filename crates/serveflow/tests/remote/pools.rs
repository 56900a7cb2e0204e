//! Several servers: who is asked, and who takes over.

use super::kit::{Fake, Mood, ask, pool, until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn urls(fakes: &[Fake]) -> Vec<String> {
    fakes.iter().map(Fake::url).collect()
}

#[test]
fn requests_are_shared_in_turn() {
    let fakes = [Mood::Well, Mood::Well, Mood::Well].map(Fake::new);
    let pool = pool(&urls(&fakes), "");
    until("all are ready", || pool.status().iter().all(|status| status.is_ready));
    (0..30).for_each(|_| ask(&pool).unwrap());
    assert_eq!(fakes.each_ref().map(Fake::asked), [10; 3]);
}

#[test]
fn a_busy_server_gets_less() {
    let fakes = [Mood::Slow(Duration::from_millis(100)), Mood::Well].map(Fake::new);
    let pool = pool(&urls(&fakes), "");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| ask(&pool).unwrap()));
        }
    });
    let [slow, fast] = fakes.each_ref().map(Fake::asked);
    assert!(slow + fast == 100 && fast > 2 * slow, "{slow} and {fast}");
}

#[test]
fn while_a_server_is_lost_the_other_takes_over_and_it_comes_back_by_itself() {
    let mut fakes = [Mood::Well, Mood::Well].map(Fake::new);
    let pool = pool(&urls(&fakes), "");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = || {
            let mut asked = 0u64;
            while !over.load(Ordering::Relaxed) {
                ask(&pool).unwrap();
                asked += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            asked
        };
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(client)).collect();
        for lost in [0, 1, 0] {
            std::thread::sleep(Duration::from_millis(150));
            fakes[lost].stop();
            until("it is out", || !pool.status()[lost].is_ready);
            std::thread::sleep(Duration::from_millis(100));
            let before = fakes[lost].asked();
            fakes[lost].start();
            until("it is in again", || pool.status()[lost].is_ready);
            until("it is asked again", || fakes[lost].asked() > before);
        }
        over.store(true, Ordering::Relaxed);
        let asked: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(asked > 100, "{asked}");
    });
    let retries: u64 = pool.status().iter().map(|status| status.retries).sum();
    let failures: u64 = pool.status().iter().map(|status| status.failures).sum();
    assert_eq!(retries, failures, "each failure was made good by another try: {:?}", pool.status());
}

#[test]
fn a_server_that_hangs_leaves_time_for_another() {
    let fakes = [Mood::Slow(Duration::from_secs(5)), Mood::Well].map(Fake::new);
    let pool = pool(&urls(&fakes), "timeout_ms = 1000");
    let started = Instant::now();
    (0..2).for_each(|_| ask(&pool).unwrap());
    assert!(started.elapsed() < Duration::from_millis(4900), "{:?}", started.elapsed());
    assert_eq!(fakes[0].asked(), 1);
}

#[test]
fn retries_are_few() {
    let fakes = [Mood::Status(500, ""), Mood::Status(500, "")].map(Fake::new);
    // A pause of a millisecond: both are ready nearly all of the time.
    let pool = pool(&urls(&fakes), "health_ms = 1\nretry_ratio = 0.1\ntimeout_ms = 500");
    let errors: Vec<String> = (0..60).map(|_| ask(&pool).unwrap_err()).collect();
    let retries: u64 = pool.status().iter().map(|status| status.retries).sum();
    assert!((1..=16).contains(&retries), "{retries}: at most ten and a tenth of the requests");
    assert!(errors.iter().any(|error| error.contains("retry budget is used up")), "{errors:?}");
}

#[test]
fn no_retries_means_none_but_the_reserve() {
    let fakes = [Mood::Status(500, ""), Mood::Well].map(Fake::new);
    let pool = pool(&urls(&fakes), "health_ms = 1\nretry_ratio = 0");
    let failed = (0..40).filter(|_| {
        until("both are ready", || pool.status().iter().all(|status| status.is_ready));
        ask(&pool).is_err()
    });
    assert!(failed.count() > 0);
    assert_eq!(pool.status().iter().map(|status| status.retries).sum::<u64>(), 10);
}

#[test]
fn a_short_outage_of_all_is_waited_out() {
    let mut fakes = [Fake::new(Mood::Well)];
    let pool = pool(&urls(&fakes), "timeout_ms = 3000");
    ask(&pool).unwrap();
    fakes[0].stop();
    until("it is out", || !pool.status()[0].is_ready);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&pool));
        std::thread::sleep(Duration::from_millis(200));
        fakes[0].start();
        asked.join().unwrap().unwrap();
    });
}
