//! `[relief]`: when gates are loosened under load, and tightened again.

use super::{Config, ConfigError};
use crate::service::DegradationLimits;
use serde::Deserialize;

/// `[relief]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedDegradation {
    /// Whether gates are loosened at all.
    pub enabled: Option<bool>,
    /// Share of a lane's room from which it is under pressure.
    pub lane_high: Option<f64>,
    /// Share of a lane's room below which it is at ease.
    pub lane_low: Option<f64>,
    /// Age that one verdict in a hundred may exceed, milliseconds; 0 is none.
    pub p99_ms: Option<u64>,
    /// Time between two steps that loosen, milliseconds.
    pub step_ms: Option<usize>,
    /// Time at ease before a step that tightens, milliseconds.
    pub hold_ms: Option<usize>,
}

impl TypedDegradation {
    /// Fills what was not typed, and checks it.
    pub(super) fn check(&self) -> Result<DegradationLimits, ConfigError> {
        const MS: u64 = 1_000_000;
        let default = DegradationLimits::default();
        let share = |typed: Option<f64>, default: u32| {
            typed.map_or(default, |share| (share * 1000.0).round().clamp(-1.0, 1001.0) as u32)
        };
        let (high, low) = (share(self.lane_high, default.high), share(self.lane_low, default.low));
        for (key, typed) in [("lane_high", self.lane_high), ("lane_low", self.lane_low)] {
            if let Some(found) = typed.filter(|share| !(0.0..=1.0).contains(share)) {
                let message = format!("expected a share from 0 to 1, found {found}");
                return Err(ConfigError::Wrong { key: format!("relief.{key}"), message });
            }
        }
        if low >= high {
            // The one that is typed, or else its neighbour is the default.
            let key = if self.lane_low.is_some() { "lane_low" } else { "lane_high" };
            let (low, high) = (f64::from(low) / 1e3, f64::from(high) / 1e3);
            let message = format!(
                "expected a lane_low that is below lane_high, found lane_low = {low} and lane_high = {high}"
            );
            return Err(ConfigError::Wrong { key: format!("relief.{key}"), message });
        }
        let ms = |key, typed: Option<usize>, default: u64| {
            let typed = typed.unwrap_or((default / MS) as usize);
            Config::within(key, typed, 3_600_000).map(|()| typed as u64 * MS)
        };
        Ok(DegradationLimits {
            is_on: self.enabled.unwrap_or(default.is_on),
            high,
            low,
            p99_ns: self.p99_ms.filter(|&ms| ms > 0).map(|ms| ms.saturating_mul(MS)),
            step_ns: ms("relief.step_ms", self.step_ms, default.step_ns)?,
            hold_ns: ms("relief.hold_ms", self.hold_ms, default.hold_ns)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_typed_has_a_default_and_nonsense_is_refused() {
        let checked = |text: &str| {
            toml::from_str::<TypedDegradation>(text)
                .unwrap()
                .check()
                .map_err(|error| error.to_string())
        };
        assert_eq!(checked("").unwrap(), DegradationLimits::default());
        let limits = checked("p99_ms = 5\nlane_high = 0.9\nhold_ms = 10").unwrap();
        assert_eq!(
            (limits.p99_ns, limits.high, limits.hold_ns),
            (Some(5_000_000), 900, 10_000_000)
        );
        for (text, key) in [
            ("lane_high = 2.0", "relief.lane_high"),
            ("lane_low = -0.5", "relief.lane_low"),
            ("lane_low = 0.6", "relief.lane_low"),
            ("lane_high = nan", "relief.lane_high"),
            ("lane_high = 0.1", "relief.lane_high"),
        ] {
            let error = checked(text).unwrap_err();
            assert!(error.starts_with(key) && error.contains("found"), "{text}: {error}");
        }
        assert!(checked("step_ms = 0").unwrap_err().contains("relief.step_ms"));
    }
}
