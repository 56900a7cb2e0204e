//! Seeded random traffic: what flows do on a wire, with the gaps where rules change.

use super::frames::{Frame, Rng, Tcp, framed, icmp, ip, udp};
use serveflow_core::packet::LinkType;
use serveflow_core::parse::{ACK, FIN, RST, SYN};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const MS: u64 = 1_000_000;
pub const START: u64 = 1_700_000_000_000_000_000;

/// What traffic to make.
#[derive(Clone, Debug)]
pub struct Shape {
    pub seed: u64,
    pub flows: u64,
    /// Flows start within this time.
    pub span_ns: u64,
    /// Times at which rules change (timeouts, deadlines): gaps are often these, give or take one.
    pub edges: Vec<u64>,
    /// Whether time stamps step back a little now and then.
    pub jitter: bool,
    /// Whether single time stamps are far off.
    pub strays: bool,
}

impl Shape {
    pub fn new(seed: u64, flows: u64, edges: &[u64]) -> Self {
        let edges = edges.to_vec();
        Self { seed, flows, span_ns: 4_000 * MS, edges, jitter: false, strays: false }
    }
}

/// Two hosts that talk.
#[derive(Clone, Copy, Debug)]
struct Pair {
    hosts: [IpAddr; 2],
    ports: [u16; 2],
}

impl Pair {
    fn new(number: u64, rng: &mut Rng) -> Self {
        let hosts = if number.is_multiple_of(4) {
            [Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(number)), Ipv6Addr::from(1)]
                .map(IpAddr::V6)
        } else {
            [Ipv4Addr::from(0x0a00_0000 | number as u32), Ipv4Addr::from(0x0909_0909)]
                .map(IpAddr::V4)
        };
        let mut pair = Self { hosts, ports: [20_000 + number as u16, 443] };
        if rng.one_in(2) {
            // The client sorts behind the server as often as before it.
            pair.hosts.reverse();
        }
        pair
    }

    fn frame(&self, ts_ns: u64, backward: bool, proto: u8, transport: &[u8]) -> Frame {
        let [from, to] = if backward { [1, 0] } else { [0, 1] };
        let packet = ip(self.hosts[from], self.hosts[to], proto, transport);
        Frame::new(ts_ns, LinkType::Ethernet, framed(LinkType::Ethernet, &packet))
    }

    fn tcp(&self, ts_ns: u64, backward: bool, flags: u8, seq: u32, payload: usize) -> Frame {
        self.tcp_ack(ts_ns, backward, flags, (seq, 0), payload)
    }

    fn tcp_ack(
        &self,
        ts_ns: u64,
        backward: bool,
        flags: u8,
        (seq, ack): (u32, u32),
        payload: usize,
    ) -> Frame {
        let [from, to] = if backward { [1, 0] } else { [0, 1] };
        let (src, dst) = (self.ports[from], self.ports[to]);
        let header = Tcp { src, dst, seq, ack, flags, ..Tcp::default() };
        self.frame(ts_ns, backward, 6, &header.bytes(&vec![7; payload]))
    }

    fn syn_ack(&self, ts_ns: u64, seq: u32) -> Frame {
        self.tcp_ack(ts_ns, true, SYN | ACK, (seq ^ 0x5555, seq.wrapping_add(1)), 0)
    }

    fn udp(&self, ts_ns: u64, backward: bool, payload: usize) -> Frame {
        let [from, to] = if backward { [1, 0] } else { [0, 1] };
        let datagram = udp(self.ports[from], self.ports[to], &vec![9; payload]);
        self.frame(ts_ns, backward, 17, &datagram)
    }
}

/// Writes the frames of one flow after the other.
struct Script<'a> {
    rng: &'a mut Rng,
    shape: &'a Shape,
    frames: Vec<Frame>,
    now: u64,
}

impl Script<'_> {
    /// Lets a little time pass, and sometimes just as much as a rule says.
    fn pause(&mut self) {
        let few = self.rng.pick(&[0, 1, 1_000, MS, 20 * MS, 67 * MS]);
        let edge = self.rng.pick(&self.shape.edges);
        self.now += match self.rng.below(24) {
            0 => edge,
            1 => edge + 1,
            2 => edge - 1,
            3 => edge + 100 * MS,
            4 => edge / 2,
            _ => few,
        };
    }

    fn handshake(&mut self, pair: &Pair, seq: u32) {
        self.frames.push(pair.tcp(self.now, false, SYN, seq, 0));
        while self.rng.one_in(4) {
            self.pause();
            self.frames.push(pair.tcp(self.now, false, SYN, seq, 0)); // Sent again.
        }
        self.pause();
        self.frames.push(pair.syn_ack(self.now, seq));
        self.pause();
        self.frames.push(pair.tcp(self.now, false, ACK, seq + 1, 0));
    }

    fn data(&mut self, pair: &Pair, most: u64) {
        for _ in 0..self.rng.below(most) {
            self.pause();
            let (backward, len) = (self.rng.one_in(2), self.rng.below(80) as usize);
            let seq = self.rng.next() as u32;
            self.frames.push(pair.tcp(self.now, backward, ACK, seq, len));
        }
    }

    fn close(&mut self, pair: &Pair) {
        self.pause();
        let backward = self.rng.one_in(2);
        if self.rng.one_in(3) {
            self.frames.push(pair.tcp(self.now, backward, RST, 1, 0));
        } else {
            self.frames.push(pair.tcp(self.now, backward, FIN | ACK, 1, 0));
            self.pause();
            self.frames.push(pair.tcp(self.now, !backward, FIN | ACK, 1, 0));
        }
        if self.rng.one_in(2) {
            self.pause();
            self.frames.push(pair.tcp(self.now, backward, ACK, 2, 0)); // Late.
        }
    }

    /// One connection, and perhaps another one on the same ports.
    fn connection(&mut self, pair: &Pair) {
        loop {
            let seq = self.rng.next() as u32 >> 1;
            match self.rng.below(8) {
                0 => {
                    // The answer was read first, by another queue.
                    self.frames.push(pair.syn_ack(self.now, seq));
                    self.pause();
                    self.frames.push(pair.tcp(self.now, false, SYN, seq, 0));
                }
                1 => {
                    // Refused, and tried again with the same number.
                    self.frames.push(pair.tcp(self.now, false, SYN, seq, 0));
                    self.pause();
                    self.frames.push(pair.tcp(self.now, true, RST | ACK, 0, 0));
                    self.pause();
                }
                _ => {}
            }
            self.handshake(pair, seq);
            self.data(pair, 14);
            if !self.rng.one_in(4) {
                self.close(pair);
            }
            if !self.rng.one_in(3) {
                return;
            }
            self.pause();
        }
    }

    fn datagrams(&mut self, pair: &Pair) {
        for _ in 0..=self.rng.below(14) {
            let (backward, len) = (self.rng.one_in(2), self.rng.below(60) as usize);
            self.frames.push(pair.udp(self.now, backward, len));
            self.pause();
        }
    }

    fn pings(&mut self, pair: &Pair) {
        for _ in 0..=self.rng.below(5) {
            for (backward, kind) in [(false, 8), (true, 0)] {
                let message = icmp(kind, &[1; 20]);
                self.frames.push(pair.frame(self.now, backward, 1, &message));
            }
            self.pause();
        }
    }

    fn flow(&mut self, number: u64) {
        self.now = START + self.rng.below(self.shape.span_ns);
        let pair = Pair::new(number, self.rng);
        match self.rng.below(10) {
            0..=3 => self.connection(&pair),
            4 => self.data(&pair, 30), // Joined in the middle.
            5 | 6 => self.datagrams(&pair),
            7 => self.pings(&pair),
            8 => {
                // Both sides open at once.
                self.frames.push(pair.tcp(self.now, false, SYN, 10, 0));
                self.frames.push(pair.tcp(self.now, true, SYN, 20, 0));
                self.data(&pair, 6);
                self.close(&pair);
                self.frames.push(pair.tcp(self.now, true, SYN, 30, 0));
            }
            _ => self.frames.push(pair.udp(self.now, false, 5)),
        }
        if self.rng.one_in(8) {
            let arp = super::frames::ether(&[], 0x0806, &[0; 28]);
            self.frames.push(Frame::new(self.now, LinkType::Ethernet, arp));
        }
    }
}

/// Traffic of a shape, in order of capture.
pub fn traffic(shape: &Shape) -> Vec<Frame> {
    let mut rng = Rng(shape.seed);
    let mut script = Script { rng: &mut rng, shape, frames: Vec::new(), now: START };
    for number in 0..shape.flows {
        // Some five-tuples come twice, overlapping or not.
        let number = if script.rng.one_in(10) { number / 2 } else { number };
        script.flow(number);
    }
    let mut frames = script.frames;
    frames.sort_by_key(|frame| frame.ts_ns);
    for frame in &mut frames {
        if shape.jitter && rng.one_in(6) {
            frame.ts_ns -= rng.pick(&[1, MS, 10 * MS, 50 * MS]);
        }
        if shape.strays && rng.one_in(150) {
            let off = rng.pick(&[5_000 * MS, 3_600_000 * MS, 1 << 60]);
            frame.ts_ns = if rng.one_in(2) { frame.ts_ns + off } else { frame.ts_ns - off };
        }
    }
    frames
}
