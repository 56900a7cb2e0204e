//! What a model leans on, field by field, by permutation.
//!
//! All columns of a field (each bit, each packet) are dealt out anew among the flows, together, so
//! that the field keeps its values and loses what they say. Whether a header was there at all is a
//! field of its own (`tcp present`), since its bits belong to no field alone; that of option words
//! counts as part of the options. Two fields that say the same share what they say: neither matters
//! much as long as the other is left.

use super::model::Model;
use super::report::{FieldReport, FieldsReport};
use super::spread::spread;
use crate::metrics::Confusion;
use crate::random::Random;
use serveflow_core::features::{Mask, MaskSet};
use serveflow_core::rows::{BitAt, Column, Place, Rows};
use serveflow_model::forest::{Forest, Test};
use std::collections::{BTreeMap, BTreeSet};

const TAG_FIELDS: u64 = 0x6669_656c;
/// Fields that the report lists.
const TOP: usize = 15;

/// What is dealt out together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// Bits by word.
    words: BTreeMap<usize, u32>,
    /// Numbers by index.
    numbers: BTreeSet<usize>,
}

/// Rows and labels that a model is asked about.
pub(super) struct Asked<'a> {
    pub(super) classes: usize,
    pub(super) rows: &'a Rows,
    pub(super) truth: &'a [u16],
    /// The same rows without TCP timestamps, where the plan shows these.
    pub(super) untimed: Option<&'a Rows>,
}

/// How fields are dealt out.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSampling {
    pub(super) repeats: usize,
    pub(super) seed: u64,
    pub(super) threads: usize,
}

/// A column's name without its packet.
pub(super) fn field_name(column: &str) -> &str {
    let Some((packet, rest)) = column.split_once('_') else { return column };
    let number = packet.strip_prefix("pkt").unwrap_or_default();
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if numbered { rest } else { column }
}

/// The fields of some columns.
pub(super) fn fields(columns: &[Column]) -> BTreeMap<String, Field> {
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for column in columns {
        let name = field_name(&column.name);
        match column.place {
            Place::Number(index) => {
                fields.entry(name.to_owned()).or_default().numbers.insert(index as usize);
            }
            Place::Bit { value, presence } => {
                let field = name.rsplit_once('_').map_or(name, |(field, _)| field);
                fields.entry(field.to_owned()).or_default().add(value);
                fields.entry(presence_field(field)).or_default().add(presence);
            }
        }
    }
    fields
}

/// Where it counts whether a field's words were there.
fn presence_field(field: &str) -> String {
    let header = field.split('_').next().unwrap_or(field);
    if field.ends_with("_opt") { field.to_owned() } else { format!("{header} present") }
}

impl Field {
    fn add(&mut self, at: BitAt) {
        *self.words.entry(at.word as usize).or_default() |= 1 << at.bit;
    }

    /// Whether a forest asks about any of it.
    fn used_by(&self, forest: &Forest) -> bool {
        let asks = |test: Test| match test {
            Test::Bit(at) => {
                self.words.get(&(at.word as usize)).is_some_and(|bits| bits >> at.bit & 1 == 1)
            }
            Test::Number { index, .. } => self.numbers.contains(&(index as usize)),
        };
        forest.trees().iter().flat_map(|tree| &tree.nodes).any(|node| asks(node.test))
    }

    /// The rows, each with this field of the row that `from` names.
    fn dealt(&self, rows: &Rows, from: &[usize]) -> Rows {
        let mut dealt = Rows::with_capacity(rows.shape(), rows.len());
        for (row, &other) in from.iter().enumerate() {
            let (words, numbers) = dealt.push();
            words.copy_from_slice(rows.words(row));
            numbers.copy_from_slice(rows.numbers(row));
            for (&word, &bits) in &self.words {
                words[word] = words[word] & !bits | rows.words(other)[word] & bits;
            }
            for &number in &self.numbers {
                numbers[number] = rows.numbers(other)[number];
            }
        }
        dealt
    }
}

/// How much answers differ from those to the rows as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    drop: f64,
    changed: f64,
}

struct Judge<'a> {
    asked: &'a Asked<'a>,
    model: &'a Model,
    answers: Vec<u16>,
    macro_f1: f64,
}

impl<'a> Judge<'a> {
    fn new(asked: &'a Asked<'a>, model: &'a Model) -> Self {
        let answers = model.answers(asked.rows);
        let mut judge = Self { asked, model, answers, macro_f1: 0.0 };
        judge.macro_f1 = judge.f1(&judge.answers);
        judge
    }

    fn f1(&self, answers: &[u16]) -> f64 {
        let pairs = self.asked.truth.iter().copied().zip(answers.iter().copied());
        Confusion::of(self.asked.classes, pairs).macro_f1()
    }

    fn loss(&self, rows: &Rows) -> Loss {
        let answers = self.model.answers(rows);
        let changed = answers.iter().zip(&self.answers).filter(|(new, old)| new != old).count();
        Loss {
            drop: self.macro_f1 - self.f1(&answers),
            changed: changed as f64 / answers.len().max(1) as f64,
        }
    }

    /// The mean loss of each field.
    fn losses(&self, fields: &[&Field], dealing: FieldSampling) -> Vec<Loss> {
        let repeats = dealing.repeats.max(1);
        let flows = self.asked.rows.len();
        let all = spread(dealing.threads, fields.len() * repeats, |job| {
            // Fields are dealt out alike in a repeat, so that equal fields come out equal.
            let mut from: Vec<usize> = (0..flows).collect();
            let repeat = (job % repeats) as u64;
            Random::new(&[dealing.seed, TAG_FIELDS, repeat]).choose(&mut from, flows);
            self.loss(&fields[job / repeats].dealt(self.asked.rows, &from))
        });
        let mean = |of: fn(&Loss) -> f64, losses: &[Loss]| {
            losses.iter().map(of).sum::<f64>() / repeats as f64
        };
        all.chunks(repeats)
            .map(|one| Loss { drop: mean(|l| l.drop, one), changed: mean(|l| l.changed, one) })
            .collect()
    }
}

/// Deals out each field that the model asks about, and says what is lost.
pub(super) fn importance(
    asked: &Asked<'_>,
    model: &Model,
    columns: &[Column],
    dealing: FieldSampling,
) -> FieldsReport {
    let mut fields = fields(columns);
    fields.retain(|_, field| field.used_by(&model.forest));
    let judge = Judge::new(asked, model);
    let losses = judge.losses(&fields.values().collect::<Vec<_>>(), dealing);
    let drops: f64 = losses.iter().map(|loss| loss.drop.max(0.0)).sum();
    let changes: f64 = losses.iter().map(|loss| loss.changed).sum();
    let part = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let entry = |field: &str, loss: Loss| FieldReport {
        field: field.to_owned(),
        drop: loss.drop,
        share: part(loss.drop.max(0.0), drops),
        changed: loss.changed,
        changed_share: part(loss.changed, changes),
    };
    let all: Vec<FieldReport> =
        fields.keys().zip(&losses).map(|(name, &loss)| entry(name, loss)).collect();
    let mut identity = groups(&all);
    if let Some(untimed) = asked.untimed {
        identity.push(entry(Mask::TcpTimestamps.name(), judge.loss(untimed)));
    }
    let mut top = all.clone();
    top.sort_by(|a, b| b.drop.total_cmp(&a.drop).then(b.changed.total_cmp(&a.changed)));
    top.truncate(TOP);
    FieldsReport {
        flows: asked.rows.len(),
        repeats: dealing.repeats.max(1),
        macro_f1: judge.macro_f1,
        used: all.len(),
        top,
        identity,
    }
}

/// The sums over the fields of each mask that has any among them.
fn groups(fields: &[FieldReport]) -> Vec<FieldReport> {
    let group = |mask: Mask| {
        let hides: MaskSet = [mask].into_iter().collect();
        let own: Vec<&FieldReport> =
            fields.iter().filter(|field| hides.hides(&field.field)).collect();
        let sum = |of: fn(&FieldReport) -> f64| own.iter().map(|field| of(field)).sum::<f64>();
        (!own.is_empty()).then(|| FieldReport {
            field: mask.name().to_owned(),
            drop: sum(|f| f.drop),
            share: sum(|f| f.share),
            changed: sum(|f| f.changed),
            changed_share: sum(|f| f.changed_share),
        })
    };
    Mask::ALL.into_iter().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serveflow_core::features::layout::HeaderLayout;
    use serveflow_core::features::{FeatureSpec, Features};

    fn all_fields(packets: u16) -> BTreeMap<String, Field> {
        let spec = FeatureSpec {
            encoders: ["header_bits", "packet_series"].map(str::to_owned).to_vec(),
            packets,
            layout: HeaderLayout::default(),
            masks: [].into_iter().collect(),
        };
        fields(&Features::new(&spec).unwrap().columns())
    }

    #[test]
    fn a_field_is_all_its_bits_in_all_packets() {
        for packets in [1, 3] {
            let fields = all_fields(packets);
            let bits =
                |name: &str| fields[name].words.values().map(|w| w.count_ones()).sum::<u32>();
            assert_eq!(bits("ipv4_ttl"), 8 * u32::from(packets));
            // 320 bits of options, and whether each of their ten words was there.
            assert_eq!(bits("tcp_opt"), 330 * u32::from(packets));
            assert_eq!(bits("udp present"), 2 * u32::from(packets));
            assert_eq!(fields["gap_us"].numbers.len(), usize::from(packets));
        }
    }

    #[test]
    fn dealing_out_moves_one_field_and_nothing_else() {
        let fields = all_fields(1);
        let mut rows =
            Rows::with_capacity(serveflow_core::rows::RowShape { words: 33, numbers: 5 }, 2);
        for fill in [0, u32::MAX] {
            let (words, numbers) = rows.push();
            words.fill(fill);
            numbers.fill(fill as f32);
        }
        let dealt = fields["ipv4_ttl"].dealt(&rows, &[1, 0]);
        let ones: u32 = dealt.words(0).iter().map(|word| word.count_ones()).sum();
        assert_eq!((ones, dealt.words(0)[2]), (8, 0xff00_0000));
        assert_eq!((dealt.numbers(0), dealt.numbers(1)), (rows.numbers(0), rows.numbers(1)));
        let dealt = fields["size"].dealt(&rows, &[1, 0]);
        assert_eq!(dealt.numbers(0), [u32::MAX as f32, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(dealt.words(1), rows.words(1));
    }
}
