//! The evaluation's figures, as `--json` writes them. Shares and F1 are fractions, times are in
//! microseconds.

use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that `evaluate` measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this schema.
    pub schema: &'static str,
    /// Id of the bundle.
    pub bundle: String,
    /// The split evaluated.
    pub split: String,
    /// Labelled flows of the split that were evaluated.
    pub flows: u64,
    /// Flows met that carry no label or belong to another split.
    pub other_flows: u64,
    /// Listed flows that no capture contained.
    pub missing_flows: u64,
    /// Share of flows answered right.
    pub accuracy: f64,
    /// Mean F1 over the classes.
    pub macro_f1: f64,
    /// Mean F1 weighted by the classes' flows.
    pub weighted_f1: f64,
    /// Flows that were called unknown; none where the bundle has no open-set rule. All other
    /// figures go by the nearest label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<UnknownReport>,
    /// Figures of each class.
    pub classes: Vec<ClassReport>,
    /// Flows by true label (rows) and answer (columns), both in the order of `classes`.
    pub confusion: Vec<Vec<u64>>,
    /// The cascade, stage by stage.
    pub stages: Vec<StageReport>,
    /// Final verdicts by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The last stage alone, on all flows.
    pub slow_only: TierReport,
    /// The first stage alone, on all flows.
    pub fast_only: TierReport,
    /// Each stage alone, on all flows.
    pub tiers: Vec<TierReport>,
    /// The same shares escalated, but at random: mean of 20 draws.
    pub random: ReferenceReport,
    /// Escalation by a gate that knows which answers are wrong.
    pub oracle: ReferenceReport,
    /// The cascade's latency.
    pub latency_us: LatencyReport,
    /// Share of flows with an end-to-end latency under 16 ms.
    pub share_under_16ms: f64,
    /// Median end-to-end latency of the last stage alone over the cascade's.
    pub median_speedup: f64,
    /// Flows per second of wall time, captures read and all, on one thread.
    pub flows_per_s: f64,
    /// Packets per second of wall time, on one thread.
    pub packets_per_s: f64,
    /// Flows whose verdict differs from what its stage says of them alone; 0 unless limits are so
    /// tight that flows are shed or evicted.
    pub disagreements: u64,
    /// Where packets and flows went.
    pub accounts: AccountsReport,
    /// Captures that were damaged: one sentence each.
    pub damaged: Vec<String>,
}

/// One class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassReport {
    /// Name of the label.
    pub label: String,
    /// Flows of the class.
    pub flows: u64,
    /// Share of right answers among those with this label.
    pub precision: f64,
    /// Share of the class's flows answered right.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
}

/// What open-set rules call unknown of flows that are of known classes.
#[derive(Clone, Debug, Serialize)]
pub struct UnknownReport {
    /// Share of the flows that are called unknown.
    pub share: f64,
    /// Accuracy among the others.
    pub accuracy_rest: f64,
    /// Share of right labels among those called unknown.
    pub accuracy_unknown: f64,
    /// Share called unknown of each class, in the order of `classes`.
    pub by_class: Vec<f64>,
}

/// One stage in the cascade.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// Name of the stage.
    pub name: String,
    /// Its model, in words.
    pub model: String,
    /// Packets that it wants.
    pub packets: u16,
    /// Share of all flows that it decided.
    pub share: f64,
    /// Share of all flows that it passed on.
    pub escalated: f64,
    /// Accuracy on the flows that it decided.
    pub accuracy: f64,
    /// Macro-F1 on the flows that it decided.
    pub macro_f1: f64,
}

/// One stage alone, on all flows.
#[derive(Clone, Debug, Serialize)]
pub struct TierReport {
    /// Name of the stage.
    pub name: String,
    /// Packets that it wants.
    pub packets: u16,
    /// Share of flows answered right.
    pub accuracy: f64,
    /// Mean F1 over the classes.
    pub macro_f1: f64,
    /// Mean F1 weighted by the classes' flows.
    pub weighted_f1: f64,
    /// Share of flows that never had the packets it wants: they wait until they end, or until the
    /// longest wait has passed, and are answered with what there is.
    pub short_share: f64,
    /// Its latency.
    pub latency_us: LatencyReport,
    /// Share of flows with an end-to-end latency under 16 ms.
    pub share_under_16ms: f64,
}

/// A way to escalate that no one can build, to compare with.
#[derive(Clone, Debug, Serialize)]
pub struct ReferenceReport {
    /// Share of flows answered right.
    pub accuracy: f64,
    /// Mean F1 over the classes.
    pub macro_f1: f64,
    /// Share of all flows decided by each stage.
    pub shares: Vec<f64>,
}

/// Latencies of a cascade or a stage.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LatencyReport {
    /// Packet time from the first packet until the deciding question could be asked.
    pub collection: Percentiles,
    /// Wall time from that packet's batch to the answer.
    pub compute: Percentiles,
    /// Both.
    pub end_to_end: Percentiles,
}

/// Percentiles, nearest rank.
#[derive(Clone, Copy, Debug, Serialize, PartialEq)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Percentiles {
    /// Percentiles of some nanoseconds, in microseconds; zeros when there are none.
    #[must_use]
    pub fn of_ns(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).map_or(0.0, |&ns| ns as f64 / 1e3)
        };
        Self { p50: rank(50), p90: rank(90), p99: rank(99) }
    }
}

/// Where packets and flows went.
#[derive(Clone, Debug, Serialize)]
pub struct AccountsReport {
    /// `seen`, `recorded`, `ignored`, `after_close`, `filtered`, and `rejected` by reason.
    pub packets: PacketReport,
    /// `seen`, `verdicts` by reason, `collecting`, `in_inference`.
    pub flows: FlowReport,
    /// Whether both accounts are exact.
    pub balanced: bool,
}

/// Where the packets went.
#[derive(Clone, Debug, Serialize)]
pub struct PacketReport {
    /// Packets read.
    pub seen: u64,
    /// Kept for an undecided flow.
    pub recorded: u64,
    /// Of flows that wanted no more.
    pub ignored: u64,
    /// Of flows that TCP had closed.
    pub after_close: u64,
    /// Of flows that were left out.
    pub filtered: u64,
    /// Of no flow, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// Where the flows went.
#[derive(Clone, Debug, Serialize)]
pub struct FlowReport {
    /// Flows begun.
    pub seen: u64,
    /// Final verdicts, by reason.
    pub verdicts: BTreeMap<String, u64>,
    /// Flows that still collect packets.
    pub collecting: u64,
    /// Flows still with a model.
    pub in_inference: u64,
}

impl AccountsReport {
    /// The accounts of an engine, by name.
    #[must_use]
    pub fn new(accounts: &serveflow_core::counters::Counters) -> Self {
        use serveflow_core::parse::Reject;
        use serveflow_core::verdict::Reason;
        let (packets, flows) = (&accounts.packets, &accounts.flows);
        let rejected = Reject::ALL.iter().map(|reject| reject.name().to_owned());
        let verdicts = Reason::ALL.iter().map(|reason| reason.name().to_owned());
        Self {
            packets: PacketReport {
                seen: packets.seen,
                recorded: packets.recorded,
                ignored: packets.ignored,
                after_close: packets.after_close,
                filtered: packets.filtered,
                rejected: rejected.zip(packets.rejected).collect(),
            },
            flows: FlowReport {
                seen: flows.seen,
                verdicts: verdicts.zip(flows.verdicts).collect(),
                collecting: flows.collecting,
                in_inference: flows.in_inference,
            },
            balanced: accounts.balance(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values = (1..=100).map(|value| value * 1000).rev().collect();
        assert_eq!(Percentiles::of_ns(values), Percentiles { p50: 50.0, p90: 90.0, p99: 99.0 });
        assert_eq!(Percentiles::of_ns(vec![7000]).p99, 7.0);
        assert_eq!(Percentiles::of_ns(Vec::new()).p50, 0.0);
    }
}
