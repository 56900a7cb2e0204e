//! Numbers of protocols and limits of nesting, shared by the parser and by the kernel program that
//! spreads live frames among workers: the two must step over the same headers.

/// EtherType of IPv4.
pub const ETHER_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHER_IPV6: u16 = 0x86dd;
/// EtherTypes of VLAN tags: 802.1Q, 802.1ad, and the two in use before 802.1ad.
pub const ETHER_TAGS: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
/// EtherTypes of MPLS with a label of the next hop, and of a group.
pub const ETHER_MPLS: [u16; 2] = [0x8847, 0x8848];
/// EtherType of a PPPoE session; its discovery stage (8863) carries no IP.
pub const ETHER_PPPOE: u16 = 0x8864;
/// IP protocol of the authentication header (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Most VLAN tags: two are QinQ; a few more are seen in provider networks.
pub const MOST_TAGS: usize = 4;
/// Most headers above IP, labels counted one by one: segment routing stacks a dozen.
pub const MOST_STEPS: usize = 32;
/// Most IPv6 extension headers: far above what RFC 8200 recommends (each at most once, destination
/// options twice).
pub const MOST_EXTENSIONS: usize = 16;
