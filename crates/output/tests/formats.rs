//! Every sink of the list against its golden file, and the JSON against a parser of its own.
//!
//! `SERVEFLOW_UPDATE_GOLDEN=1 cargo test -p serveflow-output --test formats` rewrites the golden
//! files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use serveflow_core::verdict::{Answer, FiveTuple, Reason, Verdict};
use serveflow_io::{Memory, Null, Sink};
use serveflow_output::{FORMATS, JsonLines};

/// A writer whose bytes can be looked at from outside.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn labels() -> Vec<String> {
    ["video", "say \"hi\", \\ or\nnot", "voice"].map(String::from).into()
}

fn stages() -> Vec<String> {
    ["first", "deep"].map(String::from).into()
}

fn flow(src: &str, dst: &str, proto: u8, vlan: Option<u16>) -> FiveTuple {
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    FiveTuple { src: parse(src), dst: parse(dst), src_port: 51_234, dst_port: 443, proto, vlan }
}

/// One verdict of each kind.
fn verdicts() -> Vec<Verdict> {
    let answer = Answer { label: 0, confidence: 0.9375, stage: 0, packets: 1, unknown: false };
    let first = Verdict {
        plan: 0,
        id: 0,
        flow: flow("192.0.2.1", "198.51.100.7", 6, None),
        answer: Some(answer),
        reason: Reason::Accepted,
        is_final: true,
        first_ns: 1_700_000_000_123_456_789,
        deciding_ns: 1_700_000_000_223_456_789,
        collection_ns: 100_000_000,
        compute_ns: 1_234,
    };
    let odd = Answer { label: 1, confidence: 0.1, stage: 1, packets: 10, ..answer };
    let nameless = Answer { label: 9, confidence: f32::NAN, stage: 7, packets: u16::MAX, ..answer };
    let strange = Answer { label: 1, confidence: 0.3, unknown: true, ..answer };
    vec![
        first,
        Verdict {
            flow: flow("2001:db8::1", "2001:db8::2", 17, Some(42)),
            answer: Some(odd),
            reason: Reason::Final,
            ..first
        },
        Verdict {
            plan: 0,
            id: u64::MAX,
            flow: flow("192.0.2.1", "192.0.2.2", 132, None),
            answer: Some(nameless),
            reason: Reason::TimedOut,
            is_final: false,
            first_ns: 0,
            deciding_ns: u64::MAX,
            collection_ns: u64::MAX,
            compute_ns: 0,
        },
        Verdict { answer: None, reason: Reason::Shed, ..first },
        Verdict { reason: Reason::Failed, ..first },
        Verdict { answer: Some(strange), ..first },
    ]
}

/// What the named sink writes for all verdicts.
fn output(name: &str) -> String {
    let out = Shared::default();
    let kind = FORMATS.iter().find(|kind| kind.name == name).unwrap();
    let mut sink = (kind.open)(Box::new(out.clone()), &labels(), &stages());
    let verdicts = verdicts();
    sink.write(&verdicts[..1]).unwrap();
    sink.write(&verdicts[1..]).unwrap();
    sink.flush().unwrap();
    let bytes = [kind.heading, &out.0.lock().unwrap()].concat();
    let text = String::from_utf8(bytes).unwrap();
    assert!((kind.is_like)(text.as_bytes()), "{name} does not know its own files");
    text
}

#[test]
fn formats_tell_their_files_apart() {
    let written =
        FORMATS.iter().filter(|kind| kind.name != "null").map(|kind| (kind, output(kind.name)));
    let written: Vec<_> = written.collect();
    for (kind, text) in &written {
        let others = written.iter().filter(|(other, _)| other.name != kind.name);
        for (other, _) in others {
            assert!(!(other.is_like)(text.as_bytes()), "{} is no {}", kind.name, other.name);
            assert!(kind.endings.iter().all(|ending| !other.endings.contains(ending)));
        }
    }
}

#[test]
fn every_sink_writes_its_golden_file() {
    for kind in FORMATS {
        let path: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "tests/golden", kind.name].iter().collect();
        let written = output(kind.name);
        if std::env::var_os("SERVEFLOW_UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &written).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, golden, "{}", kind.name);
    }
}

#[test]
fn every_sink_is_documented_for_users_of_the_crate() {
    let docs = include_str!("../src/lib.rs");
    for kind in FORMATS {
        assert!(docs.contains(&format!("//! - `{}`: ", kind.name)), "{}", kind.name);
        assert!(!kind.doc.is_empty());
    }
}

#[test]
fn json_says_what_the_verdict_says() {
    let lines = output("json");
    let parsed: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (value, verdict) in parsed.iter().zip(verdicts()) {
        assert_eq!(value["src"], verdict.flow.src.to_string());
        assert_eq!(value["dst"], verdict.flow.dst.to_string());
        assert_eq!(value["src_port"], 51_234);
        assert_eq!(value["dst_port"], 443);
        assert_eq!(value.get("vlan").and_then(Value::as_u64), verdict.flow.vlan.map(u64::from));
        assert_eq!(value["reason"], verdict.reason.name());
        assert_eq!(value["final"], verdict.is_final);
        let packets = verdict.answer.map_or(0, |answer| answer.packets);
        assert_eq!(value["packets"], packets);
    }
    assert_eq!(parsed.len(), 6);
    assert_eq!(parsed[0]["label"], labels()[0]);
    assert_eq!(parsed[1]["label"], labels()[1]);
    assert_eq!((&parsed[0]["stage"], &parsed[1]["stage"]), (&"first".into(), &"deep".into()));
    assert_eq!(parsed[1]["confidence"].as_f64().unwrap() as f32, 0.1);
    assert_eq!((&parsed[2]["label"], &parsed[2]["confidence"]), (&"9".into(), &Value::Null));
    assert_eq!((&parsed[3]["label"], &parsed[3]["stage"]), (&Value::Null, &Value::Null));
    // What is unknown is never to be mistaken for the label that is nearest to it.
    assert_eq!(
        (&parsed[5]["label"], &parsed[5]["nearest"]),
        (&"unknown".into(), &labels()[1].clone().into())
    );
    assert!(parsed[..5].iter().all(|value| value.get("nearest").is_none()));
}

#[test]
fn times_are_exact_to_the_nanosecond() {
    let lines = output("json");
    let first = lines.lines().next().unwrap();
    assert!(
        first.contains(r#""first_ts":1700000000.123456789,"deciding_ts":1700000000.223456789"#)
    );
    assert!(first.contains(r#""collection_us":100000,"compute_us":1.234}"#));
    assert!(lines.contains(r#""deciding_ts":9223372036.854775807"#));
}

#[test]
fn many_verdicts_are_whole_lines_however_they_are_split() {
    let many: Vec<Verdict> = verdicts().into_iter().cycle().take(1001).collect();
    let text = |size| {
        let out = Shared::default();
        let mut sink = JsonLines::new(out.clone(), &labels(), &stages());
        many.chunks(size).for_each(|chunk| sink.write(chunk).unwrap());
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    };
    let whole = text(1001);
    assert_eq!(whole.lines().count(), 1001);
    assert_eq!(whole, text(1));
    assert_eq!(whole, text(300));
}

#[test]
fn verdicts_of_another_plan_have_its_names() {
    for kind in FORMATS.iter().filter(|kind| kind.name != "null") {
        let out = Shared::default();
        let mut sink = (kind.open)(Box::new(out.clone()), &labels(), &stages());
        sink.name_plan(3, &["other".to_owned()], &["only".to_owned()]);
        let first = Verdict { answer: verdicts()[0].answer, ..verdicts()[0] };
        sink.write(&[Verdict { plan: 3, ..first }, first]).unwrap();
        sink.flush().unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let [other, own] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(other.contains("other") && other.contains("only"), "{other}");
        assert!(!own.contains("other") && own.contains("first"), "{own}");
    }
}

#[test]
fn a_failing_writer_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = JsonLines::new(Full, &labels(), &stages());
    assert_eq!(sink.write(&verdicts()).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn null_counts_and_memory_keeps() {
    let (mut null, mut memory) = (Null::default(), Memory::default());
    for sink in [&mut null as &mut dyn Sink, &mut memory] {
        sink.write(&verdicts()).unwrap();
        sink.write(&verdicts()[..1]).unwrap();
        sink.flush().unwrap();
    }
    assert_eq!((null.count, memory.verdicts.len()), (7, 7));
    assert_eq!(memory.verdicts[..1], verdicts()[..1]);
}
