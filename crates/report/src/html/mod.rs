//! A plan's report as one page that needs nothing else: no script, no network, no font.

mod figures;
#[cfg(test)]
mod tests;

use crate::sections::{Grid, Part, headline, highlights, parts, provenance, title};
use crate::svg::{escape, page, table, tiles};
use serveflow_train::planner::report::PlanReport;

/// Text that is shown as it is, under a title: what another command has to say of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its title.
    pub title: String,
    /// Its text; line ends and spaces are kept.
    pub text: String,
}

/// The page: the report from its headline to its checks, then `extras`, then where it is from.
#[must_use]
pub fn html(report: &PlanReport, extras: &[Section]) -> String {
    let title = title(report);
    let mut body = format!(
        "<h1>{}</h1><p class=\"lead\">{}</p>{}",
        escape(&title),
        escape(&headline(report)),
        tiles(&highlights(report))
    );
    for own in &parts(report) {
        body += &part(report, own);
    }
    for extra in extras {
        body += &format!("<h2>{}</h2><pre>{}</pre>", escape(&extra.title), escape(&extra.text));
    }
    body += &part(report, &provenance(report));
    page(&title, &body)
}

fn part(report: &PlanReport, part: &Part) -> String {
    let mut html = format!("<h2>{}</h2><p>{}</p>", part.title, escape(&part.said));
    if let Some(figure) = part.figure {
        html += &figures::figure(report, figure);
    }
    html += &part.grids.iter().map(grid).collect::<String>();
    if !part.notes.is_empty() {
        let item = |note: &String| format!("<li>{}</li>", escape(note));
        html += &format!("<ul>{}</ul>", part.notes.iter().map(item).collect::<String>());
    }
    html
}

fn grid(grid: &Grid) -> String {
    let heads: Vec<&str> = grid.heads.iter().map(String::as_str).collect();
    table(&heads, &grid.rows)
}
