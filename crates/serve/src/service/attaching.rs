//! The thread that waits for interfaces: it alone may still open them.
//!
//! It starts with the privileges of the process, and keeps `CAP_NET_RAW` when the others give up
//! everything.

use crate::live::{Attacher, Change};
use crate::service::{Sandbox, confine_capturing, keep_capabilities};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Time between two looks for interfaces.
const LOOK: Duration = Duration::from_millis(200);

/// The thread; dropping it ends it.
#[derive(Debug)]
pub struct Attaching {
    is_over: Arc<AtomicBool>,
    /// Takes what the process was confined to.
    go: Sender<Sandbox>,
}

impl Attaching {
    /// Starts the thread. This comes before the process gives up its privileges.
    ///
    /// # Errors
    /// When the system gives no thread, or does not let it keep its capabilities.
    pub fn start(attacher: Attacher) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (go, confined) = channel();
        let (tell, told) = channel();
        let over = Arc::clone(&is_over);
        let work = move || {
            let kept = keep_capabilities();
            let is_kept = kept.is_ok();
            // Whoever started it waits for this answer.
            let _ = tell.send(kept);
            if is_kept {
                attach(attacher, &confined, &over);
            }
        };
        let thread = std::thread::Builder::new().name("interfaces".to_owned());
        thread.spawn(work).map_err(super::no_thread("interfaces"))?;
        let ended = || io::Error::other("the thread that waits for interfaces ended at once");
        told.recv().map_err(|_| ended())??;
        Ok(Self { is_over, go })
    }

    /// Has it begin to look, once the process was confined.
    pub fn begin(&self, confinement: &Sandbox) {
        // A thread that has ended has said why in the log.
        let _ = self.go.send(confinement.clone());
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Looks for interfaces until it is over.
fn attach(mut attacher: Attacher, confined: &Receiver<Sandbox>, is_over: &AtomicBool) {
    let Ok(confinement) = confined.recv() else { return };
    if let Err(error) = confine_capturing(&confinement) {
        tracing::error!(%error, "interfaces that come later cannot be listened to");
        return;
    }
    while !is_over.load(Ordering::Relaxed) {
        for change in attacher.look() {
            match change {
                Change::Attached { interface } => {
                    tracing::info!(interface, "the interface came and is listened to");
                }
                Change::Refused { error } => {
                    tracing::error!(%error, "the interface came and cannot be listened to");
                }
                _ => {}
            }
        }
        std::thread::sleep(LOOK);
    }
}
