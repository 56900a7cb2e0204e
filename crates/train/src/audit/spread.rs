//! Work that is spread over threads and comes back in order.

use std::thread::Builder;

/// Calls `each` with 0 to `count` less one, on some threads, and gives the answers in that order.
///
/// # Panics
/// When `each` does.
pub(super) fn spread<T: Send>(
    threads: usize,
    count: usize,
    each: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let threads = threads.clamp(1, count.max(1));
    let part = |thread: usize| (thread..count).step_by(threads).map(&each).collect::<Vec<T>>();
    let mut parts: Vec<std::vec::IntoIter<T>> = std::thread::scope(|scope| {
        let part = &part;
        let start = |thread| (thread, Builder::new().spawn_scoped(scope, move || part(thread)));
        let others: Vec<_> = (1..threads).map(start).collect();
        let mut parts = vec![part(0).into_iter()];
        // What the system gives no thread for is done here.
        parts.extend(others.into_iter().map(|(number, thread)| match thread {
            Ok(thread) => thread.join().expect("what is spread does not panic").into_iter(),
            Err(_) => part(number).into_iter(),
        }));
        parts
    });
    (0..count).filter_map(|index| parts[index % threads].next()).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn answers_come_back_in_order_on_any_number_of_threads() {
        for (threads, count) in [(0, 5), (1, 5), (3, 10), (8, 3), (2, 0)] {
            let squares: Vec<usize> = (0..count).map(|i| i * i).collect();
            assert_eq!(spread(threads, count, |i| i * i), squares, "{threads} {count}");
        }
    }
}
