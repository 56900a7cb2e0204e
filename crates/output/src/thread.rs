//! The thread that writes, and the handle of those who make records.

use super::buffer::{Buffer, LossReason, OutputStatus};
use super::delivery::{Delivery, Transport};
use super::lines::{Lines, RecordWriter};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Time until a write is tried again that failed: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// Time until it is looked again whether a reader has come, at most.
const READER_MOST: Duration = Duration::from_millis(100);
/// Time until it is looked again whether the reader has left, while nothing is written.
const LEFT_LOOK: Duration = Duration::from_millis(500);
/// Memory that the thread keeps for the next records, bytes.
const KEPT_BYTES: usize = 1 << 20;

/// The limits of an output.
#[derive(Clone, Copy, Debug)]
pub struct OutputLimits {
    /// Most bytes that wait to be written.
    pub buffer_bytes: usize,
    /// Whether nothing may be lost: callers wait while the buffer is full, and the first error ends
    /// the output. Else callers never wait.
    pub is_lossless: bool,
    /// Whether an output that never can be written again is an error to callers; else they go on,
    /// and what they make is lost.
    pub ends_with_reader: bool,
    /// Time without progress after which the output counts as stalled, nanoseconds.
    pub stall_ns: u64,
    /// Nanoseconds since any fixed start.
    pub now: fn() -> u64,
}

/// An output that many may hand records to, written by a thread of its own.
#[derive(Clone)]
pub struct Output(Arc<Shared>);

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

struct Shared {
    limits: OutputLimits,
    state: Mutex<State>,
    /// For the thread: there is something to do.
    work: Condvar,
    /// For callers: there is room, or it is over.
    room: Condvar,
    /// Whether writing has failed for good: callers look at it with each batch, without the lock.
    has_failed: AtomicBool,
}

struct State {
    buffer: Buffer,
    status: OutputStatus,
    /// Why writing fails at the moment.
    trouble: Option<(LossReason, String)>,
    /// The error that ended the output.
    failure: Option<(io::ErrorKind, String)>,
    /// When the thread last made progress, while it has something to write.
    busy_since: Option<u64>,
    /// Whether the thread waits for something to do, and must be woken.
    is_idle: bool,
    /// Whether callers wait.
    has_waiting: bool,
    wants_reopen: bool,
    /// Until when nothing is written.
    held_until: Option<u64>,
    is_closing: bool,
    is_over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is made whole before anything that may panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        on.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        self.work.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    fn failure(&self) -> Option<io::Error> {
        self.failure.as_ref().map(|(kind, text)| io::Error::new(*kind, text.clone()))
    }
}

impl Output {
    /// A buffer alone: records wait in it until a thread is there that writes them
    /// ([`write_to`](Self::write_to)).
    #[must_use]
    pub fn new(limits: OutputLimits) -> Self {
        let state = State {
            buffer: Buffer::new(limits.buffer_bytes),
            status: OutputStatus::default(),
            trouble: None,
            failure: None,
            busy_since: None,
            is_idle: false,
            has_waiting: false,
            wants_reopen: false,
            held_until: None,
            is_closing: false,
            is_over: false,
        };
        let (work, room) = Default::default();
        let (state, has_failed) = (Mutex::new(state), AtomicBool::new(false));
        Self(Arc::new(Shared { limits, state, work, room, has_failed }))
    }

    /// Starts the thread, which writes to a transport with the privileges of whoever calls this.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn write_to(&self, transport: impl Transport + 'static, name: &str) -> io::Result<()> {
        let shared = Arc::clone(&self.0);
        let spawned = Builder::new().name(name.to_owned()).spawn(move || {
            let delivery = Delivery::new(transport);
            let is_lossless = shared.limits.is_lossless;
            let delivery = if is_lossless { delivery.waiting_for_its_reader() } else { delivery };
            Thread { shared, delivery }.run();
        });
        spawned.map(|_| ()).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start the thread {name}: {error}"))
        })
    }

    /// Writes what waits on the calling thread, where the system gives no other, and ends the
    /// output.
    pub fn write_here(&self, transport: impl Transport) {
        self.0.lock().is_closing = true;
        Thread { shared: Arc::clone(&self.0), delivery: Delivery::new(transport) }.run();
    }

    /// Writes to what stands at the output's place from now on. Ends a [`hold`](Self::hold).
    pub fn reopen(&self) {
        let mut state = self.0.lock();
        state.wants_reopen = true;
        state.held_until = None;
        state.is_idle = false;
        self.0.work.notify_one();
    }

    /// Writes nothing for so long, or until [`reopen`](Self::reopen): another process copies and
    /// cuts the file. What is being written when this is called may still be.
    pub fn hold(&self, most_ns: u64) {
        self.0.lock().held_until = Some((self.0.limits.now)().saturating_add(most_ns));
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> OutputStatus {
        let now = (self.0.limits.now)();
        let state = self.0.lock();
        let stall_ns = self.0.limits.stall_ns;
        OutputStatus {
            written: state.buffer.written,
            buffered: state.buffer.records(),
            buffered_bytes: state.buffer.bytes() as u64,
            lost: state.buffer.lost,
            is_stalled: state.busy_since.is_some_and(|at| now.saturating_sub(at) > stall_ns),
            is_held: state.held_until.is_some_and(|until| until > now),
            trouble: state.trouble.as_ref().map(|(_, text)| text.clone()),
            ..state.status.clone()
        }
    }

    /// Waits at most so long until everything is written. What is left then is lost, and nothing is
    /// written after this call but what is being written just now.
    #[must_use]
    pub fn close(&self, most: Duration) -> OutputStatus {
        let mut state = self.0.lock();
        state.is_closing = true;
        state.is_idle = false;
        self.0.work.notify_one();
        let is_open = |state: &mut State| !state.is_over;
        let waited = self.0.room.wait_timeout_while(state, most, is_open);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.buffer.lose_all(LossReason::Shutdown);
        state.is_over = true;
        drop(state);
        self.status()
    }

    fn put(&self, lines: &mut Lines) -> io::Result<()> {
        let mut state = self.0.lock();
        if self.0.limits.is_lossless {
            while !state.is_over && !state.buffer.has_room_for(lines) {
                state.has_waiting = true;
                state = self.0.wait(&self.0.room, state);
            }
        }
        if state.is_over {
            return self.refuse(&mut state, lines);
        }
        if self.0.limits.is_lossless {
            state.buffer.put(lines);
        } else {
            let why = state.trouble.as_ref().map_or(LossReason::Slow, |(why, _)| *why);
            state.buffer.put_what_fits(lines, why);
        }
        let must_wake = std::mem::take(&mut state.is_idle);
        // Or the thread would wake only to wait for the lock.
        drop(state);
        if must_wake {
            self.0.work.notify_one();
        }
        Ok(())
    }

    /// The error that ended it, if one did.
    fn failure(&self) -> io::Result<()> {
        self.0.lock().failure().map_or(Ok(()), Err)
    }

    /// Loses records that come after the end.
    fn refuse(&self, state: &mut State, lines: &Lines) -> io::Result<()> {
        let error = state.failure();
        let why = error.as_ref().map_or(LossReason::Shutdown, LossReason::of);
        state.buffer.lose(lines.ends.len() as u64, why);
        let limits = &self.0.limits;
        match error {
            Some(error) if limits.is_lossless || limits.ends_with_reader => Err(error),
            None if limits.is_lossless => Err(io::ErrorKind::NotConnected.into()),
            _ => Ok(()),
        }
    }
}

impl RecordWriter for Output {
    /// Never waits unless nothing may be lost.
    fn take(&mut self, lines: &mut Lines) -> io::Result<()> {
        let result = if lines.is_empty() { Ok(()) } else { self.put(lines) };
        lines.clear();
        result
    }

    /// Where nothing may be lost, waits until all is written. Else there is nothing to do: the
    /// thread writes without being asked. A caller that makes no records finds out here that it has
    /// failed for good.
    fn flush(&mut self) -> io::Result<()> {
        let limits = &self.0.limits;
        if !limits.is_lossless {
            let must_end = limits.ends_with_reader && self.0.has_failed.load(Ordering::Relaxed);
            return if must_end { self.failure() } else { Ok(()) };
        }
        let mut state = self.0.lock();
        while !state.is_over && state.buffer.bytes() > 0 {
            state.has_waiting = true;
            state = self.0.wait(&self.0.room, state);
        }
        state.failure().map_or(Ok(()), Err)
    }
}

/// What the thread does.
struct Thread<T> {
    shared: Arc<Shared>,
    delivery: Delivery<T>,
}

impl<T: Transport> Thread<T> {
    fn run(mut self) {
        // The heading stands there also where no record comes.
        let mut result = self.delivery.prepare(false);
        let mut retry = RETRY_FIRST;
        loop {
            let has_failed = result.is_err();
            match result {
                Ok(()) => {
                    if self.tell_progress() {
                        retry = RETRY_FIRST;
                    }
                }
                Err(error) => {
                    if self.tell_trouble(&error) {
                        return;
                    }
                    let awaits_reader = self.delivery.transport.awaits_reader();
                    retry = retry.min(if awaits_reader { READER_MOST } else { RETRY_MOST });
                    self.rest(retry);
                    retry *= 2;
                }
            }
            let Some(reopen) = self.next(has_failed) else { return };
            result = match self.delivery.is_done() {
                true => self.delivery.prepare(reopen),
                false => self.delivery.step(reopen),
            };
        }
    }

    /// Waits for something to do: records to write, or a file to reopen, also one that could not be
    /// opened before. `None` at the end.
    fn next(&mut self, has_failed: bool) -> Option<bool> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if state.is_over {
                return None;
            }
            if let Some(left) = self.hold_left(&mut state) {
                state = shared.wait_for(state, left);
                continue;
            }
            if !self.delivery.is_done() {
                return Some(std::mem::take(&mut state.wants_reopen));
            }
            if state.buffer.is_waiting() {
                self.delivery.clear();
                if self.delivery.lines.bytes.capacity() > KEPT_BYTES {
                    self.delivery.lines = Lines::default();
                }
                state.buffer.take_out(&mut self.delivery.lines);
                state.busy_since = Some((shared.limits.now)());
                return Some(std::mem::take(&mut state.wants_reopen));
            }
            if std::mem::take(&mut state.wants_reopen) {
                return Some(true);
            }
            // Who may lose nothing has the heading written too, if a reader comes in time.
            let transport = &mut self.delivery.transport;
            let is_awaited = shared.limits.is_lossless && transport.awaits_reader();
            if state.is_closing && !is_awaited {
                state.is_over = true;
                shared.room.notify_all();
                return None;
            }
            if has_failed {
                return Some(false);
            }
            // Who may lose nothing has lost nothing then.
            let may_be_left = !shared.limits.is_lossless && transport.may_be_left();
            if may_be_left && transport.is_left() {
                return Some(false);
            }
            state.is_idle = true;
            state = match may_be_left {
                true => shared.wait_for(state, LEFT_LOOK),
                false => shared.wait(&shared.work, state),
            };
        }
    }

    /// How long nothing may be written, if at all.
    fn hold_left(&self, state: &mut State) -> Option<Duration> {
        let until = state.held_until.filter(|_| !state.is_closing)?;
        let left = until.saturating_sub((self.shared.limits.now)());
        if left == 0 {
            state.held_until = None;
            return None;
        }
        Some(Duration::from_nanos(left))
    }

    /// Notes what is written by now; whether that is a record more, or all. A part of one is no
    /// progress: a full disk takes it, and then it is taken back.
    fn tell_progress(&mut self) -> bool {
        let mut state = self.shared.lock();
        if state.is_over {
            return false;
        }
        let (bytes, records) = self.delivery.left();
        let before = state.buffer.written;
        state.buffer.left(bytes, records);
        self.delivery.transport.tell(&mut state.status);
        let is_progress = bytes == 0 || state.buffer.written > before;
        if is_progress {
            state.busy_since = (bytes > 0).then(|| (self.shared.limits.now)());
            state.trouble = None;
        }
        if std::mem::take(&mut state.has_waiting) {
            self.shared.room.notify_all();
        }
        is_progress
    }

    /// Notes an error; whether it ends the output.
    fn tell_trouble(&mut self, error: &io::Error) -> bool {
        let mut state = self.shared.lock();
        if state.is_over {
            return true;
        }
        let (bytes, records) = self.delivery.left();
        state.buffer.left(bytes, records);
        let why = LossReason::of(error);
        state.trouble = Some((why, error.to_string()));
        // What cannot even begin stands still as well.
        state.busy_since = state.busy_since.or_else(|| Some((self.shared.limits.now)()));
        self.delivery.transport.tell(&mut state.status);
        let transport = &self.delivery.transport;
        let must_end = self.shared.limits.is_lossless && !transport.awaits_reader();
        let is_last = must_end || !transport.can_recover();
        if is_last {
            state.failure = Some((error.kind(), error.to_string()));
            self.shared.has_failed.store(true, Ordering::Relaxed);
            state.buffer.lose_all(why);
            state.is_over = true;
            self.shared.room.notify_all();
        }
        is_last
    }

    /// Waits until it is worth while to try again, or somebody says so.
    fn rest(&self, most: Duration) {
        let state = self.shared.lock();
        if !state.wants_reopen && !state.is_over {
            drop(self.shared.wait_for(state, most));
        }
    }
}

impl<T> Drop for Thread<T> {
    /// Whoever waits for a thread that panicked would wait for ever.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if !state.is_over {
            state.failure = Some((io::ErrorKind::Other, "the writing thread panicked".to_owned()));
            self.shared.has_failed.store(true, Ordering::Relaxed);
            state.trouble =
                Some((LossReason::WriteFailed, "the writing thread panicked".to_owned()));
            state.buffer.lose_all(LossReason::WriteFailed);
            state.is_over = true;
            self.shared.room.notify_all();
        }
    }
}
