//! What the fuzzers run, and the plain tests over their corpus too: bytes in, no panic.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use serveflow_core::driver::Driver;
use serveflow_core::engine::{Cascade, End, Engine, EngineConfig, Stage};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::gate::{Gate, Threshold, Uncertainty};
use serveflow_core::lane::{InlineLane, Lane, Model, ScoreError};
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::{Header, KeyRules, Tunnels, parse};
use serveflow_core::rows::{RowShape, Rows, Scores};
use serveflow_core::{FlowConfig, verdict::Verdict};
use std::sync::Arc;

const LINKS: [u16; 14] = [1, 101, 113, 276, 0, 108, 9, 104, 107, 192, 239, 258, 149, 147];
const ALL: [Header; 5] = [Header::Ipv4, Header::Ipv6, Header::Tcp, Header::Udp, Header::Icmp];

/// Two bytes of link type and length on the wire, then a frame.
pub fn fuzz_parse(bytes: &[u8]) {
    let [link, wire, data @ ..] = bytes else { return };
    let link = LinkType::from_number(LINKS[usize::from(*link) % LINKS.len()]);
    // Most values say more than was captured, some say less.
    let orig_len = data.len() as u32 + u32::from(*wire) * 8;
    let orig_len = if *wire > 250 { u32::from(*wire) - 250 } else { orig_len };
    let packet = Packet { ts_ns: 0, orig_len, link, data };
    for tunnels in Tunnels::ALL {
        check_parse(&packet, KeyRules { vlan_in_key: true, tunnels });
    }
}

fn check_parse(packet: &Packet<'_>, rules: KeyRules) {
    let Ok(parsed) = parse(packet, rules) else { return };
    for section in [Some(parsed.network), parsed.transport].into_iter().flatten() {
        assert!(section.range().end <= packet.data.len(), "sections lie in the capture");
    }
    assert!(parsed.payload <= parsed.size);
    let layout = HeaderLayout::new(&ALL);
    let mut words = vec![0; layout.packet_words()];
    layout.write(packet.data, &parsed, &mut words);
    let (key, _) = parsed.key.five_tuple(parsed.sender_is_low).key();
    assert_eq!(key, parsed.key);
}

#[derive(Debug)]
struct BitModel {
    shape: RowShape,
}

impl Model for BitModel {
    fn shape(&self) -> RowShape {
        self.shape
    }

    fn classes(&self) -> usize {
        2
    }

    fn score(&self, rows: &Rows, scores: &mut Scores) -> Result<(), ScoreError> {
        scores.reset(rows.len(), 2);
        for row in 0..rows.len() {
            let ones: u32 = rows.words(row).iter().map(|word| word.count_ones()).sum();
            let sure = (ones % 11) as f32 / 10.0;
            scores.row_mut(row).copy_from_slice(&[sure, 1.0 - sure]);
        }
        let fails = rows.len() % 13 == 12;
        if fails { Err(ScoreError { message: "thirteen".to_owned() }) } else { Ok(()) }
    }
}

fn small_cascade() -> (Arc<Cascade>, Vec<Arc<dyn Model>>) {
    let encoders = ["header_bits", "packet_series", "flow_stats"].map(str::to_owned).to_vec();
    let stage = |packets: u16, wait_ns: u64| {
        let layout = HeaderLayout::new(if packets == 1 { &ALL } else { &ALL[2..4] });
        let spec =
            FeatureSpec { encoders: encoders.clone(), packets, layout, masks: MaskSet::default() };
        let gate = Gate::Uncertainty {
            measure: Uncertainty::Margin,
            threshold: Threshold::Universal(0.5),
        };
        let features = Features::new(&spec).unwrap();
        Stage::new(&packets.to_string(), features, gate, wait_ns)
    };
    let stages = vec![stage(1, 0), stage(3, 50_000_000), stage(5, 200_000_000)];
    let cascade = Cascade::new(stages, vec!["a".to_owned(), "b".to_owned()]).unwrap();
    let model =
        |stage: &Stage| -> Arc<dyn Model> { Arc::new(BitModel { shape: stage.features.shape() }) };
    let models = cascade.stages().iter().map(model).collect();
    (Arc::new(cascade), models)
}

/// A packet sequence: each is a byte of link, a byte of time step, a byte of length, and a frame.
/// The highest link bit ends a batch; time steps may go back, or far ahead.
pub fn fuzz_engine(bytes: &[u8]) -> Vec<Verdict> {
    let (cascade, models) = small_cascade();
    let flows = FlowConfig {
        capacity: 4,
        idle_ns: 100_000_000,
        active_ns: 1_000_000_000,
        linger_ns: 20_000_000,
        window_ns: serveflow_core::NO_WINDOW,
        key: KeyRules { vlan_in_key: true, ..KeyRules::default() },
        seed: 1,
    };
    let config = EngineConfig {
        flows,
        record_packets: 9,
        batch_rows: 2,
        provisional: true,
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(cascade, config);
    let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(InlineLane::new(models))];
    let (mut rest, mut ts_ns) = (bytes, 1_000_000_000_000_u64);
    while let [link, step, len, behind @ ..] = rest {
        let (data, next) = behind.split_at(usize::from(*len).min(behind.len()));
        rest = next;
        ts_ns = match step {
            0..=199 => ts_ns + u64::from(*step) * 1_000_000,
            200..=229 => ts_ns.saturating_sub(u64::from(*step - 199) * 10_000_000),
            _ => ts_ns.wrapping_mul(u64::from(*step)),
        };
        let number = LINKS[usize::from(link & 0x7f) % LINKS.len()];
        let link_type = LinkType::from_number(number);
        let orig_len = data.len() as u32 + u32::from(*step % 3) * 100;
        engine.push(&Packet { ts_ns, orig_len, link: link_type, data });
        if link & 0x80 != 0 {
            engine.advance();
            Driver::new(&mut engine, &mut lanes).pump();
        }
        assert!(engine.accounts().balance());
        assert!(engine.table_len() <= 4 && engine.recorded_packets() <= 9);
    }
    let end = if bytes.len().is_multiple_of(2) { End::Silence } else { End::Stop };
    Driver::new(&mut engine, &mut lanes).finish(end);
    let accounts = engine.accounts();
    assert!(accounts.balance());
    assert_eq!(accounts.verdicts(), accounts.flows.seen);
    assert_eq!((engine.table_len(), engine.recorded_packets()), (0, 0));
    engine.verdicts().to_vec()
}
