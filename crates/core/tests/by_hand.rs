//! Runs over captures that are not in git: `SERVEFLOW_CAPTURES` names a folder of them.
//!
//! Every capture goes through the parser and an engine; the five-tuples are printed for comparison
//! with another tool's.
#![allow(clippy::unwrap_used)]

mod common;

use common::captures::frames;
use common::drive::Drive;
use common::models::{cascade, inline_lanes, stage};
use common::traffic::MS;
use serveflow_core::engine::{End, EngineConfig};
use serveflow_core::parse::{KeyRules, parse};
use std::path::Path;

fn visit(path: &Path, each: &mut impl FnMut(&Path)) {
    if !path.is_dir() {
        return each(path);
    }
    let mut below: Vec<_> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
    below.sort();
    below.iter().for_each(|path| visit(path, each));
}

#[test]
#[ignore = "needs a folder of captures"]
fn captures_of_a_folder_keep_the_accounts() {
    let folder = std::env::var("SERVEFLOW_CAPTURES").unwrap();
    let cascade = cascade(&[stage(1, 0, 0.3), stage(5, 300 * MS, 1.0)]);
    let (mut captures, mut packets, mut flows) = (0, 0, 0);
    visit(Path::new(&folder), &mut |path| {
        let frames = frames(std::fs::read(path).unwrap());
        captures += u32::from(!frames.is_empty());
        let name = path.file_name().unwrap().to_string_lossy();
        for (number, frame) in frames.iter().enumerate() {
            let told = match parse(&frame.packet(), KeyRules::default()) {
                Err(reject) => reject.name().to_owned(),
                Ok(parsed) => {
                    let flow = parsed.key.five_tuple(parsed.sender_is_low);
                    let (src, dst) = (flow.src, flow.dst);
                    format!("{src} {dst} {} {} {}", flow.proto, flow.src_port, flow.dst_port)
                }
            };
            println!("#{name}\t{}\t{told}", number + 1);
        }
        let (config, lanes) = (EngineConfig::default(), inline_lanes(&cascade));
        let run = Drive { config, lanes, batch: 7, seed: 1, end: End::Silence };
        let run = run.run(&cascade, &frames);
        packets += run.accounts.packets.seen;
        flows += run.accounts.flows.seen;
    });
    println!("{captures} captures, {packets} packets, {flows} flows");
}
