//! The batch lane beside models that are slow, hang, fail and panic.
#![allow(clippy::unwrap_used)]

#[path = "batch_lane/kit.rs"]
mod kit;

use kit::{Backend, Clock, Say, job, lane, marks, shape};
use proptest::prelude::*;
use serveflow_core::lane::{Job, Lane};
use serveflow_serve::lanes::{BatchConfig, BatchLane, StageTally};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// As the default, but for what a test is about.
fn config() -> BatchConfig {
    BatchConfig { max_wait_us: 0, ..BatchConfig::default() }
}

/// The next job, which must come in good time.
fn next(lane: &mut BatchLane) -> Box<Job> {
    let started = Instant::now();
    loop {
        if let Some(job) = lane.poll() {
            return job;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "a job is lost");
        std::thread::sleep(Duration::from_micros(50));
    }
}

// As the lane gives them.
#[allow(clippy::vec_box)]
fn all(lane: &mut BatchLane, count: usize) -> Vec<Box<Job>> {
    let jobs = (0..count).map(|_| next(lane)).collect();
    assert!(lane.poll().is_none(), "none comes twice");
    jobs
}

#[test]
fn jobs_that_wait_are_joined_up_to_the_largest_batch_and_get_their_own_answers() {
    let (backend, clock) = (Backend::new(), Clock::new());
    let config = BatchConfig { max_rows: 10, ..config() };
    let (mut lane, counters) = lane(&[&backend], 64, config, &clock);
    // The first is in a call while the others come.
    backend.hold();
    lane.submit(job(0, 100, 1)).unwrap();
    backend.wait_for_calls(1);
    for (index, rows) in [4, 5, 3, 7, 10, 1].into_iter().enumerate() {
        lane.submit(job(0, 200 + 20 * index as u32, rows)).unwrap();
    }
    backend.release();
    for job in all(&mut lane, 7) {
        assert!(!job.failed);
        assert_eq!(
            marks(&job),
            (0..job.rows.len()).map(|r| job.rows.words(r)[0]).collect::<Vec<_>>()
        );
    }
    assert_eq!(backend.sizes(), [1, 9, 10, 10, 1], "whole jobs, as many as fit");
    let expected = StageTally { batches: 5, rows: 31, largest: 10, ..StageTally::default() };
    assert_eq!(counters.tally(), [expected]);
}

#[test]
fn a_job_that_is_larger_than_a_batch_is_scored_in_pieces() {
    let (backend, clock) = (Backend::new(), Clock::new());
    let config = BatchConfig { max_rows: 4, threads: 2, ..config() };
    let (mut lane, _) = lane(&[&backend], 3, config, &clock);
    for rows in [11, 4, 0, 1, 64] {
        lane.submit(job(0, rows, rows as usize)).unwrap();
        let job = next(&mut lane);
        assert!(!job.failed && job.scores.len() == rows as usize);
        assert_eq!(marks(&job), (rows..2 * rows).collect::<Vec<_>>());
    }
    assert!(backend.sizes().into_iter().all(|rows| rows <= 4));
    // One piece that fails is enough, and what is left of its job is not scored.
    backend.say(&[Say::Answer, Say::Fail]);
    lane.submit(job(0, 1, 11)).unwrap();
    assert!(next(&mut lane).failed);
    lane.submit(job(0, 5, 2)).unwrap();
    assert_eq!(marks(&next(&mut lane)), [5, 6]);
}

#[test]
fn two_stages_share_a_lane_and_no_call() {
    let (one, other, clock) = (Backend::new(), Backend::new(), Clock::new());
    let (mut lane, counters) = lane(&[&one, &other], 64, config(), &clock);
    one.hold();
    for index in 0..20 {
        lane.submit(job(index as usize % 2, index * 10, 3)).unwrap();
    }
    one.release();
    for job in all(&mut lane, 20) {
        assert_eq!(marks(&job)[0] / 10 % 2, job.stage as u32);
    }
    for (backend, tally) in [one, other].iter().zip(counters.tally()) {
        assert_eq!(backend.sizes().iter().sum::<usize>(), 30);
        assert_eq!((tally.rows, tally.unanswered()), (30, 0));
    }
}

#[test]
fn a_job_waits_for_others_no_longer_than_it_may_and_not_at_all_when_the_batch_is_full() {
    let (backend, clock) = (Backend::new(), Clock::new());
    let config = BatchConfig { max_wait_us: 1_000, max_rows: 4, ..config() };
    let (mut lane, _) = lane(&[&backend], 64, config, &clock);
    lane.submit(job(0, 1, 1)).unwrap();
    clock.go_us(999);
    lane.submit(job(0, 2, 1)).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    assert!(lane.poll().is_none() && backend.sizes().is_empty(), "others may come");
    clock.go_us(1);
    all(&mut lane, 2);
    assert_eq!(backend.sizes(), [2]);
    (0..4).for_each(|index| lane.submit(job(0, index, 1)).unwrap());
    all(&mut lane, 4);
    assert_eq!(backend.sizes(), [2, 4], "a full batch waits for nothing");
}

#[test]
fn a_call_that_hangs_gives_its_jobs_up_at_their_deadline_and_its_late_answer_is_dropped() {
    let (backend, clock) = (Backend::new(), Clock::new());
    let (mut lane, counters) = lane(&[&backend], 2, config(), &clock);
    backend.hold();
    lane.submit(job(0, 1, 1)).unwrap();
    backend.wait_for_calls(1);
    clock.go_ms(400);
    lane.submit(job(0, 2, 1)).unwrap();
    lane.submit(job(0, 3, 1)).unwrap();
    let refused = lane.submit(job(0, 4, 1)).unwrap_err();
    assert_eq!(refused.rows.words(0), [4], "a full queue hands back what it was given");
    clock.go_ms(599);
    assert!(lane.poll().is_none());
    clock.go_ms(1);
    let late = next(&mut lane);
    assert!(late.failed && late.rows.words(0) == [1] && lane.poll().is_none());
    clock.go_ms(400);
    assert!(all(&mut lane, 2).iter().all(|job| job.failed));
    // There is room again, and once the call ends there are answers again.
    lane.submit(job(0, 5, 1)).unwrap();
    backend.release();
    let job = next(&mut lane);
    assert!(!job.failed && marks(&job) == [5]);
    assert!(lane.poll().is_none());
    assert_eq!(backend.sizes(), [1, 1], "what was given up in the queue was never scored");
    assert_eq!((counters.tally()[0].late, counters.tally()[0].opened), (3, 0));
}

#[test]
fn a_lane_that_is_dropped_leaves_a_call_that_hangs_to_itself() {
    let (backend, clock) = (Backend::new(), Clock::new());
    let config = BatchConfig { deadline_ms: 50, ..config() };
    let (mut lane, _) = lane(&[&backend], 2, config, &clock);
    backend.hold();
    lane.submit(job(0, 1, 1)).unwrap();
    backend.wait_for_calls(1);
    let started = Instant::now();
    drop(lane);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(40) && took < Duration::from_secs(10), "{took:?}");
    backend.release();
}

/// One job, and what came of it: `Some(false)` when it came back without a call.
fn ask(lane: &mut BatchLane, backend: &Backend) -> Option<bool> {
    let before = backend.calls();
    lane.submit(job(0, 7, 2)).unwrap();
    let job = next(lane);
    (job.failed).then_some(backend.calls() > before)
}

#[test]
fn a_stage_that_fails_again_and_again_is_left_alone_tried_and_left_alone_for_longer() {
    let (backend, clock) = (Backend::new(), Clock::new());
    let config = BatchConfig { breaker_failures: 3, breaker_ms: 100, ..config() };
    let (mut lane, counters) = lane(&[&backend], 8, config, &clock);
    let (called, alone) = (Some(true), Some(false));
    // Failures that are not in a row open nothing.
    let alternating = [Say::Fail, Say::Answer].repeat(10);
    backend.say(&alternating);
    (0..20).for_each(|_| assert_ne!(ask(&mut lane, &backend), alone));
    backend.say(&[Say::Fail, Say::Panic, Say::WrongShape, Say::Fail, Say::Panic]);
    (0..3).for_each(|_| assert_eq!(ask(&mut lane, &backend), called));
    for pause_ms in [100, 200] {
        clock.go_ms(pause_ms - 1);
        assert_eq!(ask(&mut lane, &backend), alone, "open for {pause_ms} ms");
        clock.go_ms(1);
        assert_eq!(ask(&mut lane, &backend), called, "one is tried, in vain");
    }
    clock.go_ms(400);
    assert_eq!(ask(&mut lane, &backend), None, "one is tried, and well");
    assert_eq!(ask(&mut lane, &backend), None);
    let tally = counters.tally()[0];
    assert_eq!((tally.opened, tally.turned_away, tally.failed, tally.late), (3, 2, 15, 0));
}

#[test]
fn what_waits_behind_a_call_that_hangs_opens_the_breaker_and_comes_back() {
    let (hung, well, clock) = (Backend::new(), Backend::new(), Clock::new());
    let config = BatchConfig { breaker_failures: 3, threads: 2, ..config() };
    let (mut lane, counters) = lane(&[&hung, &well], 100, config, &clock);
    hung.hold();
    for calls in [1, 2] {
        lane.submit(job(0, 0, 256)).unwrap();
        hung.wait_for_calls(calls);
    }
    (0..5).for_each(|_| lane.submit(job(0, 0, 256)).unwrap());
    clock.go_ms(900);
    (0..5).for_each(|_| lane.submit(job(0, 0, 256)).unwrap());
    clock.go_ms(100);
    let jobs = all(&mut lane, 12);
    assert!(jobs.iter().all(|job| job.failed));
    let tally = counters.tally()[0];
    assert_eq!((tally.batches, tally.late, tally.turned_away, tally.opened), (2, 3, 9, 1));
    // Two calls that hang keep both threads: the other stage waits, too, until one of them ends.
    lane.submit(job(1, 3, 1)).unwrap();
    assert!(lane.poll().is_none());
    hung.release();
    assert_eq!(marks(&next(&mut lane)), [3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever models and time do, each job that is handed in comes back once, with its own answer
    /// or without one, and no more are taken than there is room for.
    #[test]
    fn nothing_is_lost_or_doubled_or_mixed_up(
        says in prop::collection::vec(0..10_u8, 1..60),
        steps in prop::collection::vec((0..2_usize, 0..12_usize, 0..5_u8), 1..120),
        threads in 1..4_usize,
        max_rows in 1..9_usize,
        room in 1..6_usize,
    ) {
        let (backends, clock) = ([Backend::new(), Backend::new()], Clock::new());
        let say = |dice: &u8| match dice { 0 => Say::Fail, 1 => Say::WrongShape, _ => Say::Answer };
        let says: Vec<Say> = says.iter().map(say).collect();
        backends.iter().for_each(|backend| backend.say(&says));
        let config = BatchConfig { threads, max_rows, breaker_failures: 2, breaker_ms: 3,
            deadline_ms: 10, max_wait_us: 500 };
        let (mut lane, counters) = lane(&[&backends[0], &backends[1]], room, config, &clock);
        let (mut out, mut without) = (BTreeMap::new(), 0);
        let mut take = |lane: &mut BatchLane, out: &mut BTreeMap<u64, (u32, usize)>| {
            while let Some(job) = lane.poll() {
                let (mark, rows) = out.remove(&job.flows[0]).expect("handed in, and not yet back");
                without += u64::from(job.failed);
                if !job.failed {
                    assert_eq!(marks(&job), (mark..mark + rows as u32).collect::<Vec<_>>());
                }
            }
        };
        for (index, &(stage, rows, what)) in steps.iter().enumerate() {
            let mark = index as u32 * 100;
            let mut asking = job(stage, mark, rows);
            asking.flows = vec![index as u64];
            if lane.submit(asking).is_ok() {
                out.insert(index as u64, (mark, rows));
            }
            match what {
                0 => clock.go_us(400),
                1 => clock.go_ms(4),
                2 => backends[stage].hold(),
                3 => backends.iter().for_each(Backend::release),
                _ => std::thread::yield_now(),
            }
            take(&mut lane, &mut out);
            // What waits, and at most a batch of jobs for each thread.
            assert!(out.len() <= room + 12 + threads * (max_rows + room + 12));
        }
        // Whether calls hang for ever or not: at the deadline everything is back.
        clock.go_ms(10);
        take(&mut lane, &mut out);
        prop_assert!(out.is_empty(), "{out:?}");
        let told: u64 = counters.tally().iter().map(StageTally::unanswered).sum();
        prop_assert_eq!(told, without);
        backends.iter().for_each(Backend::release);
    }
}

#[test]
fn however_long_a_call_hangs_no_more_is_taken_than_there_is_room_for() {
    let (backend, clock) = (Backend::new(), Clock::new());
    let config = BatchConfig { breaker_failures: u32::MAX, ..config() };
    let (mut lane, _) = lane(&[&backend], 5, config, &clock);
    backend.hold();
    lane.submit(job(0, 1, 1)).unwrap();
    backend.wait_for_calls(1);
    let mut back = 0;
    for _ in 0..100 {
        let taken = (0..20).filter(|_| lane.submit(job(0, 1, 1)).is_ok()).count();
        assert_eq!(taken, 5);
        clock.go_ms(1_000);
        back += std::iter::from_fn(|| lane.poll()).count();
    }
    assert_eq!(back, 501);
    assert_eq!(backend.calls(), 1, "no thread was started for it");
    backend.release();
    assert_eq!(shape().words, 1);
}

/// What the lane costs beside the thread lane, printed by
/// `cargo test --release -p serveflow --test batch_lane -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn overhead_per_job() {
    for rows in [1, 16, 256] {
        kit::overhead(rows);
    }
}
