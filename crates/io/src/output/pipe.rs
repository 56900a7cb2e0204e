//! Named pipes, opened without waiting for who reads them.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens the pipe that stands at a path now. An open that waits for a reader would wait at a pipe
/// that is meanwhile gone, and nobody could tell it from a slow one; so this is an error without one.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => no_reader("no reader has the pipe open"),
        _ => error,
    })?;
    wait_for_room(&file)?;
    Ok(file)
}

/// Whether nobody has the reading end of a pipe open any more.
pub(super) fn is_left(file: &File) -> bool {
    let mut look = libc::pollfd { fd: file.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, which lives for the call; it does not wait.
    let found = unsafe { libc::poll(&raw mut look, 1, 0) };
    found == 1 && look.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

/// Why nothing can be written: nobody takes it.
pub(super) fn no_reader(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, why)
}

/// Has writes wait where a pipe is full, as they would after an open that waits.
fn wait_for_room(file: &File) -> io::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: calls with numbers on a file that is open.
    let answer = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 { flags } else { libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK) }
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
