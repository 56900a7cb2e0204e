//! What a foreign split asks of a value, and the tests of ours that answer it.
//!
//! A column of bits has two or three values, so a split on it is decided for each of them
//! beforehand: it becomes one bit test, rarely two, or none. On a number it becomes comparisons
//! with `f32`: rows hold `f32`, and of a threshold between two of them the lower one asks the same.

use super::SplitFault;
use crate::binding::Input;
use crate::forest::Test;

/// What a split asks of a value; yes leads to one child, no to the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    /// Is it at most this?
    AtMost(f64),
    /// Is it less than this?
    Less(f64),
    /// Is it this?
    Equal(f64),
    /// Is its whole part one of these categories? They rise.
    OneOf(Vec<u32>),
}

/// What is done about a missing value, which is not-a-number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is taken for 0.
    Zero,
    /// It has this answer.
    Is(bool),
    /// It has this answer, and zeros are missing too.
    AndZero(bool),
}

/// Values that LightGBM takes for zero are at most this far from it.
const ZERO: f32 = 1e-35;

/// A question: a rule, and what is done about missing values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) rule: Rule,
    pub(super) missing: Missing,
}

/// Where a test leads: to an answer, or to another test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Answer(bool),
    Step(usize),
}

/// A test, where it leads when it does not pass, and where when it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) test: Test,
    pub(super) fails: Next,
    pub(super) passes: Next,
}

/// How a question is answered: always the same, or by tests, of which each leads to later ones
/// alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    Always(bool),
    Steps(Vec<Step>),
}

impl Question {
    pub(super) fn new(rule: Rule, missing: Missing) -> Self {
        Self { rule, missing }
    }

    /// What keeps it from being answered, if anything.
    pub(super) fn fault(&self) -> Option<SplitFault> {
        match self.rule {
            Rule::AtMost(t) | Rule::Less(t) | Rule::Equal(t) if t.is_nan() => {
                Some(SplitFault::Threshold(t))
            }
            _ => None,
        }
    }

    /// The answer for a value, as the library that trained the tree gives it.
    pub(super) fn answer(&self, value: f64) -> bool {
        let value = match self.missing {
            Missing::Is(answer) if value.is_nan() => return answer,
            Missing::AndZero(answer) if value.is_nan() || value.abs() <= f64::from(ZERO) => {
                return answer;
            }
            _ if value.is_nan() => 0.0,
            _ => value,
        };
        match &self.rule {
            Rule::AtMost(threshold) => value <= *threshold,
            Rule::Less(threshold) => value < *threshold,
            Rule::Equal(other) => value == *other,
            Rule::OneOf(set) => {
                let whole = value.trunc();
                (0.0..=f64::from(u32::MAX)).contains(&whole)
                    && set.binary_search(&(whole as u32)).is_ok()
            }
        }
    }

    /// How it is answered for a column that reads this. A bit of the value `absent` is missing; of
    /// a number that is looked at when it is scored.
    pub(super) fn decide(&self, input: Input, absent: Option<f32>) -> Decision {
        let step = |test, fails, passes| Step { test, fails, passes };
        let seen = |value: f32| if absent == Some(value) { f64::NAN } else { f64::from(value) };
        let answer = |value| Next::Answer(self.answer(seen(value)));
        match input {
            Input::Bit(at) => one(step(Test::Bit(at), answer(0.0), answer(1.0))),
            Input::Ternary { value, presence } => {
                let (absent, zero, one_) = (answer(-1.0), answer(0.0), answer(1.0));
                if absent == zero {
                    one(step(Test::Bit(value), zero, one_))
                } else if zero == one_ {
                    one(step(Test::Bit(presence), absent, zero))
                } else {
                    Decision::Steps(vec![
                        step(Test::Bit(presence), absent, Next::Step(1)),
                        step(Test::Bit(value), zero, one_),
                    ])
                }
            }
            Input::Number(index) => self.compare(index),
        }
    }

    /// Comparisons of a number, from the lowest threshold up.
    fn compare(&self, index: u32) -> Decision {
        let mut lasts = self.lasts();
        lasts.retain(|last| last.is_finite());
        lasts.sort_unstable_by(f32::total_cmp);
        lasts.dedup();
        let mut answers: Vec<bool> = lasts.iter().map(|t| self.answer(f64::from(*t))).collect();
        let top = lasts.last().map_or(0.0, |last| f64::from(last.next_up()));
        answers.push(self.answer(top));
        // A threshold with the same answer on both sides asks nothing.
        let mut cuts: Vec<f32> = Vec::new();
        let mut sides = vec![answers[0]];
        for (last, after) in lasts.iter().zip(&answers[1..]) {
            if sides.last() != Some(after) {
                cuts.push(*last);
                sides.push(*after);
            }
        }
        let missing = self.answer(f64::NAN);
        // What is missing leaves the chain at the first answer that is its own.
        let leaves = sides.iter().position(|side| *side == missing).unwrap_or(0);
        let step = |(at, threshold): (usize, &f32)| {
            let test = Test::Number { index, threshold: *threshold, missing: at < leaves };
            let next = at + 1;
            let passes =
                if next < cuts.len() { Next::Step(next) } else { Next::Answer(sides[next]) };
            Step { test, fails: Next::Answer(sides[at]), passes }
        };
        if !cuts.is_empty() {
            return Decision::Steps(cuts.iter().enumerate().map(step).collect());
        }
        // Only what is missing may go elsewhere; nothing finite is above the largest number.
        let test = Test::Number { index, threshold: f32::MAX, missing: true };
        let (fails, passes) = (Next::Answer(sides[0]), Next::Answer(missing));
        one(Step { test, fails, passes })
    }

    /// The last values before the answer may change.
    fn lasts(&self) -> Vec<f32> {
        let mut lasts = match &self.rule {
            Rule::AtMost(threshold) => vec![floor(*threshold)],
            Rule::Less(threshold) => vec![below(*threshold)],
            Rule::Equal(value) => vec![below(*value), floor(*value)],
            Rule::OneOf(set) => {
                let edges = set.iter().flat_map(|c| [f64::from(*c), f64::from(*c) + 1.0]);
                edges.map(|c| if c == 0.0 { -1.0 } else { below(c) }).collect()
            }
        };
        if matches!(self.missing, Missing::AndZero(_)) {
            lasts.extend([(-ZERO).next_down(), ZERO]);
        }
        lasts
    }
}

/// A single test, or none if both its answers are the same.
fn one(step: Step) -> Decision {
    match step {
        Step { fails: Next::Answer(fails), passes: Next::Answer(passes), .. }
            if fails == passes =>
        {
            Decision::Always(fails)
        }
        step => Decision::Steps(vec![step]),
    }
}

/// The largest `f32` that is at most this.
fn floor(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) > value { near.next_down() } else { near }
}

/// The largest `f32` that is less than this.
fn below(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) >= value { near.next_down() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serveflow_core::rows::BitAt;

    fn rule() -> impl Strategy<Value = Rule> {
        let near = prop_oneof![
            (-4i32..5).prop_map(|v| f64::from(v) / 2.0),
            any::<f32>().prop_map(f64::from).prop_filter("a number", |v| !v.is_nan()),
            (-3i32..4).prop_map(|v| f64::from(v) + 1e-12),
            Just(1e-35),
            Just(f64::INFINITY),
            Just(-1e300),
        ];
        (near, 0..4, proptest::collection::btree_set(prop_oneof![0u32..40, any::<u32>()], 0..5))
            .prop_map(|(t, kind, set)| match kind {
                0 => Rule::AtMost(t),
                1 => Rule::Less(t),
                2 => Rule::Equal(t),
                _ => Rule::OneOf(set.into_iter().collect()),
            })
    }

    fn question() -> impl Strategy<Value = Question> {
        let missing = prop_oneof![
            Just(Missing::Zero),
            any::<bool>().prop_map(Missing::Is),
            any::<bool>().prop_map(Missing::AndZero),
        ];
        (rule(), missing).prop_map(|(rule, missing)| Question { rule, missing })
    }

    fn run(decision: &Decision, words: &[u32], numbers: &[f32]) -> bool {
        let steps = match decision {
            Decision::Always(answer) => return *answer,
            Decision::Steps(steps) => steps,
        };
        let mut at = 0;
        loop {
            let step = &steps[at];
            let next = if step.test.passes(words, numbers) { step.passes } else { step.fails };
            match next {
                Next::Answer(answer) => return answer,
                Next::Step(next) => {
                    assert!(next > at);
                    at = next;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_tests_answer_as_the_question_does(
            question in question(),
            any in any::<f32>(),
            small in -80i32..80,
        ) {
            let decision = question.decide(Input::Number(0), None);
            let near = small as f32 / 2.0;
            let all = [
                any, near, near.next_up(), near.next_down(), -0.0, 0.0, 1e-35, 1.1e-35, -1e-35,
                -2e-35, f32::MAX, f32::MIN, f32::MIN_POSITIVE,
            ];
            for value in all.into_iter().filter(|value| value.is_finite()) {
                let expected = question.answer(value.into());
                prop_assert_eq!(run(&decision, &[], &[value]), expected, "{}", value);
            }
            prop_assert_eq!(run(&decision, &[], &[f32::NAN]), question.answer(f64::NAN));
        }

        #[test]
        fn bits_are_asked_as_numbers_are(
            question in question(),
            absent in prop_oneof![Just(None), (-1i8..2).prop_map(|value| Some(f32::from(value)))],
        ) {
            let seen = |value: f32| if absent == Some(value) { f64::NAN } else { value.into() };
            let (value, presence) = (BitAt { word: 0, bit: 3 }, BitAt { word: 1, bit: 0 });
            let ternary = Input::Ternary { value, presence };
            for words in [[0, 0], [0, 1], [8, 1]] {
                let expected = question.answer(seen(ternary.value(&words, &[])));
                prop_assert_eq!(run(&question.decide(ternary, absent), &words, &[]), expected);
                let bit = Input::Bit(value);
                let expected = question.answer(seen(bit.value(&words, &[])));
                prop_assert_eq!(run(&question.decide(bit, absent), &words, &[]), expected);
            }
        }
    }
}
