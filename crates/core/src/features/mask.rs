//! Masks: named groups of header fields that no row shows.

/// A group of fields that identifies a host or a capture rather than a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mask {
    /// IPv4 and IPv6 source and destination addresses.
    Addresses,
    /// TCP and UDP ports.
    Ports,
    /// IPv4, TCP, UDP and ICMP checksums.
    Checksums,
    /// The IPv4 identification field, and the IPv6 flow label.
    IpId,
    /// TCP sequence and acknowledgement numbers.
    SeqAck,
    /// TCP options, which may hold timestamps (RFC 7323) anywhere.
    TcpTimestamps,
    /// IPv4 time to live and IPv6 hop limit.
    Ttl,
}

impl Mask {
    /// All groups.
    pub const ALL: [Self; 7] = [
        Self::Addresses,
        Self::Ports,
        Self::Checksums,
        Self::IpId,
        Self::SeqAck,
        Self::TcpTimestamps,
        Self::Ttl,
    ];

    /// The group as configs and bundles spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Ports => "ports",
            Self::Checksums => "checksums",
            Self::IpId => "ip_id",
            Self::SeqAck => "seq_ack",
            Self::TcpTimestamps => "tcp_timestamps",
            Self::Ttl => "ttl",
        }
    }

    /// The group of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mask| mask.name() == name)
    }

    /// The fields of the group. `tcp_timestamps` has none: its bits move with the options.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Addresses => &["ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst"],
            Self::Ports => &["tcp_sprt", "tcp_dprt", "udp_sport", "udp_dport"],
            Self::Checksums => &["ipv4_cksum", "tcp_cksum", "udp_cksum", "icmp_cksum"],
            Self::IpId => &["ipv4_id", "ipv6_fl"],
            Self::SeqAck => &["tcp_seq", "tcp_ackn"],
            Self::TcpTimestamps => &[],
            Self::Ttl => &["ipv4_ttl", "ipv6_hl"],
        }
    }
}

/// A set of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaskSet(u8);

impl Default for MaskSet {
    /// Addresses, ports, checksums, ip_id and seq_ack.
    fn default() -> Self {
        let default = [Mask::Addresses, Mask::Ports, Mask::Checksums, Mask::IpId, Mask::SeqAck];
        default.into_iter().collect()
    }
}

impl FromIterator<Mask> for MaskSet {
    fn from_iter<I: IntoIterator<Item = Mask>>(masks: I) -> Self {
        Self(masks.into_iter().fold(0, |set, mask| set | 1 << mask as u8))
    }
}

impl MaskSet {
    /// Whether the group is masked.
    #[must_use]
    pub fn contains(self, mask: Mask) -> bool {
        self.0 >> mask as u8 & 1 == 1
    }

    /// The masked groups, in order.
    pub fn iter(self) -> impl Iterator<Item = Mask> {
        Mask::ALL.into_iter().filter(move |&mask| self.contains(mask))
    }

    /// Whether a header field is masked.
    #[must_use]
    pub fn hides(self, field: &str) -> bool {
        self.iter().any(|mask| mask.fields().contains(&field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_default_keeps_ttl() {
        for mask in Mask::ALL {
            assert_eq!(Mask::from_name(mask.name()), Some(mask));
        }
        assert_eq!(Mask::from_name("everything"), None);
        let default = MaskSet::default();
        assert!(default.hides("ipv4_src") && default.hides("tcp_ackn"));
        assert!(!default.hides("ipv4_ttl") && !default.hides("tcp_wsize"));
    }

    #[test]
    fn every_masked_field_is_a_field_of_the_layout() {
        use crate::features::layout::HeaderLayout;
        use crate::parse::Header;
        let all = [Header::Ipv4, Header::Ipv6, Header::Tcp, Header::Udp, Header::Icmp];
        let mut known = std::collections::BTreeSet::new();
        HeaderLayout::new(&all).each_bit(|field, _, _, _| {
            known.insert(field);
        });
        for mask in Mask::ALL {
            assert!(mask.fields().iter().all(|field| known.contains(field)), "{mask:?}");
        }
    }
}
