//! Plots as inline SVG: axes with units, lines, stacked bars. Colours come from the page.

use std::fmt::Write;

/// Size of a plot, in its own units; the page scales it.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// By powers of ten.
    Log,
    /// Evenly.
    Linear,
}

/// An axis: what it shows, between which values, and how values are spelled.
pub(super) struct Axis {
    pub(super) title: &'static str,
    pub(super) scale: Scale,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) spell: fn(f64) -> String,
}

impl Axis {
    /// An axis by powers of ten that holds all these values.
    pub(super) fn log(
        title: &'static str,
        spell: fn(f64) -> String,
        values: impl Iterator<Item = f64>,
    ) -> Self {
        let above = values.filter(|value| *value > 0.0);
        let (low, high) =
            above.fold((f64::MAX, 0.0), |(low, high), value| (value.min(low), value.max(high)));
        let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 10.0) };
        let from = 10f64.powf(low.log10().floor());
        let to = 10f64.powf(high.log10().ceil()).max(from * 10.0);
        Self { title, scale: Scale::Log, from, to, spell }
    }

    /// From 0 to 100 %.
    pub(super) fn percent(title: &'static str) -> Self {
        let spell = |share: f64| format!("{:.0}%", share * 100.0);
        Self { title, scale: Scale::Linear, from: 0.0, to: 1.0, spell }
    }

    /// Where a value stands, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let (value, from, to) = match self.scale {
            Scale::Log => (value.max(self.from).log10(), self.from.log10(), self.to.log10()),
            Scale::Linear => (value, self.from, self.to),
        };
        ((value - from) / (to - from)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => (0..=5).map(|at| f64::from(at) / 5.0 * self.to).collect(),
            Scale::Log => {
                let (first, last) =
                    (self.from.log10().round() as i32, self.to.log10().round() as i32);
                // Not so many that they run into each other.
                let step = ((last - first) / 6 + 1) as usize;
                (first..=last).step_by(step).map(|power| 10f64.powi(power)).collect()
            }
        }
    }
}

/// A line: its name, its class on the page, and its points.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) class: String,
    pub(super) points: Vec<(f64, f64)>,
}

fn x(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)
}

fn y(axis: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)
}

/// Opens a plot: its description for those who cannot see it, and the vertical axis.
fn open(label: &str, vertical: &Axis) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    );
    for tick in vertical.ticks() {
        let at = y(vertical, tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            (vertical.spell)(tick)
        );
    }
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    let _ = write!(
        svg,
        "<text class=\"title\" text-anchor=\"middle\" transform=\"translate(13 {middle}) rotate(-90)\">{}</text>",
        escape(vertical.title)
    );
    svg
}

fn bottom_title(svg: &mut String, title: &str) {
    let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
    let _ = write!(
        svg,
        "<text class=\"title\" text-anchor=\"middle\" x=\"{middle}\" y=\"{}\">{}</text>",
        HEIGHT - 6.0,
        escape(title)
    );
}

fn bottom_ticks(svg: &mut String, horizontal: &Axis) {
    for tick in horizontal.ticks() {
        let at = x(horizontal, tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{}\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 17.0,
            (horizontal.spell)(tick)
        );
    }
    bottom_title(svg, horizontal.title);
}

/// A plot of lines; `mark` is a value of the horizontal axis that stands out, with its name.
pub(super) fn lines(
    label: &str,
    horizontal: &Axis,
    vertical: &Axis,
    lines: &[Line],
    mark: Option<(f64, &str)>,
) -> String {
    let mut svg = open(label, vertical);
    bottom_ticks(&mut svg, horizontal);
    if let Some((value, name)) = mark {
        let at = x(horizontal, value);
        let _ = write!(
            svg,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{}\">{}</text>",
            HEIGHT - BOTTOM,
            at + 5.0,
            HEIGHT - BOTTOM - 7.0,
            escape(name)
        );
    }
    for line in lines {
        let place = |&(left, up): &(f64, f64)| (x(horizontal, left), y(vertical, up));
        let places: Vec<(f64, f64)> = line.points.iter().map(place).collect();
        let points: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let class = &line.class;
        let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        // Few points are measurements of their own, many are a curve.
        for (x, y) in places.iter().filter(|_| places.len() <= 24) {
            let _ =
                write!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
        }
    }
    let names = lines.iter().map(|line| (line.class.clone(), line.name.clone()));
    format!("{svg}</svg>{}", legend(names))
}

/// A bar: its name below it, and its parts from the bottom.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) shares: Vec<f64>,
}

/// A plot of stacked bars whose parts have these names.
pub(super) fn bars(label: &str, title: &str, parts: &[String], bars: &[Bar]) -> String {
    let vertical = Axis::percent("share of the flows");
    let mut svg = open(label, &vertical);
    let slot = (WIDTH - LEFT - RIGHT) / bars.len().max(1) as f64;
    let width = (slot * 0.7).min(64.0);
    // Names of many bars would run into each other: those of every second or third are left out.
    let longest = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
    let every = ((longest as f64 * 6.8 + 6.0) / slot).ceil().max(1.0) as usize;
    for (at, bar) in bars.iter().enumerate() {
        let middle = LEFT + slot * (at as f64 + 0.5);
        let mut below = 0.0;
        for (part, share) in bar.shares.iter().enumerate() {
            let (bottom, top) = (y(&vertical, below), y(&vertical, below + share));
            let _ = write!(
                svg,
                "<rect class=\"fill{part}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\">\
                 <title>{}: {:.1}%</title></rect>",
                middle - width / 2.0,
                bottom - top,
                escape(parts.get(part).map_or("", String::as_str)),
                share * 100.0
            );
            below += share;
        }
        if at % every == 0 {
            let _ = write!(
                svg,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{middle:.1}\" y=\"{}\">{}</text>",
                HEIGHT - BOTTOM + 17.0,
                escape(&bar.name)
            );
        }
    }
    bottom_title(&mut svg, title);
    let names = parts.iter().enumerate().map(|(at, name)| (format!("fill{at}"), name.clone()));
    format!("{svg}</svg>{}", legend(names))
}

/// What each colour stands for.
fn legend(names: impl Iterator<Item = (String, String)>) -> String {
    let entry = |(class, name): (String, String)| {
        format!("<span><i class=\"{class}\"></i>{}</span>", escape(&name))
    };
    format!("<p class=\"legend\">{}</p>", names.map(entry).collect::<String>())
}

/// Text as HTML shows it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_the_axis_says() {
        let axis = Axis::log("t", |v| v.to_string(), [3.0, 0.0, 2000.0].into_iter());
        assert_eq!((axis.from, axis.to), (1.0, 10_000.0));
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        assert!((axis.place(100.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.place(0.0), axis.place(1e9)), (0.0, 1.0));
        let none = Axis::log("t", |v| v.to_string(), std::iter::empty());
        assert!(none.to > none.from);
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let line = Line { name: "<b>\"&".to_owned(), class: "line0".to_owned(), points: vec![] };
        let axis = Axis::percent("p");
        let svg = lines("a<b", &axis, &Axis::percent("q"), &[line], None);
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;&quot;&amp;"), "{svg}");
    }
}
