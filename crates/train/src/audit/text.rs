//! The report as text, for a terminal 100 columns wide.

use super::report::{AuditReport, DuplicateReport, Estimate, Figures};
use std::fmt::{self, Write};

impl AuditReport {
    /// The report in plain text.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        writeln!(f)?;
        self.figures(f)?;
        writeln!(f)?;
        self.duplicate_lines(f)?;
        writeln!(f)?;
        self.field_lines(f)?;
        writeln!(f)?;
        self.warning_lines(f)
    }
}

impl AuditReport {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (flows, captures) = (&self.data.flows, &self.data.captures);
        let from = if self.data.captures_from_table { "source captures" } else { "files" };
        writeln!(f, "audit evaluation of {}, seed {}", self.model, self.seed)?;
        writeln!(
            f,
            "{} train, {} val and {} test flows of {}, {} and {} {from}",
            flows.train, flows.val, flows.test, captures.train, captures.val, captures.test
        )?;
        writeln!(
            f,
            "in brackets: 95% intervals, {} draws of {} test captures with all their flows",
            self.bootstrap.resamples, self.bootstrap.captures
        )
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<46} {:<24} accuracy", "test flows", "macro-F1")?;
        let rows = [
            ("given split, masks as planned", &self.given.masked),
            ("given split, no mask", &self.given.unmasked),
            ("random split, masks as planned", &self.random.masked),
            ("random split, no mask", &self.random.unmasked),
        ];
        rows.iter().try_for_each(|(name, figures)| row(f, name, figures))?;
        let nearest = &self.nearest;
        let name = format!("given split, {} nearest of {} flows", nearest.k, nearest.kept_flows);
        row(f, &name, &nearest.figures)?;
        for (name, difference) in [
            ("masked less unmasked, given split", &self.given.masked_minus_unmasked),
            ("masked less unmasked, random split", &self.random.masked_minus_unmasked),
            ("model less nearest neighbours", &nearest.model_minus_nearest),
        ] {
            writeln!(f, "{name:<46} {}", signed(difference))?;
        }
        writeln!(f, "{:<46} {:+.4}", "random split less given split", self.random_minus_given)?;
        let masks = if self.masks.is_empty() { "none".to_owned() } else { self.masks.join(", ") };
        writeln!(f, "planned masks: {masks}")?;
        let tried: Vec<String> =
            nearest.val_macro_f1.iter().map(|(k, f1)| format!("{k}: {f1:.4}")).collect();
        writeln!(
            f,
            "nearest neighbours see {} of each packet;\nmacro-F1 on val by neighbours {}",
            nearest.columns.join(", "),
            tried.join(", ")
        )?;
        if nearest.kept_flows < nearest.train_flows {
            writeln!(
                f,
                "nearest neighbours keep a stratified sample of {} of {} training flows",
                nearest.kept_flows, nearest.train_flows
            )?;
        }
        Ok(())
    }

    fn duplicate_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, duplicates) in
            [("given split", &self.duplicates), ("random split", &self.random_duplicates)]
        {
            duplicate_line(f, name, duplicates)?;
        }
        Ok(())
    }

    fn field_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = &self.fields;
        writeln!(
            f,
            "what the model leans on (given split, masks as planned): a field's values are \
             shuffled\namong {} val flows, {} times; unshuffled, macro-F1 is {:.4}",
            fields.flows, fields.repeats, fields.macro_f1
        )?;
        let (drop, share) = ("F1 drop", "share");
        writeln!(f, "{:<26} {drop:>9} {share:>7} {:>17} {share:>7}", "field", "labels changed")?;
        for (title, list) in [
            ("", &fields.top),
            ("identity groups not masked", &fields.identity),
            ("the same on the random split", &self.random_fields.identity),
        ] {
            if !title.is_empty() && !list.is_empty() {
                writeln!(f, "{title}")?;
            }
            for field in list {
                writeln!(
                    f,
                    "{:<26} {:>9.4} {:>6.1}% {:>16.1}% {:>6.1}%",
                    field.field,
                    field.drop,
                    field.share * 100.0,
                    field.changed * 100.0,
                    field.changed_share * 100.0
                )?;
            }
        }
        Ok(())
    }

    fn warning_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.warnings.is_empty() {
            return writeln!(f, "no warnings");
        }
        writeln!(f, "warnings")?;
        for warning in &self.warnings {
            writeln!(f, "{}", wrapped(&warning.sentence, 98))?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, figures: &Figures) -> fmt::Result {
    let (macro_f1, accuracy) = (plain(&figures.macro_f1), plain(&figures.accuracy));
    writeln!(f, "{name:<46} {macro_f1:<24} {accuracy}")
}

fn duplicate_line(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    duplicates: &DuplicateReport,
) -> fmt::Result {
    writeln!(
        f,
        "{name}: {} of {} test flows ({:.1}%) equal a training flow;\n{} of these equal one with \
         another label, {} such ones only",
        duplicates.duplicates,
        duplicates.test_flows,
        duplicates.share() * 100.0,
        duplicates.other_label,
        duplicates.only_other_labels
    )?;
    match &duplicates.without {
        Some(figures) => row(f, &format!("{name}, without duplicates"), figures),
        None => writeln!(f, "{name}: no test flow is left without duplicates"),
    }
}

fn plain(estimate: &Estimate) -> String {
    let mut text = format!("{:.4}", estimate.value);
    if let Some(interval) = estimate.interval {
        let _ = write!(text, " [{:.4}, {:.4}]", interval.low, interval.high);
    }
    text
}

fn signed(estimate: &Estimate) -> String {
    let mut text = format!("{:+.4}", estimate.value);
    if let Some(interval) = estimate.interval {
        let _ = write!(text, " [{:+.4}, {:+.4}]", interval.low, interval.high);
    }
    text
}

/// A sentence as an item of a list, in lines of some width.
fn wrapped(sentence: &str, width: usize) -> String {
    let mut lines = String::from("-");
    let mut at = 1;
    for word in sentence.split(' ') {
        if at + 1 + word.chars().count() > width {
            lines.push_str("\n ");
            at = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        at += 1 + word.chars().count();
    }
    lines
}
