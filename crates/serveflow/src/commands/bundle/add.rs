//! `serveflow bundle add`: puts a model file into a stage, binds its columns, calibrates the gates.

use super::args::BundleAddArgs;
use super::classes::Classes;
use super::{expect, names, reading, stage_table};
use crate::commands::data_args::Labelled;
use crate::commands::{Session, label_book, labelled};
use anyhow::{Context, anyhow, bail, ensure};
use serveflow_core::FlowConfig;
use serveflow_core::features::Mask;
use serveflow_core::parse::Header;
use serveflow_label::LabelBook;
use serveflow_model::bundle::{
    self, Bundle, Files, FlowPlan, GatePlan, LEARNED, LanePlan, ModelPlan, PLAN_FORMAT, Plan,
    Provenance, StagePlan,
};
use serveflow_model::formats::{FORMATS, FormatHead, guess, is_forest};
use serveflow_train::calibrate::Target;
use serveflow_train::recalibrate::{CalibrationFlows, Wanted, calibration_flows, recalibrate};
use serveflow_train::scoring::score_all;
use std::path::Path;
use std::process::ExitCode;

/// Lane of models whose cost is unknown.
const SLOW_LANE: &str = "batch";
/// Accepts nothing: the threshold of a gate until it is calibrated.
const NEVER: f32 = -1.0;
/// Held by the command that writes a bundle.
const LOCK: &str = ".lock";

pub(crate) fn add(session: &Session, args: &BundleAddArgs) -> anyhow::Result<ExitCode> {
    ensure!(!args.stage.trim().is_empty(), "--stage: expected a name, found none");
    std::fs::create_dir_all(&args.bundle)
        .with_context(|| format!("{}: cannot write", args.bundle.display()))?;
    let lock = args.bundle.join(LOCK);
    let held = std::fs::File::create(&lock).with_context(|| lock.display().to_string())?;
    ensure!(
        held.try_lock().is_ok(),
        "{}: expected no other writer, found another command that writes",
        args.bundle.display()
    );
    let done = added(session, args);
    // A bundle that was not created leaves nothing behind.
    let _ = std::fs::remove_file(&lock);
    let _ = std::fs::remove_dir(&args.bundle);
    done
}

/// Adds the model, while the lock is held.
fn added(session: &Session, args: &BundleAddArgs) -> anyhow::Result<ExitCode> {
    let book = labels(session, args)?;
    let is_new = !args.bundle.join("plan.toml").exists();
    let (mut plan, mut files) = match is_new {
        true => (begin(session, args)?, Files::new()),
        false => {
            // Files that a user edited are not signed silently.
            Bundle::load(&args.bundle).with_context(|| {
                format!("{}: `serveflow bundle pack` accepts edited files", args.bundle.display())
            })?;
            bundle::read_unsigned(&args.bundle)?
        }
    };
    let bytes = bundle::model_file(&args.model)?;
    let (format, head) = head(args, &bytes)?;
    if plan.labels.is_empty() {
        plan.labels = first_labels(args, book.as_ref(), &head)?;
    }
    let at = place(args, &mut plan)?;
    let classes = Classes::find(args, &head, &plan.labels)?;
    let columns =
        put_model(args, &mut plan, &mut files, at, (format, head, bytes), &classes.names)?;
    session.say(&classes.text(&args.stage));
    let file = args.model.display().to_string();
    let taken = Taken { plan: &plan, files: &files, at, dir: &args.bundle, file, columns };
    let mut damaged = Vec::new();
    match &book {
        Some(book) => {
            let (trial, flows) = held(session, args, book, &taken)?;
            let wanted = wanted(args);
            let learned =
                |stage: &StagePlan| stage.gate.as_ref().is_some_and(|gate| gate.rule == LEARNED);
            if plan.stages.iter().any(learned) {
                session.say(
                    "thresholds replace the learned gates; `train --external-bundle` learns \
                     gates again\n",
                );
            }
            let found = recalibrate(&flows, &trial, wanted, &mut || session.wall_ns())?;
            let rule = LanePlan {
                budget_ns: args.lanes.inline_budget_us.saturating_mul(1_000),
                ..plan.lane_rule.unwrap_or_default()
            };
            let forest =
                |stage: &StagePlan| is_forest(&stage.model.format, &files[&stage.model.file]);
            let forests: Vec<bool> = plan.stages.iter().map(forest).collect();
            let typed = |index: usize| index == at && args.lane.is_some();
            found.write(&mut plan, wanted, &rule, &|index| typed(index) || !forests[index]);
            plan.provenance.labels_sha256.clone_from(&book.sha256);
            plan.provenance.flows.insert("val".to_owned(), found.flows);
            session.say(&format!(
                "macro-F1 on {} calibration flows: cascade {:.4}, last stage alone {:.4}\n",
                found.flows, found.calibrated.cascade_macro_f1, found.calibrated.slow_macro_f1
            ));
            damaged = flows.damaged;
        }
        None => {
            gates_stand(&plan, at)?;
            assembled(args, &taken)?;
            session.say("without --captures, the order of classes and columns is not checked\n");
        }
    }
    files.retain(|name, _| bundle::names(&plan).any(|named| named == name));
    let written = bundle::write(&args.bundle, &plan, files)?;
    session.say(&stage_table(&written));
    session.say(&format!("bundle {} written to {}\n", &written.id[..16], args.bundle.display()));
    Ok(crate::commands::ended(&damaged))
}

/// How gates are to be calibrated.
fn wanted(args: &BundleAddArgs) -> Wanted {
    Wanted {
        target: args.escalate.map_or(Target::MaxLoss(args.max_loss), Target::Escalate),
        measure: args.uncertainty,
        granularity: args.thresholds.into(),
    }
}

/// What was made of a model file.
pub(super) struct Taken<'a> {
    /// The plan with the stage.
    pub(super) plan: &'a Plan,
    /// The files that it names.
    pub(super) files: &'a Files,
    /// Where the stage stands.
    pub(super) at: usize,
    /// The bundle.
    pub(super) dir: &'a Path,
    /// The model file, as it was typed.
    pub(super) file: String,
    /// The model's columns in its order.
    pub(super) columns: Vec<String>,
}

/// The bundle that is to be written, its gates aside. Refusals name the files that were typed.
fn assembled(args: &BundleAddArgs, taken: &Taken<'_>) -> anyhow::Result<Bundle> {
    let dir = &args.bundle;
    let model = &taken.plan.stages[taken.at].model;
    let plan = unsettled(taken.plan);
    let bundle = Bundle::assemble(dir, plan, taken.files, String::new()).map_err(|error| {
        let error = error.told_of(&dir.join(&model.file), &args.model);
        match &model.columns {
            Some(columns) => {
                let typed = args.columns.as_ref().unwrap_or(&args.model);
                error.told_of(&dir.join(columns), typed)
            }
            None => error,
        }
    });
    Ok(bundle?)
}

/// The bundle and its calibration flows, on which the model was checked.
fn held(
    session: &Session,
    args: &BundleAddArgs,
    book: &LabelBook,
    taken: &Taken<'_>,
) -> anyhow::Result<(Bundle, CalibrationFlows)> {
    let trial = assembled(args, taken)?;
    labelled::surveyed(session, book, trial.flow_config())?;
    let flows = calibration_flows(book, &trial, Some(taken.at))?;
    if let (Some(path), Some(all)) = (&args.expect, &flows.all) {
        let stage = &taken.plan.stages[taken.at];
        let scores = score_all(trial.models[taken.at].as_ref(), &all.rows);
        let scores = scores.map_err(|error| anyhow!("{}: {}", taken.file, error.message))?;
        let labels = &taken.plan.labels;
        let classes = if stage.model.classes.is_empty() { labels } else { &stage.model.classes };
        let files = book.files.keys().collect();
        let answers =
            expect::Answers { flows: &all.flows, files, scores: &scores, labels, classes };
        session.say(&expect::hold(&answers, path, args.tolerance)?);
    }
    let found = reading::hold(taken, &trial, &flows)?;
    session.say(&found.text);
    let is_open = args.expect.is_none() && args.missing.is_none();
    if is_open && taken.plan.stages[taken.at].model.format.starts_with(reading::XGBOOST) {
        session.say(
            "note: an XGBoost file does not record the missing value (missing=, zeros of a sparse \
             matrix): set it with --missing and verify it with --expect\n",
        );
    }
    match found.refusal {
        Some(refusal) if !args.accept => bail!(refusal),
        Some(refusal) => session.say(&format!("accepted: {refusal}\n")),
        None => {}
    }
    Ok((trial, flows))
}

fn labels(session: &Session, args: &BundleAddArgs) -> anyhow::Result<Option<LabelBook>> {
    let Some(captures) = &args.captures else { return Ok(None) };
    let labelled = Labelled {
        captures: captures.clone(),
        labels: args.labels.clone(),
        labels_from: args.labels_from,
    };
    label_book(session, &labelled).map(Some)
}

/// A plan without stages.
fn begin(session: &Session, args: &BundleAddArgs) -> anyhow::Result<Plan> {
    let config = session.typed.check(&FlowConfig::default())?;
    Ok(Plan {
        format: PLAN_FORMAT.to_owned(),
        task: args.task.clone().unwrap_or_default(),
        labels: Vec::new(),
        flows: FlowPlan::from_config(&args.features.flows(config.engine.flows)),
        lane_rule: None,
        stages: Vec::new(),
        guarantee: None,
        degradation: Vec::new(),
        drift: None,
        provenance: Provenance {
            written_by: concat!("serveflow ", env!("CARGO_PKG_VERSION")).to_owned(),
            ..Provenance::default()
        },
    })
}

/// The format of the model file, and what the file says of itself.
fn head(args: &BundleAddArgs, bytes: &[u8]) -> anyhow::Result<(&'static str, FormatHead)> {
    let path = args.model.display();
    let extension = args.model.extension().unwrap_or_default().to_string_lossy();
    let guessed = || guess(bytes, &extension);
    let format = args.format.as_deref().or_else(guessed);
    let known = || FORMATS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
    let Some(format) = format else {
        bail!("{path}: expected a model of {}, found something else; --format names it", known());
    };
    let entry = FORMATS.iter().find(|entry| entry.name == format);
    let entry =
        entry.with_context(|| format!("{path}: expected one of {}, found {format}", known()))?;
    let head = (entry.head)(bytes).map_err(anyhow::Error::msg);
    Ok((entry.name, head.with_context(|| format!("{path}: {format}"))?))
}

/// The labels of a bundle that is begun.
fn first_labels(
    args: &BundleAddArgs,
    book: Option<&LabelBook>,
    head: &FormatHead,
) -> anyhow::Result<Vec<String>> {
    let of_book = book.map(|book| book.labels.clone()).unwrap_or_default();
    let all = [of_book, args.classes.clone(), head.labels.clone()];
    all.into_iter().find(|labels| !labels.is_empty()).context(
        "expected labels for a new bundle: give --classes, or labelled captures with --captures",
    )
}

/// Index of the stage; a new one comes after all that use as few packets.
fn place(args: &BundleAddArgs, plan: &mut Plan) -> anyhow::Result<usize> {
    let known = plan.stages.iter().position(|stage| stage.name == args.stage);
    if known.is_none() && args.packets.is_none() {
        let names: Vec<&str> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
        bail!(
            "--stage: expected one of the bundle's ({}), or --packets for a new one, found `{}`",
            names.join(", "),
            args.stage
        );
    }
    let at = known.unwrap_or_else(|| {
        let packets = args.packets.unwrap_or_default();
        let wait =
            |stage: &StagePlan| stage.packets <= packets && (args.at_window_end || !stage.window);
        plan.stages.iter().take_while(|stage| wait(stage)).count()
    });
    let Some(packets) = args.packets else { return Ok(at) };
    let stage = StagePlan {
        name: args.stage.clone(),
        packets,
        wait_ms: args.features.wait_ms,
        window: args.at_window_end,
        features: args.features.encoders(),
        headers: args
            .features
            .headers
            .iter()
            .map(|&header| Header::name(header).to_owned())
            .collect(),
        masks: args.features.masks().map(|mask| Mask::name(mask).to_owned()).collect(),
        lane: "inline".to_owned(),
        confidence: Vec::new(),
        unknown: None,
        model: ModelPlan::forest(String::new(), ""),
        gate: None,
        cost: None,
    };
    match known {
        Some(at) => plan.stages[at] = StagePlan { gate: plan.stages[at].gate.clone(), ..stage },
        None => plan.stages.insert(at, stage),
    }
    Ok(at)
}

/// Puts the model and its names into the plan and the files; returns the names of the model's
/// columns in its order.
fn put_model(
    args: &BundleAddArgs,
    plan: &mut Plan,
    files: &mut Files,
    at: usize,
    (format, head, bytes): (&'static str, FormatHead, Vec<u8>),
    classes: &[String],
) -> anyhow::Result<Vec<String>> {
    let labels = plan.labels.clone();
    let is_tree = is_forest(format, &bytes);
    ensure!(
        !(args.logits && is_tree),
        "--logits: expected a neural network, found {format} with trees"
    );
    let stage = &mut plan.stages[at];
    for old in stage.model.columns.iter().chain([&stage.model.file]) {
        files.remove(old);
    }
    let extension = args.model.extension().unwrap_or_default().to_string_lossy();
    let extension = if extension.is_empty() { "model" } else { &extension };
    let stem = free_stem(&args.stage, files);
    let file = format!("models/{stem}.{extension}");
    let features = columns(stage)?;
    let names = column_names(args, &head, &features)?;
    if let Some(found) = head.columns {
        as_many(args, found, if names.is_empty() { &features } else { &names })?;
    }
    let names = if names == features { Vec::new() } else { names };
    let in_order = if names.is_empty() { features } else { names.clone() };
    let columns = (!names.is_empty()).then(|| format!("models/{stem}.columns.txt"));
    if let Some(columns) = &columns {
        files.insert(columns.clone(), (names.join("\n") + "\n").into_bytes());
    }
    let classes = if classes == labels { Vec::new() } else { classes.to_vec() };
    files.insert(file.clone(), bytes);
    stage.model = ModelPlan {
        columns,
        classes,
        format: format.to_owned(),
        logits: args.logits,
        missing: args.missing,
        ..ModelPlan::forest(file, format)
    };
    stage.confidence.clear();
    stage.cost = None;
    // The flows that a stage decides depend on all stages, and so do open-set rules and drift.
    plan.stages.iter_mut().for_each(|stage| stage.unknown = None);
    plan.drift = None;
    // Degradation levels were planned with the stages as they were.
    plan.degradation.clear();
    let stage = &mut plan.stages[at];
    stage.lane = match &args.lane {
        Some(lane) => lane.clone(),
        None if is_tree => "inline".to_owned(),
        None => SLOW_LANE.to_owned(),
    };
    Ok(in_order)
}

/// A unique start of a stage's file names: stage names may differ in characters that file names
/// cannot have.
fn free_stem(stage: &str, files: &Files) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' };
    let stem: String = stage.chars().map(plain).collect();
    let is_free =
        |stem: &String| !files.keys().any(|name| name.starts_with(&format!("models/{stem}.")));
    let all = (1..).map(|n| if n == 1 { stem.clone() } else { format!("{stem}.{n}") });
    all.into_iter().find(is_free).expect("numbers do not end")
}

/// The names of the model's columns, from --columns or the model file; none if neither has them.
fn column_names(
    args: &BundleAddArgs,
    head: &FormatHead,
    features: &[String],
) -> anyhow::Result<Vec<String>> {
    let named = head.names.iter().any(|name| features.contains(name));
    Ok(match &args.columns {
        Some(path) => {
            let names = names::read(path)?;
            let other = names.iter().zip(&head.names).position(|(typed, own)| typed != own);
            if let Some(at) = other.filter(|_| named) {
                bail!(
                    "--columns: the model file names its columns, and its column {at} is `{}`: \
                     expected the same, found `{}`",
                    head.names[at],
                    names[at]
                );
            }
            names
        }
        // Unknown names are those that a library made up.
        None if named => head.names.clone(),
        None => Vec::new(),
    })
}

/// The names of a stage's columns.
fn columns(stage: &StagePlan) -> anyhow::Result<Vec<String>> {
    let features = bundle::features(stage)?;
    Ok(features.columns().into_iter().map(|column| column.name).collect())
}

/// Refuses a model that takes more or fewer columns than the stage has, by the first unmatched one.
fn as_many(args: &BundleAddArgs, found: usize, columns: &[String]) -> anyhow::Result<()> {
    let (expected, stage, model) = (columns.len(), &args.stage, args.model.display());
    if let Some(extra) = columns.get(found) {
        bail!(
            "{model}: stage `{stage}`: the model takes {found} columns, the stage has {expected}: \
             the model does not take `{extra}` and the columns after it; name its columns with \
             --columns"
        );
    }
    let last = columns.last().map_or("", String::as_str);
    ensure!(
        found == expected,
        "{model}: stage `{stage}`: the model takes {found} columns, the stage has {expected}: the \
         last is `{last}`, and the model's column {expected} has none; name its columns with \
         --columns"
    );
    Ok(())
}

/// The plan with gates that accept nothing, so that its models can score before the calibration.
fn unsettled(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    let gate = GatePlan {
        rule: "least_confidence".to_owned(),
        threshold: Some(NEVER),
        thresholds: None,
        calibration: None,
        heads: Vec::new(),
    };
    let last = plan.stages.len().saturating_sub(1);
    for (index, stage) in plan.stages.iter_mut().enumerate() {
        stage.gate = (index < last).then(|| gate.clone());
    }
    plan
}

/// Without labelled captures, gates must exist and must not depend on the replaced model.
fn gates_stand(plan: &Plan, at: usize) -> anyhow::Result<()> {
    const CALIBRATE: &str = "give labelled captures with --captures to calibrate it";
    let last = plan.stages.len().saturating_sub(1);
    for (index, stage) in plan.stages.iter().enumerate().take(last) {
        let Some(gate) = &stage.gate else {
            bail!("stage `{}`: expected a gate, found none; {CALIBRATE}", stage.name);
        };
        let leads = gate.heads.iter().any(|head| head.to == plan.stages[at].name);
        ensure!(
            !(gate.rule == LEARNED && (index == at || leads)),
            "stage `{}`: its gate was learned with the model that is replaced; {CALIBRATE}",
            stage.name
        );
        ensure!(
            index != at,
            "stage `{}`: its gate was calibrated for the model that is replaced; {CALIBRATE}",
            stage.name
        );
    }
    Ok(())
}
