//! Synthetic flows: made up from a seed, with the sizes, gaps and protocols that were asked for.
//!
//! They say nothing about how good answers are, since no service made them. They say what a table
//! of flows costs: packets per flow come from a Pareto distribution, so that most flows are short
//! and most packets belong to few flows.

use super::frame::{FrameSpec, Transport, build};
use super::template::TemplateSet;
use crate::random::Random;
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::{ACK, FIN, SYN};

/// How heavy the tail of packets per flow is: with a mean of 7.7 the median is 3, the 90th
/// percentile some 12 and the 99th some 80.
const SHAPE: f64 = 1.2;
/// The longest flow has this many times the mean's packets.
const LONGEST_OVER_MEAN: f64 = 60.0;
/// Largest payload of a packet, bytes: what an Ethernet frame holds with TCP timestamps.
const MOST_PAYLOAD: usize = 1428;
const PSH_ACK: u8 = 0x18;

/// What synthetic flows are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SyntheticSpec {
    /// Different flows; clones repeat them.
    pub flows: usize,
    /// Mean of packets per flow.
    pub packets_per_flow: f64,
    /// Mean payload of the packets that carry any, bytes.
    pub payload_bytes: f64,
    /// Mean gap between a flow's packets, milliseconds; gaps are exponential.
    pub gap_ms: f64,
    /// Share of flows over IPv6.
    pub ipv6_share: f64,
    /// Share of flows over TCP; the others are UDP.
    pub tcp_share: f64,
    /// Bytes kept of each packet; 0 keeps all.
    pub snap_bytes: usize,
    /// Seed of every choice.
    pub seed: u64,
}

/// Makes flows.
#[must_use]
pub fn synthetic(spec: &SyntheticSpec) -> TemplateSet {
    let mut random = Random::new(&[spec.seed, 3]);
    let mut lengths = lengths(spec);
    let count = lengths.len();
    random.choose(&mut lengths, count);
    let v6 = spread(&mut random, count, spec.ipv6_share);
    let tcp = spread(&mut random, count, spec.tcp_share);
    let mut set = TemplateSet::new();
    for (flow, &packets) in lengths.iter().enumerate() {
        let kind = Kind::new(&mut random, v6[flow], tcp[flow]);
        add_flow(&mut set, spec, &mut random, &kind, packets);
    }
    set
}

/// Packets of each flow: the distribution's quantiles at even distances, so that their mean is the
/// one asked for and not one draw of it.
fn lengths(spec: &SyntheticSpec) -> Vec<usize> {
    let most = (spec.packets_per_flow * LONGEST_OVER_MEAN).max(1.0);
    let at = |scale: f64, flow: usize| {
        let above = (flow as f64 + 0.5) / spec.flows as f64;
        (scale * above.powf(-1.0 / SHAPE)).round().clamp(1.0, most) as usize
    };
    let mean = |scale: f64| {
        (0..spec.flows).map(|flow| at(scale, flow)).sum::<usize>() as f64 / spec.flows as f64
    };
    let (mut low, mut high) = (0.0, most);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if mean(middle) < spec.packets_per_flow { low = middle } else { high = middle }
    }
    (0..spec.flows).map(|flow| at(high, flow)).collect()
}

/// Which of `count` flows have something that a share of all has.
fn spread(random: &mut Random, count: usize, share: f64) -> Vec<bool> {
    let with = (count as f64 * share).round() as usize;
    let mut all: Vec<bool> = (0..count).map(|flow| flow < with).collect();
    random.choose(&mut all, count);
    all
}

/// What stays the same over a flow's packets.
struct Kind {
    v6: bool,
    tcp: bool,
    server_port: u16,
    client_port: u16,
    hops: [u8; 2],
    window: [u16; 2],
}

impl Kind {
    fn new(random: &mut Random, v6: bool, tcp: bool) -> Self {
        const TCP_PORTS: [u16; 6] = [443, 443, 80, 22, 993, 8883];
        const UDP_PORTS: [u16; 6] = [53, 53, 443, 123, 5683, 3478];
        let ports = if tcp { TCP_PORTS } else { UDP_PORTS };
        let client_hops = [64, 128][random.below(2)];
        Self {
            v6,
            tcp,
            server_port: ports[random.below(ports.len())],
            client_port: 32_768 + random.below(28_000) as u16,
            hops: [client_hops, 64 - random.below(20) as u8],
            window: [64_240 - random.below(4000) as u16, 28_960 + random.below(30_000) as u16],
        }
    }
}

fn add_flow(
    set: &mut TemplateSet,
    spec: &SyntheticSpec,
    random: &mut Random,
    kind: &Kind,
    packets: usize,
) {
    let mut frames = Vec::with_capacity(packets);
    let mut sequence = [random.next() as u32, random.next() as u32];
    let mut ts_ns = 0;
    for at in 0..packets {
        let step = if kind.tcp { tcp_step(at, packets) } else { udp_step(at) };
        let payload = match step.carries {
            true => payload_len(random, spec.payload_bytes),
            false => 0,
        };
        let side = usize::from(step.backward);
        let transport = match kind.tcp {
            true => Transport::Tcp {
                sequence: sequence[side],
                acknowledged: if at == 0 { 0 } else { sequence[1 - side] },
                flags: step.flags,
                window: kind.window[side],
            },
            false => Transport::Udp,
        };
        frames.push((ts_ns, build(&frame_spec(kind, &step, transport, payload), random)));
        let moved = payload as u32 + u32::from(step.flags & (SYN | FIN) != 0);
        sequence[side] = sequence[side].wrapping_add(moved);
        ts_ns += (random.exponential() * spec.gap_ms * 1e6) as u64;
    }
    let packets = frames.iter().map(|(ts_ns, data)| Packet {
        ts_ns: *ts_ns,
        orig_len: data.len() as u32,
        link: LinkType::Ethernet,
        data,
    });
    set.add_flow(packets, None, spec.snap_bytes);
}

fn frame_spec(kind: &Kind, step: &Step, transport: Transport, payload: usize) -> FrameSpec {
    let (client, server) = (kind.client_port, kind.server_port);
    FrameSpec {
        v6: kind.v6,
        backward: step.backward,
        ports: if step.backward { [server, client] } else { [client, server] },
        hops: kind.hops[usize::from(step.backward)],
        transport,
        payload,
    }
}

/// Exponential, at least a byte and at most what fits a frame.
fn payload_len(random: &mut Random, mean: f64) -> usize {
    ((random.exponential() * mean).round() as usize).clamp(1, MOST_PAYLOAD)
}

/// One packet of a conversation.
struct Step {
    backward: bool,
    flags: u8,
    carries: bool,
}

/// A handshake, a request, a response that the client acknowledges now and then, and an end.
fn tcp_step(at: usize, packets: usize) -> Step {
    let closes = packets >= 8 && at + 3 >= packets;
    let (backward, flags, carries) = match at {
        0 => (false, SYN, false),
        1 => (true, SYN | ACK, false),
        2 => (false, ACK, false),
        _ if closes => match packets - at {
            3 => (false, FIN | ACK, false),
            2 => (true, FIN | ACK, false),
            _ => (false, ACK, false),
        },
        3 => (false, PSH_ACK, true),
        _ if at % 3 == 2 => (false, ACK, false),
        _ => (true, PSH_ACK, true),
    };
    Step { backward, flags, carries }
}

/// A request, and an answer of which long flows have most packets.
fn udp_step(at: usize) -> Step {
    Step { backward: !at.is_multiple_of(4), flags: 0, carries: true }
}
