//! What happens to interfaces, for the log.

use crate::live::InterfaceCount;

/// Looks at the kernel's counts between which lost frames are told once more.
const QUIET_LOOKS: u32 = 50;

/// How the interfaces were at the last look.
#[derive(Debug, Default)]
pub(super) struct LinkLog {
    seen: Vec<InterfaceCount>,
    /// Frames dropped that were told of, and looks until more are told of, by interface.
    told: Vec<(u64, u32)>,
}

impl LinkLog {
    /// Looks at what the kernel counts now, and says in the log what is new.
    pub(super) fn look(&mut self, now: Vec<InterfaceCount>) {
        self.seen.resize_with(now.len(), InterfaceCount::default);
        self.told.resize_with(now.len(), Default::default);
        for ((now, then), (told, wait)) in now.iter().zip(&self.seen).zip(&mut self.told) {
            let interface = now.name.as_str();
            if now.is_gone && !then.is_gone && now.is_waited_for {
                tracing::warn!(interface, "waiting for the interface, which is not there");
            } else if now.is_gone && !then.is_gone {
                tracing::error!(interface, "the interface was removed");
            } else if now.downs > then.downs {
                tracing::warn!(interface, "the interface is down");
            }
            if then.kernel_stamped == 0 && now.kernel_stamped > 0 {
                tracing::warn!(interface, "frames come without a time stamp of the network card");
            }
            *wait = wait.saturating_sub(1);
            if now.dropped > *told && *wait == 0 {
                let dropped = now.dropped - *told;
                tracing::warn!(interface, dropped, "the kernel drops frames");
                (*told, *wait) = (now.dropped, QUIET_LOOKS);
            }
        }
        self.seen = now;
    }
}
