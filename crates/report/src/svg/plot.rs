//! Plots as inline SVG: axes with units, lines, stacked bars. Colours come from the page.

use super::axis::Axis;
use super::escape;
use super::labels;
use std::fmt::Write;

/// Size of a plot, in its own units; the page scales it.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// A line: its name, its class on the page, and its points.
pub struct Line {
    /// What it is called in the legend.
    pub name: String,
    /// Its class in the style sheet.
    pub class: String,
    /// Points, by growing x.
    pub points: Vec<(f64, f64)>,
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
        "<text class=\"title\" text-anchor=\"middle\" transform=\"translate(13 {middle}) \
         rotate(-90)\">{}</text>",
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

/// A point of its own, with its name beside it.
pub struct Dot {
    /// What it is called in the legend.
    pub name: String,
    /// Its class in the style sheet.
    pub class: String,
    /// Where it is.
    pub at: (f64, f64),
}

/// What a plot shows beside its lines.
#[derive(Default)]
pub struct Marks<'a> {
    /// A value of the horizontal axis that stands out, with its name.
    pub mark: Option<(f64, &'a str)>,
    /// Points with names.
    pub dots: &'a [Dot],
}

/// A plot of lines.
pub fn lines(
    label: &str,
    (horizontal, vertical): (&Axis, &Axis),
    lines: &[Line],
    marks: &Marks<'_>,
) -> String {
    let mut svg = open(label, vertical);
    bottom_ticks(&mut svg, horizontal);
    if let Some(mark) = marks.mark {
        svg += &mark_line(horizontal, mark);
    }
    for line in lines {
        svg += &polyline((horizontal, vertical), line);
    }
    let place = |dot: &Dot| (x(horizontal, dot.at.0), y(vertical, dot.at.1));
    let places: Vec<(f64, f64)> = marks.dots.iter().map(place).collect();
    let points = |line: &Line| {
        let own = line.points.iter().map(|at| (x(horizontal, at.0), y(vertical, at.1)));
        along(&own.collect::<Vec<_>>())
    };
    let drawn: Vec<(f64, f64)> = lines.iter().flat_map(points).collect();
    svg +=
        &labels::dots(marks.dots, (&places, &drawn), (LEFT, WIDTH - 4.0), (TOP, HEIGHT - BOTTOM));
    let names = lines.iter().map(|line| (line.class.clone(), line.name.clone()));
    format!("{svg}</svg>{}", legend(names))
}

/// Places on a line that are close enough for names to keep off it.
fn along(line: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let between = |pair: &[(f64, f64)]| {
        let (from, to) = (pair[0], pair[1]);
        let steps = ((to.0 - from.0).hypot(to.1 - from.1) / 6.0).ceil().clamp(1.0, 200.0) as u32;
        (0..=steps).map(move |at| {
            let share = f64::from(at) / f64::from(steps);
            (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
        })
    };
    line.windows(2).flat_map(between).collect()
}

/// The named value of the horizontal axis: its name on the side where there is room.
fn mark_line(horizontal: &Axis, (value, name): (f64, &str)) -> String {
    let at = x(horizontal, value);
    let (anchor, shift) = if at > WIDTH - RIGHT - 60.0 { ("end", -5.0) } else { ("start", 5.0) };
    format!(
        "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
         <text class=\"tick\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{}\">{}</text>",
        HEIGHT - BOTTOM,
        at + shift,
        HEIGHT - BOTTOM - 7.0,
        escape(name)
    )
}

fn polyline((horizontal, vertical): (&Axis, &Axis), line: &Line) -> String {
    let is_drawn = |(left, up): &&(f64, f64)| left.is_finite() && up.is_finite();
    let place = |&(left, up): &(f64, f64)| (x(horizontal, left), y(vertical, up));
    let places: Vec<(f64, f64)> = line.points.iter().filter(is_drawn).map(place).collect();
    let points: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let class = &line.class;
    let mut svg = format!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    // Few points are measurements of their own, many are a curve.
    for (x, y) in places.iter().filter(|_| places.len() <= 24) {
        let _ = write!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
    }
    svg
}

/// A bar: its name below it, and its parts from the bottom, in the unit of the vertical axis.
pub struct Bar {
    /// What it is called in the legend.
    pub name: String,
    /// A value for each bar of its group.
    pub values: Vec<f64>,
}

/// A plot of stacked bars whose parts have these names; `spell` tells of a part.
pub fn bars(
    label: &str,
    (title, vertical): (&str, &Axis),
    (parts, spell): (&[String], fn(f64) -> String),
    bars: &[Bar],
) -> String {
    let mut svg = open(label, vertical);
    let slot = (WIDTH - LEFT - RIGHT) / bars.len().max(1) as f64;
    let width = (slot * 0.7).min(64.0);
    // Names of many bars would run into each other: those of every second or third are left out.
    let longest = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
    let every = ((longest as f64 * 6.8 + 6.0) / slot).ceil().max(1.0) as usize;
    for (at, bar) in bars.iter().enumerate() {
        let middle = LEFT + slot * (at as f64 + 0.5);
        let mut below = 0.0;
        for (part, value) in bar.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let (bottom, top) = (y(vertical, below), y(vertical, below + value));
            let _ = write!(
                svg,
                "<rect class=\"fill{part}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
                 height=\"{:.1}\"><title>{}: {}</title></rect>",
                middle - width / 2.0,
                bottom - top,
                escape(parts.get(part).map_or("", String::as_str)),
                spell(*value)
            );
            below += value;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let line = Line { name: "<b>\"&".to_owned(), class: "line0".to_owned(), points: vec![] };
        let axis = Axis::percent("p");
        let svg = lines("a<b", (&axis, &Axis::percent("q")), &[line], &Marks::default());
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;&quot;&amp;"), "{svg}");
    }
}
