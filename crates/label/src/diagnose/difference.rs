//! How a row of a label table can differ from the flow that it means, and how that is said.

use serveflow_core::verdict::FiveTuple;
use std::net::IpAddr;
use std::path::Path;

/// A line of either table: in which capture, between whom, and when the first packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the capture in the list of files.
    pub file: usize,
    /// The five-tuple, in either direction.
    pub flow: FiveTuple,
    /// Time of the first packet, microseconds since the epoch.
    pub first_us: u64,
}

/// What would have to be otherwise in a row for it to match a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Difference {
    /// In `file`.
    pub file: FileDifference,
    /// IPv4 addresses are written as IPv6 addresses (`::ffff:10.0.0.1`).
    pub mapped: bool,
    /// The protocol that the row has, and that of the flow.
    pub proto: Option<(u8, u8)>,
    /// In the ports.
    pub ports: PortDifference,
    /// In what `first_ts_us` counts.
    pub clock: ClockOffset,
    /// What must be added to the row's time stamp, microseconds.
    pub offset_us: i64,
}

/// How `file` differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileDifference {
    /// It does not.
    #[default]
    None,
    /// It names no capture; one of the same name stands in other folders, or has another ending or
    /// case.
    Spelling,
    /// The flow is in another capture.
    Other,
}

/// How the ports differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortDifference {
    /// They do not.
    #[default]
    None,
    /// They stand at the other ends.
    Swapped,
    /// The flow's protocol has none here, so that its ports are 0.
    Superfluous,
    /// They are 0 in the row.
    Absent,
    /// They are others.
    Other,
}

/// What `first_ts_us` counts, and how exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClockOffset {
    /// Microseconds, as it should.
    #[default]
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds, whose last three digits are lost.
    MicrosecondsToMillisecond,
    /// Microseconds, whose last six digits are lost.
    MicrosecondsToSecond,
    /// Milliseconds, and the flows' stamps have more digits.
    MillisecondsCut,
    /// Seconds, and the flows' stamps have more digits.
    SecondsCut,
}

impl ClockOffset {
    /// All of them, the right one first.
    pub const ALL: [Self; 8] = [
        Self::Microseconds,
        Self::Milliseconds,
        Self::Seconds,
        Self::Nanoseconds,
        Self::MicrosecondsToMillisecond,
        Self::MicrosecondsToSecond,
        Self::MillisecondsCut,
        Self::SecondsCut,
    ];

    /// A stamp in microseconds; `None` for one that this clock does not show.
    #[must_use]
    pub fn microseconds(self, stamp: u64) -> Option<u64> {
        match self {
            Self::Microseconds => Some(stamp),
            Self::Milliseconds | Self::MillisecondsCut => stamp.checked_mul(1_000),
            Self::Seconds | Self::SecondsCut => stamp.checked_mul(1_000_000),
            Self::Nanoseconds => Some(stamp / 1_000),
            Self::MicrosecondsToMillisecond => stamp.is_multiple_of(1_000).then_some(stamp),
            Self::MicrosecondsToSecond => stamp.is_multiple_of(1_000_000).then_some(stamp),
        }
    }

    /// How far a stamp may be from its flow, whether it was cut or rounded.
    #[must_use]
    pub fn tolerance_us(self) -> u64 {
        match self {
            Self::Microseconds | Self::Milliseconds | Self::Seconds | Self::Nanoseconds => 1,
            Self::MicrosecondsToMillisecond | Self::MillisecondsCut => 999,
            Self::MicrosecondsToSecond | Self::SecondsCut => 999_999,
        }
    }

    /// Whether a stamp tells its flow's microsecond.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self.tolerance_us() == 1
    }

    fn advice(self) -> Option<&'static str> {
        match self {
            Self::Microseconds => None,
            Self::Milliseconds => Some("`first_ts_us` held milliseconds: multiply it by 1,000"),
            Self::Seconds => Some("`first_ts_us` held seconds: multiply it by 1,000,000"),
            Self::Nanoseconds => Some("`first_ts_us` held nanoseconds: divide it by 1,000"),
            Self::MicrosecondsToMillisecond => {
                Some("`first_ts_us` were not cut or rounded to milliseconds: write all its digits")
            }
            Self::MicrosecondsToSecond => {
                Some("`first_ts_us` were not cut or rounded to seconds: write all its digits")
            }
            Self::MillisecondsCut => Some(
                "`first_ts_us` held milliseconds: write microseconds, since a flow is met within \
                 1 us of its first packet alone",
            ),
            Self::SecondsCut => Some(
                "`first_ts_us` held seconds: write microseconds, since a flow is met within 1 us \
                 of its first packet alone",
            ),
        }
    }
}

/// A quarter of an hour: time zones lie so far apart.
pub(super) const ZONE_US: i64 = 900_000_000;

impl Difference {
    /// How much would have to go wrong at once: of explanations that explain as much, the smaller
    /// is likely.
    pub(super) fn weight(&self) -> u32 {
        let file = match self.file {
            FileDifference::None => 0,
            FileDifference::Spelling => 1,
            FileDifference::Other => 2,
        };
        let ports = match self.ports {
            PortDifference::None => 0,
            PortDifference::Swapped | PortDifference::Superfluous => 1,
            PortDifference::Absent => 2,
            PortDifference::Other => 4,
        };
        let clock = match self.clock {
            ClockOffset::Microseconds => 0,
            clock if clock.is_exact() => 1,
            _ => 2,
        };
        let offset = match self.offset_us {
            0 => 0,
            _ if self.is_zone() => 2,
            _ => 3,
        };
        let proto = if self.proto.is_some() { 3 } else { 0 };
        file + ports + clock + offset + proto + u32::from(self.mapped)
    }

    /// Whether the offset is that of a time zone.
    pub(super) fn is_zone(&self) -> bool {
        self.offset_us != 0 && self.offset_us % ZONE_US == 0
    }

    /// Whether rows differ by chance so that this many of them say little.
    pub(super) fn least_rows(&self) -> usize {
        if self.offset_us != 0 && !self.is_zone() { 3 } else { 1 }
    }

    /// What would have to be so in the row, joined by "and", after "would match a flow if".
    pub(super) fn words(
        &self,
        row: &Entry,
        flow: &Entry,
        name: &dyn Fn(usize) -> String,
    ) -> String {
        let mut parts = Vec::new();
        match self.file {
            FileDifference::None => {}
            FileDifference::Spelling => {
                let (found, expected) = (name(row.file), name(flow.file));
                let how = spelling(&found, &expected);
                parts.push(format!(
                    "`file` named the captures as listed ({how}): `{expected}` in place of \
                     `{found}`"
                ));
            }
            FileDifference::Other => parts.push(format!(
                "`file` named another capture, such as `{}` in place of `{}`",
                name(flow.file),
                name(row.file)
            )),
        }
        if self.mapped {
            let is_v6 = |addr: &&IpAddr| addr.is_ipv6();
            let addr = [&row.flow.src, &row.flow.dst].into_iter().find(is_v6);
            let addr = addr.unwrap_or(&row.flow.src);
            parts.push(format!(
                "addresses of IPv4 were written as such: `{}` in place of `{addr}`",
                addr.to_canonical()
            ));
        }
        if let Some((listed, seen)) = self.proto {
            parts.push(format!("`proto` were {seen} in place of {listed}"));
        }
        parts.extend(self.port_words(row, flow));
        parts.extend(self.clock.advice().map(str::to_owned));
        if self.offset_us != 0 {
            parts.push(offset_words(self.offset_us, self.is_zone()));
        }
        parts.join(", and ")
    }

    fn port_words(&self, row: &Entry, flow: &Entry) -> Option<String> {
        match self.ports {
            PortDifference::None => None,
            PortDifference::Swapped => Some(
                "`src_port` and `dst_port` were exchanged: each belongs to the other address"
                    .to_owned(),
            ),
            PortDifference::Superfluous => Some(format!(
                "both ports were 0: flows of protocol {} have none here",
                flow.flow.proto
            )),
            PortDifference::Absent => Some(format!(
                "the ports were those of the flow ({} and {}) in place of 0",
                flow.flow.src_port, flow.flow.dst_port
            )),
            PortDifference::Other => Some(format!(
                "the ports were others, such as {} and {} in place of {} and {}",
                flow.flow.src_port, flow.flow.dst_port, row.flow.src_port, row.flow.dst_port
            )),
        }
    }
}

/// What to add or subtract, in words.
fn offset_words(offset_us: i64, is_zone: bool) -> String {
    let (verb, way) = if offset_us > 0 { ("add", "later") } else { ("subtract", "earlier") };
    let size = offset_us.unsigned_abs();
    let told = match size {
        size if size.is_multiple_of(3_600_000_000) => unit(size / 3_600_000_000, "hour"),
        size if size.is_multiple_of(60_000_000) => unit(size / 60_000_000, "minute"),
        size if size.is_multiple_of(1_000_000) => unit(size / 1_000_000, "second"),
        size => format!("{} us", grouped(size)),
    };
    let zone = if is_zone { " (a time zone?)" } else { "" };
    format!("time stamps were {told} {way}{zone}: {verb} {} us", grouped(size))
}

fn unit(count: u64, name: &str) -> String {
    format!("{} {name}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// How the path of a capture differs from the one found.
fn spelling(found: &str, expected: &str) -> String {
    let slashes = found.replace('\\', "/");
    let [own, right] = [slashes.as_str(), expected].map(|path| {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        parts
    });
    let mut how = Vec::new();
    if slashes != found {
        how.push("with `/`");
    }
    match (own.len(), right.len()) {
        (own, right) if own > right => how.push("folders too many"),
        (own, right) if own < right => how.push("folders too few"),
        _ if own.split_last().map(|(_, folders)| folders)
            != right.split_last().map(|(_, folders)| folders) =>
        {
            how.push("other folders");
        }
        _ => {}
    }
    let [own, right] = [&own, &right].map(|parts| parts.last().copied().unwrap_or_default());
    if own != right {
        let is_case = own.eq_ignore_ascii_case(right);
        how.push(if is_case { "upper and lower case" } else { "another ending" });
    }
    if how.is_empty() { "another spelling".to_owned() } else { how.join(", ") }
}

/// A path's name without its ending and folders, in lower case: what captures of the same name
/// share.
pub fn stem(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "/").to_lowercase();
    let mut name = text.rsplit('/').next().unwrap_or_default();
    while let Some((rest, ending)) = name.rsplit_once('.') {
        let ending = ending.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_ending = ["", "gz", "zst", "pcap", "pcapng", "cap", "dmp", "ntar"].contains(&ending);
        if !is_ending || rest.is_empty() {
            break;
        }
        name = rest;
    }
    name.to_owned()
}

/// Whole numbers with commas.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_alike_without_folders_endings_and_case() {
        for (a, b, alike) in [
            ("x/a.pcap", "a.pcap", true),
            ("A.PCAP", "a.pcapng.gz", true),
            (".\\dir\\a.pcap", "a", true),
            ("a.pcap1", "a.pcap", true),
            ("google.com.pcap", "google.maps.pcap", false),
            ("a.pcap", "b.pcap", false),
        ] {
            assert_eq!(stem(Path::new(a)) == stem(Path::new(b)), alike, "{a} {b}");
        }
    }

    #[test]
    fn offsets_and_spellings_are_said_in_the_largest_unit() {
        for (offset, words) in [
            (3_600_000_000, "1 hour later (a time zone?): add 3,600,000,000 us"),
            (-19_800_000_000, "330 minutes earlier (a time zone?): subtract 19,800,000,000 us"),
            (500, "500 us later: add 500 us"),
            (-7_000_000, "7 seconds earlier: subtract 7,000,000 us"),
        ] {
            let said = offset_words(offset, offset % ZONE_US == 0);
            assert_eq!(said, format!("time stamps were {words}"));
        }
        for (found, expected, how) in [
            ("captures/a.pcap", "a.pcap", "folders too many"),
            ("a.pcap", "train/a.pcap", "folders too few"),
            ("A.pcap", "a.pcap", "upper and lower case"),
            ("a.pcap", "a.pcap.gz", "another ending"),
            (".\\a.pcap", "a.pcap", "with `/`"),
            ("x/a.pcap", "y/a.pcap", "other folders"),
        ] {
            assert_eq!(spelling(found, expected), how, "{found} {expected}");
        }
    }
}
