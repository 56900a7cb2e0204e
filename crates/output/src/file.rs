//! Records into a file by its name, also where the file is moved, cut, deleted or rotated
//! meanwhile; and into named pipes and devices.

use super::delivery::Transport;
use super::rotation::Rotation;
use super::{OutputStatus, pipe, standard};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who may look at records of who talks to whom, unless the umask is stricter.
const MODE: u32 = 0o640;
/// Bytes of a write: small enough to see that a slow disk still moves.
const MOST_BYTES: usize = 64 * 1024;
/// How long lines go on into a file that was moved while nothing stands at its place: whoever moved
/// it is about to put another one there, and may not expect one. Nanoseconds.
const MOVED_NS: u64 = 2_000_000_000;
/// Time until a rotation that failed is tried again, nanoseconds.
const ROTATE_AGAIN_NS: u64 = 10_000_000_000;

/// What becomes of a file that is there and not empty when the output is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is left alone, and the output is refused.
    Refuse,
    /// Records are added to it.
    Append,
    /// It is emptied.
    Overwrite,
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub struct FileOptions {
    /// What becomes of one that is there.
    pub existing: Existing,
    /// When it is set aside for a new one.
    pub rotation: Rotation,
    /// What each file begins with, above all records.
    pub heading: &'static [u8],
    /// Whether a file that begins so may be of the format that is added to it.
    pub is_like: fn(&[u8]) -> bool,
    /// Nanoseconds since the epoch.
    pub epoch: fn() -> u64,
}

/// Why a file cannot be an output.
#[derive(Debug)]
pub struct OutputError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: Refusal,
}

/// Why a file is refused as an output.
#[derive(Debug)]
pub enum Refusal {
    /// The system refused.
    Io(io::Error),
    /// It is there, and nobody said what should become of it.
    NotEmpty {
        /// Its size.
        bytes: u64,
    },
    /// Another process writes to it.
    Locked,
    /// It holds something else than records of the format.
    OtherFormat,
    /// It is a pipe or a device, and rotation is wanted.
    NoFile,
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.why {
            Refusal::Io(error) => write!(f, "cannot write: {error}"),
            Refusal::NotEmpty { bytes } => write!(
                f,
                "expected a new or an empty file, found {bytes} bytes; --append adds to it, \
                 --overwrite empties it"
            ),
            Refusal::Locked => {
                write!(
                    f,
                    "expected that no other process writes there, found one (its lock is held)"
                )
            }
            Refusal::OtherFormat => write!(
                f,
                "expected a file that begins as the output's format does, found another beginning"
            ),
            Refusal::NoFile => {
                write!(f, "expected a regular file to rotate, found a pipe or a device")
            }
        }
    }
}

impl std::error::Error for OutputError {}

/// What stands at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Regular,
    Pipe,
    Device,
}

/// Where an open file is, seen from its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At its path.
    There { bytes: u64 },
    /// Elsewhere, of late, and nothing stands at its path.
    Moved,
    /// Deleted, or something else stands at its path.
    Gone,
    /// This process may not look there, or no longer: it became another user.
    Unseen,
}

/// An output in a file, by its name.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    options: FileOptions,
    kind: FileKind,
    /// A pipe is opened by the thread that writes, once it has a reader.
    file: Option<File>,
    /// Device and number of the file that is open.
    id: (u64, u64),
    /// Its size as far as this process knows.
    bytes: u64,
    /// Whether its last line lacks its end.
    is_mid_line: bool,
    /// When it began, nanoseconds since the epoch.
    born_ns: u64,
    /// Whether the reader of a pipe is gone.
    is_broken: bool,
    /// Whether a pipe is to be opened that has no reader yet, or is not there yet.
    awaits_reader: bool,
    /// Since when nothing stands at the path, nanoseconds since the epoch.
    moved_at: Option<u64>,
    rotate_again_ns: u64,
    /// Whether the file is still to be emptied, with the first thing that is written.
    is_to_empty: bool,
    status: OutputStatus,
}

impl OutputFile {
    /// Opens it, and takes a lock by which two processes never write to one file. Nothing is
    /// written before the first record, or the heading.
    ///
    /// # Errors
    /// When it cannot be opened, another process writes to it, or it is not empty and may not be
    /// changed. It is as before then.
    pub fn open(path: &Path, options: FileOptions) -> Result<Self, OutputError> {
        Self::try_open(path, options).map_err(|why| OutputError { path: path.to_owned(), why })
    }

    fn try_open(path: &Path, options: FileOptions) -> Result<Self, Refusal> {
        let mut output = Self {
            path: path.to_owned(),
            options,
            kind: kind_of(path),
            file: None,
            id: (0, 0),
            bytes: 0,
            is_mid_line: false,
            born_ns: 0,
            is_broken: false,
            awaits_reader: false,
            moved_at: None,
            rotate_again_ns: 0,
            is_to_empty: false,
            status: OutputStatus::default(),
        };
        if output.kind != FileKind::Regular && options.rotation.is_on() {
            return Err(Refusal::NoFile);
        }
        if output.kind == FileKind::Pipe {
            return Ok(output);
        }
        let mut file = open_file(path, output.kind).map_err(Refusal::Io)?;
        if output.kind == FileKind::Regular {
            lock(&file)?;
            let bytes = file.metadata().map_err(Refusal::Io)?.len();
            match options.existing {
                Existing::Refuse if bytes > 0 => return Err(Refusal::NotEmpty { bytes }),
                Existing::Overwrite => output.is_to_empty = bytes > 0,
                Existing::Append if bytes > 0 => check_format(&mut file, options.is_like)?,
                _ => {}
            }
        }
        output.put(file).map_err(Refusal::Io)?;
        Ok(output)
    }

    /// The open file; none of a pipe, which is opened by the thread that writes.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Whether it is a file, and no pipe or device.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.kind == FileKind::Regular
    }

    /// Writes to this file from now on.
    fn put(&mut self, mut file: File) -> io::Result<()> {
        let metadata = file.metadata()?;
        (self.id, self.bytes) = (id_of(&metadata), metadata.len());
        self.is_mid_line = self.kind == FileKind::Regular && !ends_line(&mut file, self.bytes)?;
        let now = (self.options.epoch)();
        self.born_ns = if self.bytes == 0 { now } else { born(&metadata).unwrap_or(now) };
        self.file = Some(file);
        (self.is_broken, self.awaits_reader, self.moved_at) = (false, false, None);
        Ok(())
    }

    /// Opens what stands at the path now. A pipe is an error until it has a reader.
    fn reopen(&mut self) -> io::Result<()> {
        let kind = kind_of(&self.path);
        if self.kind == FileKind::Pipe && is_missing(&self.path) {
            // Who makes a pipe anew would find a file of ours in its place.
            self.awaits_reader = true;
            return Err(pipe::no_reader("no pipe is at its path"));
        }
        // The one before stays open until then: what a pipe holds is left to its next reader.
        let file = open_file(&self.path, kind).inspect_err(|error| {
            self.awaits_reader = error.kind() == io::ErrorKind::BrokenPipe;
        })?;
        if kind == FileKind::Regular {
            lock(&file).map_err(|why| match why {
                Refusal::Io(error) => error,
                _ => io::Error::new(io::ErrorKind::ResourceBusy, "another process writes there"),
            })?;
        }
        self.kind = kind;
        self.put(file)?;
        if kind == FileKind::Pipe {
            let begun = self.begin();
            // Its reader may be gone again; the next one gets the heading.
            self.is_broken = begun.is_err();
            begun?;
        }
        Ok(())
    }

    /// Where the open file is now, seen from its path.
    fn place(&mut self) -> Place {
        let seen = match std::fs::metadata(&self.path) {
            Ok(there) if id_of(&there) == self.id => return Place::There { bytes: there.len() },
            seen => seen,
        };
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        let is_deleted = open.is_none_or(|open| open.nlink() == 0);
        let missing = match seen {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(_) if is_deleted => false,
            Err(_) => return Place::Unseen,
        };
        if !missing || is_deleted && self.kind != FileKind::Pipe {
            return Place::Gone;
        }
        if self.kind == FileKind::Pipe {
            // Its reader may still read it, and no file takes the place of a pipe.
            return Place::Moved;
        }
        let now = (self.options.epoch)();
        let since = *self.moved_at.get_or_insert(now);
        if now.saturating_sub(since) < MOVED_NS { Place::Moved } else { Place::Gone }
    }

    /// Reopens if need be; whether it did.
    fn follow(&mut self, reopen: bool) -> io::Result<bool> {
        self.awaits_reader = false;
        if self.file.is_none() || self.is_broken {
            let is_first = self.file.is_none();
            self.reopen()?;
            self.status.reopened += u64::from(!is_first);
            return Ok(true);
        }
        if self.kind == FileKind::Device {
            // A device is what it is, and may be out of reach by now.
            return Ok(false);
        }
        match self.place() {
            Place::There { bytes } => {
                if self.kind == FileKind::Regular && bytes < self.bytes {
                    self.status.truncated += 1;
                    self.is_mid_line = false;
                }
                (self.bytes, self.moved_at) = (bytes, None);
                // Who asks for what stands there has it already.
                self.status.reopened += u64::from(reopen);
                Ok(false)
            }
            Place::Moved | Place::Unseen if !reopen => Ok(false),
            Place::Unseen => {
                // Rather the file that is open than none.
                let reopened = self.reopen();
                self.status.reopened += u64::from(reopened.is_ok());
                self.status.rotation_trouble =
                    reopened.as_ref().err().map(|error| format!("cannot be reopened: {error}"));
                Ok(reopened.is_ok())
            }
            Place::Moved | Place::Gone => {
                self.reopen()?;
                self.status.reopened += 1;
                Ok(true)
            }
        }
    }

    /// Sets the file aside if it is time; whether it did.
    fn rotate(&mut self, more: u64) -> io::Result<bool> {
        let rotation = self.options.rotation;
        if self.kind != FileKind::Regular || !rotation.is_on() {
            return Ok(false);
        }
        let now = (self.options.epoch)();
        let age_ns = now.saturating_sub(self.born_ns);
        let begins = self.bytes.saturating_sub(self.options.heading.len() as u64);
        if now < self.rotate_again_ns || !rotation.is_due(begins, more, age_ns) {
            return Ok(false);
        }
        if let Err(error) = rotation.set_aside(&self.path) {
            // Rather a file that is too large than none.
            self.rotate_again_ns = now.saturating_add(ROTATE_AGAIN_NS);
            self.status.rotation_trouble = Some(error.to_string());
            return Ok(false);
        }
        self.status.rotation_trouble = None;
        self.status.rotated += 1;
        self.reopen()?;
        Ok(true)
    }

    /// Writes what stands above the records.
    fn begin(&mut self) -> io::Result<()> {
        let heading = self.options.heading;
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(heading).inspect_err(|_| {
            let _ = file.set_len(self.bytes);
        })?;
        self.bytes += heading.len() as u64;
        Ok(())
    }

    /// Ends the line that a process left behind that was killed.
    fn end_line(&mut self) -> io::Result<()> {
        if self.is_mid_line && self.write(b"\n")? == 1 {
            self.is_mid_line = false;
        }
        Ok(())
    }
}

impl Transport for OutputFile {
    fn most_bytes(&self) -> usize {
        if self.kind == FileKind::Regular { MOST_BYTES } else { standard::MOST_PIPE_BYTES }
    }

    fn prepare(&mut self, bytes: usize, reopen: bool) -> io::Result<bool> {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_to_empty) {
            file.set_len(0)?;
            (self.bytes, self.is_mid_line, self.is_to_empty) = (0, false, false);
        }
        let mut is_new = self.follow(reopen)?;
        is_new |= self.rotate(bytes as u64)?;
        if self.bytes == 0 && self.kind != FileKind::Pipe && !self.options.heading.is_empty() {
            self.begin()?;
        }
        if bytes > 0 {
            self.end_line()?;
        }
        Ok(is_new)
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotConnected.into()) };
        let written = file.write(text);
        match &written {
            Ok(count) => self.bytes += *count as u64,
            Err(error) => self.is_broken = error.kind() == io::ErrorKind::BrokenPipe,
        }
        written
    }

    fn take_back(&mut self, bytes: usize) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.kind == FileKind::Regular) else {
            return false;
        };
        let cut = |metadata: Metadata| file.set_len(metadata.len().saturating_sub(bytes as u64));
        let is_back = file.metadata().and_then(cut).is_ok();
        if is_back {
            self.bytes = self.bytes.saturating_sub(bytes as u64);
        }
        is_back
    }

    fn awaits_reader(&self) -> bool {
        self.awaits_reader
    }

    fn tell(&self, status: &mut OutputStatus) {
        let OutputStatus { reopened, rotated, truncated, rotation_trouble, .. } = &self.status;
        (status.reopened, status.rotated) = (*reopened, *rotated);
        status.truncated = *truncated;
        status.rotation_trouble.clone_from(rotation_trouble);
    }
}

/// What stands at a path; what is not there yet will be a file.
fn kind_of(path: &Path) -> FileKind {
    match std::fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_fifo() => FileKind::Pipe,
        Ok(kind) if kind.is_char_device() || kind.is_block_device() => FileKind::Device,
        _ => FileKind::Regular,
    }
}

fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn open_file(path: &Path, kind: FileKind) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match kind {
        // Read too: whether it ends with a whole line.
        FileKind::Regular => options.read(true).append(true).create(true).mode(MODE).open(path),
        FileKind::Pipe => pipe::open(path),
        FileKind::Device => options.write(true).open(path),
    }
}

fn lock(file: &File) -> Result<(), Refusal> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Refusal::Locked),
        // Some file systems know no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn id_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// When a file was made, where the file system knows it.
fn born(metadata: &Metadata) -> Option<u64> {
    let since = metadata.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Whether a file is empty or ends with the end of a line.
fn ends_line(file: &mut File, bytes: u64) -> io::Result<bool> {
    if bytes == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn check_format(file: &mut File, is_like: fn(&[u8]) -> bool) -> Result<(), Refusal> {
    let mut beginning = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(Refusal::Io)?;
    let mut start = Read::by_ref(file).take(1024);
    start.read_to_end(&mut beginning).map_err(Refusal::Io)?;
    if is_like(&beginning) { Ok(()) } else { Err(Refusal::OtherFormat) }
}
