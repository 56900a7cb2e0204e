//! One source for several workers: each gets the packets of its own flows, in order.
//!
//! Nobody is the reader. A worker that has nothing to do reads the next block, parts its frames by
//! flow, and leaves each worker its part; parts are numbered, and every worker takes them in order.
//! So reading is one at a time, parting and serving are not, and no core idles while there is work.
//! Frames are not copied: the parts of a block borrow its bytes.

use crate::batch::{Batch, Restart};
use crate::error::SourceError;
use crate::source::Source;
use serveflow_core::clock::Clock;
use serveflow_core::shard::Sharder;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Frames that are read at once: as many as a block holds.
const BLOCK_FRAMES: usize = 4096;
/// Blocks for each worker that may be read and not yet taken by all; then reading waits.
const BLOCKS_AHEAD: u64 = 4;
/// Longest that a worker waits for its part of a source that may be silent.
const QUIET: Duration = Duration::from_millis(50);

/// A worker's share of a source.
pub struct Share {
    shared: Arc<Shared>,
    index: usize,
    /// The block that this worker is parting, where its clock starts over, and its parts: those of
    /// all workers before the first such point, then those up to the second, and so on.
    whole: Batch,
    restarts: Vec<(usize, Restart)>,
    parts: Vec<Batch>,
    name: String,
}

/// Parts a source among workers by flow. `idle_ns` is the idle timeout of their engines: by so much
/// must time step back for their clock to start over.
#[must_use]
pub fn share_out(source: Box<dyn Source>, sharder: Sharder, idle_ns: u64) -> Vec<Share> {
    let name = source.name().to_owned();
    let queues = (0..sharder.shards()).map(|_| Queue::default()).collect();
    let shared = Arc::new(Shared {
        sharder,
        reader: Mutex::new(Reader {
            source,
            clock: Clock::new(idle_ns, u64::MAX),
            idle_ns,
            blocks: 0,
        }),
        board: Mutex::new(Board {
            queues,
            blocks: 0,
            is_over: false,
            may_be_quiet: false,
            quiet_until: 0,
        }),
        changed: Condvar::new(),
    });
    let share = |index| Share {
        shared: Arc::clone(&shared),
        index,
        whole: Batch::new(),
        restarts: Vec::new(),
        parts: Vec::new(),
        name: name.clone(),
    };
    (0..sharder.shards()).map(share).collect()
}

struct Shared {
    sharder: Sharder,
    reader: Mutex<Reader>,
    board: Mutex<Board>,
    /// Something was read, left or taken.
    changed: Condvar,
}

/// The source, and how many blocks it has given.
struct Reader {
    source: Box<dyn Source>,
    clock: Clock,
    idle_ns: u64,
    blocks: u64,
}

/// What was read and waits for its workers.
struct Board {
    queues: Vec<Queue>,
    /// Blocks that were read.
    blocks: u64,
    /// Whether there are no more.
    is_over: bool,
    /// Whether the source is one that may have nothing for a while.
    may_be_quiet: bool,
    /// Until when nothing came that is not here, if the source says so.
    quiet_until: u64,
}

/// A worker's parts.
#[derive(Default)]
struct Queue {
    /// Number of the block that comes next.
    next: u64,
    /// The parts of that block and later ones; `None` while one is still being made.
    parts: VecDeque<Option<Batch>>,
    /// Empty batches whose memory is used again.
    spare: Vec<Batch>,
    /// Whether the worker is gone: it takes nothing and holds nobody up.
    is_gone: bool,
}

impl Queue {
    fn put(&mut self, block: u64, part: Batch) {
        if self.is_gone {
            return;
        }
        let at = (block - self.next) as usize;
        if self.parts.len() <= at {
            self.parts.resize_with(at + 1, || None);
        }
        self.parts[at] = Some(part);
    }

    /// The next part that says anything, if it is there. `spent` comes back for reuse.
    fn take(&mut self, spent: &mut Batch) -> bool {
        while matches!(self.parts.front(), Some(Some(_))) {
            let part = self.parts.pop_front().flatten().expect("the front was looked at");
            self.next += 1;
            let found = !part.is_over();
            self.spare.push(if found { std::mem::replace(spent, part) } else { part });
            if found {
                return true;
            }
        }
        false
    }
}

impl Board {
    /// Whether another block may be read.
    fn has_room(&self) -> bool {
        let working = self.queues.iter().filter(|queue| !queue.is_gone);
        let behind = working.map(|queue| queue.next).min().unwrap_or(self.blocks);
        self.blocks - behind < BLOCKS_AHEAD * self.queues.len() as u64
    }
}

impl Shared {
    /// The board. Between two of its states nothing can panic, so that of a poisoned lock is whole.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader, if nobody is reading. One whose source panicked is never asked again: the board
    /// says that all is over ([`Reading`]) before the lock is given back.
    fn reader(&self) -> Option<MutexGuard<'_, Reader>> {
        self.reader.try_lock().ok()
    }
}

/// A block on its way from the source to its workers. A panic on the way, of the source or in
/// parting, must not have the others wait for parts that never come.
struct Reading<'a> {
    shared: &'a Shared,
    /// Its pieces, once they have numbers; without, a panic is the source's.
    pieces: Option<Range<u64>>,
    is_done: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut board = self.shared.board();
        match self.pieces.take() {
            // The frames of this block are lost; reading goes on behind it.
            Some(pieces) => pieces.for_each(|block| {
                board.queues.iter_mut().for_each(|queue| queue.put(block, Batch::new()));
            }),
            None => board.is_over = true,
        }
        drop(board);
        self.shared.changed.notify_all();
    }
}

impl Share {
    /// Reads a block and leaves each worker its part.
    fn read(&mut self, mut reader: MutexGuard<'_, Reader>) -> Result<(), SourceError> {
        let shared = Arc::clone(&self.shared);
        let mut reading = Reading { shared: &shared, pieces: None, is_done: false };
        let filled = reader.source.fill(&mut self.whole, BLOCK_FRAMES);
        reader.source.name().clone_into(&mut self.name);
        let block = reader.blocks;
        let is_block = matches!(filled, Ok(count) if count > 0);
        let mut pieces = 0;
        self.restarts.clear();
        if is_block {
            if self.whole.is_live() {
                let idle_ns = reader.idle_ns;
                reader.clock.bound_ahead(idle_ns);
            }
            self.whole.run_clock(&mut reader.clock, &mut self.restarts);
            pieces = self.restarts.len() + 1;
        }
        reader.blocks += pieces as u64;
        reading.pieces = Some(block..reader.blocks);
        {
            // The next block's number must not be given out before this one's.
            let mut board = shared.board();
            board.blocks = reader.blocks;
            board.is_over |= filled.is_ok() && self.whole.is_over();
            board.may_be_quiet |= self.whole.quiet_until().is_some();
            board.quiet_until = self.whole.quiet_until().unwrap_or(0);
            drop(reader);
            let spare = |queue: &mut Queue| queue.spare.pop().unwrap_or_default();
            for _ in 0..pieces {
                self.parts.extend(board.queues.iter_mut().map(spare));
            }
        }
        shared.changed.notify_all();
        if is_block {
            self.part(block);
            let workers = shared.sharder.shards();
            let mut board = shared.board();
            for (at, part) in self.parts.drain(..).enumerate() {
                board.queues[at % workers].put(block + (at / workers) as u64, part);
            }
            drop(board);
            shared.changed.notify_all();
        }
        reading.is_done = true;
        filled.map(|_| ())
    }

    /// Parts the frames that were read. Those of no flow are anybody's: workers take turns.
    fn part(&mut self, block: u64) {
        let workers = self.shared.sharder.shards();
        let turn = (block % workers as u64) as usize;
        let marks = std::iter::once(None).chain(self.restarts.iter().map(|mark| Some(mark.1)));
        for (parts, restart) in self.parts.chunks_exact_mut(workers).zip(marks) {
            parts.iter_mut().for_each(|part| part.begin_share(&self.whole, restart));
        }
        self.parts[0].note_order(self.whole.order());
        let mut restarts = self.restarts.iter().peekable();
        let mut first = 0;
        for (at, packet) in self.whole.iter().enumerate() {
            while restarts.next_if(|mark| mark.0 == at).is_some() {
                first += workers;
            }
            let shard = self.shared.sharder.shard(&packet).unwrap_or(turn);
            self.parts[first + shard].push_from(&self.whole, at);
        }
        self.whole.clear();
    }
}

/// Says that nothing came until a time: where a source is silent, its workers have other things to
/// look after.
fn quiet(batch: &mut Batch, until_ns: u64) -> usize {
    batch.clear();
    batch.be_quiet(until_ns);
    0
}

impl Source for Share {
    /// Frames come a part of a block at a time: `max_frames` is no use, since they are read
    /// already.
    fn fill(&mut self, batch: &mut Batch, _max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        let shared = Arc::clone(&self.shared);
        let mut board = shared.board();
        loop {
            let next = board.queues[self.index].next;
            let found = board.queues[self.index].take(batch);
            if board.queues[self.index].next != next {
                shared.changed.notify_all();
            }
            if found {
                return Ok(batch.len());
            }
            if board.is_over && board.queues[self.index].next == board.blocks {
                return Ok(0);
            }
            let reader = if board.has_room() && !board.is_over { shared.reader() } else { None };
            if let Some(reader) = reader {
                drop(board);
                self.read(reader)?;
                board = shared.board();
                if let Some(until_ns) = self.whole.quiet_until() {
                    // Time must not pass what another worker is parting.
                    let is_behind = !board.queues[self.index].parts.is_empty();
                    return Ok(quiet(batch, if is_behind { 0 } else { until_ns }));
                }
            } else if board.may_be_quiet {
                let waited = shared.changed.wait_timeout(board, QUIET);
                board = waited.unwrap_or_else(PoisonError::into_inner).0;
                if board.queues[self.index].parts.is_empty() && !board.is_over {
                    let until_ns = board.quiet_until;
                    return Ok(quiet(batch, until_ns));
                }
            } else {
                let waited = shared.changed.wait(board);
                board = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // A worker that ended early must not hold up the others, even when it panicked.
        let mut board = self.shared.board();
        let queue = &mut board.queues[self.index];
        queue.is_gone = true;
        queue.parts.clear();
        drop(board);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemorySource;
    use serveflow_core::parse::KeyRules;

    /// A panic between reading a block and leaving its parts: nobody waits for these parts, and
    /// what was read before and behind them comes.
    #[test]
    fn a_block_that_is_lost_in_parting_is_passed_by() {
        let sharder = Sharder::new(2, KeyRules::default(), 1);
        let shares = share_out(Box::new(MemorySource::new(Vec::new())), sharder, 1);
        let shared = &shares[0].shared;
        shared.board().blocks = 3;
        drop(Reading { shared, pieces: Some(0..2), is_done: false });
        drop(Reading { shared, pieces: Some(2..3), is_done: true });
        for queue in &mut shared.board().queues {
            assert!(!queue.take(&mut Batch::new()));
            assert_eq!(queue.next, 2, "the third is on its way");
        }
        assert!(!shared.board().is_over);
        drop(Reading { shared, pieces: None, is_done: false });
        assert!(shared.board().is_over, "a source that panics is asked no more");
    }
}
