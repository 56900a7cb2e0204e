//! What pages are made of: one file that needs nothing else, no script, no network, no font.
//!
//! ```text
//! axis    what an axis shows, between which values, where its ticks are
//! plot    lines, points with names, stacked bars, as inline SVG
//! labels  where the names of points find room
//! ```

mod axis;
mod labels;
mod plot;

pub use axis::Axis;
pub use plot::{Bar, Dot, Line, Marks, bars, lines};

use std::fmt::Write;

const STYLE: &str = include_str!("page.css");
/// The mark of a verdict that is called early, microseconds.
pub const MARK_US: f64 = 16_000.0;

/// A whole page; `body` is HTML.
pub fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{}</title><style>\n\
         {STYLE}</style></head>\n<body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

/// A plot with its title and what is to be said of it.
pub fn section(title: &str, plot: &str, below: &str) -> String {
    format!("<section><h2>{}</h2>{plot}<p>{}</p></section>", escape(title), escape(below))
}

/// A table: column heads, then rows; a line end in a head breaks it.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = "<div class=\"wide\"><table><tr>".to_owned();
    heads.iter().for_each(|head| {
        let _ = write!(text, "<th>{}</th>", escape(head).replace('\n', "<br>"));
    });
    text.push_str("</tr>");
    for row in rows {
        let cell = |value: &String| format!("<td>{}</td>", escape(value));
        let cells: String = row.iter().map(cell).collect();
        let _ = write!(text, "<tr>{cells}</tr>");
    }
    text + "</table></div>"
}

/// Figures in large, each with what it is.
pub fn tiles(tiles: &[(String, String)]) -> String {
    let tile = |(value, what): &(String, String)| {
        format!("<div><b>{}</b><span>{}</span></div>", escape(value), escape(what))
    };
    format!("<div class=\"tiles\">{}</div>", tiles.iter().map(tile).collect::<String>())
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
