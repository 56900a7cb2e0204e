//! The driver makes the engine's calls as a caller would by hand, and waits where it should.
#![allow(clippy::unwrap_used)]

mod common;

use common::drive::{Drive, EDGES, Told, config};
use common::frames::{Frame, ipv4, udp};
use common::models::{cascade, inline_lanes, stage};
use common::traffic::{MS, Shape, traffic};
use serveflow_core::driver::{Driver, WhenFull};
use serveflow_core::engine::{End, Engine};
use serveflow_core::lane::{Job, Lane};
use serveflow_core::packet::LinkType;
use serveflow_core::verdict::{Reason, Verdict};
use std::sync::atomic::{AtomicU32, Ordering};

fn frames(seed: u64) -> Vec<Frame> {
    traffic(&Shape { jitter: seed % 2 == 1, ..Shape::new(seed, 40, &EDGES) })
}

fn sorted(verdicts: &[Verdict]) -> Vec<Told> {
    let last = verdicts.iter().filter(|verdict| verdict.is_final);
    let mut told: Vec<Told> = last.map(Told::of).collect();
    told.sort();
    told
}

/// A flow of one packet.
fn datagram(number: u32) -> Frame {
    let packet = ipv4(0x0a00_0000 | number, 0x0909_0909, 17, &udp(20_000, 53, &[9; 20]));
    let ts_ns = 1_000 * MS + u64::from(number);
    Frame::new(ts_ns, LinkType::RawIp, packet)
}

/// A lane in front of another one that has room for one job, and takes a few looks at it.
struct Slow {
    inner: Box<dyn Lane>,
    job: Option<(u32, Box<Job>)>,
}

impl Lane for Slow {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        match &self.job {
            Some(_) => Err(job),
            None => {
                self.job = Some((3, job));
                Ok(())
            }
        }
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        let (looks, job) = self.job.take()?;
        if looks > 0 {
            self.job = Some((looks - 1, job));
            return None;
        }
        assert!(self.inner.submit(job).is_ok());
        self.inner.poll()
    }
}

#[test]
fn whatever_the_batches_and_lanes_verdicts_are_those_by_hand() {
    let cascade = cascade(&[stage(1, 50 * MS, 0.3), stage(4, 300 * MS, 1.0)]);
    for seed in 0..20 {
        let frames = frames(seed);
        let lanes = inline_lanes(&cascade);
        let drive = Drive { config: config(), lanes, batch: 7, seed, end: End::Silence };
        let expected = drive.run(&cascade, &frames).told();
        assert!(expected.len() > 10, "there is traffic");
        for (batch, is_slow) in [(1, false), (64, false), (64, true), (usize::MAX, true)] {
            let mut engine = Engine::new(cascade.clone(), config());
            let mut lanes = inline_lanes(&cascade);
            if is_slow {
                let slow = |inner| Box::new(Slow { inner, job: None }) as Box<dyn Lane>;
                lanes = lanes.into_iter().map(slow).collect();
            }
            let mut driver = Driver::new(&mut engine, &mut lanes);
            let mut found = Vec::new();
            for some in frames.chunks(batch) {
                driver.serve(some.iter().map(Frame::packet));
                found.extend(driver.drain());
            }
            driver.finish(End::Silence);
            found.extend(driver.drain());
            assert_eq!(driver.drain().count(), 0, "each verdict comes once");
            assert_eq!(sorted(&found), expected, "seed {seed}, batches of {batch}, {is_slow}");
            assert!(engine.accounts().balance());
        }
    }
}

#[test]
fn an_end_in_parts_gives_each_flow_its_verdict_once_and_stops_where_a_part_fails() {
    let cascade = cascade(&[stage(9, u64::MAX, 1.0)]);
    // So few that most flows are open at the end.
    let frames: Vec<Frame> = (1..40).map(datagram).collect();
    let ended = |most_flows, fails_at| {
        let mut engine = Engine::new(cascade.clone(), config());
        let mut lanes = inline_lanes(&cascade);
        let mut driver = Driver::new(&mut engine, &mut lanes);
        driver.serve(frames.iter().map(Frame::packet));
        let (mut found, mut parts) = (driver.drain().collect::<Vec<_>>(), 0);
        let done = driver.finish_in_parts(End::Stop, most_flows, |engine| {
            parts += 1;
            found.extend(engine.drain_verdicts());
            if parts == fails_at { Err(parts) } else { Ok(()) }
        });
        (sorted(&found), done)
    };
    let (whole, done) = ended(usize::MAX, 0);
    assert_eq!(done, Ok(()));
    assert_eq!(whole.len(), 39);
    assert_eq!(ended(1, 0).0, whole);
    assert_eq!(ended(0, 0).0, whole, "none at a time is one at a time");
    let (part, done) = ended(1, 2);
    assert_eq!(done, Err(2));
    assert_eq!(part.len(), 2);
}

/// A lane that keeps its first job and says that it is not to be waited for.
struct Stuck(Option<Box<Job>>);

impl Lane for Stuck {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        if self.0.is_some() {
            return Err(job);
        }
        self.0 = Some(job);
        Ok(())
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        None
    }

    fn is_given_up(&self) -> bool {
        RESTS.load(Ordering::Relaxed) >= 5
    }
}

/// Turns that were waited.
static RESTS: AtomicU32 = AtomicU32::new(0);

#[test]
fn a_lane_that_is_given_up_is_waited_for_no_longer() {
    let cascade = cascade(&[stage(1, 50 * MS, 1.0)]);
    let mut engine = Engine::new(cascade, config());
    let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(Stuck(None))];
    let rest = |turn| assert_eq!(RESTS.fetch_add(1, Ordering::Relaxed) + 1, turn);
    let mut driver = Driver::new(&mut engine, &mut lanes).with_rest(rest);
    driver = driver.when_full(WhenFull::Shed);
    driver.serve(frames(1).iter().map(Frame::packet));
    assert_eq!(RESTS.load(Ordering::Relaxed), 0, "who sheds does not wait");
    driver.finish(End::Silence);
    assert_eq!(RESTS.load(Ordering::Relaxed), 5);
    assert!(driver.drain().all(|verdict| verdict.answer.is_none()
        && [Reason::Shed, Reason::Failed].contains(&verdict.reason)));
    assert!(engine.accounts().balance() && !engine.is_asking());
}

#[test]
fn a_clock_tells_how_long_models_take() {
    let cascade = cascade(&[stage(1, 50 * MS, 1.0)]);
    let mut engine = Engine::new(cascade.clone(), config());
    let mut lanes = inline_lanes(&cascade);
    let mut now_ns = 0;
    let mut wall = || {
        now_ns += 5;
        now_ns
    };
    let mut driver = Driver::new(&mut engine, &mut lanes).with_wall(&mut wall);
    driver.serve(frames(1).iter().map(Frame::packet));
    driver.finish(End::Silence);
    let answered = driver.drain().filter(|verdict| verdict.answer.is_some());
    let compute_ns: Vec<u64> = answered.map(|verdict| verdict.compute_ns).collect();
    assert!(!compute_ns.is_empty() && compute_ns.iter().all(|&ns| ns > 0 && ns % 5 == 0));
}
