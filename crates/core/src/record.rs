//! What is kept of the packets of undecided flows.
//!
//! A packet is a cell of a pool: the captured bytes of its headers and a few numbers. Header bytes
//! become bits only when a model is asked, since most packets of most flows never are. A flow's
//! cells are a chain, so a flow that is decided on its first packet never pays for ten. The chain
//! leads from the last packet back to the first: so a new one touches no memory but its own.

use crate::features::layout::HeaderLayout;
use crate::parse::{Header, HeaderSpan, Parsed};
use crate::prealloc::{Shortage, bytes_used, has_room, reserve, room_for, touch_room};
use std::hint::black_box;

/// No cell.
pub(crate) const NONE: u32 = u32::MAX;

/// The numbers kept of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PacketMeta {
    /// Capture time, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// When it arrived by the engine's clock: never before an earlier packet of the flow.
    pub at_ns: u64,
    /// Bytes of the IP packet on the wire (capped at 65,535).
    pub size: u16,
    /// Bytes behind the transport header on the wire (capped at 65,535).
    pub payload: u16,
    /// TCP flags, low eight bits.
    pub flags: u8,
    /// Whether it was sent against the direction of the flow's first packet.
    pub backward: bool,
}

/// One recorded packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketRecord<'a> {
    /// What was captured of its headers.
    pub headers: Headers<'a>,
    /// Times, sizes, flags, direction.
    pub meta: &'a PacketMeta,
}

/// Whole words of a packet's headers, as they were captured.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    cell: &'a Cell,
    spill: Option<&'a Spill>,
}

impl Headers<'_> {
    /// Writes header words and presence into `words`, which holds zeros: those of the layout that
    /// were captured, and of them the bits that `keep` has, word for word.
    ///
    /// # Panics
    /// When `words` or `keep` is shorter than [`HeaderLayout::packet_words`].
    pub fn write(&self, layout: &HeaderLayout, keep: &[u32], words: &mut [u32]) {
        let mut whole = [0; INLINE + SPILL];
        let bytes: &[u8] = match self.spill {
            None => &self.cell.bytes,
            Some(spill) => {
                whole[..INLINE].copy_from_slice(&self.cell.bytes);
                whole[INLINE..].copy_from_slice(spill);
                &whole
            }
        };
        let mut at = 0;
        for part in self.cell.parts {
            let Some(header) = part.header else { continue };
            let end = at + usize::from(part.words) * 4;
            layout.write_header(header, &bytes[at..end], Some(keep), words);
            at = end;
        }
    }
}

/// Bytes of headers in a cell: IPv4, and TCP with the options of a usual SYN.
const INLINE: usize = 60;
/// Bytes beside a cell: the longest network and transport header are 60 bytes each.
const SPILL: usize = 60;

type Spill = [u8; SPILL];

/// A header in a cell's bytes: how many words of it. Network comes before transport.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    header: Option<Header>,
    words: u8,
}

/// A packet: one line of the cache and a half.
#[derive(Clone, Copy, Debug)]
struct Cell {
    meta: PacketMeta,
    /// The packet before it, or [`NONE`].
    previous: u32,
    /// Where the bytes are that do not fit, or [`NONE`]. A cell that once had such a place keeps
    /// it.
    spill: u32,
    parts: [Part; 2],
    bytes: [u8; INLINE],
}

const EMPTY: Cell = Cell {
    meta: PacketMeta { ts_ns: 0, at_ns: 0, size: 0, payload: 0, flags: 0, backward: false },
    previous: NONE,
    spill: NONE,
    parts: [Part { header: None, words: 0 }; 2],
    bytes: [0; INLINE],
};

const _: () = assert!(size_of::<Cell>() == 96, "a million flows of ten packets take under a GB");

/// Cells for packets, up to a limit.
#[derive(Debug)]
pub(crate) struct PacketPool {
    /// Which headers are kept.
    layout: HeaderLayout,
    limit: usize,
    cells: Vec<Cell>,
    /// Cells to be used again, the next one last.
    free: Vec<u32>,
    spills: Vec<Spill>,
    used: usize,
}

impl PacketPool {
    pub(crate) fn new(layout: HeaderLayout, limit: usize) -> Self {
        let limit = limit.min(NONE as usize);
        Self {
            layout,
            limit,
            cells: room_for(limit),
            free: Vec::new(),
            spills: Vec::new(),
            used: 0,
        }
    }

    /// Sets memory aside for as many cells as it may hold. What does not fit into a cell stands
    /// elsewhere, and is asked for as it comes: few packets have so many options.
    pub(crate) fn reserve(&mut self) -> Result<(), Shortage> {
        reserve(&mut self.cells, self.limit, "packets of undecided flows")?;
        reserve(&mut self.free, self.limit, "free places of packets")
    }

    /// Touches the memory for as many cells as it may hold.
    pub(crate) fn prefault(&mut self) {
        touch_room(&mut self.cells, self.limit, EMPTY);
    }

    /// Keeps the headers of another layout too, from now on. A cell says itself what it holds.
    pub(crate) fn keep_too(&mut self, layout: &HeaderLayout) {
        self.layout = self.layout.union(layout);
    }

    /// Cells in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bytes of all cells that were ever in use.
    pub(crate) fn bytes(&self) -> usize {
        bytes_used(&self.cells) + bytes_used(&self.spills) + self.free.capacity() * 4
    }

    /// Keeps a packet in a cell of its own, behind the flow's cell `previous`; `None` when the
    /// limit is reached, or the memory.
    #[inline]
    pub(crate) fn keep(
        &mut self,
        meta: PacketMeta,
        frame: &[u8],
        parsed: &Parsed,
        previous: u32,
    ) -> Option<u32> {
        let id = self.take()?;
        let sections = [Some(parsed.network), parsed.transport];
        let cell = &mut self.cells[id as usize];
        cell.meta = meta;
        cell.previous = previous;
        cell.parts = sections.map(|section| part(&self.layout, section));
        // Headers mostly stand side by side, and a copy of known length is cheaper than two of the
        // right length: what it brings too much is never read.
        match run(frame, &cell.parts, parsed) {
            Some(run) => match run.first_chunk() {
                Some(bytes) => cell.bytes = *bytes,
                None => cell.bytes[..run.len()].copy_from_slice(run),
            },
            None => {
                if !self.keep_parts(id, frame, sections) {
                    self.free.push(id);
                    return None;
                }
            }
        }
        self.used += 1;
        Some(id)
    }

    /// A cell with nothing to keep yet.
    #[inline]
    fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        let more = self.cells.len() + 1;
        let has_memory = more <= self.limit
            && has_room(&mut self.cells)
            // Whatever is kept must be given back.
            && (self.free.capacity() >= more || self.free.try_reserve(more).is_ok());
        if !has_memory {
            return None;
        }
        self.cells.push(EMPTY);
        Some((self.cells.len() - 1) as u32)
    }

    /// Copies header by header, wherever they stand and however long they are; false where there is
    /// no memory for them.
    fn keep_parts(&mut self, id: u32, frame: &[u8], sections: [Option<HeaderSpan>; 2]) -> bool {
        let cell = &mut self.cells[id as usize];
        let mut whole = [0; INLINE + SPILL];
        let mut at = 0;
        for (part, section) in cell.parts.iter().zip(sections) {
            let Some(section) = section.filter(|_| part.header.is_some()) else { continue };
            let len = usize::from(part.words) * 4;
            whole[at..at + len].copy_from_slice(&frame[section.offset as usize..][..len]);
            at += len;
        }
        cell.bytes.copy_from_slice(&whole[..INLINE]);
        if at > INLINE {
            let Some(spill) = self.spill_of(id) else { return false };
            self.spills[spill as usize].copy_from_slice(&whole[INLINE..]);
        }
        true
    }

    /// The place beside a cell, a new one if it has none; `None` where there is no memory for it.
    fn spill_of(&mut self, id: u32) -> Option<u32> {
        let cell = &mut self.cells[id as usize];
        if cell.spill == NONE {
            if !has_room(&mut self.spills) {
                return None;
            }
            cell.spill = self.spills.len() as u32;
            self.spills.push([0; SPILL]);
        }
        Some(cell.spill)
    }

    /// Reads both cache lines of a cell; the cell before it.
    #[inline]
    pub(crate) fn touch(&self, cell: u32) -> u32 {
        let cell = &self.cells[cell as usize];
        black_box(cell.bytes[INLINE - 1]);
        black_box(cell.previous)
    }

    /// The numbers of a cell.
    pub(crate) fn meta(&self, cell: u32) -> &PacketMeta {
        &self.cells[cell as usize].meta
    }

    /// The cell so many packets before `cell`.
    pub(crate) fn back(&self, cell: u32, packets: u16) -> u32 {
        (0..packets).fold(cell, |cell, _| self.cells[cell as usize].previous)
    }

    /// Gives back the `count` cells of the chain that ends with `tail`.
    pub(crate) fn give_back(&mut self, tail: u32, count: usize) {
        let mut cell = tail;
        for _ in 0..count {
            self.free.push(cell);
            cell = self.cells[cell as usize].previous;
        }
        self.used -= count;
    }

    /// Reads both cache lines of the cells that are used next, at most so many.
    pub(crate) fn touch_free(&self, cells: usize) {
        self.free.iter().rev().take(cells).for_each(|&cell| {
            self.touch(cell);
        });
    }

    /// The packets in these cells.
    pub(crate) fn record<'a>(&'a self, cells: &'a [u32]) -> FlowRecord<'a> {
        FlowRecord { pool: self, cells }
    }
}

/// What is kept of a section: its whole words, if the layout has them.
#[inline]
fn part(layout: &HeaderLayout, section: Option<HeaderSpan>) -> Part {
    match section {
        Some(section) if layout.has(section.header) => {
            Part { header: Some(section.header), words: section.len / 4 }
        }
        _ => Part::default(),
    }
}

/// The frame from where all that is kept stands in one piece, if it does and fits into a cell.
#[inline]
fn run<'a>(frame: &'a [u8], parts: &[Part; 2], parsed: &Parsed) -> Option<&'a [u8]> {
    let kept = usize::from(parts[0].words + parts[1].words) * 4;
    let start = match (parts[0].header, parts[1].header, parsed.transport) {
        (Some(_), Some(_), Some(transport)) => {
            let end = parsed.network.offset + u32::from(parts[0].words) * 4;
            (transport.offset == end).then_some(parsed.network.offset)?
        }
        (None, Some(_), Some(transport)) => transport.offset,
        _ => parsed.network.offset,
    };
    frame.get(start as usize..).filter(|_| kept <= INLINE)
}

/// The packets of a flow that a stage sees, in order of arrival.
#[derive(Clone, Copy, Debug)]
pub struct FlowRecord<'a> {
    pool: &'a PacketPool,
    cells: &'a [u32],
}

impl<'a> FlowRecord<'a> {
    /// Number of packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there is no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The packets, in order of arrival.
    pub fn packets(&self) -> impl Iterator<Item = PacketRecord<'a>> + use<'a> {
        let pool = self.pool;
        self.cells.iter().map(move |&id| {
            let cell = &pool.cells[id as usize];
            let spills = usize::from(cell.parts[0].words + cell.parts[1].words) * 4 > INLINE;
            let spill = spills.then(|| &pool.spills[cell.spill as usize]);
            PacketRecord { headers: Headers { cell, spill }, meta: &cell.meta }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{LinkType, Packet};
    use crate::parse::{KeyRules, parse};

    /// An IPv4 packet with headers of so many words, TCP or UDP, then bytes that are no header.
    fn frame(ip_words: u8, tcp_words: Option<u8>) -> Vec<u8> {
        let transport = tcp_words.map_or(8, |words| usize::from(words) * 4);
        let len = usize::from(ip_words) * 4 + transport;
        let mut bytes: Vec<u8> = (0..len + 7).map(|at| (at * 37 + 11) as u8).collect();
        bytes[0] = 0x40 | ip_words;
        bytes[2..4].copy_from_slice(&(len as u16 + 7).to_be_bytes());
        bytes[6..8].fill(0);
        bytes[9] = if tcp_words.is_some() { 6 } else { 17 };
        if let Some(words) = tcp_words {
            bytes[usize::from(ip_words) * 4 + 12] = words << 4;
        }
        bytes
    }

    #[test]
    fn cells_keep_what_the_layout_writes() {
        let headers = [Header::Ipv4, Header::Tcp, Header::Udp];
        let layouts = [&headers[..], &headers[1..], &headers[..1], &[]].map(HeaderLayout::new);
        let meta = PacketMeta::default();
        for layout in layouts {
            let mut pool = PacketPool::new(layout, 1);
            for (ip, tcp) in (5..=15).flat_map(|ip| {
                [(ip, None)].into_iter().chain((5..=15).map(move |tcp| (ip, Some(tcp))))
            }) {
                let whole = frame(ip, tcp);
                for cut in 0..=whole.len() {
                    let data = &whole[..cut];
                    let (ts_ns, orig_len, link) = (0, whole.len() as u32, LinkType::RawIp);
                    let rules = KeyRules::default();
                    let Ok(parsed) = parse(&Packet { ts_ns, orig_len, link, data }, rules) else {
                        continue;
                    };
                    let cell = pool.keep(meta, data, &parsed, NONE).unwrap();
                    let cells = [cell];
                    let mut kept = vec![0; layout.packet_words()];
                    let record = pool.record(&cells).packets().next().unwrap();
                    record.headers.write(&layout, &vec![u32::MAX; kept.len()], &mut kept);
                    let mut written = vec![0; layout.packet_words()];
                    layout.write(data, &parsed, &mut written);
                    assert_eq!(kept, written, "IPv4 {ip} words, TCP {tcp:?}, {cut} bytes");
                    pool.give_back(cell, 1);
                }
            }
        }
    }

    #[test]
    fn cells_are_reused_and_the_limit_holds() {
        let mut pool = PacketPool::new(HeaderLayout::default(), 3);
        let meta = PacketMeta::default();
        let data = frame(15, Some(15));
        let packet = Packet { ts_ns: 0, orig_len: 127, link: LinkType::RawIp, data: &data };
        let parsed = parse(&packet, KeyRules::default()).unwrap();
        let mut tail = NONE;
        let mut keep = |pool: &mut PacketPool| {
            tail = pool.keep(meta, &data, &parsed, tail)?;
            Some(tail)
        };
        let cells: Vec<u32> = (0..3).map(|_| keep(&mut pool).unwrap()).collect();
        assert!(keep(&mut pool).is_none());
        assert_eq!((pool.back(cells[2], 0), pool.back(cells[2], 2)), (cells[2], cells[0]));
        assert_eq!(pool.record(&cells).packets().count(), 3);
        pool.give_back(cells[2], 3);
        assert_eq!(pool.used(), 0);
        let bytes = pool.bytes();
        assert!((0..3).all(|_| pool.keep(meta, &data, &parsed, NONE).is_some()));
        assert_eq!((pool.used(), pool.bytes()), (3, bytes));
    }
}
