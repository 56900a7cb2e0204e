//! A row per packet, as the nPrint tool writes them.

use super::{Key, Table};
use serveflow_core::counters::Counters;
use serveflow_core::features::{FeatureSpec, Features, Mask};
use serveflow_core::packet::Packet;
use serveflow_core::parse::{KeyRules, Parsed, parse};
use serveflow_core::rows::Rows;
use serveflow_io::{Batch, Source, SourceError};
use std::fmt::{self, Write};
use std::io;

const HEADER_BITS: &str = "header_bits";
const BATCH_FRAMES: usize = 1024;

/// Why features have no row per packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketTableError {
    /// Features of a flow.
    Encoder {
        /// Their name.
        found: String,
    },
    /// More packets than one.
    Packets {
        /// How many.
        found: u16,
    },
    /// Timestamps stand anywhere among the options, so that no columns can be left out for them.
    Timestamps,
}

impl fmt::Display for PacketTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoder { found } => {
                write!(
                    f,
                    "a row per packet has {HEADER_BITS} alone, found `{found}`: that is of a flow"
                )
            }
            Self::Packets { found } => {
                write!(f, "a row per packet covers 1 packet, found {found}")
            }
            Self::Timestamps => {
                f.write_str("a row per packet cannot mask tcp_timestamps: expected other masks")
            }
        }
    }
}

impl std::error::Error for PacketTableError {}

/// The features of single packets.
///
/// # Errors
/// When the spec names anything but the header bits of one packet.
pub fn packet_features(spec: &FeatureSpec) -> Result<Features, PacketTableError> {
    if let Some(found) = spec.encoders.iter().find(|name| *name != HEADER_BITS) {
        return Err(PacketTableError::Encoder { found: found.clone() });
    }
    if spec.packets != 1 {
        return Err(PacketTableError::Packets { found: spec.packets });
    }
    if spec.masks.contains(Mask::TcpTimestamps) {
        return Err(PacketTableError::Timestamps);
    }
    Ok(Features::new(spec).expect("header_bits is an encoder"))
}

/// What became of the packets.
#[derive(Debug, Default)]
pub struct PacketTally {
    /// Where they went; the recorded ones have a row.
    pub accounts: Counters,
    /// One error per damaged input; every packet before the damage was taken.
    pub damaged: Vec<SourceError>,
}

/// Writes a row for each packet of a source, in order; packets of no flow have none.
///
/// # Errors
/// When the table fails.
pub fn write_packets(
    source: &mut dyn Source,
    features: &Features,
    rules: KeyRules,
    table: &mut dyn Table,
) -> io::Result<PacketTally> {
    let (mut batch, mut tally) = (Batch::new(), PacketTally::default());
    let mut rows = Rows::with_capacity(features.shape(), 1);
    let mut flow = String::new();
    let packets = &mut tally.accounts.packets;
    loop {
        match source.fill(&mut batch, BATCH_FRAMES) {
            Ok(0) => return Ok(tally),
            Ok(_) => {}
            Err(error) => tally.damaged.push(error),
        }
        for packet in batch.iter() {
            packets.seen += 1;
            match parse(&packet, rules) {
                Err(reject) => packets.rejected[reject as usize] += 1,
                Ok(parsed) => {
                    packets.recorded += 1;
                    encode(&packet, &parsed, features, &mut rows);
                    spell(&parsed, &mut flow);
                    table.push(&[Key::Text(flow.as_str().into())], &rows, 0)?;
                }
            }
        }
    }
}

/// The packet as the only row; its columns leave out what is masked.
fn encode(packet: &Packet<'_>, parsed: &Parsed, features: &Features, rows: &mut Rows) {
    rows.clear();
    let (words, _) = rows.push();
    features.layout().write(packet.data, parsed, words);
}

/// Sender first, whichever end began the flow. Protocols without ports have `NULL` three times.
fn spell(parsed: &Parsed, text: &mut String) {
    text.clear();
    let flow = parsed.key.five_tuple(parsed.sender_is_low);
    let (src, dst, src_port, dst_port) = (flow.src, flow.dst, flow.src_port, flow.dst_port);
    let written = match flow.proto {
        6 => write!(text, "{src}_{dst}_{src_port}_{dst_port}_TCP"),
        17 => write!(text, "{src}_{dst}_{src_port}_{dst_port}_UDP"),
        _ => write!(text, "{src}_{dst}_NULL_NULL_NULL"),
    };
    written.expect("writing to memory does not fail");
}
