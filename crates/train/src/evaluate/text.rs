//! The report as text, for a terminal 100 columns wide.

use super::report::{LatencyReport, Report, StageReport, TierReport};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} labelled flows of the split `{}`", self.flows, self.split)?;
        writeln!(f)?;
        self.comparison(f)?;
        writeln!(f)?;
        self.stages_table(f)?;
        writeln!(f)?;
        self.latency_table(f)?;
        writeln!(f)?;
        self.class_table(f)?;
        writeln!(f)?;
        self.unknown_lines(f)?;
        self.confusion_table(f)?;
        writeln!(f)?;
        self.closing(f)
    }
}

impl Report {
    /// The cascade beside its tiers and the yardsticks.
    fn comparison(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26} {:>9} {:>9} {:>12} {:>13} {:>12}",
            "", "accuracy", "macro-F1", "weighted-F1", "median (ms)", "under 16 ms"
        )?;
        writeln!(
            f,
            "{:<26} {:>9.4} {:>9.4} {:>12.4} {:>13.3} {:>11.1}%",
            "cascade",
            self.accuracy,
            self.macro_f1,
            self.weighted_f1,
            self.latency_us.end_to_end.p50 / 1e3,
            self.share_under_16ms * 100.0
        )?;
        for tier in self.tiers.iter().rev() {
            tier_line(f, tier)?;
        }
        for (name, yardstick) in [("random escalation", &self.random), ("oracle", &self.oracle)] {
            let (accuracy, macro_f1) = (yardstick.accuracy, yardstick.macro_f1);
            writeln!(f, "{name:<26} {accuracy:>9.4} {macro_f1:>9.4}")?;
        }
        let shares: Vec<String> =
            self.oracle.shares.iter().map(|share| format!("{:.1}%", share * 100.0)).collect();
        writeln!(f, "(the oracle decides {} of the flows at each stage)", shares.join(", "))
    }

    fn stages_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18} {:<24} {:>7} {:>9} {:>10} {:>9} {:>9}",
            "stage", "model", "packets", "decides", "escalates", "accuracy", "macro-F1"
        )?;
        for StageReport { name, model, packets, share, escalated, accuracy, macro_f1 } in
            &self.stages
        {
            let (share, escalated) = (share * 100.0, escalated * 100.0);
            write!(f, "{name:<18} {model:<24} {packets:>7} {share:>8.1}% {escalated:>9.1}%")?;
            if share > 0.0 {
                writeln!(f, " {accuracy:>9.4} {macro_f1:>9.4}")?;
            } else {
                writeln!(f, " {:>9} {:>9}", "-", "-")?;
            }
        }
        Ok(())
    }

    fn latency_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<30} {:>12} {:>12} {:>12}", "latency (ms)", "p50", "p90", "p99")?;
        latency_lines(f, "cascade", &self.latency_us)?;
        latency_lines(f, "slow only", &self.slow_only.latency_us)?;
        let (slow, speedup) = (&self.slow_only, self.median_speedup);
        writeln!(
            f,
            "median end-to-end latency: {speedup:.1} times lower than {} alone, where {:.1}% of \
             the flows\nnever have {} packets and wait until they end or their wait has passed",
            slow.name,
            slow.short_share * 100.0,
            slow.packets
        )
    }

    fn class_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (precision, recall) = ("precision", "recall");
        writeln!(f, "{:<26} {:>8} {precision:>10} {recall:>10} {:>10}", "class", "flows", "F1")?;
        for class in &self.classes {
            let (precision, recall) = (class.precision, class.recall);
            writeln!(
                f,
                "{:<26} {:>8} {precision:>10.4} {recall:>10.4} {:>10.4}",
                class.label, class.flows, class.f1
            )?;
        }
        Ok(())
    }

    /// What is called unknown of these flows, which are all of known classes.
    fn unknown_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(unknown) = &self.unknown else { return Ok(()) };
        writeln!(
            f,
            "called unknown: {:.1}% of these flows, {:.1}% of which have the right nearest label; \
             accuracy among the others {:.4}\nby class: {}\nall other figures go by the nearest \
             label\n",
            unknown.share * 100.0,
            unknown.accuracy_unknown * 100.0,
            unknown.accuracy_rest,
            self.classes
                .iter()
                .zip(&unknown.by_class)
                .map(|(class, share)| format!("{} {:.1}%", class.label, share * 100.0))
                .collect::<Vec<_>>()
                .join(", ")
        )
    }

    /// The confusion matrix; columns are numbered as the rows are.
    fn confusion_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<26}", "true \\ predicted")?;
        for column in 0..self.classes.len() {
            write!(f, " {:>5}", format!("[{column}]"))?;
        }
        writeln!(f)?;
        for (row, (class, counts)) in self.classes.iter().zip(&self.confusion).enumerate() {
            write!(f, "{:<26}", format!("[{row}] {}", class.label))?;
            for &count in counts {
                let text = if count == 0 { ".".to_owned() } else { count.to_string() };
                write!(f, " {text:>5}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn closing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let (packets, flows) = (&self.accounts.packets, &self.accounts.flows);
        let rejected: u64 = packets.rejected.values().sum();
        let verdicts: u64 = flows.verdicts.values().sum();
        writeln!(f, "verdicts: {}", reasons.join(", "))?;
        writeln!(
            f,
            "packets: {} seen = {} recorded + {} ignored + {} after close + {rejected} rejected + \
             {} filtered",
            packets.seen, packets.recorded, packets.ignored, packets.after_close, packets.filtered
        )?;
        writeln!(
            f,
            "flows: {} seen = {verdicts} verdicts + {} collecting + {} in inference; {} not \
             labelled or of another split, {} listed but not met",
            flows.seen, flows.collecting, flows.in_inference, self.other_flows, self.missing_flows
        )?;
        writeln!(
            f,
            "speed: {:.0} flows/s, {:.0} packets/s on one thread, reading the captures included",
            self.flows_per_s, self.packets_per_s
        )?;
        self.damaged.iter().try_for_each(|sentence| writeln!(f, "{sentence}"))
    }
}

fn tier_line(f: &mut fmt::Formatter<'_>, tier: &TierReport) -> fmt::Result {
    writeln!(
        f,
        "{:<26} {:>9.4} {:>9.4} {:>12.4} {:>13.3} {:>11.1}%",
        format!("{} alone", tier.name),
        tier.accuracy,
        tier.macro_f1,
        tier.weighted_f1,
        tier.latency_us.end_to_end.p50 / 1e3,
        tier.share_under_16ms * 100.0
    )
}

fn latency_lines(f: &mut fmt::Formatter<'_>, who: &str, latency: &LatencyReport) -> fmt::Result {
    let parts = [
        ("collection", latency.collection),
        ("compute", latency.compute),
        ("end to end", latency.end_to_end),
    ];
    for (part, of) in parts {
        let (p50, p90, p99) = (of.p50 / 1e3, of.p90 / 1e3, of.p99 / 1e3);
        writeln!(f, "{:<30} {p50:>12.3} {p90:>12.3} {p99:>12.3}", format!("{who}, {part}"))?;
    }
    Ok(())
}
