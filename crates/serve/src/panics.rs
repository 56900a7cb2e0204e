//! What a panic says: one line, where the log is, instead of a back trace.
//!
//! A panic of a model or a worker is caught where it can be: its job fails, or its worker, and the
//! rest serves on. What it said is then a fact about the service, and belongs into the log.

use crate::clock;
use crate::service::log;
use std::any::Any;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

/// Least time between two lines: a model that panics at every call must not fill the log.
const LINE_NS: u64 = 1_000_000_000;

/// Has every panic from now on write one line.
pub fn tell_in_one_line() {
    std::panic::set_hook(Box::new(tell));
}

/// What a caught panic said.
#[must_use]
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// Panics without a line since the last one that had one.
static UNTOLD: AtomicU64 = AtomicU64::new(0);
/// When the next line may come, wall time.
static NEXT_NS: AtomicU64 = AtomicU64::new(0);

fn tell(info: &PanicHookInfo<'_>) {
    let now = clock::now_ns();
    let next = NEXT_NS.load(Ordering::Relaxed);
    let order = Ordering::Relaxed;
    let is_due = now >= next
        && NEXT_NS.compare_exchange(next, now.saturating_add(LINE_NS), order, order).is_ok();
    if !is_due {
        UNTOLD.fetch_add(1, order);
        return;
    }
    let untold = UNTOLD.swap(0, order);
    let what = message(info.payload());
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    let current = std::thread::current();
    let thread = current.name().unwrap_or("unnamed");
    if tracing::dispatcher::has_been_set() {
        tracing::error!(thread, at, untold, "panic: {what}");
        return;
    }
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let what = log::shown_line(&what);
    // Where nobody reads it, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "error: panic in thread `{thread}` at {at}: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_said_is_kept_whatever_it_was_said_with() {
        let said = |panic: fn()| {
            let caught = std::panic::catch_unwind(panic).unwrap_err();
            message(&*caught)
        };
        assert_eq!(said(|| panic!("plain")), "plain");
        assert_eq!(said(|| panic!("{} of {}", 1, 2)), "1 of 2");
        assert_eq!(said(|| std::panic::panic_any(7)), "no message");
    }
}
