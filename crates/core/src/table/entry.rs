//! A flow's entry: one cache line.

use super::FlowConfig;
use super::queue::Place;
use crate::key::{FlaggedKey, FlowKey};
use crate::parse::{ACK, FIN, Parsed, RST, SYN};

/// No pending part: the flow is decided.
pub(crate) const DECIDED: u32 = u32::MAX;

/// Whether the flow's source is the key's low endpoint.
const SOURCE_IS_LOW: u8 = 1;
/// Whether the sequence number of the source's SYN is known.
const KNOWS_SYN: u8 = 2;
/// FIN seen: forward, and one bit up, backward.
const FIN_FORWARD: u8 = 4;
const FIN_BOTH: [u8; 2] = [FIN_FORWARD, FIN_FORWARD << 1];
const CLOSED: u8 = 16;
const DETACHED: u8 = 32;

/// A flow's entry. Its flags stand in spare bits of its key, so that all of it is one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Entry {
    key: FlaggedKey,
    pub(crate) first_at: u64,
    /// Last packet, or when a closed flow was closed.
    pub(crate) last_at: u64,
    /// Sequence number of the source's SYN.
    syn_seq: u32,
    /// Slot in the waiting room, or [`DECIDED`].
    pub(crate) pending: u32,
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry is one cache line");

/// Who opened a flow, as far as its first packet says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opening {
    source_is_low: bool,
    /// Sequence number of the source's SYN, if it is known.
    syn_seq: Option<u32>,
}

impl Opening {
    /// What the packet that begins a flow says. The source is its sender, unless the packet is the
    /// answer to a SYN that was not seen or comes later: then the receiver is the one who opened
    /// the connection.
    #[inline]
    pub(crate) fn of(parsed: &Parsed, data: &[u8]) -> Self {
        let sender = Self { source_is_low: parsed.sender_is_low, syn_seq: None };
        match parsed.tcp_flags & (SYN | ACK) {
            SYN => Self { syn_seq: Some(parsed.tcp_seq), ..sender },
            flags if flags == SYN | ACK => Self {
                source_is_low: !parsed.sender_is_low,
                syn_seq: parsed.acknowledged(data).map(|next| next.wrapping_sub(1)),
            },
            _ => sender,
        }
    }
}

impl Entry {
    /// The entry of the flow that a packet begins.
    pub(super) fn new(key: FlowKey, opening: Opening, at: u64, pending: u32) -> Self {
        let mut key = FlaggedKey::new(key);
        key.set(u8::from(opening.source_is_low) * SOURCE_IS_LOW);
        key.set(u8::from(opening.syn_seq.is_some()) * KNOWS_SYN);
        let syn_seq = opening.syn_seq.unwrap_or(0);
        Self { key, first_at: at, last_at: at, syn_seq, pending }
    }

    /// The same flow with another place in the waiting room.
    pub(super) fn with_pending(&self, pending: u32) -> Self {
        Self { pending, ..*self }
    }

    pub(crate) fn key(&self) -> FlowKey {
        self.key.key()
    }

    /// Whether it is the entry of this key.
    #[inline]
    pub(super) fn is(&self, key: &FlowKey) -> bool {
        self.key.is(key)
    }

    /// Whether a packet with this key finds it.
    #[inline]
    pub(super) fn is_found_by(&self, key: &FlowKey) -> bool {
        self.is(key) && !self.is_detached()
    }

    /// Whether the flow's source is the key's low endpoint.
    pub(crate) fn source_is_low(&self) -> bool {
        self.key.has(SOURCE_IS_LOW)
    }

    /// Whether TCP closed it.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.key.has(CLOSED)
    }

    /// Whether a RST closed it, and not a FIN from both sides.
    fn is_reset(&self) -> bool {
        self.is_closed() && !self.has_both_fins()
    }

    fn has_both_fins(&self) -> bool {
        FIN_BOTH.iter().all(|&fin| self.key.has(fin))
    }

    /// Whether no packet can find it any more.
    pub(crate) fn is_detached(&self) -> bool {
        self.key.has(DETACHED)
    }

    pub(super) fn set_detached(&mut self) {
        self.key.set(DETACHED);
    }

    /// Whether a packet was sent to the flow's source.
    #[inline]
    pub(crate) fn is_backward(&self, parsed: &Parsed) -> bool {
        parsed.sender_is_low != self.source_is_low()
    }

    /// When the entry leaves if no further packet comes.
    #[inline]
    pub(crate) fn leaves_at(&self, config: &FlowConfig) -> u64 {
        if self.is_closed() {
            return self.last_at.saturating_add(config.linger_ns);
        }
        let idle = self.last_at.saturating_add(config.idle_ns);
        idle.min(self.first_at.saturating_add(config.active_ns))
    }

    /// When the window ends that a time `at` of this flow lies in; windows hold their first
    /// nanosecond and not their last.
    pub(crate) fn window_end(&self, at: u64, window_ns: u64) -> u64 {
        let before = at.saturating_sub(self.first_at) / window_ns.max(1);
        let end = (before + 1).saturating_mul(window_ns.max(1));
        self.first_at.saturating_add(end)
    }

    /// Where the entry stands among those that leave.
    pub(super) fn place(&self, config: &FlowConfig) -> Place {
        (self.leaves_at(config), self.first_at, self.key())
    }

    /// Whether a packet is the SYN of another connection on the same five-tuple.
    #[inline]
    pub(crate) fn is_new_connection(&self, parsed: &Parsed) -> bool {
        if parsed.tcp_flags & (SYN | ACK) != SYN {
            return false;
        }
        if self.is_backward(parsed) {
            return self.is_closed();
        }
        // A host that was refused may try again at once, with the number that it had.
        let same = self.key.has(KNOWS_SYN) && parsed.tcp_seq == self.syn_seq;
        !same || self.is_reset()
    }

    /// Takes note of a packet that belongs to the flow; true when it closes it.
    #[inline]
    pub(crate) fn note(&mut self, parsed: &Parsed, at: u64) -> bool {
        if self.is_closed() {
            return false;
        }
        self.last_at = at;
        if parsed.tcp_flags & (FIN | RST) == 0 {
            return false;
        }
        if parsed.tcp_flags & FIN != 0 {
            self.key.set(FIN_BOTH[usize::from(self.is_backward(parsed))]);
        }
        let closes = parsed.tcp_flags & RST != 0 || self.has_both_fins();
        self.key.set(u8::from(closes) * CLOSED);
        closes
    }
}
