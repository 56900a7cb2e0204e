//! Capture files: what they are is told from their first bytes, and they are read in large blocks.

mod clock;
mod decode;
mod formats;
mod members;
mod options;
mod order;
mod pcap;
mod pcapng;
mod section;
mod window;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

pub use formats::{CODECS, Codec, FORMATS, Format};

use crate::batch::Batch;
use crate::error::{Location, SourceError};
use crate::source::Source;
use decode::{Decode, Flaw, Met, Part, Stop};
use formats::{Bytes, MAGIC_LEN, codec_of, format_of};
use members::Leftover;
pub(crate) use pcap::NANOSECONDS;
use window::Window;

/// Reads one capture, of any format in [`FORMATS`] and behind any compression in [`CODECS`].
///
/// It reads from its input only when it has no frame to return, so that a slow pipe never holds
/// back frames that have arrived.
pub struct CaptureReader {
    window: Window,
    decoder: Box<dyn Decode>,
    format: &'static Format,
    codec: Option<&'static Codec>,
    path: PathBuf,
    name: String,
    /// What stands behind the compressed stream.
    leftover: Leftover,
    /// What is to be told behind the last frames: damage first.
    pending: VecDeque<SourceError>,
    finished: bool,
}

impl CaptureReader {
    /// Opens a capture file; `-` is standard input.
    ///
    /// # Errors
    /// When the file cannot be opened, is empty, is no capture, or has a header that makes no
    /// sense.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        Self::open_reusing(path.as_ref(), Vec::new())
    }

    /// Reads a capture from `input`. `path` is only a name for messages.
    ///
    /// # Errors
    /// As [`CaptureReader::open`].
    pub fn new(
        path: impl Into<PathBuf>,
        input: impl Read + Send + 'static,
    ) -> Result<Self, SourceError> {
        Self::start(path.into(), Box::new(input), Vec::new())
    }

    /// Opens a capture file with the buffer of an earlier reader.
    pub(crate) fn open_reusing(path: &Path, buffer: Vec<u8>) -> Result<Self, SourceError> {
        if path == Path::new("-") {
            return Self::start(path.into(), Box::new(io::stdin()), buffer);
        }
        match File::open(path) {
            Ok(file) => Self::start(path.into(), Box::new(file), buffer),
            Err(error) => Err(SourceError::Open { path: path.into(), error }),
        }
    }

    /// The buffer, for the next reader.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.window.into_buffer()
    }

    /// The capture's format.
    #[must_use]
    pub fn format(&self) -> &'static Format {
        self.format
    }

    /// The compression around the capture; `None` for a plain one.
    #[must_use]
    pub fn codec(&self) -> Option<&'static Codec> {
        self.codec
    }

    fn start(path: PathBuf, input: Bytes, buffer: Vec<u8>) -> Result<Self, SourceError> {
        let mut file = Input { path, codec: None };
        let mut window = Window::new(input, buffer);
        window.ensure(MAGIC_LEN).map_err(|error| file.failed(&window, error))?;
        let leftover = Leftover::default();
        if let Some(codec) = codec_of(window.bytes()) {
            let opened = window.rewrap(|input| (codec.open)(input, leftover.clone()));
            let path = file.path.clone();
            window = opened.map_err(|error| SourceError::Open { path, error })?;
            file.codec = Some(codec);
        }
        let magic = file.head(&mut window, MAGIC_LEN)?;
        let magic = magic.try_into().expect("as many bytes as were requested");
        let Some(format) = format_of(magic) else {
            return Err(SourceError::UnknownFormat { at: file.at(0), found: magic });
        };
        let header = file.head(&mut window, format.header_len)?;
        let (decoder, used) = (format.start)(header).map_err(|flaw| file.flawed(flaw))?;
        window.consume(used);
        let Input { path, codec } = file;
        let name = path.to_string_lossy().into_owned();
        let (pending, finished) = (VecDeque::new(), false);
        Ok(Self { window, decoder, format, codec, path, name, leftover, pending, finished })
    }

    fn input(&self) -> Input {
        Input { path: self.path.clone(), codec: self.codec }
    }

    /// Ends the capture, here if there is no damage: what was met on the way is told next.
    fn end(&mut self, damage: Option<SourceError>) {
        self.finished = true;
        let (input, tally) = (self.input(), self.decoder.tally());
        self.pending.extend(damage);
        let (at, bytes) = (input.at(self.window.read_to()), self.leftover.bytes());
        let (joined, garbage) = match self.leftover.begins() {
            Some(begins) => (Some(SourceError::Joined { at, begins, bytes }), None),
            None => (None, (bytes > 0).then_some(SourceError::Leftover { at, bytes })),
        };
        self.pending.extend(joined);
        self.pending.extend(tally.links.iter().map(|&(found, Met { packets, offset })| {
            SourceError::UnsupportedLink { at: input.at(offset), found, packets }
        }));
        self.pending.extend(tally.times.map(|Met { packets, offset }| {
            SourceError::TimeOutOfRange { at: input.at(offset), packets }
        }));
        self.pending.extend(garbage);
    }

    /// Reads on for a part that is not there in full: `None` when it came, else how it ended.
    fn read_on(&mut self, part: Part) -> Option<Result<(), SourceError>> {
        match self.window.ensure(part.want) {
            Ok(true) => None,
            Ok(false) => match self.window.read_to() - part.start {
                0 => Some(Ok(())),
                found => {
                    let at = self.input().at(part.start);
                    Some(Err(SourceError::Truncated { at, expected: part.len, found }))
                }
            },
            Err(error) => Some(Err(self.input().failed(&self.window, error))),
        }
    }
}

impl Source for CaptureReader {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        while !self.finished {
            // Reading on needs the block back, and comes here again with an empty batch.
            batch.clear();
            self.window.lend_to(batch);
            let (bytes, at) = (self.window.bytes(), self.window.offset());
            let step = self.decoder.decode(bytes, at, batch, max_frames.max(1));
            self.window.consume(step.used);
            match step.stop {
                Stop::Full => break,
                Stop::Starved(_) if !batch.is_empty() => break,
                Stop::Starved(part) => {
                    batch.clear();
                    if let Some(end) = self.read_on(part) {
                        self.end(end.err());
                    }
                }
                Stop::Damage(flaw) => self.end(Some(self.input().flawed(flaw))),
            }
        }
        if batch.is_empty()
            && let Some(error) = self.pending.pop_front()
        {
            return Err(error);
        }
        Ok(batch.len())
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// What errors say about the input.
struct Input {
    path: PathBuf,
    codec: Option<&'static Codec>,
}

impl Input {
    fn at(&self, offset: u64) -> Location {
        Location { path: self.path.clone(), offset, codec: self.codec.map(|codec| codec.name) }
    }

    /// The first `len` bytes, of which none is used yet.
    fn head<'a>(&self, window: &'a mut Window, len: usize) -> Result<&'a [u8], SourceError> {
        match window.ensure(len) {
            Ok(true) => Ok(&window.bytes()[..len]),
            Ok(false) if window.bytes().is_empty() => Err(SourceError::Empty { at: self.at(0) }),
            Ok(false) => {
                let (expected, found) = (len as u64, window.bytes().len() as u64);
                Err(SourceError::Truncated { at: self.at(0), expected, found })
            }
            Err(error) => Err(self.failed(window, error)),
        }
    }

    fn failed(&self, window: &Window, error: io::Error) -> SourceError {
        let at = self.at(window.read_to());
        // The system's own errors carry a code, a decompressor's complaints do not.
        if self.codec.is_some() && error.raw_os_error().is_none() {
            SourceError::Compression { at, error }
        } else {
            SourceError::Read { at, error }
        }
    }

    fn flawed(&self, flaw: Flaw) -> SourceError {
        match flaw {
            Flaw::Field { offset, expected, found } => {
                SourceError::Damaged { at: self.at(offset), expected, found }
            }
            Flaw::SecondHeader { offset, format } => {
                SourceError::SecondHeader { at: self.at(offset), format }
            }
        }
    }
}

/// Reads a whole capture from memory: the number of its frames, and why it ended if not at its end.
///
/// This is the entry for fuzzing: whatever the bytes are, it returns.
#[must_use]
pub fn read_all(bytes: &[u8]) -> (usize, Option<SourceError>) {
    let mut reader = match CaptureReader::new("<memory>", Cursor::new(bytes.to_vec())) {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error)),
    };
    let (mut batch, mut frames) = (Batch::new(), 0);
    loop {
        match reader.fill(&mut batch, 256) {
            Ok(0) => return (frames, None),
            Ok(count) => frames += count,
            Err(error) => return (frames, Some(error)),
        }
    }
}
