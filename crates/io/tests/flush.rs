//! When a worker has its sink write: at once where nothing else is to be done.
#![allow(clippy::unwrap_used)]

use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::{Gate, Measure, Threshold};
use serveflow_core::packet::LinkType;
use serveflow_core::verdict::Verdict;
use serveflow_io::drive::{WhenFull, Worker};
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

/// Flushes until after each fill, with a clock on which each fill takes 3.
fn flushes(fills: Vec<usize>, flush_ns: u64) -> Vec<usize> {
    let spec = FeatureSpec {
        encoders: vec!["header_bits".to_owned()],
        packets: 1,
        layout: HeaderLayout::default(),
        masks: MaskSet::default(),
    };
    let gate = Gate::Doubt { measure: Measure::Margin, threshold: Threshold::Universal(0.5) };
    let stage = Stage::new("only", Features::new(&spec).unwrap(), gate, 1);
    let cascade = Cascade::new(vec![stage], vec!["a".to_owned(), "b".to_owned()]).unwrap();
    let mut engine = Engine::new(Arc::new(cascade), EngineConfig::default());
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
