//! Frames made from scratch: Ethernet, IPv4 or IPv6, TCP or UDP, with right checksums.

use super::fresh::add;
use super::template::sum;
use crate::random::Random;
use serveflow_core::parse::SYN;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Options of a SYN: largest segment 1460, SACK, window scale 7; of others: none.
const SYN_OPTIONS: [u8; 12] = [2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 1, 1];

/// What stands above IP.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp {
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number.
        acknowledged: u32,
        /// Flags.
        flags: u8,
        /// Window.
        window: u16,
    },
}

/// A frame to build. Addresses are placeholders, since clones write their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameSpec {
    pub(super) v6: bool,
    pub(super) backward: bool,
    /// Source and destination port.
    pub(super) ports: [u16; 2],
    /// Time to live.
    pub(super) hops: u8,
    pub(super) transport: Transport,
    /// Payload length, bytes.
    pub(super) payload: usize,
}

/// The frame's bytes.
pub(super) fn build(spec: &FrameSpec, random: &mut Random) -> Vec<u8> {
    let mut data = vec![2; 12];
    data.extend(if spec.v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    let segment = segment(spec, random);
    let (addresses, proto) = (addresses(spec), proto(spec));
    if spec.v6 {
        data.extend([0x60, 0, 0, 0]);
        data.extend((segment.len() as u16).to_be_bytes());
        data.extend([proto, spec.hops]);
        data.extend(&addresses);
    } else {
        let at = data.len();
        data.extend([0x45, 0]);
        data.extend((20 + segment.len() as u16).to_be_bytes());
        data.extend((random.next() as u16).to_be_bytes());
        data.extend([0x40, 0, spec.hops, proto, 0, 0]);
        data.extend(&addresses);
        let checksum = !sum(&data[at..]);
        data[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    let at = data.len();
    let pseudo = [u16::from(proto), segment.len() as u16, sum(&addresses), sum(&segment)];
    data.extend(segment);
    let place = at + if proto == TCP { 16 } else { 6 };
    let checksum = match !pseudo.into_iter().fold(0, add) {
        0 if proto == UDP => 0xffff,
        checksum => checksum,
    };
    data[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
    data
}

fn proto(spec: &FrameSpec) -> u8 {
    match spec.transport {
        Transport::Udp => UDP,
        Transport::Tcp { .. } => TCP,
    }
}

/// Source and destination, made up: one end is 1, the other 2.
fn addresses(spec: &FrameSpec) -> Vec<u8> {
    let width = if spec.v6 { 16 } else { 4 };
    let mut addresses = vec![0; 2 * width];
    (addresses[0], addresses[width]) = (10, 10);
    let (from, to) = if spec.backward { (2, 1) } else { (1, 2) };
    (addresses[width - 1], addresses[2 * width - 1]) = (from, to);
    addresses
}

/// Transport header, its checksum still 0, and payload.
fn segment(spec: &FrameSpec, random: &mut Random) -> Vec<u8> {
    let mut data: Vec<u8> = spec.ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    match spec.transport {
        Transport::Udp => {
            data.extend((8 + spec.payload as u16).to_be_bytes());
            data.extend([0, 0]);
        }
        Transport::Tcp { sequence, acknowledged, flags, window } => {
            let options: &[u8] = if flags & SYN != 0 { &SYN_OPTIONS } else { &[] };
            data.extend(sequence.to_be_bytes());
            data.extend(acknowledged.to_be_bytes());
            data.extend([(5 + options.len() as u8 / 4) << 4, flags]);
            data.extend(window.to_be_bytes());
            data.extend([0; 4]);
            data.extend(options);
        }
    }
    let words = (0..spec.payload.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
    data.extend(words.take(spec.payload));
    data
}
