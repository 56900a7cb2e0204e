//! By which rules captures are put in order.

use serveflow_core::FlowConfig;
use serveflow_core::parse::KeyRules;

/// How captures are read as one stream of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRules {
    /// Packets that are stored up to so long after one with a later time stamp are put back in
    /// order, nanoseconds of packet time.
    pub reorder_ns: u64,
    /// Packets that are stored up to so many places behind one with a later time stamp are put back
    /// in order. It is rounded up to whole chunks of [`CHUNK`]. 0, or a `reorder_ns` of 0, leaves
    /// packets as they are stored.
    pub reorder_packets: usize,
    /// What lies further apart than this has nothing to do with each other, nanoseconds: the idle
    /// timeout.
    pub far_ns: u64,
    /// Which packets belong to a flow, for only those begin a new flow table.
    pub key: KeyRules,
    /// Which captures share a flow table.
    pub tables: Tables,
    /// What is made of a pipe.
    pub pipe: PipeTime,
}

/// Packets from one point to the next from which on earlier ones are out of reach.
pub const CHUNK: usize = 256;

/// Which captures share a flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// All whose times follow each other; a new one begins where a capture steps back by more than
    /// the idle timeout and stays there.
    ByTime,
    /// Each capture has its own.
    PerCapture,
    /// One for all, whatever their times are.
    One,
}

/// Whether a pipe is live: then packets are not held to be put in order, and time goes on while it
/// is silent.
#[derive(Clone, Copy, Debug)]
pub enum PipeTime {
    /// It never is.
    Recorded,
    /// It is as soon as a packet comes that is stamped within [`LIVE_NS`] of the wall time, which
    /// the function tells in nanoseconds since the epoch.
    ByStamps(fn() -> u64),
    /// It always is.
    Live,
}

impl PartialEq for PipeTime {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Eq for PipeTime {}

/// How close to the wall time a pipe's packets are stamped if it is live, nanoseconds.
pub const LIVE_NS: u64 = 5_000_000_000;

impl PipeTime {
    /// Whether a packet from a pipe that is stamped so shows that it is live.
    pub(super) fn is_live(self, ts_ns: u64) -> bool {
        match self {
            Self::Recorded => false,
            Self::ByStamps(wall_ns) => wall_ns().abs_diff(ts_ns) <= LIVE_NS,
            Self::Live => true,
        }
    }
}

impl Default for OrderRules {
    fn default() -> Self {
        Self {
            reorder_ns: 1_000_000_000,
            reorder_packets: 4096,
            far_ns: 120_000_000_000,
            key: KeyRules::default(),
            tables: Tables::ByTime,
            pipe: PipeTime::Recorded,
        }
    }
}

impl OrderRules {
    /// The usual rules, for flows that are made by these.
    #[must_use]
    pub fn of_flows(flows: &FlowConfig) -> Self {
        Self { far_ns: flows.idle_ns, key: flows.key, ..Self::default() }
    }

    /// Whether packets are put back in order at all.
    pub(super) fn reorders(&self) -> bool {
        self.reorder_ns > 0 && self.reorder_packets > 0
    }

    /// From where on a time stamp is far: what may be put in order is near.
    pub(super) fn far_ns(&self) -> u64 {
        self.far_ns.max(if self.reorders() { self.reorder_ns } else { 0 })
    }
}
