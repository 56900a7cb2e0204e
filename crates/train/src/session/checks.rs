//! Runs a plan and compares the planner's predictions with measurements.

use super::SessionError;
use crate::evaluate::{Report, evaluate};
use crate::planner::meter::{MeterLoad, ServiceRate};
use crate::planner::pool::CandidatePool;
use crate::planner::report::{Check, PlanReport};
use serveflow_core::FlowConfig;
use serveflow_core::engine::EngineConfig;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::Bundle;

/// How far predicted and measured macro-F1 may differ, and latencies and capacity, as a share.
const F1_TOLERANCE: f64 = 0.005;
const RATIO_TOLERANCE: f64 = 0.15;
/// Runs that check a plan's predictions: the median latency counts, and the fastest core time, as
/// where candidates are measured.
const CHECKS: usize = 3;
/// Wall time in which flows start when a plan's predictions are checked, nanoseconds.
const CHECK_NS: u64 = 1_000_000_000;

/// A plan whose predictions are checked.
pub(super) struct Checked<'a> {
    pub(super) pool: &'a CandidatePool,
    pub(super) report: &'a PlanReport,
    pub(super) flows: FlowConfig,
}

impl Checked<'_> {
    /// Runs the plan: on the test flows, which chose nothing, or on the calibration split if there
    /// are none.
    pub(super) fn run(
        &self,
        book: &LabelBook,
        bundle: &mut Bundle,
        load: MeterLoad,
        wall: fn() -> u64,
    ) -> Result<Vec<Check>, SessionError> {
        let limits = EngineConfig { flows: self.flows, ..EngineConfig::default() };
        let (split, predicted) = match self.pool.test.truth.is_empty() {
            false => (Split::Test, &self.report.chosen.test),
            true => (Split::Val, &self.report.chosen.split),
        };
        let mut runs = Vec::new();
        for _ in 0..CHECKS {
            let run = evaluate(bundle, book, split, limits, &mut || wall(), &mut |_, _| {})?;
            runs.push(run.report);
        }
        let p50 = |run: &Report| run.latency_us.end_to_end.p50;
        runs.sort_by(|a, b| p50(a).total_cmp(&p50(b)));
        let measured = &runs[CHECKS / 2];
        let latency = &measured.latency_us.end_to_end;
        let of = |what: &str| format!("{what}, {} flows", split.name());
        let ratio = |what: &str, unit, predicted, measured| {
            Check::ratio(&of(what), unit, predicted, measured, RATIO_TOLERANCE)
        };
        let load = MeterLoad { run_ns: load.run_ns.max(CHECK_NS), ..load };
        let service = ServiceRate::new(book, split, self.flows, load, wall);
        // All stages inline: the prediction is the capacity of one core.
        bundle.place(&vec![0; bundle.plan.stages.len()]);
        let served = (0..CHECKS).map(|_| service.serve(&bundle.cascade, &bundle.models));
        let served_ns = served.fold(f64::INFINITY, f64::min);
        // The cost of packets outside of stages grows with the packets of a flow.
        let packets = service.packets_per_flow / self.pool.packets_per_flow;
        let flow_ns = predicted.cpu_ns + self.pool.idle_flow_ns * (packets - 1.0);
        let capacity = |ns: f64| 1e9 / ns.max(1e-9);
        Ok(vec![
            Check::points(&of("macro-F1"), predicted.macro_f1, measured.macro_f1, F1_TOLERANCE),
            Check::points(&of("accuracy"), predicted.accuracy, measured.accuracy, F1_TOLERANCE),
            ratio("median latency", "us", predicted.p50_us, latency.p50),
            ratio("99th percentile of latency", "us", predicted.p99_us, latency.p99),
            ratio("capacity of a core", "flows/s", capacity(flow_ns), capacity(served_ns)),
        ])
    }
}
