//! What happens to the output, for the log.

use super::log;
use serveflow_output::OutputStatus;

/// Looks between which losses are told once more.
const QUIET_LOOKS: u32 = 50;

/// How output and log were at the last look.
#[derive(Debug, Default)]
pub(super) struct OutputLog {
    seen: OutputStatus,
    /// Records and lines lost that were told of.
    told_lost: u64,
    told_lines: u64,
    wait: u32,
}

impl OutputLog {
    /// Looks at the output, and says in the log what is new.
    pub(super) fn look(&mut self, now: OutputStatus) {
        let then = &self.seen;
        if now.trouble.is_some() && now.trouble != then.trouble {
            let why = now.trouble.as_deref();
            tracing::error!(why, "the output cannot be written, and is tried again");
        }
        if now.is_stalled && !then.is_stalled {
            let (buffered, why) = (now.buffered, now.trouble.as_deref());
            tracing::error!(buffered, why, "output stalled");
        }
        let was_out = then.is_stalled || then.trouble.is_some();
        if was_out && !now.is_stalled && now.trouble.is_none() {
            let lost = now.all_lost();
            tracing::info!(lost, "the output continues");
        }
        if now.reopened > then.reopened {
            tracing::info!("output reopened");
        }
        if now.rotated > then.rotated {
            tracing::info!("output rotated");
        }
        if now.truncated > then.truncated {
            tracing::warn!(
                "another process cut the output's file; lines that were written while it was \
                 copied may be missing, unless the output was held meanwhile (SIGUSR2)"
            );
        }
        if now.rotation_trouble.is_some() && now.rotation_trouble != then.rotation_trouble {
            let why = now.rotation_trouble.as_deref();
            tracing::error!(
                why,
                "the output's file cannot be rotated or reopened, and keeps growing"
            );
        }
        self.tell_losses(&now);
        self.seen = now;
    }

    fn tell_losses(&mut self, now: &OutputStatus) {
        self.wait = self.wait.saturating_sub(1);
        let (lost, lines) = (now.all_lost(), log::dropped());
        if self.wait > 0 || (lost == self.told_lost && lines == self.told_lines) {
            return;
        }
        if lost > self.told_lost {
            tracing::warn!(records = lost - self.told_lost, "the output lost records");
        }
        if lines > self.told_lines {
            tracing::warn!(lines = lines - self.told_lines, "lines of the log were dropped");
        }
        // The line about lines may be dropped as well, and is then told of once more.
        (self.told_lost, self.told_lines, self.wait) = (lost, lines, QUIET_LOOKS);
    }
}
