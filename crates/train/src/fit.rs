//! Whether calibration flows fit another reading of a model far better than the one that was taken:
//! another order of its classes, of its columns, or another value for what is missing.
//!
//! A model file often names neither its classes nor its columns. Where they are taken in the wrong
//! order, the model loads, answers, and is wrong. Labelled flows tell: under the right order far
//! more of them are answered right.
//!
//! **The rule.** Each flow counts 1 where the other reading is right and the one that was taken is
//! wrong, -1 the other way round, and 0 elsewhere. The other reading fits far better where the
//! lower end of the interval of the mean, [`SIGMAS`] standard errors below it, is over [`FAR`]. An
//! order of classes is chosen among a great many, so it is found on other flows than it is judged
//! on: chance gains nothing there. The split `train` is best to find it, since a model may take one
//! class for another in captures that it never saw, but not in those it was trained on.

use crate::random::mix;

/// Standard errors below the mean: one in two thousand if flows were independent. They are not
/// quite, so that [`FAR`] has to be passed as well.
pub const SIGMAS: f64 = 3.29;
/// Share of the flows by which another reading must be right more often.
pub const FAR: f64 = 0.05;
/// Classes up to which an order of them is searched: the search takes time that grows with their
/// cube.
pub const MOST_CLASSES: usize = 500;

/// What another reading of a model gains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitGain {
    /// Flows that were looked at.
    pub flows: usize,
    /// Share of right answers as the model was taken.
    pub taken: f64,
    /// Share of right answers under the other reading.
    pub other: f64,
    /// Lower end of the interval of the difference.
    pub lower: f64,
}

impl FitGain {
    /// What `other` answers gain over those `taken`, against the truth.
    ///
    /// # Panics
    /// When there is not an answer of each for each flow.
    #[must_use]
    pub fn of(truth: &[u16], taken: &[u16], other: &[u16]) -> Self {
        assert!(truth.len() == taken.len() && truth.len() == other.len(), "a prediction for each");
        let flows = truth.len();
        let count = flows.max(1) as f64;
        let right = |answers: &[u16]| truth.iter().zip(answers).filter(|(t, a)| t == a).count();
        let mean = (right(other) as f64 - right(taken) as f64) / count;
        let turned = (0..flows).filter(|&at| (truth[at] == taken[at]) != (truth[at] == other[at]));
        let variance = turned.count() as f64 / count - mean * mean;
        let error = (variance.max(0.0) / count).sqrt();
        // Where all flows agree the error is 0, however few they are: one more that does not is
        // counted.
        let lower = mean - SIGMAS * error - SIGMAS / count;
        Self {
            flows,
            taken: right(taken) as f64 / count,
            other: right(other) as f64 / count,
            lower,
        }
    }

    /// Whether the other reading fits far better.
    #[must_use]
    pub fn is_far_better(&self) -> bool {
        self.lower > FAR
    }

    /// Whether the other reading fits better at all, as far as the flows can tell.
    #[must_use]
    pub fn is_better(&self) -> bool {
        self.lower > 0.0
    }
}

/// The order of classes that fits flows best.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassOrder {
    /// The label that each label of an answer should be.
    pub label_of: Vec<u16>,
    /// What it gains.
    pub gain: FitGain,
}

/// Whether an order of classes explains a model's answers: under it they are right for over a third
/// of what the most frequent label alone would miss. Where the cause is another, such as the order
/// of the columns, some order of the classes still fits better by chance, and leaves most answers
/// wrong.
#[must_use]
pub fn is_explained(truth: &[u16], answers: &[u16]) -> bool {
    let right = truth.iter().zip(answers).filter(|(truth, answer)| truth == answer).count();
    let mut counts = std::collections::BTreeMap::new();
    truth.iter().for_each(|label| *counts.entry(label).or_insert(0_usize) += 1);
    let most = counts.into_values().max().unwrap_or(0);
    right.saturating_sub(most) * 3 > truth.len() - most || (right == truth.len() && right > 0)
}

/// The order of classes that fits flows best: for each label of an answer the label that it should
/// be; none where there are too many classes to search.
#[must_use]
pub fn order_found(truth: &[u16], answers: &[u16], classes: usize) -> Option<Vec<u16>> {
    (classes <= MOST_CLASSES).then(|| assigned(truth, answers, classes, &|_| true))
}

/// The best order over a part of the flows.
fn assigned(
    truth: &[u16],
    answers: &[u16],
    classes: usize,
    part: &dyn Fn(usize) -> bool,
) -> Vec<u16> {
    let mut counts = vec![0_i64; classes * classes];
    for at in (0..truth.len()).filter(|at| part(*at)) {
        counts[usize::from(answers[at]) * classes + usize::from(truth[at])] += 1;
    }
    assignment(&counts, classes)
}

/// The order of classes that fits best, found and judged on halves of the same flows, over answers
/// that were read as these labels; none where there are too many classes to search. `taken` are the
/// answers of the reading that it is held against.
#[must_use]
pub fn class_order(
    truth: &[u16],
    answers: &[u16],
    taken: &[u16],
    classes: usize,
) -> Option<ClassOrder> {
    if classes > MOST_CLASSES {
        return None;
    }
    let order_of = |part: &dyn Fn(usize) -> bool| assigned(truth, answers, classes, part);
    // By chance, since neighbours may take turns.
    let half = |at: usize| usize::from(mix(at as u64) & 1 == 1);
    let halves = [order_of(&|at| half(at) == 1), order_of(&|at| half(at) == 0)];
    // Each flow is judged by the order that the other half gave.
    let other: Vec<u16> =
        answers.iter().enumerate().map(|(at, a)| halves[half(at)][usize::from(*a)]).collect();
    let gain = FitGain::of(truth, taken, &other);
    Some(ClassOrder { label_of: order_of(&|_| true), gain })
}

/// For each answer the label that makes the most of them right, each label once: the assignment
/// problem, by the Hungarian method with potentials. Where counts are equal, an answer stays the
/// label that it is.
fn assignment(counts: &[i64], n: usize) -> Vec<u16> {
    // Costs to be made small. Row 0 and column 0 are none.
    let cost = |row: usize, column: usize| {
        let stays = i64::from(row == column);
        -(counts[(row - 1) * n + column - 1] * 2 * (n as i64 + 1) + stays)
    };
    let (mut of_row, mut of_column) = (vec![0_i64; n + 1], vec![0_i64; n + 1]);
    let (mut row_at, mut way) = (vec![0_usize; n + 1], vec![0_usize; n + 1]);
    for row in 1..=n {
        row_at[0] = row;
        let mut column = 0;
        let (mut least, mut used) = (vec![i64::MAX; n + 1], vec![false; n + 1]);
        // The shortest path to a column that no row has yet.
        loop {
            used[column] = true;
            let (own, mut delta, mut next) = (row_at[column], i64::MAX, 0);
            for to in (1..=n).filter(|to| !used[*to]) {
                let reduced = cost(own, to) - of_row[own] - of_column[to];
                if reduced < least[to] {
                    (least[to], way[to]) = (reduced, column);
                }
                if least[to] < delta {
                    (delta, next) = (least[to], to);
                }
            }
            for to in 0..=n {
                if used[to] {
                    of_row[row_at[to]] += delta;
                    of_column[to] -= delta;
                } else if to > 0 {
                    least[to] -= delta;
                }
            }
            column = next;
            if row_at[column] == 0 {
                break;
            }
        }
        while column != 0 {
            row_at[column] = row_at[way[column]];
            column = way[column];
        }
    }
    let mut label_of = vec![0; n];
    (1..=n).for_each(|column| label_of[row_at[column] - 1] = (column - 1) as u16);
    label_of
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    /// Answers to flows of `classes` that are right with this chance, else any.
    fn answers(truth: &[u16], classes: u16, right: f64, seed: u64) -> Vec<u16> {
        let mut random = Random::new(&[seed]);
        let mut roll = |sides: usize| random.below(sides);
        let share = (right * 1000.0) as usize;
        let answer = |&label: &u16| match roll(1000) < share {
            true => label,
            false => roll(usize::from(classes)) as u16,
        };
        truth.iter().map(answer).collect()
    }

    fn truth(flows: usize, classes: u16) -> Vec<u16> {
        (0..flows).map(|flow| (flow * 7 % usize::from(classes)) as u16).collect()
    }

    #[test]
    fn an_order_explains_answers_that_are_right_under_it_and_no_others() {
        let truth = truth(600, 6);
        for seed in 0..20 {
            let own = |right| answers(&truth, 6, right, seed);
            assert!(is_explained(&truth, &own(0.8)) && is_explained(&truth, &truth));
            // Right by chance, and by a little more than chance.
            assert!(!is_explained(&truth, &own(0.0)) && !is_explained(&truth, &own(0.2)));
            assert!(!is_explained(&truth, &vec![0; 600]));
        }
        assert!(!is_explained(&[], &[]) && is_explained(&[1], &[1]));
    }

    /// All orders of so few, one by one.
    fn best_by_hand(counts: &[i64], n: usize, order: &mut Vec<u16>) -> i64 {
        if order.len() == n {
            return order.iter().enumerate().map(|(a, l)| counts[a * n + usize::from(*l)]).sum();
        }
        let mut best = i64::MIN;
        for label in 0..n as u16 {
            if !order.contains(&label) {
                order.push(label);
                best = best.max(best_by_hand(counts, n, order));
                order.pop();
            }
        }
        best
    }

    proptest! {
        /// Twin: the assignment is as good as the best of all orders.
        #[test]
        fn the_assignment_is_the_best(
            n in 1..6_usize,
            counts in proptest::collection::vec(0..50_i64, 25),
        ) {
            let counts = &counts[..n * n];
            let found = assignment(counts, n);
            let mut seen = found.clone();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..n as u16).collect::<Vec<_>>());
            let picked = found.iter().enumerate();
            let sum: i64 = picked.map(|(a, l)| counts[a * n + usize::from(*l)]).sum();
            prop_assert_eq!(sum, best_by_hand(counts, n, &mut Vec::new()));
        }

        /// Whatever the order that was taken, the right one is found and fits far better.
        #[test]
        fn a_permuted_model_is_found(
            shift in 1..12_u16,
            right in 0.5..1.0_f64,
            seed in 0..1000_u64,
        ) {
            let truth = truth(400, 12);
            let own = answers(&truth, 12, right, seed);
            let permuted: Vec<u16> = own.iter().map(|label| (label + shift) % 12).collect();
            let found = class_order(&truth, &permuted, &permuted, 12).unwrap();
            prop_assert!(found.gain.is_far_better(), "{:?}", found.gain);
            for label in 0..12_u16 {
                prop_assert_eq!(found.label_of[usize::from((label + shift) % 12)], label);
            }
        }

        /// A model that is as it should be, however good or bad, or that knows nothing at all,
        /// raises no alarm.
        #[test]
        fn a_model_in_order_is_left_alone(
            classes in 2..20_u16,
            flows in 1..400_usize,
            right in 0.0..1.0_f64,
            seed in any::<u64>(),
        ) {
            let truth = truth(flows, classes);
            let own = answers(&truth, classes, right, seed);
            let found = class_order(&truth, &own, &own, usize::from(classes)).unwrap();
            prop_assert!(!found.gain.is_far_better(), "{:?}", found.gain);
        }
    }

    #[test]
    fn labels_that_were_never_answered_stay_where_they_are() {
        let truth = [0, 1, 2, 0, 1, 2];
        let found = class_order(&truth, &truth, &truth, 6).unwrap();
        assert_eq!(found.label_of, [0, 1, 2, 3, 4, 5]);
        assert!(found.gain.lower < 0.0);
        assert_eq!(class_order(&[], &[], &[], 3).unwrap().gain.flows, 0);
        assert!(class_order(&[], &[], &[], MOST_CLASSES + 1).is_none());
    }
}
