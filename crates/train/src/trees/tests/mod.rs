//! Laws of the trainers, and obvious twins of their fast parts.

mod boosting;
mod matrix;
mod trees;

use super::{BitMatrix, MAX_CUTS, TrainSet};
use crate::random::Random;
use serveflow_core::rows::{BitAt, Column, Place, RowShape, Rows, Scores};
use serveflow_model::forest::{BoundForest, Forest};

/// Rows of two header words with a presence word, and two numbers.
const SHAPE: RowShape = RowShape { words: 3, numbers: 2 };

fn columns() -> Vec<Column> {
    let bit = |i: u32| Place::Bit {
        value: BitAt { word: i / 32, bit: (i % 32) as u8 },
        presence: BitAt { word: 2, bit: (i / 32) as u8 },
    };
    let places = (0..64).map(bit).chain((0..2).map(Place::Number));
    places.map(|place| Column { name: format!("{place:?}"), place }).collect()
}

/// Random rows and labels: the class shows in some bits, in absence and in a number.
fn data(seed: u64, rows: usize, classes: usize) -> (Rows, Vec<u16>) {
    let mut random = Random::new(&[seed]);
    let mut out = Rows::with_capacity(SHAPE, rows);
    let mut labels = Vec::new();
    for _ in 0..rows {
        // The last classes are rare.
        let class = random.below(classes).min(random.below(classes));
        let (words, numbers) = out.push();
        words[0] = random.next() as u32;
        words[1] = random.next() as u32;
        for bit in 0..10 {
            let lean = crate::random::at(99, (class * 16 + bit) as u64) & 1;
            if random.below(4) > 0 {
                words[0] = words[0] & !(1 << bit) | (lean as u32) << bit;
            }
        }
        words[2] = if random.below(4) == 0 { 1 } else { 3 };
        if words[2] == 1 {
            words[1] = 0;
        }
        numbers[0] = (random.below(100) * (class + 1)) as f32;
        numbers[1] = random.below(12) as f32 - 5.5;
        labels.push(if random.below(20) == 0 { random.below(classes) } else { class } as u16);
    }
    (out, labels)
}

fn set(seed: u64, rows: usize, classes: usize) -> TrainSet {
    let (rows, labels) = data(seed, rows, classes);
    let matrix = BitMatrix::new(&rows, &columns(), MAX_CUTS).unwrap();
    TrainSet::new(matrix, labels, vec![], classes).unwrap()
}

fn scores(forest: &Forest, rows: &Rows) -> Vec<Vec<f32>> {
    let mut scores = Scores::default();
    BoundForest::new(forest).score(rows, &mut scores);
    (0..rows.len()).map(|row| scores.row(row).to_vec()).collect()
}

/// Mean log-loss of a forest.
fn loss(forest: &Forest, rows: &Rows, labels: &[u16]) -> f64 {
    let scores = scores(forest, rows);
    let each = scores.iter().zip(labels).map(|(p, label)| -f64::from(p[usize::from(*label)]).ln());
    each.sum::<f64>() / labels.len() as f64
}
