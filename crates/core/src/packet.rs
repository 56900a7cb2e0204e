//! A captured frame, as the engine sees it.

/// Link-layer type of a frame: what its first byte belongs to.
///
/// Numbers are those of the tcpdump group's LINKTYPE registry, as capture files carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum LinkType {
    /// Ethernet II, possibly with 802.1Q or 802.1ad tags (LINKTYPE 1).
    #[default]
    Ethernet,
    /// A bare IPv4 or IPv6 header (LINKTYPE 101, 228, 229; DLT_RAW 12 and 14).
    RawIp,
    /// Linux cooked capture, version 1 (LINKTYPE 113).
    LinuxSll,
    /// Linux cooked capture, version 2 (LINKTYPE 276).
    LinuxSll2,
    /// BSD loopback: address family in the byte order of the capturing machine (LINKTYPE 0).
    Null,
    /// OpenBSD loopback: address family in network byte order (LINKTYPE 108).
    Loop,
    /// Any other type: each frame of it is rejected and counted.
    Unsupported(u16),
}

impl LinkType {
    /// The link type for a LINKTYPE number of a capture file.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            other => Self::Unsupported(other),
        }
    }

    /// Whether frames of this type can be parsed.
    #[must_use]
    pub fn is_supported(self) -> bool {
        !matches!(self, Self::Unsupported(_))
    }
}

/// One frame, borrowed from the batch that holds it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packet<'a> {
    /// Capture time, nanoseconds since the Unix epoch.
    pub ts_ns: u64,
    /// Length on the wire in bytes; `data` may be shorter (snaplen).
    pub orig_len: u32,
    /// What the first byte of `data` belongs to.
    pub link: LinkType,
    /// The captured bytes.
    pub data: &'a [u8],
}
