//! Which worker the kernel gives a frame to: the same for all frames of a flow, in both directions.
//!
//! The kernel's own hash reads no ports from a first fragment, and takes what it finds in some
//! tunnels for the flow; then the packets of one flow part. So this program reads a frame as the
//! engine's parser does: it steps over VLAN tags, MPLS labels, PPPoE, the extension headers of IPv6
//! and the one that authenticates IPv4, and hashes both addresses and, of protocols that have them,
//! both ports, by sums that do not ask which of the two comes first. Where the key of a flow stands
//! inside a tunnel, the ports of the tunnel do not count: they may differ by direction, and the
//! tunnel's ends do not.
//!
//! Offsets count from where the kernel has come to when it asks: behind the Ethernet header of a
//! frame that came, whose type and outer tag it has taken off, and at the header of one that is
//! sent. Offsets that count from the link header in either case would be simpler, but most kernels
//! follow them no further than a frame's first piece in memory, and network cards are free to leave
//! as little as the Ethernet header there.
//!
//! A frame that belongs to no flow goes anywhere, as does one that is too short for its headers.

use super::bpf::{Assembler, Instruction, Label, code};
use serveflow_core::parse::{TUNNEL_PORTS, numbers};

/// What a frame of an interface begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstHeader {
    /// An Ethernet header.
    Ethernet,
    /// IPv4 or IPv6.
    Ip,
}

/// What the program goes by.
#[derive(Clone, Copy, Debug)]
pub struct FanoutRules {
    /// What frames begin with.
    pub first: FirstHeader,
    /// Whether the key of a flow may stand inside a tunnel.
    pub inner_keys: bool,
    /// Two numbers that nobody outside knows, so that nobody can send all flows to one worker.
    pub seed: [u32; 2],
}

const IPV4: u32 = numbers::ETHER_IPV4 as u32;
const IPV6: u32 = numbers::ETHER_IPV6 as u32;
const PPPOE_SESSION: u32 = numbers::ETHER_PPPOE as u32;
/// IPv4 and IPv6, as PPP numbers them.
const PPP_IP: [u32; 2] = [0x21, 0x57];
/// As many as the parser takes, and one more: what the parser rejects may go to any worker.
const MOST_TAGS: usize = numbers::MOST_TAGS + 1;
const MOST_LABELS: usize = numbers::MOST_STEPS;
const MOST_EXTENSIONS: usize = numbers::MOST_EXTENSIONS + 1;
const UDP: u32 = 17;
/// Protocols other than UDP that have ports: TCP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u32; 4] = [6, 33, 132, 136];
const AUTHENTICATION: u32 = numbers::AUTHENTICATION as u32;

/// Cells: the sum and the difference of the addresses, the protocol, and what is put aside.
const SUM: u32 = 0;
const MIX: u32 = 1;
const PROTO: u32 = 2;
const ASIDE: u32 = 3;
const PORT: u32 = 4;
const ROOM: u32 = 5;

/// Where the program goes on.
struct Places {
    ipv4: Label,
    ipv6: Label,
    by_nibble: Label,
    mpls: Label,
    pppoe: Label,
    ports: Label,
    fold: Label,
    anywhere: Label,
}

/// The program: its answer, taken modulo the workers, is the worker.
#[must_use]
pub fn symmetric(rules: &FanoutRules) -> Vec<Instruction> {
    let mut to = Assembler::default();
    let places = Places {
        ipv4: to.label(),
        ipv6: to.label(),
        by_nibble: to.label(),
        mpls: to.label(),
        pppoe: to.label(),
        ports: to.label(),
        fold: to.label(),
        anywhere: to.label(),
    };
    match rules.first {
        FirstHeader::Ethernet => {
            first_type(&mut to);
            ether_types(&mut to, &places);
        }
        FirstHeader::Ip => {
            to.put(code::INDEX_CONSTANT, 0);
            to.jump(places.by_nibble);
        }
    }
    pppoe(&mut to, &places);
    mpls(&mut to, &places);
    to.place(places.by_nibble);
    load(&mut to, code::LOAD_BYTE, 0);
    to.put(code::SHIFT_RIGHT, 4);
    to.jump_if(code::IF_EQUAL, 4, places.ipv4);
    to.jump_if(code::IF_EQUAL, 6, places.ipv6);
    to.jump(places.anywhere);
    ipv4(&mut to, &places);
    ipv6(&mut to, &places);
    ports(&mut to, &places, rules);
    fold(&mut to, &places, rules.seed);
    to.place(places.anywhere);
    to.put(code::RETURN, 0);
    to.finish()
}

/// Loads from so many bytes behind X.
fn load(to: &mut Assembler, size: u16, behind: u32) {
    to.put(size, behind);
}

/// Asks the kernel for what it knows of a frame.
fn ask(to: &mut Assembler, what: libc::c_int) {
    to.put(code::ASK, (libc::SKF_AD_OFF + what) as u32);
}

/// The type of the Ethernet header, and X behind it.
fn first_type(to: &mut Assembler) {
    let (sent, known) = (to.label(), to.label());
    ask(to, libc::SKF_AD_PKTTYPE);
    to.jump_if(code::IF_EQUAL, libc::PACKET_OUTGOING.into(), sent);
    to.put(code::INDEX_CONSTANT, 0);
    ask(to, libc::SKF_AD_PROTOCOL);
    to.jump(known);
    to.place(sent);
    to.put(code::INDEX_CONSTANT, 14);
    load(to, code::LOAD_HALF, 0_u32.wrapping_sub(2));
    to.place(known);
}

/// Moves X ahead.
fn skip(to: &mut Assembler, bytes: u32) {
    to.put(code::FROM_INDEX, 0);
    to.put(code::ADD, bytes);
    to.put(code::TO_INDEX, 0);
}

/// From the type of an Ethernet header to what stands behind its tags.
fn ether_types(to: &mut Assembler, places: &Places) {
    for _ in 0..=MOST_TAGS {
        to.jump_if(code::IF_EQUAL, IPV4, places.ipv4);
        to.jump_if(code::IF_EQUAL, IPV6, places.ipv6);
        for kind in numbers::ETHER_MPLS.map(u32::from) {
            to.jump_if(code::IF_EQUAL, kind, places.mpls);
        }
        to.jump_if(code::IF_EQUAL, PPPOE_SESSION, places.pppoe);
        let (tag, other) = (to.label(), to.label());
        for kind in numbers::ETHER_TAGS.map(u32::from) {
            to.jump_if(code::IF_EQUAL, kind, tag);
        }
        // A length, and behind it LLC and SNAP with the type in its last two bytes.
        to.jump_if(code::IF_GREATER, 0x5ff, other);
        skip(to, 8);
        load(to, code::LOAD_HALF, 0_u32.wrapping_sub(2));
        to.jump_if(code::IF_EQUAL, IPV4, places.ipv4);
        to.jump_if(code::IF_EQUAL, IPV6, places.ipv6);
        to.place(other);
        to.jump(places.anywhere);
        to.place(tag);
        skip(to, 4);
        load(to, code::LOAD_HALF, 0_u32.wrapping_sub(2));
    }
    to.jump(places.anywhere);
}

/// RFC 2516: six bytes, then the protocol of PPP in one byte or two. What is not IP goes anywhere,
/// MPLS too: that is not what sessions of subscribers carry.
fn pppoe(to: &mut Assembler, places: &Places) {
    to.place(places.pppoe);
    skip(to, 6);
    load(to, code::LOAD_BYTE, 0);
    let (two, is_ip) = (to.label(), to.label());
    to.jump_if(code::IF_EQUAL, 0, two);
    // Odd first bytes are protocols in one byte.
    for proto in PPP_IP {
        to.jump_if(code::IF_EQUAL, proto, is_ip);
    }
    to.jump(places.anywhere);
    to.place(two);
    skip(to, 1);
    load(to, code::LOAD_BYTE, 0);
    for proto in PPP_IP {
        to.jump_if(code::IF_EQUAL, proto, is_ip);
    }
    to.jump(places.anywhere);
    to.place(is_ip);
    skip(to, 1);
    to.jump(places.by_nibble);
}

/// RFC 3032: labels of four bytes, up to the one that says it is the last. What stands behind it is
/// to be guessed, and the parser guesses an Ethernet frame where the lengths of an IP header do not
/// fit and one is there to be seen: such frames go anywhere. Else lengths do not fit because the
/// frame was cut before it came, and its flow's others were not.
fn mpls(to: &mut Assembler, places: &Places) {
    to.place(places.mpls);
    let (last, v4, v6, has_total) = (to.label(), to.label(), to.label(), to.label());
    let unfit = to.label();
    for _ in 0..MOST_LABELS {
        skip(to, 4);
        load(to, code::LOAD_BYTE, 0_u32.wrapping_sub(2));
        to.jump_if(code::IF_ANY_BIT, 1, last);
    }
    to.jump(places.anywhere);
    to.place(last);
    // What is left of the frame.
    to.put(code::LENGTH, 0);
    to.put(code::SUBTRACT_INDEX, 0);
    to.put(code::STORE, ROOM);
    load(to, code::LOAD_BYTE, 0);
    to.put(code::STORE, ASIDE);
    to.put(code::SHIFT_RIGHT, 4);
    to.jump_if(code::IF_EQUAL, 4, v4);
    to.jump_if(code::IF_EQUAL, 6, v6);
    to.jump(places.anywhere);
    to.place(v4);
    load(to, code::LOAD_HALF, 2);
    to.jump_if(code::IF_GREATER, 0, has_total);
    // Segmentation offload leaves a total length of 0.
    to.put(code::LOAD_CELL, ROOM);
    to.place(has_total);
    to.put(code::STORE, PORT);
    let header = |to: &mut Assembler| {
        to.put(code::LOAD_CELL, ASIDE);
        to.put(code::AND, 15);
    };
    header(to);
    to.jump_unless(code::IF_GREATER, 4, unfit);
    header(to);
    to.put(code::SHIFT_LEFT, 2);
    to.put(code::STORE, ASIDE);
    at_most(to, ASIDE, PORT, unfit);
    at_most(to, PORT, ROOM, unfit);
    to.jump(places.ipv4);
    to.place(v6);
    load(to, code::LOAD_HALF, 4);
    to.put(code::ADD, 40);
    to.put(code::STORE, PORT);
    at_most(to, PORT, ROOM, unfit);
    to.jump(places.ipv6);
    to.place(unfit);
    frame_or_ip(to, places);
}

/// Behind X stands an Ethernet frame whose type names what follows it, and which goes anywhere, or
/// an IP packet.
fn frame_or_ip(to: &mut Assembler, places: &Places) {
    let kinds = [(IPV4, 4), (IPV6, 6), (PPPOE_SESSION, 1)].map(|kind| (kind, to.label()));
    load(to, code::LOAD_HALF, 12);
    for ((kind, _), named) in kinds {
        to.jump_if(code::IF_EQUAL, kind, named);
    }
    for kind in numbers::ETHER_TAGS.map(u32::from) {
        to.jump_if(code::IF_EQUAL, kind, places.anywhere);
    }
    to.jump(places.by_nibble);
    for ((_, nibble), named) in kinds {
        to.place(named);
        load(to, code::LOAD_BYTE, 14);
        to.put(code::SHIFT_RIGHT, 4);
        to.jump_if(code::IF_EQUAL, nibble, places.anywhere);
        to.jump(places.by_nibble);
    }
}

/// Goes elsewhere unless one cell is at most another one; both are far below half of what a cell
/// holds.
fn at_most(to: &mut Assembler, one: u32, other: u32, elsewhere: Label) {
    to.put(code::FROM_INDEX, 0);
    to.put(code::STORE, MIX);
    to.put(code::INDEX_CELL, one);
    to.put(code::LOAD_CELL, other);
    to.put(code::SUBTRACT_INDEX, 0);
    to.put(code::INDEX_CELL, MIX);
    to.jump_if(code::IF_ANY_BIT, 1 << 31, elsewhere);
}

/// Adds the word at `behind` to the sum, and mixes it in.
fn take_word(to: &mut Assembler, behind: u32, is_first: bool) {
    load(to, code::LOAD_WORD, behind);
    if is_first {
        to.put(code::STORE, SUM);
        to.put(code::STORE, MIX);
        return;
    }
    to.put(code::STORE, ASIDE);
    // X holds the place in the frame: it is put aside while it holds a summand.
    to.put(code::FROM_INDEX, 0);
    to.put(code::STORE, PORT);
    for (cell, how) in [(SUM, code::ADD_INDEX), (MIX, code::XOR_INDEX)] {
        to.put(code::INDEX_CELL, cell);
        to.put(code::LOAD_CELL, ASIDE);
        to.put(how, 0);
        to.put(code::STORE, cell);
    }
    to.put(code::INDEX_CELL, PORT);
}

fn ipv4(to: &mut Assembler, places: &Places) {
    to.place(places.ipv4);
    take_word(to, 12, true);
    take_word(to, 16, false);
    load(to, code::LOAD_BYTE, 9);
    to.put(code::STORE, PROTO);
    // A later fragment has no ports, and belongs to no flow.
    load(to, code::LOAD_HALF, 6);
    to.jump_if(code::IF_ANY_BIT, 0x1fff, places.fold);
    load(to, code::LOAD_BYTE, 0);
    to.put(code::AND, 15);
    to.put(code::SHIFT_LEFT, 2);
    to.put(code::ADD_INDEX, 0);
    to.put(code::TO_INDEX, 0);
    for _ in 0..MOST_EXTENSIONS {
        to.put(code::LOAD_CELL, PROTO);
        to.jump_unless(code::IF_EQUAL, AUTHENTICATION, places.ports);
        load(to, code::LOAD_BYTE, 1);
        step_over(to, 2);
    }
    to.jump(places.anywhere);
}

/// Steps over a header whose length A counts in units of two to the power of `shift` bytes behind
/// the first eight.
fn step_over(to: &mut Assembler, shift: u32) {
    to.put(code::SHIFT_LEFT, shift);
    to.put(code::ADD, 8);
    to.put(code::STORE, ASIDE);
    load(to, code::LOAD_BYTE, 0);
    to.put(code::STORE, PROTO);
    to.put(code::LOAD_CELL, ASIDE);
    to.put(code::ADD_INDEX, 0);
    to.put(code::TO_INDEX, 0);
}

fn ipv6(to: &mut Assembler, places: &Places) {
    to.place(places.ipv6);
    for word in 0..8 {
        take_word(to, 8 + 4 * word, word == 0);
    }
    load(to, code::LOAD_BYTE, 6);
    to.put(code::STORE, PROTO);
    skip(to, 40);
    for _ in 0..MOST_EXTENSIONS {
        let (by_eights, by_fours, fragment, next) =
            (to.label(), to.label(), to.label(), to.label());
        to.put(code::LOAD_CELL, PROTO);
        for kind in [0, 43, 60, 140] {
            to.jump_if(code::IF_EQUAL, kind, by_eights);
        }
        to.jump_if(code::IF_EQUAL, AUTHENTICATION, by_fours);
        to.jump_if(code::IF_EQUAL, 44, fragment);
        to.jump(places.ports);
        to.place(fragment);
        load(to, code::LOAD_HALF, 2);
        to.jump_if(code::IF_ANY_BIT, 0xfff8, places.fold);
        to.put(code::LOAD_CONSTANT, 0);
        step_over(to, 0);
        to.jump(next);
        for (label, shift) in [(by_eights, 3), (by_fours, 2)] {
            to.place(label);
            load(to, code::LOAD_BYTE, 1);
            step_over(to, shift);
            to.jump(next);
        }
        to.place(next);
    }
    to.jump(places.anywhere);
}

/// The ports of the protocols that have some, at X.
fn ports(to: &mut Assembler, places: &Places, rules: &FanoutRules) {
    to.place(places.ports);
    let (has_ports, is_udp) = (to.label(), to.label());
    to.put(code::LOAD_CELL, PROTO);
    for proto in WITH_PORTS {
        to.jump_if(code::IF_EQUAL, proto, has_ports);
    }
    to.jump_if(code::IF_EQUAL, UDP, is_udp);
    to.jump(places.fold);
    to.place(is_udp);
    for behind in [0, 2].into_iter().filter(|_| rules.inner_keys) {
        load(to, code::LOAD_HALF, behind);
        for port in TUNNEL_PORTS {
            to.jump_if(code::IF_EQUAL, port.into(), places.fold);
        }
    }
    to.place(has_ports);
    load(to, code::LOAD_HALF, 0);
    to.put(code::STORE, PORT);
    load(to, code::LOAD_HALF, 2);
    to.put(code::INDEX_CELL, PORT);
    to.put(code::STORE, PORT);
    to.put(code::XOR_INDEX, 0);
    to.put(code::MULTIPLY, 0x9e37_79b1);
    to.put(code::STORE, ASIDE);
    to.put(code::LOAD_CELL, PORT);
    to.put(code::ADD_INDEX, 0);
    to.put(code::INDEX_CELL, ASIDE);
    to.put(code::ADD_INDEX, 0);
    // Into the sum of the addresses.
    to.put(code::INDEX_CELL, SUM);
    to.put(code::XOR_INDEX, 0);
    to.put(code::STORE, SUM);
    to.jump(places.fold);
}

/// Stirs what was gathered, so that any number of workers gets even shares (the last steps of
/// MurmurHash3).
fn fold(to: &mut Assembler, places: &Places, seed: [u32; 2]) {
    to.place(places.fold);
    to.put(code::LOAD_CELL, MIX);
    to.put(code::MULTIPLY, seed[0] | 1);
    to.put(code::TO_INDEX, 0);
    to.put(code::LOAD_CELL, SUM);
    to.put(code::XOR_INDEX, 0);
    to.put(code::ADD, seed[1]);
    for (shift, factor) in [(16, Some(0x85eb_ca6b)), (13, Some(0xc2b2_ae35)), (16, None)] {
        to.put(code::STORE, ASIDE);
        to.put(code::SHIFT_RIGHT, shift);
        to.put(code::INDEX_CELL, ASIDE);
        to.put(code::XOR_INDEX, 0);
        if let Some(factor) = factor {
            to.put(code::MULTIPLY, factor);
        }
    }
    to.put(code::RETURN_A, 0);
}
