//! Reports: a plan and its training as text and as an HTML page with SVG plots.
#![forbid(unsafe_code)]

pub mod html;
pub mod number_format;
mod sections;
pub mod svg;
pub mod text;
