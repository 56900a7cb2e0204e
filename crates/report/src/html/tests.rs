//! What must hold of both the page and the text.

use super::*;
use crate::sections::sample::{AWKWARD, full, least};
use crate::svg::escape;
use crate::text::text;
use serveflow_train::planner::limits::Limit;
use serveflow_train::planner::search::SearchOutcome;

fn extras() -> Vec<Section> {
    vec![Section { title: format!("Honest {AWKWARD}"), text: format!("  a {AWKWARD}\n  b") }]
}

/// Every element that is opened is closed, in order; panics with the place else.
fn well_formed(html: &str) {
    const VOID: [&str; 3] = ["meta", "!doctype", "br"];
    let mut open: Vec<&str> = Vec::new();
    for piece in html.split('<').skip(1) {
        let (tag, after) = piece.split_once('>').expect("a tag ends");
        assert!(!after.contains('>') || open.last() == Some(&"style"), "{piece}");
        assert!(tag.matches('"').count() % 2 == 0, "{tag}");
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).expect("a tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{piece}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn page_and_text_hold_the_facts() {
    let report = full();
    let (page, text) = (html(&report, &extras()), text(&report));
    let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let facts = [
        "macro-F1 is 0.8808, 0.0016 below the 0.8824 of boosted@10",
        "median latency is 16.1 us, 10,000 times faster than its 161 ms",
        "71.6% of the flows",
        "511,455",
        "1,041 test flows",
        "63.7%",
        "34.0%",
        "0.9123",
        "0.8656",
        "does not hold",
        "1 of 2 does not hold",
        "e706db47",
        "forest@20",
        "macro-F1 at most 0.01 below that of boosted@10 alone, with 90.0% confidence",
        "0.0100 (isotonic)",
        "It is the fastest.",
        "tree@2",
        "10 of",
        "3,160",
        "No training flow has the label `dns`",
        "All training flows of `ssh` come from one capture each.",
        "12 flows without a label",
    ];
    for fact in facts {
        assert!(page.contains(&escape(fact)), "the page lacks {fact}");
        assert!(spaced.contains(fact), "the text lacks {fact}\n{text}");
    }
}

#[test]
fn a_pair_that_is_told_twice_is_shown_once() {
    let report = full();
    assert_eq!(report.rules.len(), 2);
    assert_eq!(html(&report, &[]).matches("From tree@1 to boosted@10").count(), 2, "title, label");
    assert_eq!(text(&report).matches("from tree@1 to boosted@10").count(), 1);
}

#[test]
fn nothing_breaks_out_of_the_page_and_it_needs_nothing_else() {
    for report in [full(), least()] {
        let page = html(&report, &extras());
        well_formed(&page);
        assert!(!page.contains("<b>&\"") && page.contains(&escape(AWKWARD)));
        for outside in ["http", "src=", "href=", "<script", "@import", "url(", "NaN", ">inf"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains(&escape(&extras()[0].text)), "spaces and line ends are kept");
    }
    assert!(html(&full(), &[]).matches("<svg").count() >= 4);
}

#[test]
fn the_check_of_form_can_fail() {
    let broken = ["<p><i></p></i>", "<p>", "<p>a > b</p>"];
    for html in broken {
        assert!(std::panic::catch_unwind(|| well_formed(html)).is_err(), "{html}");
    }
}

/// Whether a figure is written that is no number; `inference` is a word.
fn has_no_number(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| ["NaN", "inf"].contains(&word))
}

#[test]
fn the_least_report_says_what_is_missing() {
    assert!(has_no_number("takes -inf us") && !has_no_number("inference"));
    let (page, text) = (html(&least(), &[]), text(&least()));
    for word in ["a plan of one stage", "No rules were compared", "The plan was not run"] {
        assert!(page.contains(word) && text.contains(word), "{word}\n{text}");
    }
    assert!(!page.contains("runner-up") && !text.contains("runner-up"));
    assert!(!has_no_number(&text), "{text}");
}

#[test]
fn figures_that_are_no_numbers_are_dashes() {
    let mut report = full();
    report.chosen.test.p50_us = f64::NAN;
    report.chosen.val.geometric_us = f64::NAN;
    report.front[0].macro_f1 = f64::INFINITY;
    report.rules[0].curves[0].macro_f1[3] = f64::NAN;
    report.chosen.test.stage_ns = vec![f64::NAN; 2];
    report.latency[0].us[1] = f64::NAN;
    let (page, text) = (html(&report, &[]), text(&report));
    for told in [page, text] {
        assert!(!has_no_number(&told), "{told}");
    }
}

#[test]
fn limits_that_are_not_kept_are_named_at_the_top() {
    let mut report = full();
    report.verdict = SearchOutcome::NotMet { binding: vec![Limit::P99] };
    let lead = headline(&report);
    assert!(lead.contains("Not all limits are kept") && lead.contains("99th percentile"), "{lead}");
    report.verdict = SearchOutcome::Met;
    report.chosen.test.macro_f1 = 0.87;
    let lead = headline(&report);
    assert!(lead.contains("the loss of macro-F1 is 0.0124: more than the 0.005"), "{lead}");
}
