//! Reports: a plan and its training as text and as an HTML page with SVG plots.
#![forbid(unsafe_code)]

pub mod page;
pub mod plan_page;
pub mod plan_text;
mod plan_words;
pub mod spell;
