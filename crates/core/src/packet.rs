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
    /// PPP, with or without the bytes of HDLC-like framing (LINKTYPE 9, 50).
    Ppp,
    /// Cisco's HDLC: address, control, EtherType (LINKTYPE 104).
    CiscoHdlc,
    /// Frame Relay, in the framing of RFC 2427 or Cisco's (LINKTYPE 107).
    FrameRelay,
    /// Per-packet information, which names the link type of what follows it (LINKTYPE 192).
    Ppi,
    /// Linux netfilter log: attributes, one of which is the IP packet (LINKTYPE 239).
    Nflog,
    /// Apple's PKTAP, which names the link type of what follows it (LINKTYPE 258, and 149 as
    /// Apple's tools write it).
    Pktap(u16),
    /// Any other type: each frame of it is rejected and counted.
    Unsupported(u16),
}

/// Shortest header of PKTAP, bytes.
const PKTAP_LEN: usize = 108;

impl LinkType {
    /// The link type for a LINKTYPE number of a capture file.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            9 | 50 => Self::Ppp,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            104 => Self::CiscoHdlc,
            107 => Self::FrameRelay,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            149 | 258 => Self::Pktap(number),
            192 => Self::Ppi,
            239 => Self::Nflog,
            276 => Self::LinuxSll2,
            other => Self::Unsupported(other),
        }
    }

    /// The LINKTYPE number that a capture file carries for this type: one of those it stands for.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Null => 0,
            Self::Ethernet => 1,
            Self::Ppp => 9,
            Self::RawIp => 101,
            Self::CiscoHdlc => 104,
            Self::FrameRelay => 107,
            Self::Loop => 108,
            Self::LinuxSll => 113,
            Self::Ppi => 192,
            Self::Nflog => 239,
            Self::LinuxSll2 => 276,
            Self::Pktap(number) | Self::Unsupported(number) => number,
        }
    }

    /// Whether frames of this type can be parsed.
    #[must_use]
    pub fn is_supported(self) -> bool {
        !matches!(self, Self::Unsupported(_))
    }

    /// Whether each frame names the link type of what it carries.
    #[must_use]
    pub fn is_wrapper(self) -> bool {
        matches!(self, Self::Ppi | Self::Pktap(_))
    }
}

/// The last time that can be stated, nanoseconds since the Unix epoch: 2262-04-11, where signed
/// counts end, as Parquet's. Sources bring later times down to it and count them, and sinks write
/// no later one.
pub const LAST_NS: u64 = i64::MAX as u64;

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

impl Packet<'_> {
    /// The link type that a frame itself names, and where what is of that type starts; `None` when
    /// the capture ends before it says. Frames of all other types are what their link type says.
    #[must_use]
    pub fn named_link(&self) -> Option<(LinkType, usize)> {
        let half = |at| self.data.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        let word = |at| half(at + 2).zip(half(at)).map(|(h, l)| u32::from(h) << 16 | u32::from(l));
        let (link, start) = match self.link {
            LinkType::Ppi => (word(4)?, usize::from(half(2)?)),
            LinkType::Pktap(number) => {
                let (start, kind, link) = (word(0)? as usize, word(4)?, word(8)?);
                // Whoever defines a type of his own may use Apple's old number, too.
                if kind != 1 || !(PKTAP_LEN..=usize::from(u16::MAX)).contains(&start) {
                    return Some((LinkType::Unsupported(number), 0));
                }
                (link, start)
            }
            link => return Some((link, 0)),
        };
        let link =
            u16::try_from(link).map_or(LinkType::Unsupported(u16::MAX), LinkType::from_number);
        // One in another is seen nowhere, and not looked into.
        let link = if link.is_wrapper() { LinkType::Unsupported(link.number()) } else { link };
        Some((link, start))
    }

    /// The number of the link type that keeps the frame from being parsed, if one does.
    #[must_use]
    pub fn unsupported_link(&self) -> Option<u16> {
        match self.named_link() {
            Some((LinkType::Unsupported(number), _)) => Some(number),
            _ => None,
        }
    }
}
