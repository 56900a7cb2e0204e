//! The connections of a socket: many clients, none of whom keeps out another.
//!
//! A new connection is always taken. When there are too many, the oldest one is closed: a health
//! check sends its request at once, while clients that sit idle or drip bytes are the ones that
//! grow old.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// Connections that are open at a time, of each socket.
pub(super) const MOST_CONNECTIONS: usize = 256;

/// The connections of one socket that may be closed for newer ones, in the order in which they
/// came.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// A connection whose task is not known yet has none.
    tasks: BTreeMap<u64, Option<AbortHandle>>,
}

/// A connection's place among the others; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    of: Connections,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        // A map of numbers is whole whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. The oldest one is closed if there are too many.
    pub(super) fn enter(&self) -> Place {
        let mut open = self.open();
        if open.tasks.len() >= MOST_CONNECTIONS {
            open.close_oldest();
        }
        let number = open.next;
        open.next += 1;
        open.tasks.insert(number, None);
        Place { number, of: self.clone() }
    }

    /// Closes the oldest connection; whether there was one.
    pub(super) fn close_oldest(&self) -> bool {
        self.open().close_oldest()
    }
}

impl Open {
    fn close_oldest(&mut self) -> bool {
        let oldest = self.tasks.pop_first();
        if let Some((_, Some(task))) = &oldest {
            task.abort();
        }
        oldest.is_some()
    }
}

impl Place {
    /// Its number, to name its task by.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// From now on it is not closed for newer ones: an order is carried out.
    pub(super) fn keep(&self) {
        self.of.open().tasks.remove(&self.number);
    }
}

impl Connections {
    /// Names the task of a connection, which is aborted when the connection is closed.
    pub(super) fn name(&self, number: u64, task: AbortHandle) {
        if let Some(place) = self.open().tasks.get_mut(&number) {
            *place = Some(task);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.open().tasks.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(connections: &Connections) -> Vec<u64> {
        connections.open().tasks.keys().copied().collect()
    }

    /// Whoever comes, stays or is kept: there are never more than there may be, and the newest is
    /// always in.
    #[test]
    fn the_oldest_goes_the_newest_is_in_and_what_is_kept_stays() {
        let connections = Connections::default();
        let mut places = Vec::new();
        for number in 0..1_000 {
            places.push(connections.enter());
            let open = numbers(&connections);
            assert_eq!(open.last(), Some(&number));
            assert!(open.len() <= MOST_CONNECTIONS);
        }
        assert_eq!(numbers(&connections)[0], 1_000 - MOST_CONNECTIONS as u64);
        places[999].keep();
        for _ in 0..MOST_CONNECTIONS {
            connections.close_oldest();
        }
        assert!(!connections.close_oldest() && numbers(&connections).is_empty());
        drop(places);
        let place = connections.enter();
        assert_eq!(numbers(&connections), [1_000]);
        drop(place);
        assert_eq!(numbers(&connections), [0_u64; 0]);
    }
}
