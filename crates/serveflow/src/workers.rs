//! Workers: each a thread with a source, an engine, lanes and a sink of its own.

use crate::config::Config;
use crate::lanes;
use serveflow_core::accounts::Accounts;
use serveflow_core::engine::Engine;
use serveflow_io::drive::{Outcome, Worker};
use serveflow_io::{Batch, CaptureReader, Sink, Source};
use serveflow_model::bundle::Bundle;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What all workers have in common.
pub struct Crew<'a> {
    /// The cascade and its models.
    pub bundle: &'a Bundle,
    /// Limits; those of flows and packets are for all workers together.
    pub config: &'a Config,
    /// Wall time, nanoseconds from any fixed start.
    pub wall: fn() -> u64,
    /// Set from outside to end the run: every open flow then gets its verdict.
    pub stop: &'a AtomicBool,
}

/// A worker's own: what it reads and where its verdicts go.
pub struct Post {
    /// Brings the packets of this worker's flows and no others'.
    pub source: Box<dyn Source>,
    /// Takes the verdicts.
    pub sink: Box<dyn Sink>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Served {
    /// Where packets and flows went, all workers together.
    pub accounts: Accounts,
    /// How it ended; an error when a sink failed, which ends all workers.
    pub outcome: io::Result<Outcome>,
}

/// Serves each source to its end on a thread of its own; a single one on the caller's.
///
/// # Panics
/// When a worker does.
#[must_use]
pub fn serve(crew: &Crew<'_>, mut posts: Vec<Post>) -> Served {
    let count = posts.len();
    // A heading stands before the lines of all workers, whoever writes first.
    if let Some(Err(error)) = posts.first_mut().map(|post| post.sink.flush()) {
        return Served { accounts: Accounts::default(), outcome: Err(error) };
    }
    let failed = AtomicBool::new(false);
    let work = |index, post| work(crew, post, (index, count), &failed);
    let mut all = Vec::new();
    let mut posts = posts.into_iter().enumerate();
    let own = posts.next();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            posts.map(|(index, post)| scope.spawn(move || work(index, post))).collect();
        all.extend(own.map(|(index, post)| work(index, post)));
        let served = threads.into_iter().map(|thread| thread.join().expect("no worker panics"));
        all.extend(served);
    });
    together(all)
}

/// Bytes of input from which more than one worker is worth while.
const LARGE_INPUT: u64 = 16 << 20;

/// Workers for captures when nobody says how many: one per core, or a single one, which tells verdicts
/// in the same order each time, where the captures are small or nobody knows how large they are.
///
/// A single one, too, where the captures are not in the order of their time: each worker tells from its
/// own packets that time has started over, and some flows around that moment would end otherwise.
#[must_use]
pub fn worth_while(captures: &[PathBuf]) -> usize {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |data| data.len());
    let is_large = captures.iter().map(size).sum::<u64>() >= LARGE_INPUT;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if is_large && are_in_order(captures) { cores() } else { 1 }
}

/// Whether no capture begins before the one that it follows. Those that cannot be read are told of when
/// their turn comes.
fn are_in_order(captures: &[PathBuf]) -> bool {
    let mut batch = Batch::new();
    let begin = |path: &PathBuf| {
        let count = CaptureReader::open(path).ok()?.fill(&mut batch, 1).ok()?;
        (count > 0).then(|| batch.packet(0).ts_ns)
    };
    captures.len() < 2 || captures.iter().filter_map(begin).is_sorted()
}

fn work(
    crew: &Crew<'_>,
    mut post: Post,
    (index, count): (usize, usize),
    failed: &AtomicBool,
) -> Served {
    let Crew { bundle, config, .. } = crew;
    let limits = config.engine.of_shard(index, count);
    let mut engine = Engine::new(Arc::clone(&bundle.cascade), limits);
    let mut lanes = lanes::build(&bundle.models, config.lane_jobs);
    let mut wall = crew.wall;
    let mut worker = Worker {
        engine: &mut engine,
        lanes: &mut lanes,
        sink: post.sink.as_mut(),
        wall: &mut wall,
        batch_frames: config.batch_frames,
        // Whatever is read here can wait: captures, and pipes by their writers.
        when_full: config.lanes.when_full(true),
    };
    let is_over = || crew.stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let outcome = worker.run(post.source.as_mut(), &mut |_, _| match is_over() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    if outcome.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
    Served { accounts: *engine.accounts(), outcome }
}

/// One account of all workers; the first error stands for all.
fn together(all: Vec<Served>) -> Served {
    let mut accounts = Accounts::default();
    let mut outcome = Ok(Outcome { damaged: Vec::new(), stopped: false });
    for served in all {
        accounts.add(&served.accounts);
        outcome = match (outcome, served.outcome) {
            (Ok(mut sum), Ok(own)) => {
                sum.damaged.extend(own.damaged);
                sum.stopped |= own.stopped;
                Ok(sum)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
    Served { accounts, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_core::packet::LinkType;
    use serveflow_io::PcapWriter;

    #[test]
    fn captures_out_of_order_are_for_one_worker() {
        let dir = std::env::temp_dir().join(format!("serveflow-order-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let capture = |name: &str, ts_ns| {
            let path = dir.join(name);
            let file = std::fs::File::create(&path).unwrap();
            let mut writer = PcapWriter::new(file, LinkType::Ethernet, 65_535).unwrap();
            let data = &[0; 60][..];
            let link = LinkType::Ethernet;
            let packet = serveflow_core::packet::Packet { ts_ns, orig_len: 60, link, data };
            writer.write(&packet).unwrap();
            path
        };
        let [first, second] = [capture("a.pcap", 5_000), capture("b.pcap", 9_000)];
        let (early, late) = ([first.clone(), second.clone()], [second, first]);
        assert!(are_in_order(&early) && !are_in_order(&late) && are_in_order(&early[..1]));
        assert_eq!(worth_while(&early), 1, "small captures");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
