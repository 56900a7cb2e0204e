//! Whether the directory of the served bundle holds another one now.

use super::control::LOOK;
use super::loader::{BundleLoad, NotLoaded};
use super::{Service, no_thread};
use serveflow_model::bundle::Bundle;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Watches on a thread of its own until it is over: reading what a directory holds may hang, too.
pub(super) fn watch(service: Arc<Service>, is_over: Arc<AtomicBool>) -> io::Result<()> {
    let look = move || {
        let mut watched = Watched::default();
        while !is_over.load(Ordering::Relaxed) {
            watched.look(&service);
            std::thread::sleep(LOOK);
        }
    };
    let thread = std::thread::Builder::new().name("bundle-watch".to_owned());
    thread.spawn(look).map(drop).map_err(no_thread("bundle-watch"))
}

/// What was seen of the served bundle's directory.
#[derive(Debug, Default)]
struct Watched {
    /// The ids of the bundles in directories, as they were seen last.
    seen: HashMap<PathBuf, String>,
    /// Bundles taken back so far.
    roll_backs: u64,
    /// A bundle that was refused: it may not be there as a whole yet.
    refused: Option<Refused>,
}

#[derive(Debug)]
struct Refused {
    id: String,
    /// Looks until it is tried again, and how many that was the last time.
    looks: u32,
    waited: u32,
}

/// Looks until a refused bundle is tried for the last time.
const MOST_LOOKS: u32 = 300;

impl Watched {
    /// Serves the bundle of the served directory if it is another one than at the last look.
    fn look(&mut self, service: &Arc<Service>) {
        let (serving, _) = service.switch.serving();
        let Some(id) = Bundle::id_at(&serving.path) else { return };
        let roll_backs = service.switch.roll_backs();
        if roll_backs != self.roll_backs {
            // Whoever goes back does not want what has come to stand there.
            self.roll_backs = roll_backs;
            self.seen.insert(serving.path.clone(), id.clone());
        }
        let seen = self.seen.entry(serving.path.clone()).or_insert_with(|| serving.id.clone());
        let is_due = match &mut self.refused {
            Some(refused) if refused.id == id => {
                refused.looks = refused.looks.saturating_sub(1);
                refused.looks == 0 && refused.waited < MOST_LOOKS
            }
            _ => *seen != id,
        };
        if !is_due {
            return;
        }
        let pending = match service.start_load(BundleLoad::Serve { path: None }) {
            Ok(pending) => pending,
            // Once the other one is read, the next look finds the same.
            Err(NotLoaded::Busy { .. }) => return,
            Err(why) => {
                tracing::error!(%why, "the bundle is not reloaded");
                return;
            }
        };
        seen.clone_from(&id);
        let waited = match &self.refused {
            Some(refused) if refused.id == id => refused.waited,
            _ => 0,
        };
        let looks = (waited * 2).max(5);
        let is_refused = !matches!(pending.blocking_recv(), Ok(Ok(_)));
        self.refused = is_refused.then_some(Refused { id, looks, waited: looks });
    }
}
