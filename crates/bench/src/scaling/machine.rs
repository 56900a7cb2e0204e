//! What the machine does whatever it serves: it moves bytes, and wakes threads.

use serveflow_serve::service::no_thread;
use std::hint::black_box;
use std::io;
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread::Builder;

/// Bytes of each of a core's two buffers: more than caches hold.
const BUFFER: usize = 64 << 20;
/// Times that each buffer is copied.
const COPIES: usize = 6;
/// Times that two threads wake each other.
const WAKES: u32 = 2_000;

/// Bytes a second that so many threads move together, each from one buffer to another. A copied
/// byte counts twice, as it is read and written.
///
/// # Errors
/// When a thread cannot be started.
///
/// # Panics
/// When a thread does.
pub fn bandwidth(threads: usize, wall: fn() -> u64) -> io::Result<f64> {
    let barrier = Barrier::new(threads);
    // Held until all threads are there, since those that are would wait for the others for ever.
    let is_short = Mutex::new(true);
    let copy = || {
        if *is_short.lock().expect("no thread panics while it holds it") {
            return (u64::MAX, 0);
        }
        // Written once, so that the system has handed out the pages.
        let (from, mut to) = (vec![1_u8; BUFFER], vec![2_u8; BUFFER]);
        barrier.wait();
        let started = wall();
        for _ in 0..COPIES {
            to.copy_from_slice(black_box(&from));
            black_box(&to);
        }
        (started, wall())
    };
    let times = std::thread::scope(|scope| {
        let mut held = is_short.lock().expect("no thread panics while it holds it");
        let start = |_| Builder::new().spawn_scoped(scope, copy);
        let started = (0..threads).map(start).collect::<io::Result<Vec<_>>>()?;
        *held = false;
        drop(held);
        let join = started.into_iter().map(|thread| thread.join().expect("a copy does not panic"));
        Ok::<_, io::Error>(join.collect::<Vec<_>>())
    });
    let (first, last) = times
        .map_err(no_thread("that copies"))?
        .into_iter()
        .fold((u64::MAX, 0), |(first, last), (from, to)| (first.min(from), last.max(to)));
    Ok((2 * BUFFER * COPIES * threads) as f64 / (last - first).max(1) as f64 * 1e9)
}

/// How long it takes until a thread that sleeps runs, after another one has changed what it waits
/// for, nanoseconds: the mean of many, by two threads that wake each other in turn.
///
/// # Errors
/// When a thread cannot be started.
///
/// # Panics
/// When a thread does.
pub fn wake_ns(wall: fn() -> u64) -> io::Result<f64> {
    let board = Arc::new((Mutex::new(false), Condvar::new()));
    let other = Arc::clone(&board);
    let thread = Builder::new().spawn(move || {
        for _ in 0..WAKES {
            turn(&other, true);
        }
    });
    let thread = thread.map_err(no_thread("that wakes"))?;
    let started = wall();
    for _ in 0..WAKES {
        turn(&board, false);
    }
    thread.join().expect("a turn does not panic");
    Ok((wall() - started) as f64 / f64::from(2 * WAKES))
}

/// Waits for its turn and passes it on.
fn turn(board: &(Mutex<bool>, Condvar), mine: bool) {
    let (lock, changed) = board;
    let mut whose = lock.lock().expect("no thread panics while it holds the board");
    while *whose != mine {
        whose = changed.wait(whose).expect("no thread panics while it holds the board");
    }
    *whose = !mine;
    drop(whose);
    changed.notify_all();
}
