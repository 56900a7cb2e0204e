//! Packet and flow accounting: every packet and every flow is counted in exactly one place.

use crate::parse::Reject;
use crate::verdict::Reason;

/// Where the packets went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PacketCounters {
    /// Packets pushed.
    pub seen: u64,
    /// Kept in the record of an undecided flow.
    pub recorded: u64,
    /// Of a flow that has all it wants, or is decided.
    pub ignored: u64,
    /// Of a flow that TCP has closed, and that no new connection has followed.
    pub after_close: u64,
    /// Of a flow that the selection leaves out.
    pub filtered: u64,
    /// Of no flow, by [`Reject`].
    pub rejected: [u64; Reject::ALL.len()],
}

/// Where the flows went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlowCounters {
    /// Flows begun.
    pub seen: u64,
    /// Final verdicts, by [`Reason`].
    pub verdicts: [u64; Reason::ALL.len()],
    /// Flows that collect packets.
    pub collecting: u64,
    /// Flows whose features are with a model.
    pub in_inference: u64,
}

/// Where everything went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets.
    pub packets: PacketCounters,
    /// Flows.
    pub flows: FlowCounters,
    /// Decided flows that left the full table for new ones; they lost nothing.
    pub evicted_decided: u64,
    /// Undecided flows that left the full table for new ones: they were scored with what they had.
    pub evicted_undecided: u64,
    /// Jobs that a full lane handed back.
    pub inference_shed: u64,
    /// Jobs whose model failed or was too late.
    pub inference_failures: u64,
    /// Times that the flow table was begun anew, since time started over.
    pub clock_restarts: u64,
    /// Packets that were stamped earlier than one before them and could not be put back in order.
    pub packets_out_of_order: u64,
    /// Packets whose time stamp is far from that of both neighbours, and that took a neighbour's.
    pub stray_timestamps: u64,
}

impl Counters {
    /// Rejected packets of all reasons.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.packets.rejected.iter().sum()
    }

    /// Flows, decided or not, that left the full table for new ones.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evicted_decided + self.evicted_undecided
    }

    /// Final verdicts of all reasons.
    #[must_use]
    pub fn verdicts(&self) -> u64 {
        self.flows.verdicts.iter().sum()
    }

    /// Whether packets seen = recorded + ignored + after close + rejected + filtered, and flows
    /// seen = verdicts + collecting + in_inference.
    #[must_use]
    pub fn balance(&self) -> bool {
        let PacketCounters { recorded, ignored, after_close, filtered, .. } = self.packets;
        let packets = recorded + ignored + after_close + self.rejected() + filtered;
        let flows = self.verdicts() + self.flows.collecting + self.flows.in_inference;
        self.packets.seen == packets && self.flows.seen == flows
    }

    /// Adds another engine's accounts.
    pub fn add(&mut self, other: &Self) {
        let (mine, theirs) = (&mut self.packets, &other.packets);
        mine.seen += theirs.seen;
        mine.recorded += theirs.recorded;
        mine.ignored += theirs.ignored;
        mine.after_close += theirs.after_close;
        mine.filtered += theirs.filtered;
        add_all(&mut mine.rejected, &theirs.rejected);
        let (mine, theirs) = (&mut self.flows, &other.flows);
        mine.seen += theirs.seen;
        mine.collecting += theirs.collecting;
        mine.in_inference += theirs.in_inference;
        add_all(&mut mine.verdicts, &theirs.verdicts);
        self.evicted_decided += other.evicted_decided;
        self.evicted_undecided += other.evicted_undecided;
        self.inference_shed += other.inference_shed;
        self.inference_failures += other.inference_failures;
        self.clock_restarts += other.clock_restarts;
        self.packets_out_of_order += other.packets_out_of_order;
        self.stray_timestamps += other.stray_timestamps;
    }
}

fn add_all(mine: &mut [u64], theirs: &[u64]) {
    mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
}
