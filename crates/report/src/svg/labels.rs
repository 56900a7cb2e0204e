//! Points with names beside them: a name stands where it covers neither a point nor another name.

use super::escape;
use super::plot::Dot;
use std::fmt::Write;

/// Width of a letter and height of a line, in the plot's units.
const LETTER: f64 = 6.3;
const LINE: f64 = 12.0;
/// Half the side of a point.
const POINT: f64 = 4.0;

/// A box: left, right, top, bottom.
#[derive(Clone, Copy)]
struct Room(f64, f64, f64, f64);

impl Room {
    fn meets(&self, other: &Self) -> bool {
        self.0 < other.1 && other.0 < self.1 && self.2 < other.3 && other.2 < self.3
    }

    /// A name whose text starts at `left` on the base line `base`.
    fn of_text(left: f64, base: f64, letters: usize) -> Self {
        Self(left, left + letters as f64 * LETTER, base - LINE + 2.0, base + 2.0)
    }
}

/// A place in a plot, across and down.
type Place = (f64, f64);

/// Draws points at their places, and the names that find room between `across` and `down` and
/// beside `lines`. A point whose name finds none still tells it when it is pointed at.
pub(super) fn dots(
    dots: &[Dot],
    (places, lines): (&[Place], &[Place]),
    across: (f64, f64),
    down: (f64, f64),
) -> String {
    let point = |&(x, y): &Place| Room(x - POINT, x + POINT, y - POINT, y + POINT);
    let mut taken: Vec<Room> = places.iter().chain(lines).map(point).collect();
    let mut svg = String::new();
    let is_drawn = |at: &Place| at.0.is_finite() && at.1.is_finite();
    for (dot, &(x, y)) in dots.iter().zip(places).filter(|(_, at)| is_drawn(at)) {
        let (class, name) = (&dot.class, escape(&dot.name));
        let _ = write!(
            svg,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" \
             r=\"4\"><title>{name}</title></circle>"
        );
        let inside = |room: &Room| {
            room.0 >= across.0 && room.1 <= across.1 && room.2 >= down.0 && room.3 <= down.1
        };
        let free = |room: &Room| inside(room) && !taken.iter().any(|other| room.meets(other));
        let letters = dot.name.chars().count();
        if let Some(room) = around((x, y), letters).into_iter().find(free) {
            let (left, base) = (room.0, room.3 - 2.0);
            let _ =
                write!(svg, "<text class=\"name\" x=\"{left:.1}\" y=\"{base:.1}\">{name}</text>");
            taken.push(room);
        }
    }
    svg
}

/// Where a name may stand, the best place first.
fn around((x, y): (f64, f64), letters: usize) -> [Room; 8] {
    let wide = letters as f64 * LETTER;
    let right = x + POINT + 3.0;
    let left = x - POINT - 3.0 - wide;
    let middle = x - wide / 2.0;
    let place = |left: f64, base: f64| Room::of_text(left, base, letters);
    [
        place(right, y + 4.0),
        place(left, y + 4.0),
        place(middle, y - 7.0),
        place(middle, y + 16.0),
        place(right, y - 5.0),
        place(right, y + 14.0),
        place(left, y - 5.0),
        place(left, y + 14.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_apart_and_every_point_tells_its_own() {
        let names = ["tree@1", "boosted@1", "tree@10"];
        let dot =
            |name: &str| Dot { name: name.to_owned(), class: "dot".to_owned(), at: (0.0, 0.0) };
        let all: Vec<Dot> = names.map(dot).into();
        let apart = dots(
            &all,
            (&[(100.0, 100.0), (104.0, 101.0), (300.0, 50.0)], &[]),
            (0.0, 400.0),
            (0.0, 200.0),
        );
        assert_eq!(apart.matches("<text").count(), 3);
        let crowded = dots(&all, (&[(100.0, 100.0); 3], &[]), (95.0, 200.0), (92.0, 108.0));
        assert_eq!(crowded.matches("<text").count(), 1, "{crowded}");
        assert_eq!(crowded.matches("<title>").count(), 3);
        let beside = [(110.0, 98.0)];
        let moved = dots(&all[..1], (&[(100.0, 100.0)], &beside), (0.0, 400.0), (0.0, 200.0));
        assert!(moved.contains("<text") && !moved.contains("x=\"107.0\""), "{moved}");
    }
}
