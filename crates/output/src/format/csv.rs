//! Verdicts as comma-separated values.

use std::io;

use serveflow_core::open_set::UNKNOWN;
use serveflow_core::verdict::Verdict;

use crate::RecordWriter;

use super::fields::{
    Outbox, Quoted, push_bool, push_float, push_ip, push_micros, push_proto, push_seconds,
    push_uint,
};
use serveflow_io::Sink;

/// The first line.
pub(super) const HEADER: &[u8] =
    b"flow,src,src_port,dst,dst_port,proto,vlan,label,confidence,stage,packets,\
    reason,final,first_ts,deciding_ts,collection_us,compute_us,nearest\n";

/// Writes a header line, then each verdict on a line of its own, quoted as RFC 4180 has it.
///
/// The columns are the keys of [`JsonLines`](super::JsonLines), `nearest` last; what is null or
/// left out there is empty here.
pub struct Csv<W: RecordWriter> {
    outbox: Outbox<W>,
    names: Names,
}

impl<W: RecordWriter> Csv<W> {
    /// A sink that writes to `writer` whole lines, many at a time, so that it needs no buffer.
    #[must_use]
    pub fn new(writer: W, labels: &[String], stages: &[String]) -> Self {
        Self::beginning_with(HEADER, writer, labels, stages)
    }

    /// The same, for an output that has its header line already.
    #[must_use]
    pub fn without_heading(writer: W, labels: &[String], stages: &[String]) -> Self {
        Self::beginning_with(&[], writer, labels, stages)
    }

    fn beginning_with(head: &[u8], writer: W, labels: &[String], stages: &[String]) -> Self {
        let (labels, stages) = (Quoted::new(labels, quote), Quoted::new(stages, quote));
        Self { outbox: Outbox::new(writer, head), names: Names { labels, stages } }
    }
}

impl<W: RecordWriter> Sink for Csv<W> {
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

/// The names that verdicts refer to, as CSV fields.
struct Names {
    labels: Quoted,
    stages: Quoted,
}

impl Names {
    /// Appends a verdict's line.
    fn push(&self, out: &mut Vec<u8>, verdict: &Verdict) {
        let flow = &verdict.flow;
        push_uint(out, verdict.id);
        out.push(b',');
        push_ip(out, flow.src);
        out.push(b',');
        push_uint(out, flow.src_port.into());
        out.push(b',');
        push_ip(out, flow.dst);
        out.push(b',');
        push_uint(out, flow.dst_port.into());
        out.push(b',');
        push_proto(out, flow.proto);
        out.push(b',');
        if let Some(vlan) = flow.vlan {
            push_uint(out, vlan.into());
        }
        out.push(b',');
        match &verdict.answer {
            None => out.extend_from_slice(b",,,0,"),
            Some(answer) => {
                match answer.unknown {
                    true => quote(out, UNKNOWN),
                    false => self.labels.push(out, verdict.plan, answer.label.into()),
                }
                out.push(b',');
                push_float(out, answer.confidence);
                out.push(b',');
                self.stages.push(out, verdict.plan, answer.stage.into());
                out.push(b',');
                push_uint(out, answer.packets.into());
                out.push(b',');
            }
        }
        out.extend_from_slice(verdict.reason.name().as_bytes());
        out.push(b',');
        push_bool(out, verdict.is_final);
        for (push, ns) in [
            (push_seconds as fn(&mut Vec<u8>, u64), verdict.first_ns),
            (push_seconds, verdict.deciding_ns),
            (push_micros, verdict.collection_ns),
            (push_micros, verdict.compute_ns),
        ] {
            out.push(b',');
            push(out, ns);
        }
        out.push(b',');
        if let Some(answer) = verdict.answer.filter(|answer| answer.unknown) {
            self.labels.push(out, verdict.plan, answer.label.into());
        }
        out.push(b'\n');
    }
}

/// Appends a field, in quotes when it holds what would end it.
fn quote(out: &mut Vec<u8>, text: &str) {
    if !text.contains([',', '"', '\r', '\n']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_only_where_they_must_be() {
        for (field, expected) in [
            ("video", "video"),
            ("a b;c", "a b;c"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            let mut out = Vec::new();
            quote(&mut out, field);
            assert_eq!(out, expected.as_bytes());
        }
    }
}
