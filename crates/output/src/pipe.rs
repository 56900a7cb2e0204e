//! Named pipes, opened without waiting for who reads them.

use rustix::event::{self, PollFd, PollFlags, Timespec};
use rustix::fs::{self, OFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens the pipe that stands at a path now. An open that waits for a reader would wait at a pipe
/// that is meanwhile gone, and nobody could tell it from a slow one; so this is an error without
/// one.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => no_reader("no reader has the pipe open"),
        _ => error,
    })?;
    wait_for_room(&file)?;
    Ok(file)
}

/// Whether nobody has the reading end of a pipe open any more.
pub(super) fn is_left(file: &File) -> bool {
    let mut polled = [PollFd::new(file, PollFlags::empty())];
    // It does not wait.
    let found = event::poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    found == Ok(1) && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Why nothing can be written: nobody takes it.
pub(super) fn no_reader(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, why)
}

/// Has writes wait where a pipe is full, as they would after an open that waits.
fn wait_for_room(file: &File) -> io::Result<()> {
    let flags = fs::fcntl_getfl(file)?;
    Ok(fs::fcntl_setfl(file, flags.difference(OFlags::NONBLOCK))?)
}
