//! Pipes: read as they come, and until a flag says that they are to end.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a silent pipe looks whether it is to end, milliseconds.
#[cfg(unix)]
const LOOK_MS: i32 = 50;

/// A pipe that ends when its writer ends it, or as soon as a flag is set and nothing is there to
/// read.
pub(super) struct Pipe {
    file: File,
    stop: Arc<AtomicBool>,
}

impl Pipe {
    /// Opens a pipe; `-` is standard input.
    pub(super) fn open(path: &Path, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let file = if path == Path::new("-") { standard_input()? } else { File::open(path)? };
        Ok(Self { file, stop })
    }

    /// Waits until there is something to read, or the end; false when the flag is set before.
    #[cfg(unix)]
    fn wait(&self) -> bool {
        use std::os::fd::AsRawFd;
        let fd = self.file.as_raw_fd();
        loop {
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor is described, and one is said to be. It is open as long as
            // `self`.
            let ready = unsafe { libc::poll(&raw mut poll, 1, LOOK_MS) };
            if ready > 0 {
                return true;
            }
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            if ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return true; // The read says what is wrong.
            }
        }
    }

    #[cfg(not(unix))]
    fn wait(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.wait() { self.file.read(out) } else { Ok(0) }
    }
}

/// Standard input without a buffer between, which would hide from the wait what it holds.
#[cfg(unix)]
fn standard_input() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn standard_input() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdin().as_handle().try_clone_to_owned()?))
}

/// Whether a path is one that is read as it comes and only once: standard input, unless it is a
/// file, or a named pipe.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    let found = if path == Path::new("-") {
        standard_input().and_then(|file| file.metadata())
    } else {
        std::fs::metadata(path)
    };
    found.is_ok_and(|found| !found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_ends_by_its_writer_or_by_the_flag_and_gives_all_before() {
        for ends_by_flag in [false, true] {
            let (reader, mut writer) = io::pipe().unwrap();
            let file = File::from(std::os::fd::OwnedFd::from(reader));
            let stop = Arc::new(AtomicBool::new(ends_by_flag));
            let mut pipe = Pipe { file, stop };
            writer.write_all(b"packets").unwrap();
            if !ends_by_flag {
                drop(writer);
            }
            let mut all = Vec::new();
            pipe.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"packets");
        }
    }
}
