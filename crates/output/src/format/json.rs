//! Verdicts as JSON, one object a line.

use std::io::{self, Write};

use serveflow_core::open_set::UNKNOWN;
use serveflow_core::verdict::Verdict;

use crate::RecordWriter;

use super::fields::{
    Outbox, Quoted, push_bool, push_float, push_ip, push_micros, push_proto, push_seconds,
    push_uint,
};
use serveflow_io::Sink;

/// Writes each verdict as one JSON object on a line of its own.
///
/// | key | value |
/// |---|---|
/// | `flow` | number of the flow, in the order the engine met them, from 0 |
/// | `src`, `src_port`, `dst`, `dst_port` | the flow; `src` sent its first packet |
/// | `proto` | `"tcp"`, `"udp"`, `"icmp"`, `"icmp6"`, or the number as a string |
/// | `vlan` | VLAN id; left out when the flow has none |
/// | `label` | name of the label, or `"unknown"` (open-set rejection); null if no model ran |
/// | `nearest` | the known label with the highest score, of an unknown flow only |
/// | `confidence` | probability of the label (or `nearest`), 0 to 1; null if no model ran |
/// | `stage` | name of the deciding stage; null if no model ran |
/// | `packets` | packets that this stage used; 0 if no model ran |
/// | `reason` | why the verdict came when it came |
/// | `final` | false for a provisional verdict |
/// | `first_ts`, `deciding_ts` | seconds since the epoch with nine decimals, exact |
/// | `collection_us`, `compute_us` | microseconds with up to three decimals, exact |
///
/// A label or stage without a name is written as its number in quotes.
pub struct JsonLines<W: RecordWriter> {
    outbox: Outbox<W>,
    names: Names,
}

impl<W: RecordWriter> JsonLines<W> {
    /// A sink that writes to `writer` whole lines, many at a time, so that it needs no buffer.
    #[must_use]
    pub fn new(writer: W, labels: &[String], stages: &[String]) -> Self {
        let (labels, stages) = (Quoted::new(labels, quote), Quoted::new(stages, quote));
        Self { outbox: Outbox::new(writer, b""), names: Names { labels, stages } }
    }
}

impl<W: RecordWriter> Sink for JsonLines<W> {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        let Self { outbox, names } = self;
        outbox.write(verdicts, |out, verdict| names.push(out, verdict))
    }

    fn name_plan(&mut self, plan: u8, labels: &[String], stages: &[String]) {
        self.names.labels.name_plan(plan, labels);
        self.names.stages.name_plan(plan, stages);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.outbox.flush()
    }
}

/// The names that verdicts refer to, as JSON strings.
struct Names {
    labels: Quoted,
    stages: Quoted,
}

impl Names {
    /// Appends a verdict's line.
    fn push(&self, out: &mut Vec<u8>, verdict: &Verdict) {
        let flow = &verdict.flow;
        out.extend_from_slice(b"{\"flow\":");
        push_uint(out, verdict.id);
        out.extend_from_slice(b",\"src\":\"");
        push_ip(out, flow.src);
        out.extend_from_slice(b"\",\"src_port\":");
        push_uint(out, flow.src_port.into());
        out.extend_from_slice(b",\"dst\":\"");
        push_ip(out, flow.dst);
        out.extend_from_slice(b"\",\"dst_port\":");
        push_uint(out, flow.dst_port.into());
        out.extend_from_slice(b",\"proto\":\"");
        push_proto(out, flow.proto);
        out.push(b'"');
        if let Some(vlan) = flow.vlan {
            out.extend_from_slice(b",\"vlan\":");
            push_uint(out, vlan.into());
        }
        self.push_answer(out, verdict);
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(verdict.reason.name().as_bytes());
        out.extend_from_slice(b"\",\"final\":");
        push_bool(out, verdict.is_final);
        out.extend_from_slice(b",\"first_ts\":");
        push_seconds(out, verdict.first_ns);
        out.extend_from_slice(b",\"deciding_ts\":");
        push_seconds(out, verdict.deciding_ns);
        out.extend_from_slice(b",\"collection_us\":");
        push_micros(out, verdict.collection_ns);
        out.extend_from_slice(b",\"compute_us\":");
        push_micros(out, verdict.compute_ns);
        out.extend_from_slice(b"}\n");
    }

    fn push_answer(&self, out: &mut Vec<u8>, verdict: &Verdict) {
        let Some(answer) = &verdict.answer else {
            let nothing = br#","label":null,"confidence":null,"stage":null,"packets":0"#;
            out.extend_from_slice(nothing);
            return;
        };
        out.extend_from_slice(b",\"label\":");
        if answer.unknown {
            quote(out, UNKNOWN);
            out.extend_from_slice(b",\"nearest\":");
        }
        self.labels.push(out, verdict.plan, answer.label.into());
        out.extend_from_slice(b",\"confidence\":");
        if !push_float(out, answer.confidence) {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"stage\":");
        self.stages.push(out, verdict.plan, answer.stage.into());
        out.extend_from_slice(b",\"packets\":");
        push_uint(out, answer.packets.into());
    }
}

/// Appends a JSON string.
fn quote(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            // Control characters may not stand in a JSON string; the rest is UTF-8 as it is.
            0..0x20 => write!(out, "\\u{byte:04x}").expect("writing to memory does not fail"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_label_survives_quoting() {
        let all: String = (0..0x80u8).map(char::from).chain("é \u{2028} 🦀".chars()).collect();
        for label in ["", "video", r#"a "b" \c"#, "line\nbreak\ttab", &all] {
            let mut out = Vec::new();
            quote(&mut out, label);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), label);
        }
    }
}
