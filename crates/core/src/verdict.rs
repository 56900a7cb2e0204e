//! What comes out: one final verdict per flow.

use std::net::IpAddr;

/// A flow's five-tuple (and VLAN id when configured), source = sender of its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FiveTuple {
    /// Address of the sender of the first packet.
    pub src: IpAddr,
    /// Address of the other side.
    pub dst: IpAddr,
    /// Port of `src`; 0 for protocols without ports.
    pub src_port: u16,
    /// Port of `dst`; 0 for protocols without ports.
    pub dst_port: u16,
    /// IP protocol number (IANA).
    pub proto: u8,
    /// Outer VLAN id, when the engine keys on it and the frame was tagged.
    pub vlan: Option<u16>,
}

/// Why a verdict came when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// A stage that is not the last had all its packets and was sure enough.
    Accepted,
    /// The last stage answered with all its packets.
    Final,
    /// The flow (FIN, RST, idle or active timeout, end of input) or its window ended short of the
    /// stage's packets.
    Ended,
    /// The stage's longest wait passed short of its packets.
    TimedOut,
    /// The flow table was full and this flow was the oldest idle one.
    Evicted,
    /// A lane or the record pool was full: the best answer so far stands.
    Shed,
    /// The model failed or was too late: the best answer so far stands.
    Failed,
    /// The answer does not stand: the flow goes on to the next stage (provisional verdicts only).
    Provisional,
}

impl Reason {
    /// The reasons of final verdicts, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Final,
        Self::Ended,
        Self::TimedOut,
        Self::Evicted,
        Self::Shed,
        Self::Failed,
    ];

    /// The reason as outputs spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Final => "final",
            Self::Ended => "ended",
            Self::TimedOut => "timed_out",
            Self::Evicted => "evicted",
            Self::Shed => "shed",
            Self::Failed => "failed",
            Self::Provisional => "provisional",
        }
    }

    /// Whether a packet brought the question that was answered, and no timer: such a verdict is due
    /// at once.
    #[must_use]
    pub fn is_by_packet(self) -> bool {
        matches!(self, Self::Accepted | Self::Final)
    }
}

/// A model's answer for a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Index of the label.
    pub label: u16,
    /// Probability of that label, 0 to 1.
    pub confidence: f32,
    /// Index of the stage that gave it.
    pub stage: u8,
    /// Packets that the stage saw.
    pub packets: u16,
    /// Whether the flow is likely of no class that was learned, by the stage's open-set rule:
    /// `label` is then but the nearest one, and no answer. Always `false` at a stage without such a
    /// rule.
    pub unknown: bool,
}

/// The answer for a flow, with its times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Number of the flow: from 0 in the order the engine met them, or, where several engines share
    /// the traffic, in steps of their number.
    pub id: u64,
    /// Number of the plan that the flow went by, whose labels and stages the answer names; 0 where
    /// plans never change.
    pub plan: u8,
    /// The flow.
    pub flow: FiveTuple,
    /// The answer; `None` when no model gave one: everything was full, or the first
    /// one asked failed.
    pub answer: Option<Answer>,
    /// Why it came now.
    pub reason: Reason,
    /// `false` for a provisional verdict, which a final one follows.
    pub is_final: bool,
    /// Time of the flow's first packet, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Time of the last packet that the answer rests on, nanoseconds since the epoch.
    pub deciding_ns: u64,
    /// Packet time from the first packet until the model was asked, nanoseconds: the wait for
    /// packets, for a timeout or for the flow's end.
    pub collection_ns: u64,
    /// Wall time spent between asking and answer, summed over the stages, nanoseconds.
    pub compute_ns: u64,
}
