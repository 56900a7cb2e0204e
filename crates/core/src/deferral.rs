//! Learned deferral: would a later stage mend this answer, and is that worth the wait?
//!
//! Doubt alone passes on flows that no later stage can mend. So for a stage and each of the later
//! stages a small model, a head, predicts from what is known when the stage has answered (its
//! scores, and a few facts of the flow that cost nothing) whether the later stage would *hurt*,
//! leave the answer *the same*, or *help*. What that stage is worth is the probability of help less
//! that of hurt. The flow goes where the worth exceeds the price most, and the answer stands where
//! none does. A head may lead past the next stage: a stage that is not expected to help is skipped.
//!
//! Deferral by a learned rule in this form: Madras, Pitassi and Zemel, "Predict Responsibly", 2018;
//! Mozannar and Sontag, "Consistent Estimators for Learning to Defer to an Expert", 2020.

use crate::gate::{best_class, top_two};
use crate::lane::Model;
use crate::rows::{Column, Place, RowShape, Rows, Scores};
use std::sync::Arc;

/// What a head tells apart: the later stage hurts, changes nothing, helps.
pub const OUTCOMES: usize = 3;

/// What is known of a flow when a stage is asked, beside its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFacts {
    /// Packets that the row covers.
    pub packets: u16,
    /// Whether these are fewer than the stage wants: the flow ended, or its wait was over.
    pub short: bool,
    /// IP protocol number (IANA).
    pub proto: u8,
    /// Bytes of the last of these packets on the wire, from the IP header on (capped at 65,535).
    pub size: u16,
    /// Bytes of it behind the transport header (capped at 65,535).
    pub payload: u16,
    /// Its TCP flags, low eight bits.
    pub flags: u8,
    /// Whether it was sent against the direction of the flow's first packet.
    pub backward: bool,
    /// Packet time from the flow's first packet until the question, microseconds (capped).
    pub elapsed_us: u32,
}

/// Numbers of a row of facts that are not scores.
const OTHER_FACTS: [&str; 12] = [
    "confidence",
    "margin",
    "class",
    "packets",
    "short",
    "tcp",
    "udp",
    "size",
    "payload",
    "tcp_flags",
    "backward",
    "elapsed_us",
];

/// Width of a row of facts in a cascade of so many labels: numbers alone.
#[must_use]
pub fn facts_shape(labels: usize) -> RowShape {
    RowShape { words: 0, numbers: labels + OTHER_FACTS.len() }
}

/// The columns of a row of facts: `score_<label>` for each label, then confidence, margin and the
/// like.
#[must_use]
pub fn facts_columns(labels: &[String]) -> Vec<Column> {
    let scores = labels.iter().map(|label| format!("score_{label}"));
    let names = scores.chain(OTHER_FACTS.map(str::to_owned)).enumerate();
    names.map(|(index, name)| Column { name, place: Place::Number(index as u32) }).collect()
}

/// Adds a row of facts: what a head sees of a flow that was scored so.
///
/// # Panics
/// When `rows` has not the shape for so many scores.
pub fn push_facts(rows: &mut Rows, scores: &[f32], facts: &FlowFacts) {
    let (_, numbers) = rows.push();
    let (own, other) = numbers.split_at_mut(scores.len());
    own.copy_from_slice(scores);
    let (first, second) = top_two(scores);
    let flag = |set: bool| f32::from(u8::from(set));
    other.copy_from_slice(&[
        first,
        first - second,
        f32::from(best_class(scores).0),
        f32::from(facts.packets),
        flag(facts.short),
        flag(facts.proto == 6),
        flag(facts.proto == 17),
        f32::from(facts.size),
        f32::from(facts.payload),
        f32::from(facts.flags),
        flag(facts.backward),
        facts.elapsed_us as f32,
    ]);
}

/// What a head's answer is worth: the probability of help less that of hurt, -1 to 1.
#[must_use]
pub fn worth(outcome: &[f32]) -> f32 {
    outcome[OUTCOMES - 1] - outcome[0]
}

/// Predicts what going on to one later stage is worth.
#[derive(Clone, Debug)]
pub struct Head {
    /// Index of that stage.
    pub to: usize,
    /// Rows of [`facts_shape`] in, [`OUTCOMES`] probabilities out.
    pub model: Arc<dyn Model>,
    /// What must be exceeded for the flow to go there.
    pub price: f32,
}

/// A stage's heads.
#[derive(Clone, Debug)]
pub struct Deferral {
    heads: Vec<Head>,
}

/// Where flows go whose answers do not stand: an index of a stage by row, `None` where the answer
/// stands.
pub type Rulings = Vec<Option<u8>>;

impl Deferral {
    /// A rule of these heads. Of two that are worth the same, the first one counts.
    #[must_use]
    pub fn new(heads: Vec<Head>) -> Self {
        Self { heads }
    }

    /// The heads.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// Rules on a batch of answers. Where scores are no numbers, or a head fails, the flow goes to
    /// the stage of the first head: an answer that cannot be judged is not sure.
    ///
    /// # Panics
    /// When there is not one set of facts for each row of scores.
    pub fn rule(&self, scores: &Scores, facts: &[FlowFacts], room: &mut RulingBuffers) {
        assert_eq!(scores.len(), facts.len(), "facts of each flow");
        let RulingBuffers { rows, outcome, best, rulings } = room;
        if rows.shape() != facts_shape(scores.classes()) {
            *rows = Rows::with_capacity(facts_shape(scores.classes()), facts.len());
        }
        rows.clear();
        facts.iter().enumerate().for_each(|(row, facts)| push_facts(rows, scores.row(row), facts));
        rulings.clear();
        rulings.resize(facts.len(), None);
        best.clear();
        best.resize(facts.len(), 0.0);
        let Some(first) = self.heads.first().map(|head| head.to as u8) else { return };
        for head in &self.heads {
            if head.model.score(rows, outcome).is_err() {
                rulings.fill(Some(first));
                return;
            }
            for (row, (best, ruling)) in best.iter_mut().zip(rulings.iter_mut()).enumerate() {
                let gain = worth(outcome.row(row)) - head.price;
                if gain > *best {
                    (*best, *ruling) = (gain, Some(head.to as u8));
                }
            }
        }
        for (row, ruling) in rulings.iter_mut().enumerate() {
            if !scores.row(row).iter().all(|score| score.is_finite()) {
                *ruling = Some(first);
            }
        }
    }
}

/// Memory that rulings are made in, kept from batch to batch.
#[derive(Debug, Default)]
pub struct RulingBuffers {
    rows: Rows,
    outcome: Scores,
    best: Vec<f32>,
    rulings: Rulings,
}

impl RulingBuffers {
    /// The rulings of the last batch.
    #[must_use]
    pub fn rulings(&self) -> &[Option<u8>] {
        &self.rulings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::ScoreError;

    /// Hurts, changes nothing or helps as one of its numbers says.
    #[derive(Debug)]
    struct Reads(usize, RowShape);

    impl Model for Reads {
        fn shape(&self) -> RowShape {
            self.1
        }
        fn classes(&self) -> usize {
            OUTCOMES
        }
        fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
            scores.reset(rows.len(), OUTCOMES);
            for row in 0..rows.len() {
                let help = rows.numbers(row)[self.0];
                scores.row_mut(row).copy_from_slice(&[0.0, 1.0 - help, help]);
            }
            if rows.len() > 4 { Err(ScoreError { message: "too many".to_owned() }) } else { Ok(()) }
        }
    }

    fn scores(rows: &[[f32; 2]]) -> Scores {
        let mut scores = Scores::default();
        scores.reset(rows.len(), 2);
        rows.iter().enumerate().for_each(|(at, row)| scores.row_mut(at).copy_from_slice(row));
        scores
    }

    #[test]
    fn a_flow_goes_where_it_is_worth_most_above_the_price() {
        let head =
            |to, column, price| Head { to, model: Arc::new(Reads(column, facts_shape(2))), price };
        let rule = Deferral::new(vec![head(1, 0, 0.2), head(2, 1, 0.4)]);
        let mut room = RulingBuffers::default();
        let asked = scores(&[[0.1, 0.3], [0.5, 0.5], [0.3, 0.9], [f32::NAN, 0.0]]);
        rule.rule(&asked, &[FlowFacts::default(); 4], &mut room);
        assert_eq!(room.rulings(), [None, Some(1), Some(2), Some(1)]);
        rule.rule(&scores(&[[0.0, 0.0]; 5]), &[FlowFacts::default(); 5], &mut room);
        assert_eq!(room.rulings(), [Some(1); 5], "heads that fail are never sure");
    }

    #[test]
    fn rows_of_facts_have_the_named_columns() {
        let labels = ["a".to_owned(), "b".to_owned()];
        let columns = facts_columns(&labels);
        let mut rows = Rows::with_capacity(facts_shape(2), 1);
        let facts =
            FlowFacts { packets: 3, proto: 17, size: 900, elapsed_us: 5, ..FlowFacts::default() };
        push_facts(&mut rows, &[0.25, 0.75], &facts);
        assert_eq!(columns.len(), rows.shape().numbers);
        let named = |name: &str| {
            let at = columns.iter().position(|column| column.name == name).unwrap();
            rows.numbers(0)[at]
        };
        let found = [
            "score_b",
            "confidence",
            "margin",
            "class",
            "packets",
            "udp",
            "tcp",
            "size",
            "elapsed_us",
        ];
        assert_eq!(found.map(named), [0.75, 0.75, 0.5, 1.0, 3.0, 1.0, 0.0, 900.0, 5.0]);
    }
}
