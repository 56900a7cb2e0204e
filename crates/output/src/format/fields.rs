//! Numbers and names as the text sinks spell them, without the cost of formatting machinery.
//!
//! Times go from 64-bit nanoseconds to decimals by integers alone: a float holds too few digits.

use std::io::{self, Write};
use std::net::IpAddr;

use serveflow_core::packet::LAST_NS;
use serveflow_core::verdict::Verdict;

use crate::{Lines, RecordWriter};

/// Bytes of text after which it is handed to the writer, in the middle of a batch if need be.
const HAND_OVER_AT: usize = 64 * 1024;

/// Records on their way to a writer, in memory that is used again and again.
pub(super) struct Outbox<W> {
    writer: W,
    lines: Lines,
}

impl<W: RecordWriter> Outbox<W> {
    /// An outbox that starts with `head`, which leaves with the first records or the first flush.
    pub(super) fn new(writer: W, head: &[u8]) -> Self {
        Self { writer, lines: Lines { bytes: head.to_vec(), ends: Vec::new() } }
    }

    /// Writes one record per verdict, spelled by `push`.
    pub(super) fn write(
        &mut self,
        verdicts: &[Verdict],
        push: impl Fn(&mut Vec<u8>, &Verdict),
    ) -> io::Result<()> {
        for verdict in verdicts {
            push(&mut self.lines.bytes, verdict);
            self.lines.end_record();
            if self.lines.bytes.len() >= HAND_OVER_AT {
                self.writer.take(&mut self.lines)?;
            }
        }
        self.writer.take(&mut self.lines)
    }

    /// Flushes the writer.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.take(&mut self.lines)?;
        self.writer.flush()
    }
}

/// Names that were quoted once, for a sink that writes them often: those of each plan.
pub(super) struct Quoted {
    plans: Vec<Vec<Vec<u8>>>,
    quote: fn(&mut Vec<u8>, &str),
}

impl Quoted {
    /// Quotes each name of the first plan by `quote`, which appends its second argument to its
    /// first.
    pub(super) fn new(names: &[String], quote: fn(&mut Vec<u8>, &str)) -> Self {
        let mut quoted = Self { plans: Vec::new(), quote };
        quoted.name_plan(0, names);
        quoted
    }

    /// From now on these are a plan's names.
    pub(super) fn name_plan(&mut self, plan: u8, names: &[String]) {
        let one = |name: &String| {
            let mut bytes = Vec::new();
            (self.quote)(&mut bytes, name);
            bytes
        };
        let names = names.iter().map(one).collect();
        let plan = usize::from(plan);
        if self.plans.len() <= plan {
            self.plans.resize_with(plan + 1, Vec::new);
        }
        self.plans[plan] = names;
    }

    /// Appends name `index` of a plan; the number in quotes when the sink was told fewer names.
    pub(super) fn push(&self, out: &mut Vec<u8>, plan: u8, index: usize) {
        match self.plans.get(usize::from(plan)).and_then(|names| names.get(index)) {
            Some(name) => out.extend_from_slice(name),
            None => {
                out.push(b'"');
                push_uint(out, index as u64);
                out.push(b'"');
            }
        }
    }
}

/// Appends a number in decimal.
pub(super) fn push_uint(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` with leading zeros up to `width` digits.
fn push_padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Appends a time in nanoseconds as seconds with nine decimals; none is later than [`LAST_NS`].
pub(super) fn push_seconds(out: &mut Vec<u8>, ns: u64) {
    let ns = ns.min(LAST_NS);
    push_uint(out, ns / 1_000_000_000);
    out.push(b'.');
    push_padded(out, ns % 1_000_000_000, 9);
}

/// Appends nanoseconds as microseconds, with as many of three decimals as it takes to be exact.
pub(super) fn push_micros(out: &mut Vec<u8>, ns: u64) {
    push_uint(out, ns / 1000);
    let rest = ns % 1000;
    if rest == 0 {
        return;
    }
    out.push(b'.');
    push_padded(out, rest, 3);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Appends an address in its usual text form.
pub(super) fn push_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, &byte) in address.octets().iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_uint(out, byte.into());
            }
        }
        IpAddr::V6(address) => {
            write!(out, "{address}").expect("writing to memory does not fail");
        }
    }
}

/// Appends the usual name of an IP protocol, or its number.
pub(super) fn push_proto(out: &mut Vec<u8>, proto: u8) {
    match proto {
        1 => out.extend_from_slice(b"icmp"),
        6 => out.extend_from_slice(b"tcp"),
        17 => out.extend_from_slice(b"udp"),
        58 => out.extend_from_slice(b"icmp6"),
        other => push_uint(out, other.into()),
    }
}

/// Appends the shortest decimal that reads back as `value`; `false` when there is none.
pub(super) fn push_float(out: &mut Vec<u8>, value: f32) -> bool {
    if value.is_finite() {
        write!(out, "{value}").expect("writing to memory does not fail");
    }
    value.is_finite()
}

/// Appends `true` or `false`.
pub(super) fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_exact() {
        for value in [0, 9, 10, 1234, u64::MAX] {
            assert_eq!(text(|out| push_uint(out, value)), value.to_string());
        }
        assert_eq!(text(|out| push_seconds(out, 1)), "0.000000001");
        assert_eq!(text(|out| push_seconds(out, u64::MAX)), "9223372036.854775807");
        for (ns, expected) in
            [(0, "0"), (1000, "1"), (1500, "1.5"), (1_234_567, "1234.567"), (20, "0.02")]
        {
            assert_eq!(text(|out| push_micros(out, ns)), expected);
        }
    }

    #[test]
    fn addresses_and_protocols_are_spelled_as_usual() {
        for address in ["192.0.2.255", "0.0.0.0", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(text(|out| push_ip(out, address.parse().unwrap())), address);
        }
        for (number, name) in [(6, "tcp"), (17, "udp"), (1, "icmp"), (58, "icmp6"), (132, "132")] {
            assert_eq!(text(|out| push_proto(out, number)), name);
        }
    }

    #[test]
    fn floats_are_short_and_finite() {
        assert_eq!(text(|out| assert!(push_float(out, 0.1))), "0.1");
        assert_eq!(text(|out| assert!(push_float(out, 1e-9))), "0.000000001");
        assert_eq!(text(|out| assert!(!push_float(out, f32::NAN))), "");
    }
}
