//! Features: pure functions of a flow's recorded packets.

mod flow_stats;
mod header_bits;
pub mod layout;
mod mask;
mod packet_series;

pub use mask::{Mask, MaskSet};

use crate::record::FlowRecord;
use crate::rows::{BitAt, Column, Place, RowShape, Rows};
use layout::HeaderLayout;
use std::fmt;
use std::sync::Arc;

/// Turns a flow's recorded packets into one row.
pub trait Encoder: Send + Sync + fmt::Debug {
    /// Width of the row.
    fn shape(&self) -> RowShape;
    /// The row's columns, in order; masked bits have none.
    fn columns(&self) -> Vec<Column>;
    /// The header words that the recorded packets must hold.
    fn layout(&self) -> HeaderLayout;
    /// Fills a zeroed row from the packets there are, at most as many as the encoder's depth.
    fn encode(&self, record: &FlowRecord<'_>, words: &mut [u32], numbers: &mut [f32]);
}

/// What a stage's features are made of; travels in the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSpec {
    /// Names from [`ENCODERS`], in row order.
    pub encoders: Vec<String>,
    /// Packets that a row covers.
    pub packets: u16,
    /// Protocols of `header_bits`.
    pub layout: HeaderLayout,
    /// Header fields that no row shows.
    pub masks: MaskSet,
}

impl FeatureSpec {
    /// Rows of these encoders over so many packets: headers as usual, masked by default what
    /// identifies a host.
    #[must_use]
    pub fn new(encoders: &[&str], packets: u16) -> Self {
        Self {
            encoders: encoders.iter().map(|&name| name.to_owned()).collect(),
            packets,
            layout: HeaderLayout::default(),
            masks: MaskSet::default(),
        }
    }
}

/// An encoder of the list: its name, what it holds, and how to make it.
#[derive(Debug)]
pub struct EncoderEntry {
    /// Name in configs and bundles.
    pub name: &'static str,
    /// One sentence for help texts.
    pub doc: &'static str,
    /// Makes the encoder for a spec.
    pub build: fn(&FeatureSpec) -> Box<dyn Encoder>,
}

/// All encoders. A new one is one file and one line here.
pub const ENCODERS: &[EncoderEntry] =
    &[header_bits::ENTRY, packet_series::ENTRY, flow_stats::ENTRY];

/// Why a list of encoders is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncoderError {
    /// A name that is not in [`ENCODERS`].
    Unknown(String),
    /// A name that is in the list twice, whose columns would be too.
    Twice(String),
}

impl fmt::Display for EncoderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(found) => {
                let known: Vec<&str> = ENCODERS.iter().map(|entry| entry.name).collect();
                write!(f, "unknown features `{found}`: expected some of {}", known.join(", "))
            }
            Self::Twice(found) => write!(f, "features `{found}`: expected once, found twice"),
        }
    }
}

impl std::error::Error for EncoderError {}

/// The encoders of a stage, side by side in one row.
#[derive(Clone, Debug)]
pub struct Features {
    spec: FeatureSpec,
    shape: RowShape,
    layout: HeaderLayout,
    parts: Vec<(Arc<dyn Encoder>, RowShape)>,
}

impl Features {
    /// Builds the encoders that a spec names.
    ///
    /// # Errors
    /// When a name is not in [`ENCODERS`], or is there twice.
    pub fn new(spec: &FeatureSpec) -> Result<Self, EncoderError> {
        let mut features = Self {
            spec: spec.clone(),
            shape: RowShape::default(),
            layout: HeaderLayout::new(&[]),
            parts: Vec::new(),
        };
        for (at, name) in spec.encoders.iter().enumerate() {
            let entry = ENCODERS.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| EncoderError::Unknown(name.clone()))?;
            if spec.encoders[..at].contains(name) {
                return Err(EncoderError::Twice(name.clone()));
            }
            features = features.with_encoder((entry.build)(spec).into());
        }
        Ok(features)
    }

    /// The same with one more encoder behind the others: one that is not in [`ENCODERS`], but in
    /// the program that uses this crate. The spec does not name it, so no bundle holds it.
    #[must_use]
    pub fn with_encoder(mut self, encoder: Arc<dyn Encoder>) -> Self {
        let part = encoder.shape();
        self.shape.words += part.words;
        self.shape.numbers += part.numbers;
        self.layout = self.layout.union(&encoder.layout());
        self.parts.push((encoder, part));
        self
    }

    /// The spec they were built from.
    #[must_use]
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// Width of the whole row.
    #[must_use]
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// Header words that recorded packets must hold.
    #[must_use]
    pub fn layout(&self) -> HeaderLayout {
        self.layout
    }

    /// Columns of the whole row, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let mut columns = Vec::new();
        let mut at = RowShape::default();
        for (encoder, part) in &self.parts {
            columns.extend(encoder.columns().into_iter().map(|column| shifted(column, at)));
            at.words += part.words;
            at.numbers += part.numbers;
        }
        columns
    }

    /// Adds the row of a flow to a batch of this shape.
    pub fn encode(&self, record: &FlowRecord<'_>, rows: &mut Rows) {
        let (mut words, mut numbers) = rows.push();
        for (encoder, part) in &self.parts {
            let (own_words, rest_words) = words.split_at_mut(part.words);
            let (own_numbers, rest_numbers) = numbers.split_at_mut(part.numbers);
            encoder.encode(record, own_words, own_numbers);
            (words, numbers) = (rest_words, rest_numbers);
        }
    }
}

fn shifted(column: Column, by: RowShape) -> Column {
    let moved = |at: BitAt| BitAt { word: at.word + by.words as u32, bit: at.bit };
    let place = match column.place {
        Place::Bit { value, presence } => {
            Place::Bit { value: moved(value), presence: moved(presence) }
        }
        Place::Number(index) => Place::Number(index + by.numbers as u32),
    };
    Column { place, ..column }
}

/// A per-packet column's name: as it is for one packet, else behind the packet's number from 1.
fn packet_column(packets: u16, packet: u16, name: &str) -> String {
    if packets == 1 { name.to_owned() } else { format!("pkt{}_{name}", packet + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_unique_and_inside_the_row() {
        for packets in [1, 3, 10] {
            let spec = FeatureSpec {
                encoders: ENCODERS.iter().map(|entry| entry.name.to_owned()).collect(),
                packets,
                layout: HeaderLayout::default(),
                masks: MaskSet::default(),
            };
            let features = Features::new(&spec).unwrap();
            let columns = features.columns();
            let names: std::collections::BTreeSet<_> = columns.iter().map(|c| &c.name).collect();
            assert_eq!(names.len(), columns.len());
            let shape = features.shape();
            for column in &columns {
                match column.place {
                    Place::Bit { value, presence } => {
                        assert!((value.word as usize) < shape.words);
                        assert!((presence.word as usize) < shape.words);
                    }
                    Place::Number(index) => assert!((index as usize) < shape.numbers),
                }
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = refused(&["bytes"]);
        assert!(error.contains("`bytes`") && error.contains("header_bits"), "{error}");
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        let error = refused(&["header_bits", "flow_stats", "header_bits"]);
        assert!(error.contains("`header_bits`") && error.contains("twice"), "{error}");
    }

    fn refused(encoders: &[&str]) -> String {
        let spec = FeatureSpec {
            encoders: encoders.iter().map(|&name| name.to_owned()).collect(),
            packets: 1,
            layout: HeaderLayout::default(),
            masks: MaskSet::default(),
        };
        Features::new(&spec).unwrap_err().to_string()
    }
}
