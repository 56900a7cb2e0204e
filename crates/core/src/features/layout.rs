//! The words of a packet's header bits: which protocol stands where, and what its bits are called.
//!
//! nPrint (Holland et al., CCS 2021) lays headers side by side, each at its largest size, most
//! significant bit first. Headers are made of 32-bit words, so a packet is a row of words in
//! network order, and whether a word was there is one bit of the presence words behind them.

use crate::parse::{Header, HeaderSpan, Parsed};

/// Most words of a packet: IPv4 15, IPv6 10, TCP 15, UDP 2, ICMP 2, and 2 of presence.
pub const MOST_WORDS: usize = 46;

/// A field of a header: name and width in bits.
pub type Field = (&'static str, u8);

const IPV4: &[Field] = &[
    ("ipv4_ver", 4),
    ("ipv4_hl", 4),
    ("ipv4_tos", 8),
    ("ipv4_tl", 16),
    ("ipv4_id", 16),
    ("ipv4_rbit", 1),
    ("ipv4_dfbit", 1),
    ("ipv4_mfbit", 1),
    ("ipv4_foff", 13),
    ("ipv4_ttl", 8),
    ("ipv4_proto", 8),
    ("ipv4_cksum", 16),
    ("ipv4_src", 32),
    ("ipv4_dst", 32),
];
const IPV6: &[Field] = &[
    ("ipv6_ver", 4),
    ("ipv6_tc", 8),
    ("ipv6_fl", 20),
    ("ipv6_len", 16),
    ("ipv6_nh", 8),
    ("ipv6_hl", 8),
    ("ipv6_src", 128),
    ("ipv6_dst", 128),
];
const TCP: &[Field] = &[
    ("tcp_sprt", 16),
    ("tcp_dprt", 16),
    ("tcp_seq", 32),
    ("tcp_ackn", 32),
    ("tcp_doff", 4),
    ("tcp_res", 3),
    ("tcp_ns", 1),
    ("tcp_cwr", 1),
    ("tcp_ece", 1),
    ("tcp_urg", 1),
    ("tcp_ackf", 1),
    ("tcp_psh", 1),
    ("tcp_rst", 1),
    ("tcp_syn", 1),
    ("tcp_fin", 1),
    ("tcp_wsize", 16),
    ("tcp_cksum", 16),
    ("tcp_urp", 16),
];
const UDP: &[Field] = &[("udp_sport", 16), ("udp_dport", 16), ("udp_len", 16), ("udp_cksum", 16)];
const ICMP: &[Field] = &[("icmp_type", 8), ("icmp_code", 8), ("icmp_cksum", 16), ("icmp_roh", 32)];

/// A protocol's place among the words: its header, largest size in words, fields, and the name of
/// its options when it has any.
struct Protocol {
    header: Header,
    words: usize,
    fields: &'static [Field],
    options: Option<&'static str>,
}

/// In the order of the nPrint tool's columns.
const PROTOCOLS: [Protocol; 5] = [
    Protocol { header: Header::Ipv4, words: 15, fields: IPV4, options: Some("ipv4_opt") },
    Protocol { header: Header::Ipv6, words: 10, fields: IPV6, options: None },
    Protocol { header: Header::Tcp, words: 15, fields: TCP, options: Some("tcp_opt") },
    Protocol { header: Header::Udp, words: 2, fields: UDP, options: None },
    Protocol { header: Header::Icmp, words: 2, fields: ICMP, options: None },
];

/// Which protocols have words, in a fixed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderLayout {
    /// First word of each of the five protocols, or `ABSENT`.
    first: [u8; 5],
    words: u8,
}

const ABSENT: u8 = u8::MAX;

impl Default for HeaderLayout {
    /// IPv4, TCP and UDP: 1024 bits.
    fn default() -> Self {
        Self::new(&[Header::Ipv4, Header::Tcp, Header::Udp])
    }
}

impl HeaderLayout {
    /// A layout with these protocols, in any order.
    #[must_use]
    pub fn new(headers: &[Header]) -> Self {
        let mut layout = Self { first: [ABSENT; 5], words: 0 };
        for (first, protocol) in layout.first.iter_mut().zip(&PROTOCOLS) {
            if headers.contains(&protocol.header) {
                *first = layout.words;
                layout.words += protocol.words as u8;
            }
        }
        layout
    }

    /// A layout with the protocols of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut headers = self.headers();
        headers.extend(other.headers());
        Self::new(&headers)
    }

    /// The protocols of this layout, in order.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        let present =
            PROTOCOLS.iter().filter(|protocol| self.first_word(protocol.header).is_some());
        present.map(|protocol| protocol.header).collect()
    }

    /// Words of header bits of a packet.
    #[must_use]
    pub fn value_words(&self) -> usize {
        usize::from(self.words)
    }

    /// Words of a packet: header bits and, behind them, presence.
    #[must_use]
    pub fn packet_words(&self) -> usize {
        self.value_words() + self.value_words().div_ceil(32)
    }

    /// Whether a protocol is part of the layout.
    #[inline]
    #[must_use]
    pub fn has(&self, header: Header) -> bool {
        self.first[header as usize] != ABSENT
    }

    /// First word of a protocol, if it is part of the layout.
    #[must_use]
    pub fn first_word(&self, header: Header) -> Option<usize> {
        let first = self.first[header as usize];
        (first != ABSENT).then_some(usize::from(first))
    }

    /// Where the presence of word `word` stands: a word of the packet and a bit, 0 = least
    /// significant.
    #[must_use]
    pub fn presence(&self, word: usize) -> (usize, u8) {
        (self.value_words() + word / 32, 31 - (word % 32) as u8)
    }

    /// Calls `each` with (field, bit in the field, word, bit from the most significant) for all
    /// value bits, in column order.
    pub fn each_bit(&self, mut each: impl FnMut(&'static str, u16, usize, u8)) {
        for protocol in &PROTOCOLS {
            let Some(first) = self.first_word(protocol.header) else { continue };
            let fixed: usize = protocol.fields.iter().map(|field| usize::from(field.1)).sum();
            let options = protocol.options.map(|name| (name, protocol.words * 32 - fixed));
            let fields = protocol.fields.iter().map(|&(name, bits)| (name, usize::from(bits)));
            let mut at = first * 32;
            for (name, bits) in fields.chain(options) {
                for bit in 0..bits {
                    each(name, bit as u16, at / 32, (at % 32) as u8);
                    at += 1;
                }
            }
        }
    }

    /// Writes a packet's header words and presence into `words`, which holds zeros.
    ///
    /// A word that the capture cut is absent.
    ///
    /// # Panics
    /// When `words` is shorter than [`Self::packet_words`].
    pub fn write(&self, frame: &[u8], parsed: &Parsed, words: &mut [u32]) {
        self.write_section(frame, parsed.network, words);
        if let Some(section) = parsed.transport {
            self.write_section(frame, section, words);
        }
    }

    fn write_section(&self, frame: &[u8], section: HeaderSpan, words: &mut [u32]) {
        self.write_header(section.header, &frame[section.range()], None, words);
    }

    /// Writes the whole words of a header, and that they were there; of the words, those bits that
    /// `keep` has, word for word.
    #[inline]
    pub(crate) fn write_header(
        &self,
        header: Header,
        bytes: &[u8],
        keep: Option<&[u32]>,
        words: &mut [u32],
    ) {
        let Some(first) = self.first_word(header) else { return };
        let (chunks, _) = bytes.as_chunks();
        if chunks.is_empty() {
            return;
        }
        let target = words[first..].iter_mut().zip(chunks);
        match keep {
            None => target.for_each(|(word, chunk)| *word = u32::from_be_bytes(*chunk)),
            Some(keep) => target.zip(&keep[first..]).for_each(|((word, chunk), keep)| {
                *word = u32::from_be_bytes(*chunk) & keep;
            }),
        }
        // A run of presence bits, most significant first, may cross into the next word.
        let run = ((1_u64 << chunks.len()) - 1) << (64 - chunks.len() - first % 32);
        let at = self.value_words() + first / 32;
        words[at] |= (run >> 32) as u32;
        if run as u32 != 0 {
            words[at + 1] |= run as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_1024_bits_and_one_presence_word() {
        let layout = HeaderLayout::default();
        assert_eq!((layout.value_words(), layout.packet_words()), (32, 33));
        let mut names = Vec::new();
        layout.each_bit(|name, bit, _, _| names.push(format!("{name}_{bit}")));
        assert_eq!(names.len(), 1024);
        assert_eq!(names[0], "ipv4_ver_0");
        assert_eq!(names[479], "ipv4_opt_319");
        assert_eq!(names[1023], "udp_cksum_15");
    }

    #[test]
    fn fields_fill_their_fixed_headers() {
        for (protocol, bits) in PROTOCOLS.iter().zip([160, 320, 160, 64, 64]) {
            let sum: u32 = protocol.fields.iter().map(|field| u32::from(field.1)).sum();
            assert_eq!(sum, bits, "{:?}", protocol.header);
        }
    }

    #[test]
    fn all_protocols_fit_and_keep_their_order() {
        let all = [Header::Udp, Header::Icmp, Header::Tcp, Header::Ipv6, Header::Ipv4];
        let layout = HeaderLayout::new(&all);
        assert_eq!(layout.packet_words(), MOST_WORDS);
        assert_eq!(layout, HeaderLayout::default().union(&layout));
        assert_eq!(layout.first_word(Header::Udp), Some(40));
    }
}
