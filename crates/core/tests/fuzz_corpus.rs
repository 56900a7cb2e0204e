//! The fuzzers' corpus as plain tests, and a short walk around it.
#![allow(clippy::unwrap_used)]

mod common;

use common::entry::{fuzz_engine, fuzz_parse};
use common::frames::{Frame, LINKS, Rng, random_frame};
use common::traffic::{MS, Shape, traffic};
use common::tunnels::{ip_of, stack, wrap};
use std::path::{Path, PathBuf};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{target} has a corpus");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A frame as the parse target reads it.
fn parse_seed(frame: &Frame) -> Vec<u8> {
    let link = LINKS.iter().position(|&link| link == frame.link).unwrap() as u8;
    [&[link, 0], frame.data.as_slice()].concat()
}

/// Traffic as the engine target reads it.
fn engine_seed(frames: &[Frame], batch: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut now = frames[0].ts_ns;
    for (index, frame) in frames.iter().enumerate() {
        let step = (frame.ts_ns.saturating_sub(now) / MS).min(199) as u8;
        now = frame.ts_ns;
        let ends_batch = if index % batch == batch - 1 { 0x80 } else { 0 };
        let len = frame.data.len().min(255);
        out.extend([ends_batch, step, len as u8]);
        out.extend(&frame.data[..len]);
    }
    out
}

/// Writes the handmade seeds; run by hand, and the result is in git.
#[test]
fn seeds_are_written_when_asked() {
    if std::env::var_os("SERVEFLOW_WRITE_SEEDS").is_none() {
        return;
    }
    for target in ["parse", "engine"] {
        std::fs::create_dir_all(folder(target)).unwrap();
    }
    let mut rng = Rng(11);
    for number in 0..60 {
        let seed = parse_seed(&random_frame(&mut rng));
        std::fs::write(folder("parse").join(format!("seed{number:02}")), seed).unwrap();
    }
    for number in 0..40 {
        let Some(packet) = ip_of(&random_frame(&mut rng)) else { continue };
        let steps = stack(&mut rng);
        let seed = parse_seed(&wrap(&packet, &steps, &mut rng).frame);
        std::fs::write(folder("parse").join(format!("tunnel{number:02}")), seed).unwrap();
    }
    for number in 0..24 {
        let edges = [100 * MS, 1_000 * MS, 20 * MS, 200 * MS];
        let shape = Shape { span_ns: 600 * MS, ..Shape::new(number, 3, &edges) };
        let frames = traffic(&shape);
        let seed = engine_seed(&frames[..frames.len().min(30)], 1 + number as usize % 5);
        std::fs::write(folder("engine").join(format!("seed{number:02}")), seed).unwrap();
    }
}

/// Spoils bytes, splices two inputs, or cuts one.
fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[rng.below(corpus.len() as u64) as usize].clone();
    if rng.one_in(4) {
        let other = &corpus[rng.below(corpus.len() as u64) as usize];
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
        bytes.extend(&other[rng.below(other.len() as u64 + 1) as usize..]);
    }
    for _ in 0..rng.below(6) {
        let at = rng.below(bytes.len().max(1) as u64) as usize;
        if let Some(byte) = bytes.get_mut(at) {
            *byte =
                rng.pick(&[0, 1, 4, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xff, *byte ^ 1, *byte ^ 0x80]);
        }
    }
    bytes.truncate(4096);
    bytes
}

#[test]
fn the_corpus_and_what_lies_around_it_parses_or_is_refused() {
    let corpus = corpus("parse");
    corpus.iter().for_each(|bytes| fuzz_parse(bytes));
    let mut rng = Rng(5);
    for _ in 0..500_000 {
        fuzz_parse(&mutated(&mut rng, &corpus));
    }
}

#[test]
fn the_corpus_and_what_lies_around_it_keeps_the_accounts() {
    let corpus = corpus("engine");
    let verdicts: usize = corpus.iter().map(|bytes| fuzz_engine(bytes).len()).sum();
    assert!(verdicts > 100, "the seeds hold flows");
    let mut rng = Rng(6);
    for _ in 0..10_000 {
        fuzz_engine(&mutated(&mut rng, &corpus));
    }
}
