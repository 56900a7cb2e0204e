//! The figures as one page that needs nothing else.

use super::figures::TrafficReport;

/// The page of `bench traffic`.
#[must_use]
pub fn traffic(report: &TrafficReport) -> String {
    super::text::report(report)
}
