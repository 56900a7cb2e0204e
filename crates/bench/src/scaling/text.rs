//! The curve and what it was computed from, as text.

use super::curve::{CurvePoint, Inputs, bend};
use super::measure::MeasuredCosts;
use super::validation::Trial;
use std::fmt::Write;

/// What was measured, one line a cost.
#[must_use]
pub fn costs(measured: &MeasuredCosts, inputs: &Inputs) -> String {
    let costs = &measured.costs;
    let mut text = String::from("Costs, measured on this machine, fastest of several:\n");
    for (what, ns, unit) in [
        ("read a packet (one worker at a time)", costs.read_ns, "ns"),
        ("name its source and note it", costs.part_ns, "ns"),
        ("leave and take a part (one at a time)", costs.hand_ns, "ns"),
        ("wake a worker that sleeps", costs.wake_ns, "ns"),
        ("parse a packet, find its flow, keep it", costs.packet_ns, "ns"),
        ("serve a batch, whatever is in it", costs.batch_ns, "ns"),
    ] {
        let _ = writeln!(text, "  {what:<40} {ns:>10.1} {unit}");
    }
    for stage in &costs.stages {
        let _ = writeln!(
            text,
            "  {:<12} scores {:>5.1}% of the flows: {:.0} ns to encode and enqueue, {:.0} ns to \
             score, and {:.0} ns a job",
            stage.name,
            stage.share * 100.0,
            stage.ask_ns,
            stage.row_ns,
            stage.job_ns
        );
    }
    let memory = &inputs.memory;
    let _ = writeln!(
        text,
        "  memory: {:.1} GB/s by one core, {:.1} GB/s by {} ({}); {:.0} bytes a packet, counted",
        memory.one_core / 1e9,
        memory.all_cores / 1e9,
        memory.cores,
        if memory.is_saturated() { "its limit" } else { "its limit was not reached" },
        memory.bytes_per_packet
    );
    let _ = writeln!(
        text,
        "Traffic: {:.2} packets a flow, {} packets a block, {} flows hashed onto the workers, seed \
         {}",
        1.0 / inputs.flows_per_packet,
        inputs.block_packets,
        inputs.flows,
        inputs.seed
    );
    text
}

/// The simulation beside reality.
#[must_use]
pub fn trials(trials: &[Trial]) -> String {
    let mut text = format!(
        "\nSimulated beside measured, in memory, fastest of several:\n\
         {:>8} {:>16} {:>16} {:>8} {:>10}\n",
        "workers", "simulated", "measured", "error", "on a core"
    );
    for trial in trials {
        let _ = writeln!(
            text,
            "{:>8} {:>12.3} M/s {:>12.3} M/s {:>+7.1}% {:>10}",
            trial.workers,
            trial.simulated / 1e6,
            trial.measured / 1e6,
            trial.error_percent,
            trial.on_core.map_or("?".to_owned(), |share| format!("{:.0}%", share * 100.0))
        );
    }
    text.push_str(
        "Below 100% on a core, workers waited, or the machine did something else as well.\n",
    );
    text
}

/// The curve, a line each number of cores, and where it bends.
#[must_use]
pub fn curve(inputs: &Inputs, points: &[CurvePoint]) -> String {
    let mut text = format!(
        "\nExpected (simulated; only what is held against reality above is measured):\n\
         {:>5} {:>14} {:>14} {:>10} {:>6} {:>12}  {:<14}\n",
        "cores", "M packets/s", "M flows/s", "efficiency", "skew", "memory GB/s", "what binds"
    );
    for point in points {
        let _ = writeln!(
            text,
            "{:>5} {:>14.3} {:>14.4} {:>9.0}% {:>6.2} {:>12.2}  {}",
            point.cores,
            point.packets_per_s / 1e6,
            point.flows_per_s / 1e6,
            point.efficiency * 100.0,
            point.skew,
            point.memory_bytes_per_s / 1e9,
            point.binds
        );
    }
    let _ = writeln!(text, "\n{}", bend(inputs, points));
    text
}
