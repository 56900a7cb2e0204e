//! Models of other libraries among the candidates: the stages of external bundles.

use anyhow::Context;
use serveflow_model::LoadOptions;
use serveflow_model::bundle::{self, Bundle, FlowPlan};
use serveflow_train::pipeline::{Tier, TrainPlan};
use serveflow_train::planner::external::ExternalModel;
use std::path::PathBuf;
use std::sync::Arc;

/// The stages of external bundles as candidates. Their features must be those of this training.
pub(super) fn joined(
    bundles: &[PathBuf],
    models: &LoadOptions,
    plan: &TrainPlan,
    features: &[Vec<String>],
) -> anyhow::Result<Vec<ExternalModel>> {
    let mut joined: Vec<ExternalModel> = Vec::new();
    for path in bundles {
        let bundle = Bundle::open(path, models)?;
        let (_, files) = bundle::read_unsigned(path)?;
        let named = |what: &str| format!("--external-bundle {}: {what}", path.display());
        let flows = FlowPlan::from_config(&plan.flows);
        anyhow::ensure!(
            bundle.plan.flows == flows,
            named(&format!("expected the flow rules {flows:?}, found {:?}", bundle.plan.flows))
        );
        for (at, stage) in bundle.plan.stages.iter().enumerate() {
            let spec = bundle.cascade.stages()[at].features.spec();
            let own = |what: &str| named(&format!("stage `{}`: expected {what}", stage.name));
            anyhow::ensure!(
                (spec.layout, &spec.masks) == (plan.layout, &plan.masks),
                own("the headers and masks of this training (--headers, --mask)")
            );
            let set =
                features.iter().position(|set| *set == stage.features).with_context(|| {
                    own(&format!(
                        "the encoders of --features or of one --extra-features, found {}",
                        stage.features.join("+")
                    ))
                })?;
            anyhow::ensure!(
                !joined.iter().any(|other| other.name == stage.name),
                own("a name that no other stage has")
            );
            let keeps = |name: &String| {
                let file = files.get(name).expect("the bundle was read with its files");
                (name.clone(), file.clone())
            };
            joined.push(ExternalModel {
                name: stage.name.clone(),
                labels: bundle.plan.labels.clone(),
                packets: if stage.window { Tier::WINDOW } else { stage.packets },
                wait_ms: stage.wait_ms,
                features: set,
                files: stage.model.columns.iter().chain([&stage.model.file]).map(keeps).collect(),
                plan: stage.model.clone(),
                model: Arc::clone(&bundle.models[at]),
            });
        }
    }
    Ok(joined)
}
