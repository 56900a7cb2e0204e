//! Models of other libraries among the candidates: the stages of external bundles.

use super::SessionError;
use crate::pipeline::{Tier, TrainPlan};
use crate::planner::external::ExternalModel;
use serveflow_model::bundle::{self, Bundle, Files, FlowPlan, StagePlan};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The stages of external bundles as candidates. Their features must be those of this training.
pub(super) fn external_models(
    bundles: &[PathBuf],
    train: &TrainPlan,
    features: &[Vec<String>],
) -> Result<Vec<ExternalModel>, SessionError> {
    let mut models: Vec<ExternalModel> = Vec::new();
    for path in bundles {
        let bundle = Bundle::load(path)?;
        let (_, files) = bundle::read_unsigned(path)?;
        let flows = FlowPlan::from_config(&train.flows);
        if bundle.plan.flows != flows {
            let found = &bundle.plan.flows;
            return Err(refused(
                path,
                format!("expected the flow rules {flows:?}, found {found:?}"),
            ));
        }
        let from = External { path, bundle: &bundle, files: &files };
        for at in 0..bundle.plan.stages.len() {
            let model = from.model(at, train, features)?;
            if models.iter().any(|other| other.name == model.name) {
                return Err(from.refused(at, "a name that no other stage has"));
            }
            models.push(model);
        }
    }
    Ok(models)
}

fn refused(path: &Path, message: String) -> SessionError {
    SessionError::Option { option: format!("--external-bundle {}", path.display()), message }
}

/// An external bundle.
struct External<'a> {
    path: &'a Path,
    bundle: &'a Bundle,
    files: &'a Files,
}

impl External<'_> {
    fn stage(&self, at: usize) -> &StagePlan {
        &self.bundle.plan.stages[at]
    }

    fn refused(&self, at: usize, expected: &str) -> SessionError {
        refused(self.path, format!("stage `{}`: expected {expected}", self.stage(at).name))
    }

    /// A stage as a candidate.
    fn model(
        &self,
        at: usize,
        train: &TrainPlan,
        features: &[Vec<String>],
    ) -> Result<ExternalModel, SessionError> {
        let stage = self.stage(at);
        let spec = self.bundle.cascade.stages()[at].features.spec();
        if (spec.layout, &spec.masks) != (train.layout, &train.masks) {
            return Err(
                self.refused(at, "the headers and masks of this training (--headers, --mask)")
            );
        }
        let Some(set) = features.iter().position(|set| *set == stage.features) else {
            let found = stage.features.join("+");
            let expected = "the encoders of --features or of one --extra-features";
            return Err(self.refused(at, &format!("{expected}, found {found}")));
        };
        let keeps = |name: &String| {
            let file = self.files.get(name).expect("the bundle was read with its files");
            (name.clone(), file.clone())
        };
        Ok(ExternalModel {
            name: stage.name.clone(),
            labels: self.bundle.plan.labels.clone(),
            packets: if stage.window { Tier::WINDOW } else { stage.packets },
            wait_ms: stage.wait_ms,
            features: set,
            files: stage.model.columns.iter().chain([&stage.model.file]).map(keeps).collect(),
            plan: stage.model.clone(),
            model: Arc::clone(&self.bundle.models[at]),
        })
    }
}
