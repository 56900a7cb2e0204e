//! Gates as they are written, checked and bound.

use super::{BundleError, GatePlan, LEARNED, ModelPlan, Plan, StagePlan, unknown};
use serveflow_core::deferral::{Deferral, Head, OUTCOMES, facts_shape};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::Model;
use std::sync::Arc;

/// Reads a model that a stage names.
type Load<'a> = dyn Fn(&StagePlan, &ModelPlan) -> Result<Arc<dyn Model>, BundleError> + 'a;

/// The gate of a stage; the last one needs none.
pub(super) fn checked_gate(
    plan: &Plan,
    index: usize,
    load: &Load<'_>,
) -> Result<Gate, BundleError> {
    let stage = &plan.stages[index];
    match &stage.gate {
        Some(gate) if gate.rule == LEARNED => learned(plan, index, gate, load),
        Some(gate) => doubt(plan, stage, gate),
        None if index + 1 == plan.stages.len() => Ok(Gate::never()),
        None => Err(refused(stage, "missing: only the last stage has none")),
    }
}

fn refused(stage: &StagePlan, message: &str) -> BundleError {
    BundleError::Gate { stage: stage.name.clone(), message: message.to_owned() }
}

/// A threshold that is no number holds back every flow, and one without end holds back none.
fn finite(stage: &StagePlan, key: &str, found: f32) -> Result<f32, BundleError> {
    if found.is_finite() {
        return Ok(found);
    }
    Err(refused(stage, &format!("{key}: expected a finite number, found {found}")))
}

fn learned(
    plan: &Plan,
    index: usize,
    gate: &GatePlan,
    load: &Load<'_>,
) -> Result<Gate, BundleError> {
    let stage = &plan.stages[index];
    if gate.threshold.is_some() || gate.thresholds.is_some() {
        return Err(refused(stage, "a learned gate has heads and no threshold"));
    }
    if gate.heads.is_empty() {
        return Err(refused(stage, "expected a head for a later stage, found none"));
    }
    let mut heads = Vec::new();
    for head in &gate.heads {
        let to = plan.stages.iter().position(|other| other.name == head.to);
        let to = to.filter(|&to| to > index).ok_or_else(|| {
            refused(stage, &format!("a head leads to `{}`, which is no later stage", head.to))
        })?;
        let model = load(stage, &head.model)?;
        let (expected, found) = (facts_shape(plan.labels.len()), model.shape());
        if found != expected || model.classes() != OUTCOMES {
            return Err(refused(
                stage,
                &format!(
                    "{}: expected a head of {} numbers and {OUTCOMES} outcomes, found {} words, {} \
                     numbers and {} classes",
                    head.model.file,
                    expected.numbers,
                    found.words,
                    found.numbers,
                    model.classes()
                ),
            ));
        }
        if !head.price.is_finite() {
            let (to, found) = (&head.to, head.price);
            let message = format!("cost of `{to}`: expected a finite number, found {found}");
            return Err(refused(stage, &message));
        }
        heads.push(Head { to, model, price: head.price });
    }
    Ok(Gate::Learned(Deferral::new(heads)))
}

fn doubt(plan: &Plan, stage: &StagePlan, gate: &GatePlan) -> Result<Gate, BundleError> {
    if !gate.heads.is_empty() {
        return Err(refused(stage, &format!("only a gate of rule `{LEARNED}` has heads")));
    }
    let mut known = Uncertainty::ALL.map(Uncertainty::name).to_vec();
    known.push(LEARNED);
    let measure = Uncertainty::from_name(&gate.rule)
        .ok_or_else(|| unknown(stage, "gate.rule", &gate.rule, &known))?;
    let threshold = match (gate.threshold, &gate.thresholds) {
        (Some(threshold), None) => Threshold::Universal(finite(stage, "threshold", threshold)?),
        (None, Some(by_label)) => {
            if let Some(label) = by_label.keys().find(|label| !plan.labels.contains(label)) {
                let message = format!("threshold for `{label}`, which is no label");
                return Err(refused(stage, &message));
            }
            let missing =
                |label: &String| refused(stage, &format!("no threshold for label `{label}`"));
            let of = |label: &String| {
                let threshold = by_label.get(label).ok_or_else(|| missing(label))?;
                finite(stage, &format!("thresholds.{label}"), *threshold)
            };
            let all = plan.labels.iter().map(of);
            Threshold::PerClass(all.collect::<Result<_, _>>()?)
        }
        _ => return Err(refused(stage, "expected either `threshold` or `thresholds`")),
    };
    Ok(Gate::Uncertainty { measure, threshold })
}

/// A gate at each level of degradation.
pub(super) fn relieved(plan: &Plan, index: usize, gate: &Gate) -> Result<Vec<Gate>, BundleError> {
    if index + 1 == plan.stages.len() {
        return Ok(Vec::new());
    }
    let stage = &plan.stages[index];
    let level = |numbers: Option<&Vec<f32>>| {
        let numbers = numbers.map(Vec::as_slice).unwrap_or_default();
        let wanted = |count: usize| {
            let message = format!(
                "expected {count} numbers at each level of degradation, found {}",
                numbers.len()
            );
            refused(stage, &message)
        };
        for &number in numbers {
            finite(stage, "degradation", number)?;
        }
        match gate {
            Gate::Uncertainty { measure, .. } => match *numbers {
                [threshold] => Ok(Gate::Uncertainty {
                    measure: *measure,
                    threshold: Threshold::Universal(threshold),
                }),
                _ => Err(wanted(1)),
            },
            Gate::Learned(deferral) if deferral.heads().len() == numbers.len() => {
                let heads = deferral.heads().iter().zip(numbers);
                let heads = heads.map(|(head, &price)| Head { price, ..head.clone() });
                Ok(Gate::Learned(Deferral::new(heads.collect())))
            }
            Gate::Learned(deferral) => Err(wanted(deferral.heads().len())),
        }
    };
    plan.degradation.iter().map(|degradation| level(degradation.gates.get(index))).collect()
}
