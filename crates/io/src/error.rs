//! What can go wrong with a source, as facts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The LINKTYPE numbers that frames can be parsed of, as error messages list them.
pub const SUPPORTED_LINKS: &str = "0 (BSD loopback), 1 (Ethernet), 9, 50 (PPP), 12, 14, 101, 228, 229 \
     (raw IP), 104 (Cisco HDLC), 107 (Frame Relay), 108 (OpenBSD loopback), 113 (Linux cooked), \
     149, 258 (PKTAP), 192 (PPI), 239 (NFLOG), 276 (Linux cooked, version 2)";

/// A byte of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// Offset from the start in bytes, of the decompressed stream when the file is compressed.
    pub offset: u64,
    /// Name of the compression that `offset` lies behind; `None` for a plain file.
    pub codec: Option<&'static str>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}", PathName(&self.path), self.offset)?;
        match self.codec {
            Some(codec) => write!(f, " of the stream inside its {codec} compression"),
            None => Ok(()),
        }
    }
}

/// Why an input, or the rest of it, cannot be read.
#[derive(Debug)]
pub enum SourceError {
    /// The file or directory cannot be opened.
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// A directory holds no file that could be a capture.
    NoFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A live interface brings no more frames.
    Interface {
        /// Its name.
        name: String,
        /// What the system said; `NotConnected` when the interface was removed.
        error: io::Error,
    },
    /// Reading failed half way.
    Read {
        /// Where reading stopped.
        at: Location,
        /// The system's answer.
        error: io::Error,
    },
    /// The compressed stream is damaged or ends too early.
    Compression {
        /// How far decompression came.
        at: Location,
        /// The decompressor's answer.
        error: io::Error,
    },
    /// There is not a single byte.
    Empty {
        /// The file, with offset 0.
        at: Location,
    },
    /// The first bytes are those of no known capture format.
    UnknownFormat {
        /// The file, with offset 0.
        at: Location,
        /// The first four bytes.
        found: [u8; 4],
    },
    /// No frame of the capture could be parsed, for its link type.
    UnsupportedLink {
        /// Where the link type stands.
        at: Location,
        /// The link type, without the flags that share its field.
        found: u32,
    },
    /// The input ends inside a header, a record or a block.
    Truncated {
        /// Start of the part that is cut short.
        at: Location,
        /// Bytes of that part, as far as its header tells.
        expected: u64,
        /// Bytes of it that are there.
        found: u64,
    },
    /// A header makes no sense, so that nothing behind it can be trusted.
    Damaged {
        /// Start of the header.
        at: Location,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: u64,
    },
}

impl SourceError {
    /// The file that the error is about, or the interface; `-` is standard input.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Interface { name, .. } => Path::new(name),
            Self::Open { path, .. } | Self::NoFiles { path } => path,
            _ => &self.location().expect("all other errors have a location").path,
        }
    }

    /// Where in the file it went wrong; `None` when it was never opened.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Open { .. } | Self::NoFiles { .. } | Self::Interface { .. } => None,
            Self::Read { at, .. }
            | Self::Compression { at, .. }
            | Self::Empty { at }
            | Self::UnknownFormat { at, .. }
            | Self::UnsupportedLink { at, .. }
            | Self::Truncated { at, .. }
            | Self::Damaged { at, .. } => Some(at),
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, error } => write!(f, "cannot open {}: {error}", PathName(path)),
            Self::NoFiles { path } => {
                write!(f, "the directory {} holds no capture file", PathName(path))
            }
            Self::Interface { name, error } if error.kind() == io::ErrorKind::NotConnected => {
                write!(f, "interface {name}: expected it to stay, found that it was removed")
            }
            Self::Interface { name, error } => write!(f, "interface {name}: {error}"),
            Self::Read { at, error } => write!(f, "reading failed at {at}: {error}"),
            Self::Compression { at, error } => {
                write!(f, "decompression failed at {at}: {error}")
            }
            Self::Empty { at } => {
                write!(f, "{} is empty, expected a capture file", PathName(&at.path))
            }
            Self::UnknownFormat { at, found: [a, b, c, d] } => write!(
                f,
                "no known capture format at {at}: expected pcap or pcapng, plain or in gzip or \
                 zstd, found the bytes {a:02x} {b:02x} {c:02x} {d:02x}"
            ),
            Self::UnsupportedLink { at, found } => write!(
                f,
                "unsupported link type at {at}: expected one of {SUPPORTED_LINKS}, found {found}"
            ),
            Self::Truncated { at, expected, found } => {
                write!(
                    f,
                    "the capture is cut short at {at}: expected {expected} bytes, found {found}"
                )
            }
            Self::Damaged { at, expected, found } => {
                write!(f, "damage at {at}: expected {expected}, found {found} ({found:#x})")
            }
        }
    }
}

// The system's answer is part of the sentence, so it is no `source`: a chain would say it twice.
impl std::error::Error for SourceError {}

/// A path as messages spell it.
struct PathName<'a>(&'a Path);

impl fmt::Display for PathName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Path::new("-") {
            f.write_str("standard input")
        } else {
            write!(f, "{}", self.0.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_core::packet::LinkType;

    #[test]
    fn the_listed_link_types_are_the_supported_ones() {
        let listed: Vec<u16> = SUPPORTED_LINKS
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .filter_map(|word| word.parse().ok())
            .filter(|&number| number != 2)
            .collect();
        let mut supported: Vec<u16> =
            (0..=u16::MAX).filter(|&n| LinkType::from_number(n).is_supported()).collect();
        supported.sort_unstable_by_key(|n| listed.iter().position(|m| m == n));
        assert_eq!(listed, supported);
    }

    #[test]
    fn messages_are_sentences_with_the_facts() {
        let at = Location { path: "-".into(), offset: 24, codec: Some("gzip") };
        let error = SourceError::Truncated { at, expected: 16, found: 3 };
        assert_eq!(
            error.to_string(),
            "the capture is cut short at standard input, byte 24 of the stream inside its gzip \
             compression: expected 16 bytes, found 3"
        );
        let at = Location { path: "a.pcap".into(), offset: 20, codec: None };
        let text = SourceError::UnsupportedLink { at, found: 105 }.to_string();
        assert!(text.starts_with("unsupported link type at a.pcap, byte 20: expected one of 0 ("));
        assert!(text.ends_with("found 105"));
    }

    #[test]
    fn the_systems_answer_is_said_once() {
        let error: io::Error = io::ErrorKind::NotFound.into();
        let said = error.to_string();
        let error = SourceError::Open { path: "a.pcap".into(), error };
        assert_eq!(error.to_string(), format!("cannot open a.pcap: {said}"));
        assert!(std::error::Error::source(&error).is_none());
    }
}
