//! `flow_stats`: counts, bytes, and statistics of sizes and gaps, per direction and for both.

use super::layout::HeaderLayout;
use super::packet_series::gap_us;
use super::{Encoder, EncoderEntry};
use crate::record::{FlowRecord, PacketMeta};
use crate::rows::{Column, Place, RowShape};

pub(super) const ENTRY: EncoderEntry = EncoderEntry {
    name: "flow_stats",
    doc: "flow statistics so far: duration (us), and per direction packets, bytes, \
          min/mean/max/std of sizes (bytes) and gaps (us)",
    build: |_| Box::new(FlowStats),
};

const SIDES: [&str; 3] = ["both", "forward", "backward"];
const NAMES: [&str; 10] = [
    "packets",
    "bytes",
    "size_min",
    "size_mean",
    "size_max",
    "size_std",
    "gap_min_us",
    "gap_mean_us",
    "gap_max_us",
    "gap_std_us",
];

#[derive(Debug)]
struct FlowStats;

/// Running moments of a series; Welford's update, so that large values lose no digits.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: u32,
    min: f32,
    max: f32,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f32) {
        self.count += 1;
        let first = self.count == 1;
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
        let delta = f64::from(value) - self.mean;
        self.mean += delta / f64::from(self.count);
        self.squares += delta * (f64::from(value) - self.mean);
    }

    /// Minimum, mean, maximum, population standard deviation; -1 each when there is no value.
    fn write(&self, out: &mut [f32]) {
        if self.count == 0 {
            out.fill(-1.0);
            return;
        }
        let deviation = (self.squares / f64::from(self.count)).sqrt();
        out.copy_from_slice(&[self.min, self.mean as f32, self.max, deviation as f32]);
    }
}

/// The statistics of one direction, or of both.
#[derive(Clone, Copy, Default)]
struct Side<'a> {
    bytes: u64,
    sizes: Moments,
    gaps: Moments,
    last: Option<&'a PacketMeta>,
}

impl<'a> Side<'a> {
    fn add(&mut self, meta: &'a PacketMeta) {
        self.bytes += u64::from(meta.size);
        self.sizes.add(f32::from(meta.size));
        if let Some(last) = self.last {
            self.gaps.add(gap_us(last, meta));
        }
        self.last = Some(meta);
    }

    fn write(&self, out: &mut [f32]) {
        out[0] = self.sizes.count as f32;
        out[1] = self.bytes as f32;
        self.sizes.write(&mut out[2..6]);
        self.gaps.write(&mut out[6..10]);
    }
}

impl Encoder for FlowStats {
    fn shape(&self) -> RowShape {
        RowShape { words: 0, numbers: 1 + SIDES.len() * NAMES.len() }
    }

    fn columns(&self) -> Vec<Column> {
        let sides = SIDES.iter().flat_map(|side| NAMES.map(|name| format!("{side}_{name}")));
        let names = std::iter::once("duration_us".to_owned()).chain(sides);
        let place = |(index, name)| Column { name, place: Place::Number(index as u32) };
        names.enumerate().map(place).collect()
    }

    fn layout(&self) -> HeaderLayout {
        HeaderLayout::new(&[])
    }

    fn encode(&self, record: &FlowRecord<'_>, _words: &mut [u32], numbers: &mut [f32]) {
        let mut sides = [Side::default(); 3];
        let mut first = None;
        for packet in record.packets() {
            let meta = packet.meta;
            sides[0].add(meta);
            sides[1 + usize::from(meta.backward)].add(meta);
            first.get_or_insert(meta);
        }
        let ends = first.zip(sides[0].last);
        numbers[0] = ends.map_or(0.0, |(first, last)| gap_us(first, last));
        for (side, out) in sides.iter().zip(numbers[1..].chunks_exact_mut(NAMES.len())) {
            side.write(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_match_the_definition() {
        let values = [40.0_f32, 1500.0, 52.0, 52.0];
        let mut moments = Moments::default();
        values.iter().for_each(|&value| moments.add(value));
        let mut out = [0.0; 4];
        moments.write(&mut out);
        let mean = values.iter().sum::<f32>() / 4.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 4.0;
        assert_eq!((out[0], out[1], out[2]), (40.0, mean, 1500.0));
        assert!((out[3] - variance.sqrt()).abs() < 1e-2);
        Moments::default().write(&mut out);
        assert_eq!(out, [-1.0; 4]);
    }
}
