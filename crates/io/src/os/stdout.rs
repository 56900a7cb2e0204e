//! Whether the program began without standard output.

/// Whether the program began without standard output. The standard library then opens `/dev/null`
/// in its place, where everything is lost in silence, so this looks before the library does. Always
/// false where the system is not Linux.
#[must_use]
pub fn was_stdout_closed() -> bool {
    #[cfg(target_os = "linux")]
    return early::WAS_CLOSED.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(target_os = "linux"))]
    return false;
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod early {
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

    extern "C" fn look() {
        // SAFETY: a call with numbers, which changes nothing.
        let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
        WAS_CLOSED.store(flags < 0, Ordering::Relaxed);
    }

    /// The system calls what stands in this section before `main`, and before the library's start.
    // SAFETY: the section holds pointers to functions of this kind, and this one needs nothing of
    // the library.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static LOOK: extern "C" fn() = look;
}
