//! Checks the interpretation of a model on the calibration flows: they show whether another order
//! of classes or columns, or another missing value, fits far better.

use super::add::Taken;
use anyhow::{anyhow, bail};
use serveflow_core::features::{FeatureSpec, Features};
use serveflow_core::gate::best_class;
use serveflow_core::lane::Model;
use serveflow_core::rows::{Rows, Scores};
use serveflow_label::Split;
use serveflow_model::bundle::{self, Bundle, Files, ModelPlan, Plan, StagePlan};
use serveflow_model::formats::{FOREST, REMOTE, is_forest};
use serveflow_train::fit::{FitGain, MOST_CLASSES, class_order, is_explained, order_found};
use serveflow_train::metrics::Confusion;
use serveflow_train::recalibrate::CalibrationFlows;
use serveflow_train::scoring::score_all;
use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

/// Flows of a split that other readings are tried on; nets take longer for each.
const MOST_TRIED: [usize; 2] = [2_000, 300];
/// Flows of the split `train` from which on it tells something.
const LEAST_TRAINED: usize = 50;
/// Usual missing values: zeros of a sparse matrix, and the -1 of nPrint for absent bits.
const MISSING: [(&str, f32); 2] = [("zero", 0.0), ("-1", -1.0)];
/// How the names of the formats begin whose files do not say what is missing.
pub(super) const XGBOOST: &str = "xgboost";
/// Where the names of columns stand while they are tried.
const TRIED: &str = "models/tried.columns.txt";

/// Remark on an order of classes under which most labels stay wrong.
const DOUBTFUL: &str = "most labels stay wrong with it, so the order of the columns (--columns) is \
                        as likely the cause";

/// A reading that fits better, and how to ask for it.
struct Better {
    what: String,
    /// None where it fits better, and is not likely to be what is wrong.
    option: Option<String>,
    gain: FitGain,
}

/// The answers of the stage's model to the calibration flows, and what they are worth.
pub(super) struct Held {
    /// What is told of it.
    pub(super) text: String,
    /// Why it is refused, unless it is to be taken all the same.
    pub(super) refusal: Option<String>,
}

/// Scores the calibration flows and looks for a reading that fits them far better.
pub(super) fn hold(
    taken: &Taken<'_>,
    trial: &Bundle,
    flows: &CalibrationFlows,
) -> anyhow::Result<Held> {
    let at = taken.at;
    let (stage, labels) = (&taken.plan.stages[at], &taken.plan.labels);
    let rows = &flows.rows[at];
    let scores = score_all(trial.models[at].as_ref(), rows);
    let scores = match scores {
        Ok(scores) => scores,
        Err(error) => bail!("{}: stage `{}`: {}", taken.file, stage.name, error.message),
    };
    let answers = answers(&scores);
    let pairs = flows.truth.iter().copied().zip(answers.iter().copied());
    let table = Confusion::of(labels.len(), pairs);
    let mut text = format!(
        "stage `{}` alone on {} calibration flows: accuracy {:.4}, macro-F1 {:.4}\n",
        stage.name,
        rows.len(),
        table.accuracy(),
        table.macro_f1()
    );
    let mut better = Vec::new();
    let parts = Parts::of(taken, trial, flows)?;
    if labels.len() > MOST_CLASSES {
        text.push_str("other orders of the classes are not checked: too many classes\n");
    } else if let Some((label_of, gain)) = parts.class_order(labels.len()) {
        let classes = || format!("--classes {}", classes_in(stage, labels, &label_of).join(","));
        let option = parts.explains(&label_of).then(classes);
        better.push(Better { what: "another order of classes".to_owned(), option, gain });
    }
    tried(taken, &parts, &mut better)?;
    better.retain(|better| better.gain.is_better());
    better.sort_by(|a, b| b.gain.lower.total_cmp(&a.gain.lower));
    let refusal = better.first().filter(|better| better.gain.is_far_better());
    let refusal = refusal.map(|better| {
        let cure = match &better.option {
            Some(option) => format!("use {option}"),
            None => DOUBTFUL.to_owned(),
        };
        format!(
            "{}: the calibration flows fit {} far better: {}\n{cure}, or --accept to keep the \
             given one",
            taken.file,
            better.what,
            figures(&better.gain),
        )
    });
    if refusal.is_none() {
        for better in better.iter().take(1) {
            let what = &better.what;
            let option = better.option.as_deref().unwrap_or(DOUBTFUL);
            let _ = writeln!(
                text,
                "note: {what} ({option}) fits them better: {}",
                figures(&better.gain)
            );
        }
    }
    Ok(Held { text, refusal })
}

fn figures(gain: &FitGain) -> String {
    format!(
        "accuracy {:.4} as given, {:.4} with the other, on {} flows (at least {:.4} more \
         with 99.9 % confidence)",
        gain.taken, gain.other, gain.flows, gain.lower
    )
}

/// The label that each row of scores is for.
fn answers(scores: &Scores) -> Vec<u16> {
    (0..scores.len()).map(|row| best_class(scores.row(row)).0).collect()
}

/// The model's classes under another order of the labels.
fn classes_in(stage: &StagePlan, labels: &[String], label_of: &[u16]) -> Vec<String> {
    let own = if stage.model.classes.is_empty() { labels } else { &stage.model.classes };
    let other = |class: &String| {
        let at = labels.iter().position(|label| label == class).unwrap_or(0);
        labels[usize::from(label_of[at])].clone()
    };
    own.iter().map(other).collect()
}

/// Flows of one split, and the answers to them as the model was taken.
struct Part {
    rows: Rows,
    truth: Vec<u16>,
    taken: Vec<u16>,
}

/// The calibration flows, and flows of the split `train` if there are enough.
struct Parts {
    val: Part,
    train: Option<Part>,
}

impl Parts {
    fn of(taken: &Taken<'_>, trial: &Bundle, flows: &CalibrationFlows) -> anyhow::Result<Self> {
        let model = trial.models[taken.at].as_ref();
        let stage = &taken.plan.stages[taken.at].model;
        let trees = is_forest(&stage.format, &taken.files[&stage.file]);
        let most = MOST_TRIED[usize::from(!trees)];
        let part = |rows: &Rows, all: &[(usize, u16)]| {
            let step = all.len().div_ceil(most).max(1);
            let some: Vec<(usize, u16)> = all.iter().step_by(step).copied().collect();
            let mut own = Rows::with_capacity(rows.shape(), some.len());
            some.iter().for_each(|(row, _)| own.push_copy(rows, *row));
            let scores =
                score_all(model, &own).map_err(|e| anyhow!("{}: {}", taken.file, e.message))?;
            let truth = some.into_iter().map(|(_, label)| label).collect();
            Ok::<_, anyhow::Error>(Part { rows: own, truth, taken: answers(&scores) })
        };
        let val: Vec<(usize, u16)> = flows.truth.iter().copied().enumerate().collect();
        let val = part(&flows.rows[taken.at], &val)?;
        let train = flows.all.as_ref().map(|all| {
            let own = all.flows.iter().enumerate().filter(|(_, flow)| flow.split == Split::Train);
            let own: Vec<(usize, u16)> = own.filter_map(|(row, f)| Some((row, f.label?))).collect();
            part(&all.rows, &own)
        });
        let train = train.transpose()?.filter(|part| part.truth.len() >= LEAST_TRAINED);
        Ok(Self { val, train })
    }

    /// The order of classes that fits best, and what it gains on the calibration flows.
    fn class_order(&self, classes: usize) -> Option<(Vec<u16>, FitGain)> {
        let val = &self.val;
        let Some(train) = &self.train else {
            let order = class_order(&val.truth, &val.taken, &val.taken, classes)?;
            return Some((order.label_of, order.gain));
        };
        let label_of = order_found(&train.truth, &train.taken, classes)?;
        let other: Vec<u16> = val.taken.iter().map(|label| label_of[usize::from(*label)]).collect();
        let gain = FitGain::of(&val.truth, &val.taken, &other);
        Some((label_of, gain))
    }

    /// Whether the model's answers are right under an order of classes, on either split.
    fn explains(&self, label_of: &[u16]) -> bool {
        [Some(&self.val), self.train.as_ref()].into_iter().flatten().any(|part| {
            let other: Vec<u16> = part.taken.iter().map(|at| label_of[usize::from(*at)]).collect();
            is_explained(&part.truth, &other)
        })
    }

    /// What another reading gains: on each split, and told is the smaller.
    fn gain(&self, answers: &dyn Fn(&Rows) -> Option<Vec<u16>>) -> Option<FitGain> {
        let gains = [Some(&self.val), self.train.as_ref()].into_iter().flatten().map(|part| {
            answers(&part.rows).map(|other| FitGain::of(&part.truth, &part.taken, &other))
        });
        let gains = gains.collect::<Option<Vec<FitGain>>>()?;
        gains.into_iter().min_by(|a, b| a.lower.total_cmp(&b.lower))
    }
}

/// Tries other orders of columns and other missing values.
fn tried(taken: &Taken<'_>, parts: &Parts, better: &mut Vec<Better>) -> anyhow::Result<()> {
    let stage = &taken.plan.stages[taken.at];
    let format = stage.model.format.as_str();
    // Remote models are not called for this, and forests of this project name their bits.
    if [FOREST, REMOTE].contains(&format) {
        return Ok(());
    }
    let mut try_one = |what: String, option: String, model: ModelPlan, names: Option<&[String]>| {
        let other = other_model(taken, model, names);
        let answers =
            |rows: &Rows| score_all(other.as_deref()?, rows).ok().map(|scores| answers(&scores));
        let option = Some(option);
        better.extend(parts.gain(&answers).map(|gain| Better { what, option, gain }));
    };
    for (what, names) in other_columns(stage, &taken.columns)? {
        let option = format!("--columns FILE with the names of the columns {what}");
        let columns = Some(TRIED.to_owned());
        let model = ModelPlan { columns, ..stage.model.clone() };
        try_one(format!("columns {what}"), option, model, Some(&names));
    }
    // Other libraries' files say themselves what is missing.
    if format.starts_with(XGBOOST) && stage.model.missing.is_none() {
        for (word, value) in MISSING {
            let model = ModelPlan { missing: Some(value), ..stage.model.clone() };
            let what = format!("{word} as the missing value");
            try_one(what, format!("--missing {word}"), model, None);
        }
    }
    Ok(())
}

/// The stage's model under another reading; none where it cannot be read so.
fn other_model(
    taken: &Taken<'_>,
    model: ModelPlan,
    names: Option<&[String]>,
) -> Option<Arc<dyn Model>> {
    let stage = StagePlan { model, gate: None, ..taken.plan.stages[taken.at].clone() };
    let file = stage.model.file.clone();
    let mut files = Files::new();
    files.insert(file.clone(), taken.files[&file].clone());
    if let Some(columns) = &stage.model.columns {
        let bytes = match names {
            Some(names) => (names.join("\n") + "\n").into_bytes(),
            None => taken.files[columns].clone(),
        };
        files.insert(columns.clone(), bytes);
    }
    let plan =
        Plan { stages: vec![stage], degradation: Vec::new(), drift: None, ..taken.plan.clone() };
    let bundle = Bundle::assemble(taken.dir, plan, &files, String::new()).ok()?;
    bundle.models.into_iter().next()
}

/// Orders in which a table of the same columns may have stood when the model was trained.
fn other_columns(
    stage: &StagePlan,
    taken: &[String],
) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let features = bundle::features(stage)?;
    let own: Vec<String> = features.columns().into_iter().map(|column| column.name).collect();
    let mut sorted = taken.to_vec();
    sorted.sort();
    let mut orders = vec![
        ("in the order of `serveflow features`".to_owned(), own),
        ("in reverse".to_owned(), taken.iter().rev().cloned().collect()),
        ("sorted as text".to_owned(), sorted.clone()),
        ("by field rather than by packet".to_owned(), by_field(taken)),
    ];
    for (words, names) in by_family(stage, &features, taken) {
        orders.push((words, names));
    }
    let mut seen: HashSet<Vec<String>> = HashSet::from([taken.to_vec()]);
    orders.retain(|(_, names)| {
        let mut own = names.clone();
        own.sort();
        own == sorted && seen.insert(names.clone())
    });
    Ok(orders)
}

/// The columns grouped by field instead of by packet.
fn by_field(names: &[String]) -> Vec<String> {
    let field = |name: &str| {
        let digits = name.strip_prefix("pkt").and_then(|rest| rest.split_once('_'));
        let parted = digits.filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit()));
        parted.map_or(name, |(_, field)| field).to_owned()
    };
    let mut first = std::collections::HashMap::new();
    for (at, name) in names.iter().enumerate() {
        first.entry(field(name)).or_insert(at);
    }
    let mut sorted = names.to_vec();
    sorted.sort_by_key(|name| first[&field(name)]);
    sorted
}

/// The groups of features in other orders.
fn by_family(
    stage: &StagePlan,
    features: &Features,
    taken: &[String],
) -> Vec<(String, Vec<String>)> {
    let spec = features.spec();
    let family = |encoder: &String| {
        let spec = FeatureSpec { encoders: vec![encoder.clone()], ..spec.clone() };
        let columns = Features::new(&spec).map(|own| own.columns()).unwrap_or_default();
        let own: HashSet<String> = columns.into_iter().map(|column| column.name).collect();
        (encoder.clone(), taken.iter().filter(|name| own.contains(*name)).cloned().collect())
    };
    let families: Vec<(String, Vec<String>)> = stage.features.iter().map(family).collect();
    let count = families.len();
    // All turns, forwards and backwards: for up to three groups these are all orders.
    let turns = (0..count).flat_map(|first| {
        [false, true].map(|back| {
            let place = move |at: usize| if back { first + count - at } else { first + at } % count;
            (0..count).map(place).collect::<Vec<usize>>()
        })
    });
    let order = |turn: Vec<usize>| {
        let words: Vec<&str> = turn.iter().map(|&at| families[at].0.as_str()).collect();
        let names = turn.iter().flat_map(|&at| families[at].1.iter().cloned()).collect();
        (format!("in groups in the order {}", words.join(", ")), names)
    };
    turns.map(order).collect()
}
