//! Templates: whole flows, ready to be cloned under fresh five-tuples.
//!
//! A template keeps the bytes of each packet of a flow and knows where in them addresses, ports and
//! checksums stand. A clone writes its own five-tuple over them and copies the rest.

use super::fresh::{FreshTuple, add, ports_sum};
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::{Header, KeyRules, Parsed, parse};
use serveflow_io::Batch;

/// A port below this belongs to a service and is kept; one of a client is drawn anew.
const FIRST_EPHEMERAL: u16 = 1024;

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Index of its first packet in the set.
    pub(super) first: u32,
    /// Number of its packets.
    pub packets: u32,
    /// Whether it runs over IPv6.
    pub v6: bool,
    /// Port of the sender of the first packet.
    pub client_port: u16,
    /// Port of the other side.
    pub server_port: u16,
    /// Index of its true label in the cascade.
    pub label: Option<u16>,
}

impl Template {
    /// Whether clones draw a port for the sender of the first packet. A service's own port stays,
    /// since it says what the flow is and models may be allowed to see it.
    pub(super) fn draws_port(&self) -> bool {
        self.client_port >= FIRST_EPHEMERAL && self.client_port != self.server_port
    }
}

/// Where a packet's five-tuple and checksums stand.
#[derive(Clone, Copy, Debug)]
struct Sites {
    network: u32,
    transport: u32,
    /// Where the transport checksum stands; 0 when there is none to keep right.
    checksum: u32,
    /// Sums of what the checksums cover, without what a clone writes.
    network_rest: u16,
    transport_rest: u16,
    v6: bool,
    has_ports: bool,
    is_udp: bool,
    backward: bool,
}

/// A packet of a template.
#[derive(Clone, Copy, Debug)]
struct Cut {
    offset: usize,
    len: u32,
    orig_len: u32,
    link: LinkType,
    /// Time since the flow's first packet; it never steps back.
    since_first_ns: u64,
    /// `None`: the packet is passed on as it is.
    sites: Option<Sites>,
}

/// Flows to be cloned, all in one block of memory.
#[derive(Clone, Debug, Default)]
pub struct TemplateSet {
    bytes: Vec<u8>,
    cuts: Vec<Cut>,
    flows: Vec<Template>,
    is_replay: bool,
    rules: KeyRules,
}

impl TemplateSet {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty set of flows whose packets these rules brought together: clones get the key that
    /// they say.
    #[must_use]
    pub fn of(rules: KeyRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Adds a flow of these packets, of which the first `snap_bytes` bytes are kept (0 keeps all).
    /// Packets that belong to no flow are left out; false when none is left.
    pub fn add_flow<'a>(
        &mut self,
        packets: impl IntoIterator<Item = Packet<'a>>,
        label: Option<u16>,
        snap_bytes: usize,
    ) -> bool {
        let first = self.cuts.len();
        let (mut source_is_low, mut template) = (false, None);
        for packet in packets {
            let Ok(parsed) = parse(&packet, self.rules) else { continue };
            if template.is_none() {
                source_is_low = parsed.sender_is_low;
                let tuple = parsed.key.five_tuple(source_is_low);
                template = Some((tuple, packet.ts_ns));
            }
            let Some((_, started)) = template else { continue };
            let since = self.since_first(first, packet.ts_ns.saturating_sub(started));
            let sites = sites(&packet, &parsed, parsed.sender_is_low != source_is_low);
            self.keep(&packet, snap_bytes, since, Some(sites));
        }
        let Some((tuple, _)) = template else { return false };
        self.flows.push(Template {
            first: first as u32,
            packets: (self.cuts.len() - first) as u32,
            v6: tuple.src.is_ipv6(),
            client_port: tuple.src_port,
            server_port: tuple.dst_port,
            label,
        });
        true
    }

    /// Adds a packet to the one template of a replay, which keeps what it is.
    pub fn add_as_is(&mut self, packet: &Packet<'_>, started_ns: u64, snap_bytes: usize) {
        if self.flows.is_empty() {
            self.is_replay = true;
            self.flows.push(Template {
                first: 0,
                packets: 0,
                v6: false,
                client_port: 0,
                server_port: 0,
                label: None,
            });
        }
        let since = self.since_first(0, packet.ts_ns.saturating_sub(started_ns));
        self.keep(packet, snap_bytes, since, None);
        self.flows[0].packets += 1;
    }

    /// Time since the first packet, but never before the packet added last.
    fn since_first(&self, first: usize, since_ns: u64) -> u64 {
        let before = self.cuts[first..].last().map_or(0, |cut| cut.since_first_ns);
        before.max(since_ns)
    }

    fn keep(
        &mut self,
        packet: &Packet<'_>,
        snap_bytes: usize,
        since_first_ns: u64,
        sites: Option<Sites>,
    ) {
        let len = match snap_bytes {
            0 => packet.data.len(),
            snap => packet.data.len().min(snap),
        };
        self.cuts.push(Cut {
            offset: self.bytes.len(),
            len: len as u32,
            orig_len: packet.orig_len.max(packet.data.len() as u32),
            link: packet.link,
            since_first_ns,
            sites,
        });
        self.bytes.extend_from_slice(&packet.data[..len]);
    }

    /// Multiplies every gap between packets.
    #[must_use]
    pub fn with_gaps_scaled(mut self, by: f64) -> Self {
        for cut in &mut self.cuts {
            cut.since_first_ns = (cut.since_first_ns as f64 * by) as u64;
        }
        self
    }

    /// Whether this is a replay: one template, whose packets may belong to many flows.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.is_replay
    }

    /// The flows.
    #[must_use]
    pub fn flows(&self) -> &[Template] {
        &self.flows
    }

    /// Packets of all flows.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.cuts.len()
    }

    /// Time from a flow's first packet to its last, of the longest flow, nanoseconds.
    #[must_use]
    pub fn longest_ns(&self) -> u64 {
        self.cuts.iter().map(|cut| cut.since_first_ns).max().unwrap_or(0)
    }

    /// Time of a packet since its flow's first one, nanoseconds.
    pub(super) fn since_first_ns(&self, packet: u32) -> u64 {
        self.cuts[packet as usize].since_first_ns
    }

    /// Copies a packet into a batch, with a five-tuple of its own.
    pub(super) fn write(&mut self, packet: u32, ts_ns: u64, tuple: &FreshTuple, batch: &mut Batch) {
        let cut = &self.cuts[packet as usize];
        let data = &mut self.bytes[cut.offset..cut.offset + cut.len as usize];
        if let Some(sites) = &cut.sites {
            // Each clone overwrites what the one before it wrote: nothing need be put back.
            sites.patch(data, tuple);
        }
        batch.push(ts_ns, cut.orig_len, cut.link, data);
    }
}

/// Finds the sites of a packet's five-tuple, and what its checksums cover besides.
fn sites(packet: &Packet<'_>, parsed: &Parsed, backward: bool) -> Sites {
    let data = packet.data;
    let v6 = parsed.network.header == Header::Ipv6;
    let network = parsed.network.range().start;
    let (transport, header) = match parsed.transport {
        Some(section) => (section.range().start, Some(section.header)),
        None => (0, None),
    };
    let has_ports = matches!(header, Some(Header::Tcp | Header::Udp));
    // ICMP's checksum covers the addresses in IPv6 alone.
    let checksum = match header {
        Some(Header::Tcp) => transport + 16,
        Some(Header::Udp) => transport + 6,
        Some(Header::Icmp) if v6 => transport + 2,
        _ => 0,
    };
    let addresses = if v6 { network + 8..network + 40 } else { network + 12..network + 20 };
    let addresses = sum(&data[addresses]);
    let ports = if has_ports { sum(&data[transport..transport + 4]) } else { 0 };
    let found = |at: usize| word(data, at);
    let is_udp = header == Some(Header::Udp);
    // A UDP checksum of 0 says that there is none.
    let kept = found(checksum).filter(|&value| checksum > 0 && !(is_udp && value == 0));
    Sites {
        network: network as u32,
        transport: transport as u32,
        checksum: if kept.is_some() { checksum as u32 } else { 0 },
        network_rest: add(!found(network + 10).unwrap_or(0), !addresses),
        transport_rest: add(!kept.unwrap_or(0), !add(addresses, ports)),
        v6,
        has_ports,
        is_udp,
        backward,
    }
}

impl Sites {
    /// Writes a five-tuple, and makes checksums that were right before right again (RFC 1624).
    /// What lies behind the captured bytes is left alone.
    fn patch(&self, data: &mut [u8], tuple: &FreshTuple) {
        let network = self.network as usize;
        let (at, width) = if self.v6 { (network + 8, 16) } else { (network + 12, 4) };
        let (low, high) = if self.backward { (width, 0) } else { (0, width) };
        put(data, at + low, &tuple.client[..width]);
        put(data, at + high, &tuple.server[..width]);
        if !self.v6 {
            put(data, network + 10, &(!add(self.network_rest, tuple.addresses)).to_be_bytes());
        }
        let mut covered = tuple.addresses;
        if self.has_ports {
            let (client, server) = (tuple.client_port, tuple.server_port);
            let (from, to) = if self.backward { (server, client) } else { (client, server) };
            let transport = self.transport as usize;
            put(data, transport, &from.to_be_bytes());
            put(data, transport + 2, &to.to_be_bytes());
            covered = add(covered, ports_sum(client, server));
        }
        if self.checksum > 0 {
            let checksum = match !add(self.transport_rest, covered) {
                0 if self.is_udp => 0xffff,
                checksum => checksum,
            };
            put(data, self.checksum as usize, &checksum.to_be_bytes());
        }
    }
}

/// Writes bytes where they were captured.
#[inline]
fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = data.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn word(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]))
}

/// The Internet checksum's sum of some bytes (RFC 1071), not yet inverted.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |&byte| u16::from(byte) << 8);
    words.iter().fold(last, |sum, word| add(sum, u16::from_be_bytes(*word)))
}
