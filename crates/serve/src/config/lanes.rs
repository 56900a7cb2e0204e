//! `[lanes]` of `serveflow.toml`: where stages are scored, and what a full lane means.

use super::ConfigError;
use crate::lanes::BatchConfig;
use serde::Deserialize;
use serveflow_io::worker_loop::WhenFull;
use serveflow_model::bundle::{Bundle, LANE_NAMES};
use serveflow_model::{StageLanes, UnknownStage};
use std::collections::BTreeMap;

/// Leaves each stage in the lane that its plan says.
const PLAN: &str = "plan";
/// Leaves what a full lane means to the source.
const SOURCE: &str = "source";

/// `[lanes]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedLanes {
    /// The lane of all stages that are not named: `plan`, or the name of a lane.
    pub default: Option<String>,
    /// What is done about a full lane: `source`, `wait` or `shed`.
    pub when_full: Option<String>,
    /// Lanes by the name of their stage.
    pub stages: BTreeMap<String, String>,
    /// Limits of the batch lane.
    pub batch: TypedBatch,
}

/// `[lanes.batch]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedBatch {
    /// Threads that call models, for each worker.
    pub threads: Option<usize>,
    /// Most rows of a call.
    pub max_rows: Option<usize>,
    /// Longest that a job waits for others to join it, microseconds.
    pub max_wait_us: Option<usize>,
    /// How long after it was handed in a job is given up, milliseconds.
    pub deadline_ms: Option<usize>,
    /// Calls in a row that fail or are late until a stage's model is left alone.
    pub breaker_failures: Option<usize>,
    /// How long it is left alone at first, milliseconds.
    pub breaker_ms: Option<usize>,
}

impl TypedBatch {
    fn check(&self) -> Result<BatchConfig, ConfigError> {
        let usual = BatchConfig::default();
        let config = BatchConfig {
            threads: within("lanes.batch.threads", self.threads, usual.threads, 1, 256)?,
            max_rows: within("lanes.batch.max_rows", self.max_rows, usual.max_rows, 1, 1 << 16)?,
            // No job is to wait a second for others, and none ten minutes for an answer.
            max_wait_us: within(
                "lanes.batch.max_wait_us",
                self.max_wait_us,
                usual.max_wait_us,
                0,
                1_000_000,
            )?,
            deadline_ms: within(
                "lanes.batch.deadline_ms",
                self.deadline_ms,
                usual.deadline_ms,
                1,
                600_000,
            )?,
            breaker_failures: within(
                "lanes.batch.breaker_failures",
                self.breaker_failures,
                usual.breaker_failures,
                1,
                1_000_000,
            )?,
            // A breaker that opens again and again stays open for a minute at most.
            breaker_ms: within(
                "lanes.batch.breaker_ms",
                self.breaker_ms,
                usual.breaker_ms,
                1,
                60_000,
            )?,
        };
        Ok(config)
    }
}

/// What was typed for a limit, or else what is usual.
fn within<T: TryFrom<usize>>(
    key: &'static str,
    typed: Option<usize>,
    usual: T,
    least: usize,
    most: usize,
) -> Result<T, ConfigError> {
    match typed {
        None => Ok(usual),
        Some(found) if found < least => Err(ConfigError::Zero { key }),
        Some(found) if found > most => Err(ConfigError::TooLarge { key, most, found }),
        Some(found) => T::try_from(found).map_err(|_| ConfigError::TooLarge { key, most, found }),
    }
}

/// What the operator says of lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneConfig {
    /// Where stages are scored.
    pub stages: StageLanes,
    /// What is done about a full lane, whatever the source.
    when_full: Option<WhenFull>,
    /// Limits of the batch lane.
    pub batch: BatchConfig,
}

impl TypedLanes {
    /// Checks all that can be checked without a bundle.
    pub(super) fn check(&self) -> Result<LaneConfig, ConfigError> {
        let all = self.default.as_ref().map_or(Ok(None), |name| lane("lanes.default", name))?;
        let all = all.map_or_else(StageLanes::default, StageLanes::all_in);
        let stages = self.stages.iter().try_fold(all, |stages, (stage, name)| {
            let lane = lane(&format!("lanes.stages.\"{stage}\""), name)?;
            Ok(stages.with_stage(stage, lane))
        })?;
        let when_full = match self.when_full.as_deref() {
            None | Some(SOURCE) => None,
            Some("wait") => Some(WhenFull::Wait),
            Some("shed") => Some(WhenFull::Shed),
            Some(found) => return Err(unknown("lanes.when_full", found, "source, wait, shed")),
        };
        Ok(LaneConfig { stages, when_full, batch: self.batch.check()? })
    }
}

/// A lane by its name; none where the plan is to say.
fn lane(key: &str, name: &str) -> Result<Option<usize>, ConfigError> {
    if name == PLAN {
        return Ok(None);
    }
    let lane = LANE_NAMES.iter().position(|&known| known == name);
    let expected = || format!("{PLAN}, {}", LANE_NAMES.join(", "));
    lane.map(Some).ok_or_else(|| unknown(key, name, &expected()))
}

/// A stage is named that the bundle does not have.
pub(super) fn unknown_stage(error: &UnknownStage) -> ConfigError {
    let key = format!("lanes.stages.\"{}\"", error.found);
    ConfigError::Wrong { key, message: error.to_string() }
}

fn unknown(key: &str, found: &str, expected: &str) -> ConfigError {
    ConfigError::Unknown {
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

impl LaneConfig {
    /// The lane of each stage of a bundle, by lane index: what the operator typed for the stage, or
    /// else for all, or else what the plan says.
    ///
    /// # Errors
    /// When a stage was named that the bundle does not have.
    pub fn places(&self, bundle: &Bundle) -> Result<Vec<usize>, ConfigError> {
        let stages = bundle.cascade.stages();
        let names = stages.iter().map(|stage| stage.name.as_str());
        self.stages.check(names).map_err(|error| unknown_stage(&error))?;
        let planned = |name: &str| LANE_NAMES.iter().position(|&known| known == name);
        let place = |(index, stage): (usize, &serveflow_core::engine::Stage)| {
            let planned = planned(&bundle.plan.stages[index].lane).unwrap_or(stage.lane);
            self.stages.of(&stage.name, planned)
        };
        Ok(stages.iter().enumerate().map(place).collect())
    }

    /// What a worker does about a full lane. A source that can wait, as a capture can, is made to,
    /// so that none of its flows is shed; one that cannot loses no packet to a slow model.
    #[must_use]
    pub fn when_full(&self, source_waits: bool) -> WhenFull {
        let by_source = if source_waits { WhenFull::Wait } else { WhenFull::Shed };
        self.when_full.unwrap_or(by_source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_model::LoadOptions;
    use std::path::Path;

    fn checked(text: &str) -> Result<LaneConfig, String> {
        let typed: TypedLanes = toml::from_str(text).unwrap();
        typed.check().map_err(|error| error.to_string())
    }

    fn bundle() -> Bundle {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol/bundle");
        Bundle::open(&dir, &LoadOptions::default()).unwrap()
    }

    #[test]
    fn a_stage_goes_where_it_is_named_then_where_all_go_then_where_the_plan_says() {
        let mut bundle = bundle();
        let places = |text: &str, bundle: &Bundle| checked(text).unwrap().places(bundle).unwrap();
        assert_eq!(places("", &bundle), [0, 0, 0]);
        assert_eq!(places("default = \"thread\"", &bundle), [1, 1, 1]);
        let named =
            "default = \"thread\"\n[stages]\n\"tree@1\" = \"plan\"\n\"boosted@1\" = \"inline\"";
        assert_eq!(places(named, &bundle), [0, 0, 1]);
        bundle.place(&[0, 1, 1]);
        let lanes: Vec<usize> = bundle.cascade.stages().iter().map(|stage| stage.lane).collect();
        assert_eq!(lanes, [0, 1, 1]);
        assert_eq!(
            places("default = \"plan\"", &bundle),
            [0, 0, 0],
            "the plan is what was written"
        );
    }

    #[test]
    fn what_is_not_known_is_refused_beside_what_is() {
        let error = checked("default = \"gpu\"").unwrap_err();
        assert_eq!(
            error,
            "lanes.default: expected one of plan, inline, thread, batch, found `gpu`"
        );
        let error = checked("[stages]\n\"tree@1\" = \"fast\"").unwrap_err();
        assert!(error.starts_with("lanes.stages.\"tree@1\": expected one of plan"), "{error}");
        let error = checked("when_full = \"drop\"").unwrap_err();
        assert!(error.contains("source, wait, shed") && error.contains("`drop`"), "{error}");
        let lanes = checked("[stages]\n\"tree@2\" = \"thread\"").unwrap();
        let error = lanes.places(&bundle()).unwrap_err().to_string();
        assert_eq!(
            error,
            "lanes.stages.\"tree@2\": expected a stage of the bundle: tree@1, boosted@1, \
             boosted@10, found `tree@2`"
        );
        assert!(toml::from_str::<TypedLanes>("boosted = \"thread\"").is_err());
    }

    #[test]
    fn the_limits_of_batches_are_those_typed_and_are_held_to_their_ranges() {
        assert_eq!(checked("").unwrap().batch, BatchConfig::default());
        let typed = "[batch]\nthreads = 2\nmax_rows = 3\nmax_wait_us = 0\ndeadline_ms = 5\n\
            breaker_failures = 6\nbreaker_ms = 7";
        let expected = BatchConfig {
            threads: 2,
            max_rows: 3,
            max_wait_us: 0,
            deadline_ms: 5,
            breaker_failures: 6,
            breaker_ms: 7,
        };
        assert_eq!(checked(typed).unwrap().batch, expected);
        for (key, most) in [
            ("threads", 256),
            ("max_rows", 65_536),
            ("max_wait_us", 1_000_000),
            ("deadline_ms", 600_000),
            ("breaker_failures", 1_000_000),
            ("breaker_ms", 60_000),
        ] {
            let of = |value: usize| checked(&format!("[batch]\n{key} = {value}"));
            assert!(of(most).is_ok());
            let found = most + 1;
            let words = format!("lanes.batch.{key}: expected at most {most}, found {found}");
            assert_eq!(of(found).unwrap_err(), words);
            if key != "max_wait_us" {
                let words = format!("lanes.batch.{key}: expected at least 1, found 0");
                assert_eq!(of(0).unwrap_err(), words);
            }
        }
        assert!(toml::from_str::<TypedLanes>("[batch]\nrows = 1").is_err());
    }

    #[test]
    fn a_source_that_can_wait_is_made_to_unless_the_operator_says_otherwise() {
        let of = |text: &str| [true, false].map(|waits| checked(text).unwrap().when_full(waits));
        assert_eq!(of(""), [WhenFull::Wait, WhenFull::Shed]);
        assert_eq!(of("when_full = \"source\""), of(""));
        assert_eq!(of("when_full = \"wait\""), [WhenFull::Wait; 2]);
        assert_eq!(of("when_full = \"shed\""), [WhenFull::Shed; 2]);
    }
}
