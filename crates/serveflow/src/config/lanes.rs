//! `[lanes]` of `serveflow.toml`: where stages are scored, and what a full lane means.

use super::ConfigError;
use serde::Deserialize;
use serveflow_io::drive::WhenFull;
use serveflow_model::bundle::{Bundle, LANE_NAMES};
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
}

/// What the operator says of lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneConfig {
    /// A lane for all stages that are not named; none leaves them to the plan.
    all: Option<usize>,
    /// Lanes by the name of their stage; none leaves it to the plan.
    stages: BTreeMap<String, Option<usize>>,
    /// What is done about a full lane, whatever the source.
    when_full: Option<WhenFull>,
}

impl TypedLanes {
    /// Checks all that can be checked without a bundle.
    pub(super) fn check(&self) -> Result<LaneConfig, ConfigError> {
        let all = self.default.as_ref().map_or(Ok(None), |name| lane("lanes.default", name))?;
        let by_name = |(stage, name): (&String, &String)| {
            Ok((stage.clone(), lane(&format!("lanes.stages.\"{stage}\""), name)?))
        };
        let stages = self.stages.iter().map(by_name).collect::<Result<_, _>>()?;
        let when_full = match self.when_full.as_deref() {
            None | Some(SOURCE) => None,
            Some("wait") => Some(WhenFull::Wait),
            Some("shed") => Some(WhenFull::Shed),
            Some(found) => return Err(unknown("lanes.when_full", found, "source, wait, shed")),
        };
        Ok(LaneConfig { all, stages, when_full })
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
        let is_known = |name: &String| stages.iter().any(|stage| stage.name == *name);
        if let Some(found) = self.stages.keys().find(|&name| !is_known(name)) {
            let known: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
            return Err(unknown("lanes.stages", found, &known.join(", ")));
        }
        let planned = |name: &str| LANE_NAMES.iter().position(|&known| known == name);
        let place = |(index, stage): (usize, &serveflow_core::engine::Stage)| {
            let typed = self.stages.get(&stage.name).copied().unwrap_or(self.all);
            typed.or_else(|| planned(&bundle.plan.stages[index].lane)).unwrap_or(stage.lane)
        };
        Ok(stages.iter().enumerate().map(place).collect())
    }

    /// What a worker does about a full lane. A source that can wait, as a capture can, is made to, so
    /// that none of its flows is shed; one that cannot loses no packet to a slow model.
    #[must_use]
    pub fn when_full(&self, source_waits: bool) -> WhenFull {
        let by_source = if source_waits { WhenFull::Wait } else { WhenFull::Shed };
        self.when_full.unwrap_or(by_source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn checked(text: &str) -> Result<LaneConfig, String> {
        let typed: TypedLanes = toml::from_str(text).unwrap();
        typed.check().map_err(|error| error.to_string())
    }

    fn bundle() -> Bundle {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol/bundle");
        Bundle::load(&dir).unwrap()
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
        assert_eq!(error, "lanes.default: expected one of plan, inline, thread, found `gpu`");
        let error = checked("[stages]\n\"tree@1\" = \"fast\"").unwrap_err();
        assert!(error.starts_with("lanes.stages.\"tree@1\": expected one of plan"), "{error}");
        let error = checked("when_full = \"drop\"").unwrap_err();
        assert!(error.contains("source, wait, shed") && error.contains("`drop`"), "{error}");
        let lanes = checked("[stages]\n\"tree@2\" = \"thread\"").unwrap();
        let error = lanes.places(&bundle()).unwrap_err().to_string();
        assert_eq!(
            error,
            "lanes.stages: expected one of tree@1, boosted@1, boosted@10, found `tree@2`"
        );
        assert!(toml::from_str::<TypedLanes>("boosted = \"thread\"").is_err());
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
