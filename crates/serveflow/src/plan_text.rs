//! A plan's report as plain text.

use serveflow_train::planner::report::PlanReport;

/// The report, for a terminal.
#[must_use]
pub fn text(report: &PlanReport) -> String {
    format!("{report:#?}\n")
}
