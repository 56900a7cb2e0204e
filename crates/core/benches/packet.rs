//! What a packet costs, hop by hop: parse, record and encode, find and add a flow, the gate, and
//! the whole way of a stream with a million flows.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::frames::{Frame, Rng, Tcp, framed, ipv4, ipv6_with, udp};
use common::models::{CLASSES, StageSpec, stage};
use common::traffic::{MS, START};
use common::words::packet_words;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serveflow_core::FlowConfig;
use serveflow_core::engine::{Cascade, Engine, EngineConfig};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::gate::{Gate, Threshold, Uncertainty, best_class};
use serveflow_core::lane::{Constant, InlineLane, Lane, Model};
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::{KeyRules, parse};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const BATCH: usize = 256;

fn lanes(cascade: &Cascade) -> Vec<Box<dyn Lane>> {
    let model = |shape| -> Arc<dyn Model> { Arc::new(Constant::first(shape, CLASSES, 0.6)) };
    let shapes = cascade.stages().iter().map(|stage| stage.features.shape());
    vec![Box::new(InlineLane::new(shapes.map(model).collect()))]
}

fn tcp_frame(client: u32, backward: bool, flags: u8) -> Vec<u8> {
    let (from, to) = if backward { (9, client) } else { (client, 9) };
    let header = Tcp { src: 443, dst: 443, seq: 1, flags, options: vec![1; 12], ..Tcp::default() };
    framed(LinkType::Ethernet, &ipv4(from, to, 6, &header.bytes(&[7; 20])))
}

/// A stream that makes a batch at a time: packet `number` belongs to one of `window` living flows,
/// each of which gets `each` packets and gives way to a fresh one. All frames are one template with
/// another client written into it.
struct Stream {
    frames: Vec<Vec<u8>>,
    window: u64,
    each: u64,
    number: u64,
}

impl Stream {
    fn new(window: u64, each: u64) -> Self {
        Self { frames: vec![tcp_frame(0, false, 16); BATCH], window, each, number: 0 }
    }

    /// The next packets, as many as a batch holds; time goes on by 500 ns a packet (two million a
    /// second).
    fn batch(&mut self) -> impl Iterator<Item = Packet<'_>> {
        let first = self.number;
        self.number += BATCH as u64;
        for (frame, number) in self.frames.iter_mut().zip(first..) {
            let (turn, slot) = (number / self.window, number % self.window);
            // Slots change flows at different turns.
            let client = ((turn + slot % self.each) / self.each) * self.window + slot;
            frame[26..30].copy_from_slice(&(client as u32).to_be_bytes());
        }
        self.frames.iter().zip(first + 1..).map(|(data, number)| Packet {
            ts_ns: START + number * 500,
            orig_len: 1_200,
            link: LinkType::Ethernet,
            data,
        })
    }
}

fn engine(specs: &[StageSpec], capacity: usize, idle_ms: u64) -> (Engine, Vec<Box<dyn Lane>>) {
    let flows = FlowConfig { capacity, idle_ns: idle_ms * MS, ..FlowConfig::default() };
    let cascade = common::models::cascade(specs);
    let lanes = lanes(&cascade);
    (Engine::new(cascade, EngineConfig { flows, ..EngineConfig::default() }), lanes)
}

fn pump(engine: &mut Engine, lanes: &mut [Box<dyn Lane>], stream: &mut Stream, packets: u64) {
    for _ in 0..packets / BATCH as u64 {
        engine.push_all(stream.batch());
        engine.advance();
        engine.submit(lanes);
        engine.collect(lanes);
        engine.clear_verdicts();
    }
}

fn bench_parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let v6 = ipv6_with(1, 2, 6, &[(0, vec![0; 7])], &Tcp::default().bytes(&[]));
    let tagged = common::frames::ether(&[(0x8100, 5)], 0x0800, &ipv4(1, 2, 17, &udp(1, 2, &[])));
    let plain_udp = framed(LinkType::Ethernet, &ipv4(1, 2, 17, &udp(1, 2, &[0; 16])));
    let inner = [&[8, 0, 0, 0, 0, 0, 7, 0], tcp_frame(1, false, 16).as_slice()].concat();
    let vxlan = framed(LinkType::Ethernet, &ipv4(1, 2, 17, &udp(50_000, 4789, &inner)));
    for (name, data) in [
        ("ipv4_tcp", tcp_frame(1, false, 16)),
        ("ipv6_extension_tcp", framed(LinkType::Ethernet, &v6)),
        ("vlan_ipv4_udp", tagged),
        ("ipv4_udp", plain_udp),
        ("vxlan_ipv4_tcp", vxlan),
    ] {
        let frame = Frame::new(0, LinkType::Ethernet, data);
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| {
            b.iter(|| parse(black_box(&frame.packet()), KeyRules::default()));
        });
    }
    group.finish();
}

fn bench_words(c: &mut Criterion) {
    let frame = Frame::new(0, LinkType::Ethernet, tcp_frame(1, false, 16));
    let parsed = parse(&frame.packet(), KeyRules::default()).unwrap();
    let layout = HeaderLayout::default();
    let mut words = packet_words(&layout, &frame.data, &parsed);
    c.bench_function("header_words", |b| {
        b.iter(|| {
            words.fill(0);
            layout.write(black_box(&frame.data), &parsed, &mut words);
        });
    });
}

/// Record and encode: flows that never end, each packet kept, a row of the deepest stage at last.
fn bench_record(c: &mut Criterion) {
    let mut group = c.benchmark_group("record_encode_10_packets");
    group.throughput(Throughput::Elements(10 * BATCH as u64));
    let (mut engine, mut lanes) = engine(&[stage(10, u64::MAX, 1.0)], 1 << 16, 50);
    let mut stream = Stream::new(BATCH as u64, 10);
    pump(&mut engine, &mut lanes, &mut stream, 100 * BATCH as u64);
    group.bench_function("a_flow_a_row", |b| {
        b.iter(|| pump(&mut engine, &mut lanes, &mut stream, 10 * BATCH as u64));
    });
    group.finish();
}

/// Decided flows: what is left of a packet is parse, find, and note.
fn bench_find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find_decided_flow");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, window) in [("thousand", 1_000), ("million", 1_000_000)] {
        let (mut engine, mut lanes) = engine(&[stage(1, 0, 1.0)], 1 << 21, 120_000);
        let mut stream = Stream::new(window, 1 << 40);
        pump(&mut engine, &mut lanes, &mut stream, window / BATCH as u64 * BATCH as u64 + 256);
        group.bench_function(name, |b| {
            b.iter(|| pump(&mut engine, &mut lanes, &mut stream, BATCH as u64));
        });
    }
    group.finish();
}

/// Flows of one packet: each is added, recorded, asked, decided, and idles out (a hundred thousand
/// are in the table) or gives way to the next one.
fn bench_add(c: &mut Criterion) {
    let mut group = c.benchmark_group("add_flow_of_one_packet");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, capacity) in [("idling_out", 1 << 20), ("evicting", 1 << 14)] {
        let (mut engine, mut lanes) = engine(&[stage(1, 0, 1.0)], capacity, 50);
        let mut stream = Stream::new(1, 1);
        pump(&mut engine, &mut lanes, &mut stream, 200_192);
        group.bench_function(name, |b| {
            b.iter(|| pump(&mut engine, &mut lanes, &mut stream, BATCH as u64));
        });
    }
    group.finish();
}

/// The whole way: a million flows in the table, three stages, a tenth of all packets begins a flow.
fn bench_push(c: &mut Criterion) {
    let mut group = c.benchmark_group("push_path");
    group.throughput(Throughput::Elements(10 * BATCH as u64));
    let specs = [stage(1, 0, 0.3), stage(3, 100 * MS, 0.3), stage(5, 10_000 * MS, 1.0)];
    let (mut engine, mut lanes) = engine(&specs, 1 << 20, 120_000);
    let mut stream = Stream::new(1_000_000, 10);
    pump(&mut engine, &mut lanes, &mut stream, 2_000_128);
    group.bench_function("million_flows", |b| {
        b.iter(|| pump(&mut engine, &mut lanes, &mut stream, 10 * BATCH as u64));
    });
    group.finish();
}

fn bench_gate(c: &mut Criterion) {
    let mut group = c.benchmark_group("gate_20_classes");
    let mut rng = Rng(1);
    for measure in Uncertainty::ALL {
        let gate = Gate::Uncertainty { measure, threshold: Threshold::Universal(0.3) };
        group.bench_function(measure.name(), |b| {
            b.iter_batched(
                || -> [f32; 20] { std::array::from_fn(|_| rng.below(1_000) as f32 / 20_000.0) },
                |scores| gate.accepts(best_class(&scores).0, black_box(&scores)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
        .without_plots();
    targets = bench_parse, bench_words, bench_record, bench_find, bench_add, bench_push, bench_gate
}
criterion_main!(benches);
