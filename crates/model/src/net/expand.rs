//! The values of a row's columns as floats, fast.
//!
//! [`Binding::expand`] asks each column where its value stands. Nearly all columns of a net are the
//! bits of whole words in their order, so these are found once, and written 32 at a time by a loop
//! that compilers turn into vector instructions. What is left goes one by one, as there.

use crate::binding::{Binding, Input};
use serveflow_core::rows::{BitAt, Rows};
use std::ops::Range;

/// Bits of a word.
const WORD: usize = 32;

/// A piece of the columns.
#[derive(Clone, Debug, PartialEq)]
enum Run {
    /// Bits 31 to 0 of a word, and the bit that says whether it was there; without one it was.
    Word { word: usize, presence: Option<BitAt> },
    /// These, one by one.
    Each(Range<usize>),
}

/// A [`Binding`] laid out for speed.
#[derive(Debug)]
pub(super) struct Expander {
    binding: Binding,
    runs: Vec<Run>,
}

impl Expander {
    /// Lays a binding out.
    pub(super) fn new(binding: &Binding) -> Self {
        let inputs = binding.inputs();
        let (mut runs, mut at) = (Vec::new(), 0);
        while at < inputs.len() {
            if let Some(run) = inputs.get(at..at + WORD).and_then(word) {
                runs.push(run);
                at += WORD;
                continue;
            }
            match runs.last_mut() {
                Some(Run::Each(columns)) => columns.end += 1,
                _ => runs.push(Run::Each(at..at + 1)),
            }
            at += 1;
        }
        Self { binding: binding.clone(), runs }
    }

    /// The binding.
    pub(super) fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Writes the values of a row's columns, as [`Binding::expand`] does.
    pub(super) fn expand(&self, rows: &Rows, row: usize, out: &mut [f32]) {
        let inputs = self.binding.inputs();
        assert_eq!(out.len(), inputs.len(), "a value for each column");
        let (words, numbers) = (rows.words(row), rows.numbers(row));
        let mut rest = out;
        for run in &self.runs {
            match run {
                Run::Word { word, presence } => {
                    let Some((out, after)) = rest.split_first_chunk_mut() else { return };
                    let is_there = presence.is_none_or(|at| at.get(words));
                    spread(words[*word], if is_there { 0.0 } else { -1.0 }, out);
                    rest = after;
                }
                Run::Each(columns) => {
                    let (out, after) = rest.split_at_mut(columns.len());
                    for (out, input) in out.iter_mut().zip(&inputs[columns.clone()]) {
                        *out = input.value(words, numbers);
                    }
                    rest = after;
                }
            }
        }
    }
}

/// The bits of a word, first the most significant, each with this added.
#[inline]
fn spread(word: u32, add: f32, out: &mut [f32; WORD]) {
    for (index, out) in out.iter_mut().enumerate() {
        // A comparison, since shifts by as many bits as a lane says are not in every machine.
        let bit = if word & (1 << (31 - index)) == 0 { 0.0 } else { 1.0 };
        *out = bit + add;
    }
}

/// The word that these columns are, if they are one.
fn word(inputs: &[Input]) -> Option<Run> {
    let (first, presence) = match *inputs.first()? {
        Input::Bit(at) => (at, None),
        Input::Ternary { value, presence } => (value, Some(presence)),
        Input::Number(_) => return None,
    };
    let is_next = |(index, input): (usize, &Input)| {
        let value = BitAt { word: first.word, bit: 31 - index as u8 };
        *input == presence.map_or(Input::Bit(value), |presence| Input::Ternary { value, presence })
    };
    let is_word = inputs.iter().enumerate().all(is_next);
    is_word.then_some(Run::Word { word: first.word as usize, presence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serveflow_core::rows::{Column, Place, RowShape};

    const SHAPE: RowShape = RowShape { words: 6, numbers: 3 };

    /// Columns of all kinds: whole words, pieces of them, single bits, numbers.
    fn columns() -> impl Strategy<Value = Vec<Column>> {
        let presence = (0u32..6, 0u8..32).prop_map(|(word, bit)| BitAt { word, bit });
        let bits =
            (0u32..6, 0u8..32, 1u8..=32, presence).prop_map(|(word, from, len, presence)| {
                let from = if len >= 28 { 31 } else { from };
                let bits = (0..len).map_while(move |index| from.checked_sub(index));
                bits.map(|bit| Place::Bit { value: BitAt { word, bit }, presence }).collect()
            });
        let number = (0u32..3).prop_map(|number| vec![Place::Number(number)]);
        let places = prop::collection::vec(prop_oneof![4 => bits, 1 => number], 0..12);
        places.prop_map(|places: Vec<Vec<Place>>| {
            let column = |place| Column { name: String::new(), place };
            places.into_iter().flatten().map(column).collect()
        })
    }

    fn rows() -> impl Strategy<Value = Rows> {
        let row = (prop::array::uniform6(any::<u32>()), prop::array::uniform3(-1e6f32..1e6));
        prop::collection::vec(row, 1..4).prop_map(|filled| {
            let mut rows = Rows::with_capacity(SHAPE, filled.len());
            for (words, numbers) in filled {
                let (to_words, to_numbers) = rows.push();
                to_words.copy_from_slice(&words);
                to_numbers.copy_from_slice(&numbers);
            }
            rows
        })
    }

    proptest! {
        #[test]
        fn values_are_those_of_the_binding(columns in columns(), rows in rows()) {
            let binding = Binding::all(&columns, SHAPE);
            let expander = Expander::new(&binding);
            let (mut fast, mut slow) = (vec![9.0; columns.len()], vec![7.0; columns.len()]);
            for row in 0..rows.len() {
                expander.expand(&rows, row, &mut fast);
                binding.expand(&rows, row, &mut slow);
                prop_assert_eq!(&fast, &slow);
            }
        }
    }

    #[test]
    fn whole_words_are_found() {
        let expander = Expander::new(&Binding::bits(70).unwrap());
        let word = |word| Run::Word { word, presence: None };
        assert_eq!(expander.runs, [word(0), word(1), Run::Each(64..70)]);
        let mut rows = Rows::with_capacity(expander.binding().shape(), 1);
        rows.push().0.copy_from_slice(&[0x8000_0001, 0, 0xffff_ffff]);
        let mut out = [0.5; 70];
        expander.expand(&rows, 0, &mut out);
        let ones: Vec<usize> = (0..70).filter(|&at| out[at] == 1.0).collect();
        assert_eq!(ones, [0, 31, 64, 65, 66, 67, 68, 69]);
    }
}
