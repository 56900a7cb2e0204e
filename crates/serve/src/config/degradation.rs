//! `[degradation]`: when gates are loosened under load, and tightened again.

use super::{Config, ConfigError};
use crate::service::DegradationLimits;
use serde::Deserialize;

/// `[degradation]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedDegradation {
    /// Whether gates are loosened at all.
    pub enabled: Option<bool>,
    /// Share of a lane's room from which it is under pressure.
    pub high_watermark: Option<f64>,
    /// Share of a lane's room below which it is at ease.
    pub low_watermark: Option<f64>,
    /// Age that one verdict in a hundred may exceed, milliseconds; 0 is none.
    pub p99_ms: Option<u64>,
    /// Time between two steps that loosen, milliseconds.
    pub step_ms: Option<usize>,
    /// Time at ease before a step that tightens, milliseconds.
    pub recover_ms: Option<usize>,
}

impl TypedDegradation {
    /// Fills what was not typed, and checks it.
    pub(super) fn check(&self) -> Result<DegradationLimits, ConfigError> {
        const MS: u64 = 1_000_000;
        let default = DegradationLimits::default();
        let share = |typed: Option<f64>, default: u32| {
            typed.map_or(default, |share| (share * 1000.0).round().clamp(-1.0, 1001.0) as u32)
        };
        let (high, low) =
            (share(self.high_watermark, default.high), share(self.low_watermark, default.low));
        for (key, typed) in
            [("high_watermark", self.high_watermark), ("low_watermark", self.low_watermark)]
        {
            if let Some(found) = typed.filter(|share| !(0.0..=1.0).contains(share)) {
                let message = format!("expected a share from 0 to 1, found {found}");
                return Err(ConfigError::Wrong { key: format!("degradation.{key}"), message });
            }
        }
        if low >= high {
            // The one that is typed, or else its neighbour is the default.
            let key = if self.low_watermark.is_some() { "low_watermark" } else { "high_watermark" };
            let (low, high) = (f64::from(low) / 1e3, f64::from(high) / 1e3);
            let message = format!(
                "expected a low_watermark that is below high_watermark, found low_watermark = \
                 {low} and high_watermark = {high}"
            );
            return Err(ConfigError::Wrong { key: format!("degradation.{key}"), message });
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
            step_ns: ms("degradation.step_ms", self.step_ms, default.step_ns)?,
            hold_ns: ms("degradation.recover_ms", self.recover_ms, default.hold_ns)?,
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
        let limits = checked("p99_ms = 5\nhigh_watermark = 0.9\nrecover_ms = 10").unwrap();
        assert_eq!(
            (limits.p99_ns, limits.high, limits.hold_ns),
            (Some(5_000_000), 900, 10_000_000)
        );
        for (text, key) in [
            ("high_watermark = 2.0", "degradation.high_watermark"),
            ("low_watermark = -0.5", "degradation.low_watermark"),
            ("low_watermark = 0.6", "degradation.low_watermark"),
            ("high_watermark = nan", "degradation.high_watermark"),
            ("high_watermark = 0.1", "degradation.high_watermark"),
        ] {
            let error = checked(text).unwrap_err();
            assert!(error.starts_with(key) && error.contains("found"), "{text}: {error}");
        }
        assert!(checked("step_ms = 0").unwrap_err().contains("degradation.step_ms"));
    }
}
