//! Sources that may keep a worker waiting, read so that a stop need not wait with it.

use crate::lanes::Task;
use crate::service::no_thread;
use serveflow_io::quiet::LastSeen;
use serveflow_io::{Batch, Source, SourceError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

/// The name of the reading thread.
const NAME: &str = "captures";
/// How often a waiting worker looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// Looks that a source has to bring what it holds once it should stop.
const LAST_LOOKS: u32 = 20;

/// A batch that the reading thread filled.
struct Filled {
    batch: Batch,
    result: Result<usize, SourceError>,
    name: String,
}

/// Reads a source on a thread of its own, so that it ends as soon as a flag is set: a read from an
/// open but silent pipe returns when it likes, and no signal can hurry it.
///
/// The thread reads when it is asked and not ahead, so frames come as they would without it.
#[derive(Debug)]
pub struct InterruptibleSource {
    wishes: Sender<(Batch, usize)>,
    filled: Receiver<Filled>,
    stop: Arc<AtomicBool>,
    is_over: bool,
    /// Whether the thread has a batch to fill.
    is_asked: bool,
    name: String,
    /// Wall time, nanoseconds from any fixed start.
    wall: fn() -> u64,
    /// When the last packet came of a pipe whose packets come as they happen.
    last: LastSeen,
    /// Looks that are left once it should stop.
    looks_left: u32,
}

impl InterruptibleSource {
    /// Reads `source` until its end. Once `stop` is set it should end by itself and bring what it
    /// holds; if it does not return, its thread is left behind, which holds nothing but its input.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn new(
        source: Box<dyn Source>,
        stop: Arc<AtomicBool>,
        wall: fn() -> u64,
    ) -> io::Result<Self> {
        Self::started(source, stop, wall, &|read| {
            Builder::new().name(NAME.to_owned()).spawn(read).map(drop)
        })
    }

    /// The same on a thread that is started so.
    fn started(
        mut source: Box<dyn Source>,
        stop: Arc<AtomicBool>,
        wall: fn() -> u64,
        spawn: &dyn Fn(Task) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (wishes, asked) = channel::<(Batch, usize)>();
        let (answers, filled) = channel();
        let name = source.name().to_owned();
        let read = move || {
            for (mut batch, max_frames) in asked {
                let result = source.fill(&mut batch, max_frames);
                let name = source.name().to_owned();
                if answers.send(Filled { batch, result, name }).is_err() {
                    return;
                }
            }
        };
        spawn(Box::new(read)).map_err(no_thread(NAME))?;
        let last = LastSeen::default();
        Ok(Self {
            wishes,
            filled,
            stop,
            is_over: false,
            is_asked: false,
            name,
            wall,
            last,
            looks_left: LAST_LOOKS,
        })
    }
}

impl Source for InterruptibleSource {
    /// A pipe that is silent for a while makes a quiet batch, so that its worker may look after
    /// other things; where packets come as they happen, time goes on meanwhile.
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        if self.is_over {
            return Ok(0);
        }
        if !self.is_asked {
            // A thread that is gone has panicked, which the wait finds.
            let _ = self.wishes.send((std::mem::take(batch), max_frames));
            self.is_asked = true;
        }
        let filled = match self.filled.recv_timeout(LOOK) {
            Ok(filled) => filled,
            Err(RecvTimeoutError::Timeout) => {
                self.looks_left -= u32::from(self.stop.load(Ordering::Relaxed));
                self.is_over = self.looks_left == 0;
                if !self.is_over {
                    batch.be_quiet(self.last.until((self.wall)()).unwrap_or(0));
                }
                return Ok(0);
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the reading thread panicked"),
        };
        self.is_asked = false;
        *batch = filled.batch;
        if batch.is_live()
            && let Some(packet) = batch.iter().last()
        {
            self.last.see(packet.ts_ns, (self.wall)());
        }
        self.name = filled.name;
        self.is_over = matches!(filled.result, Ok(0));
        filled.result
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_core::packet::LinkType;
    use serveflow_io::{MemorySource, OwnedFrame};

    fn frames() -> Vec<OwnedFrame> {
        let frame = |n: u8| OwnedFrame {
            ts_ns: n.into(),
            orig_len: 60,
            link: LinkType::Ethernet,
            data: vec![n; 60],
            note: None,
        };
        (0..10).map(frame).collect()
    }

    #[test]
    fn frames_and_the_end_are_those_of_the_source() {
        let inner = Box::new(MemorySource::new(frames()));
        let mut source = InterruptibleSource::new(inner, Arc::default(), || 0).unwrap();
        assert_eq!(source.name(), "memory");
        let mut batch = Batch::new();
        assert_eq!(source.fill(&mut batch, 3).unwrap(), 3);
        assert_eq!(batch.packet(2).ts_ns, 2);
        assert_eq!(MemorySource::read(&mut source).unwrap().frames(), &frames()[3..]);
        assert_eq!(source.fill(&mut batch, 3).unwrap(), 0);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_system_without_threads_is_an_error_that_names_the_thread() {
        let inner = Box::new(MemorySource::new(frames()));
        let none = |_: Task| Err(io::Error::from(io::ErrorKind::WouldBlock));
        let error = InterruptibleSource::started(inner, Arc::default(), || 0, &none).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let error = error.to_string();
        assert!(error.starts_with("cannot start the thread captures: "), "{error}");
        assert!(error.contains("ulimit -u"), "{error}");
    }

    /// A pipe on which nothing ever comes.
    struct Silence;

    impl Source for Silence {
        fn fill(&mut self, _: &mut Batch, _: usize) -> Result<usize, SourceError> {
            loop {
                std::thread::park();
            }
        }

        fn name(&self) -> &'static str {
            "silence"
        }
    }

    #[test]
    fn a_silent_source_says_so_and_a_stop_does_not_wait_for_it() {
        let stop = Arc::new(AtomicBool::new(false));
        let mut source =
            InterruptibleSource::new(Box::new(Silence), Arc::clone(&stop), || 0).unwrap();
        let mut batch = Batch::new();
        for _ in 0..3 {
            assert_eq!(source.fill(&mut batch, 1).unwrap(), 0);
            assert_eq!(batch.quiet_until(), Some(0), "it is silent, and not at its end");
        }
        stop.store(true, Ordering::Relaxed);
        let fills = (0..).take_while(|_| {
            assert_eq!(source.fill(&mut batch, 1).unwrap(), 0);
            !batch.is_over()
        });
        assert_eq!(fills.count() as u32, LAST_LOOKS - 1, "it has its time to bring what it holds");
    }
}
