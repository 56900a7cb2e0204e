//! What an engine is made by.

use crate::table::FlowConfig;

/// Limits of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// The flow table.
    pub flows: FlowConfig,
    /// Most packets kept of all undecided flows together.
    pub record_packets: usize,
    /// Rows after which a job is handed to its lane at once.
    pub batch_rows: usize,
    /// Whether [`Engine::prefault`](super::Engine::prefault) takes the memory for all of these
    /// limits. Else the system gives it as flows come, and packets wait while it does.
    pub prefault: bool,
    /// Whether a first answer that does not stand is told at once, as provisional.
    pub provisional: bool,
    /// Number of the first flow.
    pub first_flow: u64,
    /// From a flow's number to the next one's.
    pub flow_step: u64,
    /// How far ahead of the clock a packet may be stamped, nanoseconds: one that is further takes
    /// the clock's time. For sources that cannot look ahead but tell of silence, as interfaces do;
    /// `u64::MAX` for captures.
    pub most_ahead_ns: u64,
}

impl EngineConfig {
    /// The limits of one of several engines that share the traffic: its part of the flows and of
    /// the packets, and flow numbers that no other one gives.
    #[must_use]
    pub fn of_shard(self, shard: usize, shards: usize) -> Self {
        let flows = FlowConfig { capacity: self.flows.capacity.div_ceil(shards), ..self.flows };
        Self {
            flows,
            record_packets: self.record_packets.div_ceil(shards),
            first_flow: self.first_flow + shard as u64 * self.flow_step,
            flow_step: self.flow_step * shards as u64,
            ..self
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            flows: FlowConfig::default(),
            record_packets: 4 << 20,
            batch_rows: 256,
            prefault: false,
            provisional: false,
            first_flow: 0,
            flow_step: 1,
            most_ahead_ns: u64::MAX,
        }
    }
}
