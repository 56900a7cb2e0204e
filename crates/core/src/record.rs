//! What is kept of the packets of undecided flows.
//!
//! A packet is a cell of a pool: its header words, its presence words and a few numbers. A flow's
//! cells are a chain, so a flow that is decided on its first packet never pays for ten.

use crate::features::layout::HeaderLayout;

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
    /// Header words and, behind them, presence words.
    pub words: &'a [u32],
    /// Times, sizes, flags, direction.
    pub meta: &'a PacketMeta,
}

/// Cells for packets, in one growing block up to a limit.
#[derive(Debug)]
pub(crate) struct PacketPool {
    layout: HeaderLayout,
    limit: usize,
    words: Vec<u32>,
    meta: Vec<PacketMeta>,
    next: Vec<u32>,
    free: u32,
    used: usize,
}

impl PacketPool {
    pub(crate) fn new(layout: HeaderLayout, limit: usize) -> Self {
        let limit = limit.min(NONE as usize);
        Self {
            layout,
            limit,
            words: Vec::new(),
            meta: Vec::new(),
            next: Vec::new(),
            free: NONE,
            used: 0,
        }
    }

    /// Cells in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bytes taken from the allocator.
    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * 4
            + self.meta.capacity() * size_of::<PacketMeta>()
            + self.next.capacity() * 4
    }

    /// Takes a cell, its words zeroed for the caller to fill; `None` when the limit is reached.
    pub(crate) fn take(&mut self, meta: PacketMeta) -> Option<(u32, &mut [u32])> {
        let stride = self.layout.packet_words();
        let cell = if self.free != NONE {
            let cell = self.free;
            self.free = self.next[cell as usize];
            self.meta[cell as usize] = meta;
            self.words[cell as usize * stride..][..stride].fill(0);
            cell
        } else if self.meta.len() < self.limit {
            self.words.resize(self.words.len() + stride, 0);
            self.meta.push(meta);
            self.next.push(NONE);
            (self.meta.len() - 1) as u32
        } else {
            return None;
        };
        self.next[cell as usize] = NONE;
        self.used += 1;
        Some((cell, &mut self.words[cell as usize * stride..][..stride]))
    }

    /// Appends `cell` behind `tail`.
    pub(crate) fn link(&mut self, tail: u32, cell: u32) {
        self.next[tail as usize] = cell;
    }

    /// Gives back a chain of `count` cells.
    pub(crate) fn give_back(&mut self, head: u32, tail: u32, count: usize) {
        if head != NONE {
            self.next[tail as usize] = self.free;
            self.free = head;
            self.used -= count;
        }
    }

    /// The first `len` packets of the chain at `head`.
    pub(crate) fn record(&self, head: u32, len: usize) -> FlowRecord<'_> {
        FlowRecord { pool: self, head, len }
    }
}

/// The packets of a flow that a stage sees, in order of arrival.
#[derive(Clone, Copy, Debug)]
pub struct FlowRecord<'a> {
    pool: &'a PacketPool,
    head: u32,
    len: usize,
}

impl<'a> FlowRecord<'a> {
    /// Number of packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How the packets' words are laid out.
    #[must_use]
    pub fn layout(&self) -> HeaderLayout {
        self.pool.layout
    }

    /// The packets, in order of arrival.
    pub fn packets(&self) -> impl Iterator<Item = PacketRecord<'a>> + use<'a> {
        let pool = self.pool;
        let stride = pool.layout.packet_words();
        let mut cell = self.head;
        (0..self.len).map(move |_| {
            let at = cell as usize;
            cell = pool.next[at];
            PacketRecord { words: &pool.words[at * stride..][..stride], meta: &pool.meta[at] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_reused_and_the_limit_holds() {
        let mut pool = PacketPool::new(HeaderLayout::default(), 3);
        let meta = PacketMeta::default();
        let cells: Vec<u32> = (0..3).map(|_| pool.take(meta).unwrap().0).collect();
        assert!(pool.take(meta).is_none());
        pool.link(cells[0], cells[1]);
        pool.link(cells[1], cells[2]);
        assert_eq!(pool.record(cells[0], 3).packets().count(), 3);
        pool.give_back(cells[0], cells[2], 3);
        assert_eq!(pool.used(), 0);
        let bytes = pool.bytes();
        for _ in 0..3 {
            let (_, words) = pool.take(meta).unwrap();
            assert!(words.iter().all(|&word| word == 0));
            words.fill(7);
        }
        assert_eq!((pool.used(), pool.bytes()), (3, bytes));
    }
}
