//! Whether the directory of the served bundle holds another one now.

use super::Service;
use serveflow_model::bundle::Bundle;
use std::collections::HashMap;
use std::path::PathBuf;

/// What was seen of the served bundle's directory.
#[derive(Debug, Default)]
pub(super) struct Watched {
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
    pub(super) fn look(&mut self, service: &Service) {
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
        seen.clone_from(&id);
        let waited = match &self.refused {
            Some(refused) if refused.id == id => refused.waited,
            _ => 0,
        };
        let looks = (waited * 2).max(5);
        let is_refused = service.reload(None).is_err();
        self.refused = is_refused.then_some(Refused { id, looks, waited: looks });
    }
}
