//! A sink of one's own: a line for each flow, as `PROTOCOL PORT LABEL`.
//!
//! ```text
//! cargo run --release --example own_sink
//! ```

use serveflow::{
    Cascade, Constant, Engine, EngineConfig, FeatureSpec, Features, Gate, InlineLane, LinkType,
    MemorySource, OwnedFrame, Sink, Stage, Verdict, WhenFull, Worker,
};
use std::error::Error;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Writes lines.
struct Lines<W> {
    writer: W,
    labels: Vec<String>,
}

impl<W: Write + Send> Sink for Lines<W> {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        for verdict in verdicts.iter().filter(|verdict| verdict.is_final) {
            let label = verdict.answer.map(|answer| &self.labels[usize::from(answer.label)]);
            let label = label.map_or("-", String::as_str);
            let flow = &verdict.flow;
            writeln!(self.writer, "{} {} {label}", flow.proto, flow.dst_port)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A datagram from 10.0.0.1:5000 to a port of 10.0.0.2, without a link header.
fn frame(ts_ns: u64, port: u16) -> OwnedFrame {
    let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let [high, low] = port.to_be_bytes();
    let data = [&ip[..], &[0x13, 0x88, high, low, 0, 8, 0, 0]].concat();
    OwnedFrame { ts_ns, orig_len: 28, link: LinkType::RawIp, data, note: None }
}

/// Serves three flows into memory, and prints what was written.
///
/// # Errors
/// When the stage makes no cascade, or the sink fails.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let features = Features::new(&FeatureSpec::new(&["header_bits"], 1))?;
    let model = Constant::first(features.shape(), 1, 0.9);
    let stage = Stage::new("first", features, Gate::never(), u64::MAX);
    let labels = vec!["datagram".to_owned()];
    let cascade = Arc::new(Cascade::new(vec![stage], labels.clone())?);
    let mut sink = Lines { writer: Vec::new(), labels };
    Worker {
        engine: &mut Engine::new(cascade, EngineConfig::default()),
        lanes: &mut vec![Box::new(InlineLane::new(vec![Arc::new(model)]))],
        sink: &mut sink,
        wall: &mut || 0,
        batch_frames: 256,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    }
    .run(
        &mut MemorySource::new(vec![frame(1, 53), frame(2, 123), frame(3, 53), frame(4, 514)]),
        &mut |_, _| ControlFlow::Continue(()),
    )?;
    let text = String::from_utf8(sink.writer)?;
    print!("{text}");
    assert_eq!(text, "17 53 datagram\n17 123 datagram\n17 514 datagram\n");
    Ok(())
}
