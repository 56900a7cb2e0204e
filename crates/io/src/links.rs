//! Names of link types, for messages.

use serveflow_core::packet::LinkType;

/// The registry's names of link types that captures are met with, without the prefix `LINKTYPE_`.
const NAMES: [(u16, &str); 78] = [
    (0, "NULL"),
    (1, "ETHERNET"),
    (2, "EXP_ETHERNET"),
    (3, "AX25"),
    (4, "PRONET"),
    (5, "CHAOS"),
    (6, "IEEE802_5"),
    (7, "ARCNET_BSD"),
    (8, "SLIP"),
    (9, "PPP"),
    (10, "FDDI"),
    (50, "PPP_HDLC"),
    (51, "PPP_ETHER"),
    (99, "SYMANTEC_FIREWALL"),
    (100, "ATM_RFC1483"),
    (101, "RAW"),
    (104, "C_HDLC"),
    (105, "IEEE802_11"),
    (106, "ATM_CLIP"),
    (107, "FRELAY"),
    (108, "LOOP"),
    (109, "ENC"),
    (113, "LINUX_SLL"),
    (114, "LTALK"),
    (117, "PFLOG"),
    (119, "IEEE802_11_PRISM"),
    (122, "IP_OVER_FC"),
    (123, "SUNATM"),
    (127, "IEEE802_11_RADIOTAP"),
    (129, "ARCNET_LINUX"),
    (138, "APPLE_IP_OVER_IEEE1394"),
    (139, "MTP2_WITH_PHDR"),
    (140, "MTP2"),
    (141, "MTP3"),
    (142, "SCCP"),
    (143, "DOCSIS"),
    (144, "LINUX_IRDA"),
    (147, "USER0"),
    (148, "USER1"),
    (149, "USER2"),
    (150, "USER3"),
    (151, "USER4"),
    (152, "USER5"),
    (153, "USER6"),
    (154, "USER7"),
    (155, "USER8"),
    (156, "USER9"),
    (163, "IEEE802_11_AVS"),
    (165, "BACNET_MS_TP"),
    (166, "PPP_PPPD"),
    (177, "LINUX_LAPD"),
    (186, "USB"),
    (187, "BLUETOOTH_HCI_H4"),
    (189, "USB_LINUX"),
    (192, "PPI"),
    (195, "IEEE802_15_4_WITHFCS"),
    (197, "ERF"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (203, "LAPD"),
    (204, "PPP_WITH_DIR"),
    (205, "C_HDLC_WITH_DIR"),
    (206, "FRELAY_WITH_DIR"),
    (209, "IPMB_LINUX"),
    (215, "IEEE802_15_4_NONASK_PHY"),
    (220, "USB_LINUX_MMAPPED"),
    (226, "IPNET"),
    (227, "CAN_SOCKETCAN"),
    (228, "IPV4"),
    (229, "IPV6"),
    (230, "IEEE802_15_4_NOFCS"),
    (239, "NFLOG"),
    (247, "INFINIBAND"),
    (249, "USBPCAP"),
    (251, "BLUETOOTH_LE_LL"),
    (253, "NETLINK"),
    (254, "BLUETOOTH_LINUX_MONITOR"),
    (258, "PKTAP"),
    (276, "LINUX_SLL2"),
];

/// The name of a link type, or words that say it has none here.
pub(crate) fn name(number: u16) -> &'static str {
    let found = NAMES.binary_search_by_key(&number, |&(number, _)| number);
    found.map_or("a type without a name here", |at| NAMES[at].1)
}

/// A link type in words: its number, its name, and whether it is read.
#[must_use]
pub fn link_words(link: LinkType) -> String {
    let number = link.number();
    let left_out = if link.is_supported() { "" } else { ", not supported" };
    format!("{number} ({}{left_out})", name(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the type is called in the code: its number, and no name of the code's.
    #[test]
    fn every_type_has_words() {
        for number in 0..=u16::MAX {
            let link = LinkType::from_number(number);
            let words = link_words(link);
            let start = format!("{} (", link.number());
            assert!(words.starts_with(&start) && words.ends_with(')'), "{words}");
            assert!(!words.contains(&format!("{link:?}")), "{words}");
            assert_eq!(words.contains("not supported"), !link.is_supported(), "{words}");
        }
        assert_eq!(link_words(LinkType::Ethernet), "1 (ETHERNET)");
        let radiotap = link_words(LinkType::from_number(127));
        assert_eq!(radiotap, "127 (IEEE802_11_RADIOTAP, not supported)");
    }

    #[test]
    fn names_stand_in_order_and_are_unique() {
        assert!(NAMES.is_sorted_by(|one, other| one.0 < other.0));
        let mut names = NAMES.map(|(_, name)| name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn every_type_that_is_read_has_a_name() {
        let read = (0..=u16::MAX).filter(|&number| LinkType::from_number(number).is_supported());
        for number in read.filter(|number| ![12, 14].contains(number)) {
            assert_ne!(name(number), name(9999), "{number}");
        }
    }
}
