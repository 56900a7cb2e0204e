//! The corpus of the fuzzers of files as plain tests, and a short walk around it.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/entry.rs"]
mod entry;
#[path = "../../model/tests/common/onnx.rs"]
mod onnx;

use common::{pcap, pcapng, udp};
use entry::{fuzz_bundle, fuzz_capture, fuzz_forest, fuzz_import, fuzz_labels, fuzz_net};
use proptest::prelude::*;
use proptest::sample::Index;
use serveflow_core::rows::{BitAt, RowShape};
use serveflow_model::forest::{Forest, ForestKind, Node, Test, Tree};
use std::path::{Path, PathBuf};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "{target} has a corpus");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn captures() -> Vec<Vec<u8>> {
    let frames: Vec<(u64, Vec<u8>)> =
        (0..6).map(|n| (n * 1_000_000, udp((1, 5000), (2, 53), 10 + n as usize))).collect();
    let noted: Vec<(u64, Vec<u8>, &str)> =
        frames.iter().map(|(at, frame)| (*at, frame.clone(), "1,dns")).collect();
    let (classic, blocks) = (pcap(&frames), pcapng(&noted));
    let swapped = |bytes: &[u8]| {
        let mut bytes = bytes[..24].to_vec();
        bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        bytes.swap(4, 6);
        bytes.swap(5, 7);
        bytes
    };
    let mut micro = classic.clone();
    micro[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    let skipped = [&blocks[..28], &[5, 0, 0, 0, 12, 0, 0, 0, 12, 0, 0, 0], &blocks[28..]].concat();
    let twice = [blocks.as_slice(), &blocks].concat();
    vec![swapped(&classic), classic[..100].to_vec(), classic, micro, skipped, twice, blocks]
}

fn boosted(shape: RowShape) -> Vec<u8> {
    let node = |bit| Node { test: Test::Bit(BitAt { word: 1, bit }), left: -1, right: -2 };
    let tree = |bit: u8| Tree { nodes: vec![node(bit)], leaves: vec![0.5, -1.0] };
    let base = vec![0.1, -0.1];
    Forest::new(shape, 2, ForestKind::softmax(base), (0..4).map(tree).collect()).unwrap().to_json()
}

fn forests() -> Vec<Vec<u8>> {
    let shape = RowShape { words: 3, numbers: 2 };
    let number = Test::above(1, 3.5);
    let nodes = vec![
        Node { test: number, left: 1, right: -1 },
        Node { test: Test::Bit(BitAt { word: 2, bit: 31 }), left: -2, right: -3 },
    ];
    let leaves = vec![0.5, 0.5, 1.0, 0.0, 0.25, 0.75];
    let tree = Tree { nodes, leaves };
    let stump = Tree { nodes: Vec::new(), leaves: vec![0.3, 0.7] };
    let averaged = |trees| Forest::new(shape, 2, ForestKind::Averaged, trees).unwrap().to_json();
    let empty = Forest::new(shape, 1, ForestKind::softmax(vec![0.0]), Vec::new()).unwrap();
    vec![boosted(shape), averaged(vec![tree.clone()]), averaged(vec![stump, tree]), empty.to_json()]
}

const STAGE: &str = "\n[[stages]]\nname = \"NAME\"\npackets = 1\nwait_ms = 5\n\
    features = [\"packet_series\", \"header_bits\"]\nmasks = [\"ttl\"]\nlane = \"inline\"\n\
    [stages.model]\nfile = \"model.json\"\nformat = \"forest\"\n";
const GATE: &str = "[stages.gate]\nrule = \"margin\"\n";
const HEAD: &str = "format = \"serveflow-plan/1\"\nlabels = [\"a\", \"b\"]\n\
    [flows]\nidle_ms = 1\nactive_ms = 2\nlinger_ms = 3\n";

fn bundles() -> Vec<Vec<u8>> {
    let model = boosted(RowShape { words: 33, numbers: 5 });
    let stage = |name: &str| STAGE.replace("NAME", name);
    let plans = [
        format!("{HEAD}{}", stage("one")),
        format!("{HEAD}{}{GATE}threshold = 0.5\n{}", stage("one"), stage("two")),
        format!(
            "{HEAD}{}{GATE}thresholds = {{ a = 0.1, b = 1e9 }}\n{}",
            stage("one"),
            stage("two")
        ),
        format!("{HEAD}{}{GATE}threshold = nan\n", stage("one")),
    ];
    let seed =
        |plan: &String| [&(plan.len() as u16).to_le_bytes()[..], plan.as_bytes(), &model].concat();
    plans.iter().map(seed).collect()
}

fn tables() -> Vec<Vec<u8>> {
    let header = "file,split,label,proto,src_ip,src_port,dst_ip,dst_port,first_ts_us";
    let line = "a.pcap,train,x,17,10.0.0.1,5000,10.0.0.2,53,1700000000000000";
    let v6 = "\"b,c.pcap\",,\"y \"\"z\"\"\n\",6,2001:db8::1,1,2001:db8::2,2,0";
    let plain = format!("{header}\n{line}\n{v6}\n");
    let crlf = plain.replace('\n', "\r\n");
    let more = format!("\u{feff}more,{header}\n,{line}\n\n,{line}");
    let named = plain.replace(",17,", ",udp,");
    let bad = plain.replace(",17,", ",upd,");
    [plain, crlf, more, named, bad].map(String::into_bytes).to_vec()
}

fn nets() -> Vec<Vec<u8>> {
    let mlp = onnx::mlp(-1);
    let reshape = onnx::node("Reshape", "X s", "P", &[]);
    let constants = [onnx::ints("s", &[-1, 40])];
    let (x, p) = (onnx::port("X", onnx::FLOAT, &[-1, 40]), onnx::port("P", onnx::FLOAT, &[-1, 40]));
    let reshape = onnx::file(&onnx::graph(&[reshape], &constants, &[x], &[p]));
    vec![mlp[..mlp.len() / 2].to_vec(), mlp, onnx::mlp(1), onnx::cnn(), reshape]
}

/// Writes the handmade seeds; run by hand, and the result is in git.
#[test]
fn seeds_are_written_when_asked() {
    if std::env::var_os("SERVEFLOW_WRITE_SEEDS").is_none() {
        return;
    }
    for (target, seeds) in [
        ("capture", captures()),
        ("forest", forests()),
        ("bundle", bundles()),
        ("labels", tables()),
        ("net", nets()),
    ] {
        std::fs::create_dir_all(folder(target)).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder(target).join(format!("seed{number:02}")), seed).unwrap();
        }
    }
}

#[test]
fn the_corpus_is_read_or_refused() {
    let frames: usize = corpus("capture").iter().map(|bytes| fuzz_capture(bytes).0).sum();
    assert!(frames >= 25, "the seeds hold frames: {frames}");
    let count = |target: &str, run: fn(&[u8]) -> bool| {
        corpus(target).iter().filter(|bytes| run(bytes)).count()
    };
    assert_eq!(count("forest", fuzz_forest), 4);
    assert_eq!(count("import", fuzz_import), corpus("import").len());
    // One has a threshold that is no number.
    assert_eq!(count("bundle", fuzz_bundle), 3);
    assert_eq!(count("net", fuzz_net), 3);
    assert_eq!(count("labels", |bytes| fuzz_labels(bytes).is_some()), 4);
}

/// A spoiled byte: where, what to do, and a value to do it with.
type Spoil = (Index, u8, u8);

fn spoils() -> impl Strategy<Value = (Index, Vec<Spoil>, Index)> {
    let spoil = (any::<Index>(), 0u8..6, any::<u8>());
    (any::<Index>(), prop::collection::vec(spoil, 0..6), any::<Index>())
}

/// A seed with some bytes changed, put in or left out, and now and then cut or doubled.
fn spoiled(corpus: &[Vec<u8>], (seed, spoils, cut): &(Index, Vec<Spoil>, Index)) -> Vec<u8> {
    let mut bytes = corpus[seed.index(corpus.len())].clone();
    for (at, how, value) in spoils {
        let at = at.index(bytes.len().max(1));
        match how {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            2 if at < bytes.len() => bytes[at] = *value,
            3 if at < bytes.len() => bytes[at] = b"0919-.,\"[]{}e\n"[usize::from(value % 14)],
            4 => bytes.insert(at.min(bytes.len()), *value),
            5 if at < bytes.len() => drop(bytes.splice(at..at + 1, None)),
            _ => {}
        }
    }
    if cut.index(4) == 0 {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_lies_around_captures_is_read_or_refused(spoils in spoils()) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = {
            let sample = common::data("app_protocol").join("train/http.p2.pcap.zst");
            corpus("capture").into_iter().chain([std::fs::read(sample).unwrap()]).collect()
        });
        SEEDS.with(|seeds| fuzz_capture(&spoiled(seeds, &spoils)));
    }

    #[test]
    fn what_lies_around_forests_is_read_or_refused(spoils in spoils()) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = corpus("forest"));
        SEEDS.with(|seeds| fuzz_forest(&spoiled(seeds, &spoils)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_lies_around_foreign_models_is_read_or_refused(spoils in spoils()) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = corpus("import"));
        SEEDS.with(|seeds| fuzz_import(&spoiled(seeds, &spoils)));
    }

    #[test]
    fn what_lies_around_nets_is_read_or_refused(spoils in spoils()) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = corpus("net"));
        SEEDS.with(|seeds| fuzz_net(&spoiled(seeds, &spoils)));
    }

    #[test]
    fn what_lies_around_bundles_is_read_or_refused(spoils in spoils()) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = corpus("bundle"));
        SEEDS.with(|seeds| fuzz_bundle(&spoiled(seeds, &spoils)));
    }

    #[test]
    fn what_lies_around_tables_is_read_or_refused(spoils in spoils()) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = corpus("labels"));
        SEEDS.with(|seeds| fuzz_labels(&spoiled(seeds, &spoils)));
    }
}
