//! What a reader should know, in sentences.

use super::report::{AuditReport, FieldReport, Warning, WarningKind};
use super::{
    DUPLICATE_SHARE, FEW_CAPTURES, IDENTITY_FLOOR, IDENTITY_SHARE, NEAREST_MARGIN, SPLIT_GAP,
    UNMASK_GAP,
};

/// All warnings that a report's figures call for.
pub(super) fn warnings(report: &AuditReport) -> Vec<Warning> {
    let all = [
        random_split(report),
        unmasked_random(report),
        unmasked_given(report),
        duplicates(report),
        nearest(report),
        shared_captures(report),
        unseen(report),
        few_captures(report),
    ];
    all.into_iter().flatten().chain(identities(report)).collect()
}

fn warn(when: bool, kind: WarningKind, sentence: impl FnOnce() -> String) -> Option<Warning> {
    when.then(|| Warning { kind, sentence: sentence() })
}

fn random_split(report: &AuditReport) -> Option<Warning> {
    let (given, random) = (&report.given.masked.macro_f1, &report.random.masked.macro_f1);
    warn(report.random_minus_given > SPLIT_GAP, WarningKind::RandomSplit, || {
        format!(
            "With flows dealt out at random the model seems better (macro-F1 {:.3}) than on the \
             split the data comes with ({:.3}): it partly recognises captures it has seen. Trust \
             the lower figure for traffic from elsewhere.",
            random.value, given.value
        )
    })
}

fn unmasked_random(report: &AuditReport) -> Option<Warning> {
    let gain = -report.random.masked_minus_unmasked.value;
    warn(gain > UNMASK_GAP, WarningKind::UnmaskedRandom, || {
        format!(
            "Addresses, ports and the like raise macro-F1 on the random split by {gain:.3}: they \
             identify the host or capture of a flow. Keep them masked, and distrust figures of \
             models that see them."
        )
    })
}

fn unmasked_given(report: &AuditReport) -> Option<Warning> {
    let gain = -report.given.masked_minus_unmasked.value;
    let way = if gain > 0.0 {
        "raises macro-F1 on the given split by"
    } else {
        "lowers macro-F1 on the given split by"
    };
    warn(gain.abs() > UNMASK_GAP, WarningKind::UnmaskedGiven, || {
        format!(
            "Showing addresses, ports and the like {way} {:.3}: these fields change what the model \
             learns, and what they distinguish need not hold in another network.",
            gain.abs()
        )
    })
}

fn duplicates(report: &AuditReport) -> Option<Warning> {
    let duplicates = &report.duplicates;
    let without = duplicates.without.map_or_else(
        || "nothing is left to judge the model by".to_owned(),
        |figures| format!("macro-F1 on the others is {:.3}", figures.macro_f1.value),
    );
    warn(duplicates.share() > DUPLICATE_SHARE, WarningKind::Duplicates, || {
        format!(
            "{:.0}% of the test flows look exactly like a training flow, so looking them up would \
             do; {without}.",
            duplicates.share() * 100.0
        )
    })
}

fn nearest(report: &AuditReport) -> Option<Warning> {
    let nearest = &report.nearest;
    warn(nearest.model_minus_nearest.value <= NEAREST_MARGIN, WarningKind::Nearest, || {
        format!(
            "Comparing packet sizes, directions and gaps with those of known flows does about as \
             well or better (macro-F1 {:.3}) as the model ({:.3}): the task is easy, or the model \
             adds little.",
            nearest.figures.macro_f1.value, report.given.masked.macro_f1.value
        )
    })
}

fn shared_captures(report: &AuditReport) -> Option<Warning> {
    let shared = report.data.shared_captures;
    warn(shared > 0, WarningKind::SharedCaptures, || {
        format!(
            "{shared} of {} test captures also have training flows: the given split tests the \
             model on hosts and moments that it has seen.",
            report.data.captures.test
        )
    })
}

fn unseen(report: &AuditReport) -> Option<Warning> {
    let unseen = &report.data.unseen;
    warn(!unseen.is_empty(), WarningKind::Unseen, || {
        let names: Vec<String> =
            unseen.iter().map(|label| format!("{} ({})", label.label, label.flows)).collect();
        format!(
            "No training flow has the label of some test flows, which therefore count as wrong and \
             lower macro-F1 on the given split: {}.",
            names.join(", ")
        )
    })
}

fn few_captures(report: &AuditReport) -> Option<Warning> {
    let captures = report.data.captures.test;
    warn(captures < FEW_CAPTURES, WarningKind::FewCaptures, || {
        format!("There are only {captures} test captures: the intervals are rough.")
    })
}

/// Groups that the model of the given split leans on, and those that only the other one does.
fn identities(report: &AuditReport) -> Vec<Warning> {
    let mut found: Vec<(&str, Warning)> = Vec::new();
    for (fields, split) in [(&report.fields, "given"), (&report.random_fields, "random")] {
        for group in &fields.identity {
            if found.iter().all(|(known, _)| *known != group.field) {
                found.extend(identity(group, split).map(|warning| (group.field.as_str(), warning)));
            }
        }
    }
    found.into_iter().map(|(_, warning)| warning).collect()
}

/// A group of identity fields that carries much of the importance, and enough to matter.
fn identity(group: &FieldReport, split: &str) -> Option<Warning> {
    let heavy = |share: f64, part: f64| share > IDENTITY_SHARE && part > IDENTITY_FLOOR;
    let by_drop = heavy(group.share, group.drop);
    let (share, of) = if by_drop {
        (group.share, "what the model gets right")
    } else {
        (group.changed_share, "the model's predictions")
    };
    warn(by_drop || heavy(group.changed_share, group.changed), WarningKind::Identity, || {
        format!(
            "On the {split} split `{}` carries {:.0}% of {of}. It identifies the host, network or \
             capture of a flow rather than its class; consider masking it.",
            group.field,
            share * 100.0
        )
    })
}
