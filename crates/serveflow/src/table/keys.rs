//! Leading columns: what a row belongs to.

use serveflow_core::verdict::FiveTuple;
use std::borrow::Cow;

/// What the cells of a leading column hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Words.
    Text,
    /// A number from 0 to 65,535.
    Integer,
    /// Nanoseconds since the epoch; seconds with nine decimals where a table is text.
    Time,
}

/// A leading column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name.
    pub name: &'static str,
    /// What its cells hold.
    pub kind: KeyKind,
}

/// A cell of a leading column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Of a column of words.
    Text(Cow<'a, str>),
    /// Of a column of numbers.
    Integer(u16),
    /// Of a column of times.
    Time(u64),
}

const fn column(name: &'static str, kind: KeyKind) -> KeyColumn {
    KeyColumn { name, kind }
}

/// The keys of a flow, named and spelled as verdicts have them; `packets` is how many packets the
/// row covers.
pub const FLOW_KEYS: [KeyColumn; 7] = [
    column("src", KeyKind::Text),
    column("src_port", KeyKind::Integer),
    column("dst", KeyKind::Text),
    column("dst_port", KeyKind::Integer),
    column("proto", KeyKind::Text),
    column("first_ts", KeyKind::Time),
    column("packets", KeyKind::Integer),
];

/// What stands behind a flow's keys when there are labels; a flow without one has the file alone.
pub const LABEL_KEYS: [KeyColumn; 3] =
    [column("file", KeyKind::Text), column("label", KeyKind::Text), column("split", KeyKind::Text)];

/// The key of a packet: sender, receiver, their ports and the protocol, as the nPrint tool has it.
pub const PACKET_KEYS: [KeyColumn; 1] = [column("flow", KeyKind::Text)];

/// The cells of [`FLOW_KEYS`].
#[must_use]
pub fn flow_keys(flow: &FiveTuple, first_ns: u64, packets: u16) -> [Key<'static>; 7] {
    [
        Key::Text(flow.src.to_string().into()),
        Key::Integer(flow.src_port),
        Key::Text(flow.dst.to_string().into()),
        Key::Integer(flow.dst_port),
        Key::Text(protocol(flow.proto)),
        Key::Time(first_ns),
        Key::Integer(packets),
    ]
}

/// A protocol as verdicts spell it.
fn protocol(number: u8) -> Cow<'static, str> {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmp6".into(),
        other => other.to_string().into(),
    }
}
