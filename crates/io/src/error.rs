//! What can go wrong with a source, as facts.

use crate::links;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The LINKTYPE numbers that frames can be parsed of, as error messages list them.
pub const SUPPORTED_LINKS: &str = "0 (BSD loopback), 1 (Ethernet), 9, 50 (PPP), 12, 14, 101, 228, \
                                   229 (raw IP), 104 (Cisco HDLC), 107 (Frame Relay), 108 (OpenBSD \
                                   loopback), 113 (Linux cooked), 149, 258 (PKTAP), 192 (PPI), 239 \
                                   (NFLOG), 276 (Linux cooked, version 2)";

/// What to do with captures that were joined.
const UNJOIN: &str = "`cat` leaves it; join captures with `mergecap -a`, or name each of them";

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
    /// More captures overlap in time than may be open at once.
    TooManyOpen {
        /// The first that is not read.
        path: PathBuf,
        /// Captures that may be open.
        most: usize,
    },
    /// A directory holds no file that could be a capture.
    NoFiles {
        /// The directory.
        path: PathBuf,
        /// What stands there instead, as `told_left_out` names it; empty where nothing does.
        told: String,
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
    /// Packets of the capture could not be parsed, for their link type. They were passed on all the
    /// same.
    UnsupportedLink {
        /// Where the first of them stands.
        at: Location,
        /// The link type.
        found: u16,
        /// How many there are.
        packets: u64,
    },
    /// Packets have time stamps that cannot be stated, and were given the nearest that can.
    TimeOutOfRange {
        /// Where the first of them stands.
        at: Location,
        /// How many there are.
        packets: u64,
    },
    /// Behind a compressed stream, which was read whole, stands something that is no part of it.
    Leftover {
        /// The end of the stream.
        at: Location,
        /// Bytes behind it, without the zeros that they begin with.
        bytes: u64,
    },
    /// Behind a compressed stream, which was read whole, another capture begins.
    Joined {
        /// The end of the stream.
        at: Location,
        /// The capture format or compression that begins behind it.
        begins: &'static str,
        /// Bytes behind it, without the zeros that they begin with.
        bytes: u64,
    },
    /// Where a record should be stands the header of another capture.
    SecondHeader {
        /// Where it stands.
        at: Location,
        /// The format of the other capture.
        format: &'static str,
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

/// What an error means for its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// All of it was served.
    Warning,
    /// Packets of it are of a kind that cannot be served, and were counted.
    Unsupported,
    /// What stands behind the damage was not read.
    Damage,
}

impl Severity {
    /// All, from the least.
    pub const ALL: [Self; 3] = [Self::Warning, Self::Unsupported, Self::Damage];

    /// The words before a sentence about it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Unsupported => "not supported",
            Self::Damage => "damaged",
        }
    }

    /// That of a line as [`SourceError::line`] writes it.
    #[must_use]
    pub fn of_line(line: &str) -> Self {
        let begins = |severity: &Self| {
            line.strip_prefix(severity.words()).is_some_and(|rest| rest.starts_with(':'))
        };
        Self::ALL.into_iter().find(begins).unwrap_or(Self::Damage)
    }
}

impl SourceError {
    /// What it means for the input.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::TimeOutOfRange { .. } | Self::Leftover { .. } => Severity::Warning,
            Self::UnsupportedLink { .. } => Severity::Unsupported,
            _ => Severity::Damage,
        }
    }

    /// The sentence, behind words that say what it means.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}: {self}", self.severity().words())
    }

    /// The file that the error is about, or the interface; `-` is standard input.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Interface { name, .. } => Path::new(name),
            Self::Open { path, .. }
            | Self::NoFiles { path, .. }
            | Self::TooManyOpen { path, .. } => path,
            _ => &self.location().expect("all other errors have a location").path,
        }
    }

    /// Where in the file it went wrong; `None` when it was never opened.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Open { .. }
            | Self::NoFiles { .. }
            | Self::TooManyOpen { .. }
            | Self::Interface { .. } => None,
            Self::Read { at, .. }
            | Self::Compression { at, .. }
            | Self::Empty { at }
            | Self::UnknownFormat { at, .. }
            | Self::UnsupportedLink { at, .. }
            | Self::TimeOutOfRange { at, .. }
            | Self::Leftover { at, .. }
            | Self::Joined { at, .. }
            | Self::SecondHeader { at, .. }
            | Self::Truncated { at, .. }
            | Self::Damaged { at, .. } => Some(at),
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, error } => write!(f, "cannot open {}: {error}", PathName(path)),
            Self::TooManyOpen { path, most } => write!(
                f,
                "{}: expected at most {most} captures that overlap in time, found one more; read \
                 fewer at once, or each with a separate flow table",
                PathName(path)
            ),
            Self::NoFiles { path, told } => {
                let more: String = told.lines().map(|line| format!("; {line}")).collect();
                write!(f, "the directory {} holds no capture file{more}", PathName(path))
            }
            Self::Interface { name, error } if error.kind() == io::ErrorKind::NotConnected => {
                write!(f, "interface {name}: expected it to stay, found that it was removed")
            }
            Self::Interface { name, error } => write!(f, "interface {name}: {error}"),
            Self::Read { at, error } => write!(f, "reading failed at {at}: {error}"),
            Self::Compression { at, error } => write!(f, "decompression failed at {at}: {error}"),
            Self::Empty { at } => {
                write!(f, "{} is empty, expected a capture file", PathName(&at.path))
            }
            Self::UnknownFormat { at, found: [a, b, c, d] } => write!(
                f,
                "no known capture format at {at}: expected pcap or pcapng, plain or in gzip or \
                 zstd, found the bytes {a:02x} {b:02x} {c:02x} {d:02x}"
            ),
            Self::UnsupportedLink { at, found, packets } => write!(
                f,
                "link type {found} ({}) of {}, the first at {at}: expected one of \
                 {SUPPORTED_LINKS}",
                links::name(*found),
                Counted(*packets, "packet")
            ),
            Self::TimeOutOfRange { at, packets } => write!(
                f,
                "{}, the first at {at}, stamped before 1970 or after 2262-04-11: expected a time \
                 between, found none, and took the nearest",
                Counted(*packets, "packet")
            ),
            Self::Leftover { at, bytes } => write!(
                f,
                "{}: expected nothing behind the {} stream, found {} that begin no part of it; \
                 they were left alone",
                PathName(&at.path),
                at.codec.unwrap_or("compressed"),
                Counted(*bytes, "byte")
            ),
            Self::Joined { at, begins, bytes } => write!(
                f,
                "another capture begins at {at}: expected nothing behind that stream, found a \
                 {begins} file of {}, as {UNJOIN}",
                Counted(*bytes, "byte")
            ),
            Self::SecondHeader { at, format } => write!(
                f,
                "another capture begins at {at}: expected a record, found a {format} file \
                 header, as {UNJOIN}"
            ),
            Self::Truncated { at, expected, found } => write!(
                f,
                "the capture is cut short at {at}: expected {expected} bytes, found {found}"
            ),
            Self::Damaged { at, expected, found } => {
                write!(f, "damage at {at}: expected {expected}, found {found} ({found:#x})")
            }
        }
    }
}

// The system's answer is part of the sentence, so it is no `source`: a chain would say it twice.
impl std::error::Error for SourceError {}

/// A count of something.
struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

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
        let text = SourceError::UnsupportedLink { at, found: 105, packets: 1 }.line();
        let expected = "not supported: link type 105 (IEEE802_11) of 1 packet, the first at \
                        a.pcap, byte 20: expected one of 0 (";
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(Severity::of_line(&text), Severity::Unsupported);
        assert_eq!(Severity::of_line("warning signs"), Severity::Damage);
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
