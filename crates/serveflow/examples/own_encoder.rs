//! An encoder of one's own: bytes that each side of a flow sent, and a model on them.
//!
//! ```text
//! cargo run --release --example own_encoder
//! ```

use serveflow::{
    Cascade, Column, Driver, Encoder, End, Engine, EngineConfig, FeatureSpec, Features, FlowRecord,
    Gate, HeaderLayout, InlineLane, Lane, LinkType, Model, Packet, Place, RowShape, Rows,
    ScoreError, Scores, Stage,
};
use std::error::Error;
use std::sync::Arc;

/// Bytes of payload from the client, and from the server.
#[derive(Debug)]
struct BytesSent;

impl Encoder for BytesSent {
    fn shape(&self) -> RowShape {
        RowShape { words: 0, numbers: 2 }
    }

    fn columns(&self) -> Vec<Column> {
        let column =
            |(at, name): (u32, &str)| Column { name: name.to_owned(), place: Place::Number(at) };
        [(0, "client_bytes"), (1, "server_bytes")].map(column).to_vec()
    }

    fn layout(&self) -> HeaderLayout {
        // It looks at no header words.
        HeaderLayout::new(&[])
    }

    fn encode(&self, record: &FlowRecord<'_>, _words: &mut [u32], numbers: &mut [f32]) {
        for packet in record.packets() {
            numbers[usize::from(packet.meta.backward)] += f32::from(packet.meta.payload);
        }
    }
}

/// `upload` where the client sent more, else `download`.
#[derive(Debug)]
struct WhoSentMore;

impl Model for WhoSentMore {
    fn shape(&self) -> RowShape {
        BytesSent.shape()
    }

    fn classes(&self) -> usize {
        2
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        scores.reset(rows.len(), 2);
        for row in 0..rows.len() {
            let sent = rows.numbers(row);
            scores.row_mut(row)[usize::from(sent[1] > sent[0])] = 1.0;
        }
        Ok(())
    }
}

/// A datagram between 10.0.0.1 and 10.0.0.2, without a link header.
fn datagram(from: u8, to: u8, ports: [u16; 2], payload: u8) -> Vec<u8> {
    let ip = [0x45, 0, 0, 28 + payload, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to];
    let ports = ports.map(u16::to_be_bytes).concat();
    let udp = [&ports[..], &[0, 8 + payload, 0, 0]].concat();
    [&ip[..], &udp, &vec![0; usize::from(payload)]].concat()
}

/// Serves two flows of two packets each.
///
/// # Errors
/// When the stage makes no cascade.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // Two packets of a flow make a row of nothing but the encoder's columns.
    let features = Features::new(&FeatureSpec::new(&[], 2))?.with_encoder(Arc::new(BytesSent));
    let stage = Stage::new("bytes", features, Gate::never(), u64::MAX);
    let labels = ["upload", "download"];
    let cascade = Cascade::new(vec![stage], labels.map(str::to_owned).to_vec())?;
    let mut engine = Engine::new(Arc::new(cascade), EngineConfig::default());
    let model: Arc<dyn Model> = Arc::new(WhoSentMore);
    let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(InlineLane::new(vec![model]))];
    let mut driver = Driver::new(&mut engine, &mut lanes);
    let frames = [
        datagram(1, 2, [5000, 53], 20),
        datagram(2, 1, [53, 5000], 100),
        datagram(1, 2, [5001, 514], 90),
        datagram(2, 1, [514, 5001], 1),
    ];
    let packets = frames.iter().zip(1..).map(|(data, ts_ns)| Packet {
        ts_ns,
        orig_len: data.len() as u32,
        link: LinkType::RawIp,
        data,
    });
    driver.serve(packets);
    driver.finish(End::Silence);
    let mut found = Vec::new();
    for verdict in driver.drain() {
        let label = verdict.answer.map(|answer| labels[usize::from(answer.label)]);
        println!("port {}: {}", verdict.flow.dst_port, label.unwrap_or("no model was asked"));
        found.push((verdict.flow.dst_port, label));
    }
    found.sort_unstable();
    assert_eq!(found, [(53, Some("download")), (514, Some("upload"))]);
    Ok(())
}
