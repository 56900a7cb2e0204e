//! Records to standard output or standard error, without the locks and buffers of the standard
//! library: whoever else writes there never waits for them.

use super::delivery::Transport;
use super::pipe;
use serveflow_io::os::was_stdout_closed;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

/// Bytes that go into a pipe at once or not at all (`PIPE_BUF`).
pub(super) const MOST_PIPE_BYTES: usize = 4096;
const MOST_FILE_BYTES: usize = 64 * 1024;

/// Standard output or standard error.
#[derive(Debug)]
pub struct StandardStream {
    file: File,
    is_regular: bool,
    is_pipe: bool,
    /// What is still to stand above the first record.
    heading: &'static [u8],
    is_gone: bool,
}

impl StandardStream {
    /// Standard output, which begins with a heading unless it is a file that has something already
    /// and is added to (`>>`).
    ///
    /// # Errors
    /// When it was closed before the program began.
    pub fn output(heading: &'static [u8]) -> io::Result<Self> {
        if was_stdout_closed() {
            return Err(io::Error::other("it was closed before the program began"));
        }
        Self::new(io::stdout().as_fd(), heading)
    }

    /// Standard error.
    ///
    /// # Errors
    /// When the system gives no other number for it.
    pub fn error() -> io::Result<Self> {
        Self::new(io::stderr().as_fd(), b"")
    }

    pub(super) fn new(fd: std::os::fd::BorrowedFd<'_>, heading: &'static [u8]) -> io::Result<Self> {
        let mut file = File::from(fd.try_clone_to_owned()?);
        let metadata = file.metadata()?;
        let (is_regular, is_pipe) = (metadata.is_file(), metadata.file_type().is_fifo());
        let is_added_to = is_regular && metadata.len() > 0 && file.stream_position()? == 0;
        let heading = if is_added_to { b"" } else { heading };
        Ok(Self { file, is_regular, is_pipe, heading, is_gone: false })
    }
}

impl Transport for StandardStream {
    fn most_bytes(&self) -> usize {
        if self.is_regular { MOST_FILE_BYTES } else { MOST_PIPE_BYTES }
    }

    fn prepare(&mut self, _bytes: usize, _reopen: bool) -> io::Result<bool> {
        if self.is_gone {
            return Err(pipe::no_reader("its reader is gone"));
        }
        while !self.heading.is_empty() {
            let heading = self.heading;
            let count = self.write(heading)?;
            self.heading = &heading[count..];
        }
        Ok(false)
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let written = self.file.write(text);
        // Nobody can open the other end of it again.
        self.is_gone |= matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn take_back(&mut self, bytes: usize) -> bool {
        if !self.is_regular {
            return false;
        }
        let (Ok(metadata), Ok(at)) = (self.file.metadata(), self.file.stream_position()) else {
            return false;
        };
        // Somebody else wrote there meanwhile.
        if metadata.len() != at {
            return false;
        }
        let to = at.saturating_sub(bytes as u64);
        self.file.set_len(to).and_then(|()| self.file.seek(SeekFrom::Start(to))).is_ok()
    }

    fn may_be_left(&self) -> bool {
        self.is_pipe
    }

    fn is_left(&mut self) -> bool {
        self.is_gone |= self.is_pipe && pipe::is_left(&self.file);
        self.is_gone
    }

    fn can_recover(&self) -> bool {
        !self.is_gone
    }
}
