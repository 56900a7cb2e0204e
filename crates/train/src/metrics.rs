//! How good answers are: accuracy, F1, confusion.

use serde::Serialize;

/// Counts of true against predicted labels: `counts[truth][answer]`; the last column counts flows
/// without an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

/// One class's figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Flows of the class.
    pub support: u64,
    /// Share of right answers among the answers with this label; 0 when there are none.
    pub precision: f64,
    /// Share of the class's flows that were answered right; 0 when there are none.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 when both are 0.
    pub f1: f64,
}

impl Confusion {
    /// An empty table.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * (classes + 1)] }
    }

    /// A table of pairs (truth, answer).
    #[must_use]
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut table = Self::new(classes);
        pairs.into_iter().for_each(|(truth, answer)| table.add(truth, Some(answer)));
        table
    }

    /// Counts a flow.
    ///
    /// # Panics
    /// When a label is out of range.
    pub fn add(&mut self, truth: u16, answer: Option<u16>) {
        self.add_times(truth, answer, 1);
    }

    /// Counts a number of flows.
    ///
    /// # Panics
    /// When a label is out of range.
    pub fn add_times(&mut self, truth: u16, answer: Option<u16>, flows: u64) {
        let column = answer.map_or(self.classes, usize::from);
        self.counts[usize::from(truth) * (self.classes + 1) + column] += flows;
    }

    /// Moves a flow of class `truth` from one answer to another.
    ///
    /// # Panics
    /// When a label is out of range, or no such flow was counted.
    pub fn change(&mut self, truth: u16, from: u16, to: u16) {
        let row = usize::from(truth) * (self.classes + 1);
        let old = &mut self.counts[row + usize::from(from)];
        *old = old.checked_sub(1).expect("the flow was counted");
        self.counts[row + usize::from(to)] += 1;
    }

    /// Adds another table's counts.
    ///
    /// # Panics
    /// When the tables have different classes.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.classes, other.classes, "tables of the same classes");
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Flows of class `truth` that were answered `answer`.
    #[must_use]
    pub fn count(&self, truth: usize, answer: usize) -> u64 {
        self.counts[truth * (self.classes + 1) + answer]
    }

    /// Number of classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All flows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Share of flows that were answered right; 0 when there are none.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|class| self.count(class, class)).sum();
        share(right, self.total())
    }

    /// Figures of a class.
    #[must_use]
    pub fn class(&self, class: usize) -> ClassFigures {
        let right = self.count(class, class);
        let support = (0..=self.classes).map(|answer| self.count(class, answer)).sum();
        let answered = (0..self.classes).map(|truth| self.count(truth, class)).sum();
        ClassFigures {
            support,
            precision: share(right, answered),
            recall: share(right, support),
            f1: share(2 * right, support + answered),
        }
    }

    /// Mean F1 over the classes that occur, as truth or as answer (scikit-learn's macro average).
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        let occurs = |class: &usize| {
            let figures = self.class(*class);
            figures.support > 0 || (0..self.classes).any(|truth| self.count(truth, *class) > 0)
        };
        let figures: Vec<f64> =
            (0..self.classes).filter(occurs).map(|class| self.class(class).f1).collect();
        if figures.is_empty() { 0.0 } else { figures.iter().sum::<f64>() / figures.len() as f64 }
    }

    /// Mean F1, weighted by the classes' flows.
    #[must_use]
    pub fn weighted_f1(&self) -> f64 {
        let weighted = |class| {
            let figures = self.class(class);
            figures.f1 * figures.support as f64
        };
        let total = self.total();
        if total == 0 { 0.0 } else { (0..self.classes).map(weighted).sum::<f64>() / total as f64 }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_match_a_worked_example() {
        // Truth a a a b b c, answers a a b b c c: F1 of a 0.8, of b 0.5, of c 2/3.
        let truth = [0, 0, 0, 1, 1, 2];
        let answers = [0, 0, 1, 1, 2, 2];
        let table = Confusion::of(4, truth.into_iter().zip(answers));
        assert!((table.accuracy() - 4.0 / 6.0).abs() < 1e-12);
        assert!((table.class(0).f1 - 0.8).abs() < 1e-12);
        assert!((table.class(1).f1 - 0.5).abs() < 1e-12);
        let expected = (0.8 + 0.5 + 2.0 / 3.0) / 3.0;
        assert!((table.macro_f1() - expected).abs() < 1e-12, "class d never occurs");
        let weighted = (0.8 * 3.0 + 0.5 * 2.0 + 2.0 / 3.0) / 6.0;
        assert!((table.weighted_f1() - weighted).abs() < 1e-12);
    }

    #[test]
    fn no_answer_is_a_wrong_answer() {
        let mut table = Confusion::new(2);
        table.add(0, Some(0));
        table.add(0, None);
        assert!((table.accuracy() - 0.5).abs() < 1e-12);
        assert!((table.class(0).recall - 0.5).abs() < 1e-12);
        assert!((table.class(0).precision - 1.0).abs() < 1e-12);
        assert_eq!(Confusion::new(3).macro_f1(), 0.0);
    }
}
