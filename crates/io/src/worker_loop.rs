//! The worker loop: fill, serve, write. There is no other one. What is between packets and verdicts
//! is the core's [`Driver`].

use crate::batch::Batch;
use crate::error::SourceError;
use crate::sink::Sink;
use crate::source::Source;
use serveflow_core::driver::Driver;
use serveflow_core::engine::{Cascade, End, Engine};
use serveflow_core::lane::Lane;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

pub use serveflow_core::driver::WhenFull;

/// A worker: an engine with its lanes and its sink.
pub struct Worker<'a> {
    /// Takes the packets.
    pub engine: &'a mut Engine,
    /// Where stages are scored, by lane index: those of each plan stand together.
    pub lanes: &'a mut Vec<Box<dyn Lane>>,
    /// Where verdicts go.
    pub sink: &'a mut dyn Sink,
    /// Wall time, nanoseconds from any fixed start.
    pub wall: &'a mut dyn FnMut() -> u64,
    /// Most frames of a batch.
    pub batch_frames: usize,
    /// What is done about a lane that is full.
    pub when_full: WhenFull,
    /// Longest that a verdict waits to be written while batches are full, nanoseconds of wall time.
    /// One that is not full took all that was there, so its verdicts are written at once; but
    /// `u64::MAX` leaves all of it to the sink.
    pub flush_ns: u64,
}

/// Flows that are ended at a time at the end of live traffic.
const END_FLOWS: usize = 1 << 13;
/// Turns of waiting in which the processor is only offered to others; then the worker sleeps.
const PATIENCE: u32 = 64;
/// How long it sleeps: short beside a full batch in a slow lane, long beside a look at the lane.
const NAP: Duration = Duration::from_micros(50);

/// How a run ended, and the inputs that were damaged.
#[derive(Debug)]
pub struct Outcome {
    /// One error per damaged input; every frame before the damage was served.
    pub damaged: Vec<SourceError>,
    /// Whether the watcher stopped the run before the end of the input.
    pub stopped: bool,
}

impl Worker<'_> {
    /// Serves a source to its end, or until `watch` breaks; then every open flow gets its verdict.
    ///
    /// `watch` sees each batch after it was served, and an empty one where the input is damaged and
    /// at its end: a source that was told to stop ends as well. Damaged inputs are reported in the
    /// outcome and the source goes on with its next input.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn run(
        &mut self,
        source: &mut dyn Source,
        watch: &mut dyn FnMut(&Batch, &mut Worker<'_>) -> ControlFlow<()>,
    ) -> io::Result<Outcome> {
        let mut batch = Batch::new();
        let mut flushed_at = (self.wall)();
        let mut outcome = Outcome { damaged: Vec::new(), stopped: false };
        loop {
            source.hurry(self.engine.is_asking());
            let filled = source.fill(&mut batch, self.batch_frames);
            let is_over = filled.is_ok() && batch.is_over();
            match filled {
                Ok(0) if is_over => {}
                Ok(_) => self.serve(&batch)?,
                Err(error) => outcome.damaged.push(error),
            }
            flushed_at = self.flush_in_time(&batch, flushed_at)?;
            if watch(&batch, self).is_break() {
                outcome.stopped = true;
                break;
            }
            if is_over {
                break;
            }
        }
        self.finish(if outcome.stopped { End::Stop } else { End::Silence })?;
        Ok(outcome)
    }

    /// Takes one batch through the engine and writes its verdicts.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn serve(&mut self, batch: &Batch) -> io::Result<()> {
        let (mut driver, sink) = self.driver();
        driver.begin();
        let (engine, order) = (&mut *driver.engine, batch.order());
        engine.note_order(order.out_of_order, order.stray_timestamps);
        if batch.is_live() {
            engine.come_live();
        }
        if let Some(restart) = batch.restart() {
            engine.start_over(restart.before_ns, restart.now_ns);
        }
        if let Some(until_ns) = batch.quiet_until() {
            engine.pass_time(until_ns);
        }
        if batch.is_share() {
            driver.take_at(batch.iter_at());
        } else {
            driver.take(batch.iter());
        }
        write(driver.engine, sink)
    }

    /// The engine and its lanes, driven by this worker's clock; and where verdicts go.
    fn driver(&mut self) -> (Driver<'_>, &mut dyn Sink) {
        let driver = Driver::new(self.engine, self.lanes).with_wall(&mut *self.wall);
        (driver.with_rest(rest).when_full(self.when_full), &mut *self.sink)
    }

    /// Sends flows that begin from now on through another cascade, whose stages are scored in these
    /// lanes; false while flows go by as many plans as there may be. Each plan must have as many
    /// lanes.
    ///
    /// # Panics
    /// When there are more or fewer lanes than the plans before had.
    pub fn adopt(&mut self, cascade: &Arc<Cascade>, lanes: Vec<Box<dyn Lane>>) -> bool {
        let Some(number) = self.engine.free_plan() else { return false };
        let from = usize::from(number) * lanes.len();
        assert!(from <= self.lanes.len(), "each plan has as many lanes");
        let stages: Vec<String> = cascade.stages().iter().map(|stage| stage.name.clone()).collect();
        self.sink.name_plan(number, cascade.labels(), &stages);
        let to = self.lanes.len().min(from + lanes.len());
        self.lanes.splice(from..to, lanes);
        self.engine.adopt(number, Arc::clone(cascade), from);
        true
    }

    /// Flushes the sink if nothing else is to be done, or if that was last done long ago; when it
    /// was last done.
    fn flush_in_time(&mut self, batch: &Batch, flushed_at: u64) -> io::Result<u64> {
        if self.flush_ns == u64::MAX {
            return Ok(flushed_at);
        }
        let now = (self.wall)();
        let more_waits = batch.len() >= self.batch_frames;
        if more_waits && now.saturating_sub(flushed_at) < self.flush_ns {
            return Ok(flushed_at);
        }
        self.sink.flush()?;
        Ok(now)
    }

    /// Gives every open flow its verdict and flushes the sink.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(&mut self, end: End) -> io::Result<()> {
        // On live traffic part by part: verdicts of a full table are written as they come, and
        // whoever waits for the end sees that it goes on. A capture's come in the order that they
        // would have at once.
        let most_flows = if self.flush_ns == u64::MAX { usize::MAX } else { END_FLOWS };
        let (mut driver, sink) = self.driver();
        driver.finish_in_parts(end, most_flows, |engine| write(engine, sink))?;
        self.sink.flush()
    }
}

/// Writes the verdicts that there are.
fn write(engine: &mut Engine, sink: &mut dyn Sink) -> io::Result<()> {
    if !engine.verdicts().is_empty() {
        sink.write(engine.verdicts())?;
        engine.clear_verdicts();
    }
    Ok(())
}

/// A turn of waiting for a lane.
fn rest(turns: u32) {
    if turns <= PATIENCE {
        std::thread::yield_now();
    } else {
        std::thread::sleep(NAP);
    }
}
