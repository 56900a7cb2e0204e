//! Candidates that another library trained.

use super::pool::CandidateSpec;
use crate::pipeline::Kind;
use serveflow_core::lane::Model;
use serveflow_model::bundle::ModelPlan;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model that answers, and such as did not see one part of the training captures each.
pub(super) struct Answering {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) given: Option<ModelPlan>,
    pub(super) model: Arc<dyn Model>,
    pub(super) blind: Vec<Arc<dyn Model>>,
    pub(super) train_ns: u64,
}

/// A model that joins the candidates.
#[derive(Clone, Debug)]
pub struct ExternalModel {
    /// Name of the candidate.
    pub name: String,
    /// The labels that its scores are of.
    pub labels: Vec<String>,
    /// Packets that it sees, or the window.
    pub packets: u16,
    /// Longest wait for them, milliseconds after the flow's first.
    pub wait_ms: u64,
    /// Which of the plan's sets of features, by index.
    pub features: usize,
    /// How a plan names it.
    pub plan: ModelPlan,
    /// Its files, by the names in the plan.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The model itself.
    pub model: Arc<dyn Model>,
}

impl ExternalModel {
    /// The recipe of the model that is given at this place.
    pub(super) fn recipe(&self, at: usize) -> CandidateSpec {
        CandidateSpec {
            kind: Kind::Given,
            // Two models of one library differ in nothing else.
            size: Some(at),
            packets: self.packets,
            wait_ms: self.wait_ms,
            features: self.features,
        }
    }

    pub(super) fn answering(&self) -> Answering {
        Answering {
            name: self.name.clone(),
            file: self.plan.file.clone(),
            given: Some(self.plan.clone()),
            model: Arc::clone(&self.model),
            blind: Vec::new(),
            train_ns: 0,
        }
    }
}
