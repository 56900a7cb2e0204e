//! When a worker has its sink write: at once where nothing else is to be done.
#![allow(clippy::unwrap_used)]

use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::{Job, Lane};
use serveflow_core::packet::LinkType;
use serveflow_core::verdict::Verdict;
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{Batch, Sink, Source, SourceError};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Frames of each fill; none is a fill in which nothing came.
struct Fills(std::vec::IntoIter<usize>);

impl Source for Fills {
    fn fill(&mut self, batch: &mut Batch, _max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        let Some(frames) = self.0.next() else { return Ok(0) };
        (0..frames).for_each(|_| batch.push(0, 1, LinkType::Ethernet, &[0]));
        if frames == 0 {
            batch.be_quiet(0);
        }
        Ok(frames)
    }

    fn name(&self) -> &str {
        "fills"
    }
}

#[derive(Default)]
struct Flushes(Arc<AtomicUsize>);

impl Sink for Flushes {
    fn write(&mut self, _verdicts: &[Verdict]) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A cascade of one stage that wants so many packets.
fn cascade(packets: u16) -> Arc<Cascade> {
    let spec = FeatureSpec {
        encoders: vec!["header_bits".to_owned()],
        packets,
        layout: HeaderLayout::default(),
        masks: MaskSet::default(),
    };
    let gate =
        Gate::Uncertainty { measure: Uncertainty::Margin, threshold: Threshold::Universal(0.5) };
    let stage = Stage::new("only", Features::new(&spec).unwrap(), gate, u64::MAX);
    Arc::new(Cascade::new(vec![stage], vec!["a".to_owned(), "b".to_owned()]).unwrap())
}

/// Flushes until after each fill, with a clock on which each fill takes 3.
fn flushes(fills: Vec<usize>, flush_ns: u64) -> Vec<usize> {
    let mut engine = Engine::new(cascade(1), EngineConfig::default());
    let mut sink = Flushes::default();
    let count = Arc::clone(&sink.0);
    let now = AtomicUsize::new(0);
    let mut after = Vec::new();
    let mut worker = Worker {
        engine: &mut engine,
        lanes: &mut Vec::new(),
        sink: &mut sink,
        wall: &mut || now.load(Ordering::Relaxed) as u64,
        batch_frames: 4,
        when_full: WhenFull::Shed,
        flush_ns,
    };
    let outcome = worker.run(&mut Fills(fills.into_iter()), &mut |_, _| {
        now.fetch_add(3, Ordering::Relaxed);
        after.push(count.load(Ordering::Relaxed));
        ControlFlow::Continue(())
    });
    assert!(outcome.unwrap().damaged.is_empty());
    after.pop();
    after
}

#[test]
fn verdicts_wait_only_while_more_packets_do() {
    // Full batches are written every so often, one that is not full at once.
    assert_eq!(flushes(vec![4, 4, 4, 4, 4, 4], 7), [0, 0, 0, 1, 1, 1]);
    assert_eq!(flushes(vec![4, 1, 4, 0, 0], 100), [0, 1, 1, 2, 3]);
    assert_eq!(flushes(vec![4, 1, 0], u64::MAX), [0, 0, 0]);
}

/// Frames of flows that each have one.
struct Flows(std::ops::Range<u32>);

impl Source for Flows {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        for number in self.0.by_ref().take(max_frames) {
            let [a, b, c, d] = number.to_be_bytes();
            let frame = [
                2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0,
                10, b, c, d, 192, 0, 2, 1, 1, a, 0, 53, 0, 8, 0, 0,
            ];
            batch.push(u64::from(number), frame.len() as u32, LinkType::Ethernet, &frame);
        }
        Ok(batch.len())
    }

    fn name(&self) -> &str {
        "flows"
    }
}

/// A lane without room: its flows are shed.
struct NoRoom;

impl Lane for NoRoom {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        Err(job)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        None
    }
}

/// The numbers of the flows that each write gives a verdict.
#[derive(Default)]
struct Writes(Vec<Vec<u64>>);

impl Sink for Writes {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.0.push(verdicts.iter().map(|verdict| verdict.id).collect());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// However many flows are open at the end, each gets its verdict once. On live traffic they are
/// written part by part, so that whoever waits sees that the end goes on; a capture's are in the
/// order that they have at once.
#[test]
fn an_end_of_live_traffic_is_written_part_by_part_and_each_flow_once() {
    for flows in [0, 1, 8_192, 8_193, 20_000] {
        let ended = |flush_ns| {
            let mut engine = Engine::new(cascade(2), EngineConfig::default());
            let mut sink = Writes::default();
            let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(NoRoom)];
            let mut worker = Worker {
                engine: &mut engine,
                lanes: &mut lanes,
                sink: &mut sink,
                wall: &mut || 0,
                batch_frames: 1000,
                when_full: WhenFull::Shed,
                flush_ns,
            };
            let go_on = &mut |_: &Batch, _: &mut Worker<'_>| ControlFlow::Continue(());
            worker.run(&mut Flows(0..flows), go_on).unwrap();
            sink.0
        };
        let (live, file) = (ended(7), ended(u64::MAX));
        let all: Vec<u64> = (0..u64::from(flows)).collect();
        for writes in [&live, &file] {
            let mut numbers = writes.concat();
            numbers.sort_unstable();
            assert_eq!(numbers, all);
        }
        assert_eq!(live.len(), flows.div_ceil(8_192) as usize);
        assert!(file.len() <= 1, "a capture's are written at once");
    }
}
