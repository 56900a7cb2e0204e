//! `serveflow features`: the tables against the reference nPrint tool, against each other, and
//! against what a serving engine encodes.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Csv, data, files, golden, parquet_cells, run, scratch, stderr, stdout};
use serveflow_core::engine::{Engine, EngineConfig};
use serveflow_core::lane::{Job, Lane};
use serveflow_core::parse::{KeyRules, parse};
use serveflow_core::rows::Rows;
use serveflow_io::worker_loop::{WhenFull, Worker};
use serveflow_io::{Batch, FileSource, Null, Source};
use serveflow_model::LoadOptions;
use serveflow_model::bundle::Bundle;
use serveflow_serve::lanes::{self, LaneParts};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Whether each packet of a capture that has a row carries a VLAN tag, behind which the reference
/// tool does not look.
fn tagged(capture: &Path) -> Vec<bool> {
    let (mut source, mut batch) = (FileSource::new(vec![capture.to_owned()]), Batch::new());
    let mut tagged = Vec::new();
    while source.fill(&mut batch, 1024).unwrap() > 0 {
        let rows = batch.iter().filter(|packet| parse(packet, KeyRules::default()).is_ok());
        tagged.extend(rows.map(|packet| packet.data[12..14] == [0x81, 0]));
    }
    tagged
}

/// Compares the table of single packets with the tool's, for all golden captures.
fn hold_against_the_tool(variant: &str, headers: &str) {
    let captures = golden();
    assert_eq!(captures.len(), 10);
    for capture in captures {
        let table = capture.with_extension(format!("{variant}.csv.zst"));
        let theirs = zstd::decode_all(std::fs::read(table).unwrap().as_slice()).unwrap();
        let args = ["--per", "packet", "--mask", "none", "--headers", headers, "--out", "-"];
        let done = run("features", &[&capture], &args);
        assert!(done.status.success(), "{}", stderr(&done));
        let ours = stdout(&done);
        let (header, rows) = ours.split_once('\n').unwrap();
        let tagged = tagged(&capture);
        assert_eq!(rows.lines().count(), tagged.len());
        let rows = rows.lines().zip(tagged).filter(|(_, tagged)| !tagged).map(|(row, _)| row);
        let ours: Vec<&str> = std::iter::once(header).chain(rows).collect();
        assert!(format!("{}\n", ours.join("\n")).as_bytes() == theirs, "{}", capture.display());
    }
}

#[test]
fn packets_are_those_of_the_reference_tool() {
    hold_against_the_tool("ipv4_tcp_udp", "ipv4,tcp,udp");
}

#[test]
fn packets_of_all_protocols_are_those_of_the_reference_tool() {
    hold_against_the_tool("all", "ipv4,ipv6,tcp,udp,icmp");
}

#[test]
fn masked_columns_are_left_out() {
    let done = run("features", &golden()[..1], &["--per", "packet", "--out", "-"]);
    let csv = Csv::new(&stdout(&done));
    for field in ["ipv4_src_0", "tcp_sprt_15", "udp_cksum_0", "ipv4_id_3", "tcp_seq_31"] {
        assert!(!csv.names.iter().any(|name| name == field), "{field}");
    }
    assert!(csv.names.iter().any(|name| name == "ipv4_ttl_0"));
    // Of 1024 bits: addresses 64, ports 64, checksums 48, ip_id 16, seq_ack 64.
    assert_eq!(csv.names.len(), 1 + 1024 - 256);
}

/// CSV and Parquet of the same rows hold the same cells.
fn hold_formats_together(test: &str, captures: &[PathBuf], args: &[&str]) {
    let (csv, parquet) = (scratch(test, "csv"), scratch(test, "parquet"));
    for (out, format) in [(&csv, "csv"), (&parquet, "parquet")] {
        let out = ["--format", format, "--out", out.to_str().unwrap()];
        let done = run("features", captures, &[args, &out].concat());
        assert!(done.status.success(), "{}", stderr(&done));
    }
    let csv = Csv::new(&std::fs::read_to_string(&csv).unwrap());
    assert!(csv.rows.len() > 100);
    let cells = parquet_cells(&parquet);
    let names: Vec<&String> = cells.iter().map(|(name, _)| name).collect();
    assert_eq!(names, csv.names.iter().collect::<Vec<_>>());
    for (column, (name, cells)) in cells.iter().enumerate() {
        let expected: Vec<&String> = csv.rows.iter().map(|row| &row[column]).collect();
        assert_eq!(cells.iter().collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn csv_and_parquet_hold_the_same_flows() {
    let labels = data("app_protocol/labels.csv");
    let all = ["header_bits", "packet_series", "flow_stats"].join(",");
    let args = ["--packets", "3", "--features", &all, "--labels", labels.to_str().unwrap()];
    hold_formats_together("formats-flow", &files("app_protocol/val"), &args);
}

#[test]
fn csv_and_parquet_hold_the_same_packets() {
    let args = ["--per", "packet", "--headers", "ipv4,ipv6,tcp,udp,icmp"];
    hold_formats_together("formats-packet", &golden(), &args);
}

#[test]
fn labels_and_splits_are_those_of_the_table() {
    let labels = data("app_protocol/labels.csv");
    let args = ["--labels", labels.to_str().unwrap(), "--features", "flow_stats", "--out", "-"];
    // The directory holds the table too, which is no capture of the table.
    let done = run("features", &[data("app_protocol")], &args);
    assert!(done.status.success(), "{}", stderr(&done));
    let csv = Csv::new(&stdout(&done));
    let truth = Csv::new(&std::fs::read_to_string(&labels).unwrap());
    let count = |csv: &Csv, names: [&str; 3]| {
        let columns = names.map(|name| csv.column(name));
        let mut counts = BTreeMap::new();
        for row in &csv.rows {
            *counts.entry(columns.map(|column| row[column].clone())).or_insert(0) += 1_i64;
        }
        counts
    };
    let names = ["file", "label", "split"];
    let mut ours = count(&csv, names);
    ours.retain(|[_, label, split], _| {
        assert_eq!(label.is_empty(), split.is_empty());
        !label.is_empty()
    });
    let theirs = count(&truth, names);
    let listed: i64 = theirs.values().sum();
    let missed: i64 = theirs.iter().map(|(key, n)| n - ours.get(key).unwrap_or(&0)).sum();
    assert!(ours.keys().all(|key| theirs.contains_key(key)));
    assert!((0..=listed / 1000).contains(&missed), "{missed} of {listed} listed flows missed");
}

/// Keeps what each stage was asked, by flow number, and has it scored.
struct Spy {
    inner: Box<dyn Lane>,
    asked: Asked,
}

/// Rows by (stage, flow number).
type Asked = Arc<Mutex<BTreeMap<(usize, u64), Rows>>>;

impl Lane for Spy {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        let mut asked = self.asked.lock().unwrap();
        for (index, &flow) in job.flows.iter().enumerate() {
            let mut row = Rows::with_capacity(job.rows.shape(), 1);
            row.push_copy(&job.rows, index);
            assert!(asked.insert((job.stage, flow), row).is_none(), "a stage is asked once");
        }
        self.inner.submit(job)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        self.inner.poll()
    }
}

/// What the stages of a bundle are asked while it serves captures, and how many flows there are.
fn served(bundle: &Bundle, captures: Vec<PathBuf>) -> (Asked, u64) {
    let asked = Asked::default();
    let parts = LaneParts::new(&bundle.models, 1);
    let lanes = lanes::boxed(lanes::build(&parts, bundle.cascade.stages()).unwrap()).into_iter();
    let spy = |inner| Box::new(Spy { inner, asked: Arc::clone(&asked) }) as Box<dyn Lane>;
    let mut lanes: Vec<Box<dyn Lane>> = lanes.map(spy).collect();
    let config = EngineConfig { flows: bundle.flow_config(), ..EngineConfig::default() };
    let mut engine = Engine::new(Arc::clone(&bundle.cascade), config);
    let outcome = Worker {
        engine: &mut engine,
        lanes: &mut lanes,
        sink: &mut Null::default(),
        wall: &mut || 0,
        batch_frames: 100,
        when_full: WhenFull::Wait,
        flush_ns: u64::MAX,
    }
    .run(&mut FileSource::new(captures), &mut |_, _| ControlFlow::Continue(()));
    assert!(outcome.unwrap().damaged.is_empty());
    (asked, engine.accounts().flows.seen)
}

#[test]
fn the_rows_written_are_the_rows_served() {
    let (task, labels) = (data("app_protocol"), data("app_protocol/labels.csv"));
    let out = scratch("served", "bundle");
    let words = |path: &Path| path.to_str().unwrap().to_owned();
    let args = [words(&task), words(&labels), words(&out)];
    let [task, labels, out] = args.each_ref().map(String::as_str);
    let args = ["--captures", task, "--labels", labels, "--out", out, "--stages", "tree@1,tree@10"];
    let done = run("train", &[] as &[&Path], &[&args, ["--escalate", "0.5"].as_slice()].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    let bundle = Bundle::open(Path::new(out), &LoadOptions::default()).unwrap();
    let captures = files("app_protocol/test");
    let (asked, flows) = served(&bundle, captures.clone());
    let asked = asked.lock().unwrap();
    for (stage, packets) in ["1", "10"].into_iter().enumerate() {
        let done = run("features", &captures, &["--packets", packets, "--out", "-"]);
        let csv = Csv::new(&stdout(&done));
        assert_eq!(csv.rows.len() as u64, flows);
        let columns = bundle.cascade.stages()[stage].features.columns();
        let keys = csv.names.len() - columns.len();
        let names: Vec<&String> = columns.iter().map(|column| &column.name).collect();
        assert_eq!(csv.names[keys..].iter().collect::<Vec<_>>(), names);
        let mut compared = 0;
        for ((_, flow), row) in asked.range((stage, 0)..(stage + 1, 0)) {
            let served: Vec<String> =
                columns.iter().map(|column| column.value(row, 0).to_string()).collect();
            assert_eq!(csv.rows[*flow as usize][keys..], served, "stage {stage} flow {flow}");
            compared += 1;
        }
        // All flows are asked on their first packet, and some but not all on ten.
        let expected = if stage == 0 { flows..=flows } else { 100..=flows - 100 };
        assert!(expected.contains(&compared), "stage {stage}: {compared} of {flows} flows");
    }
}

#[test]
fn what_stands_before_damage_is_written() {
    let whole = golden().into_iter().find(|path| path.ends_with("jabber.pcap")).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let cut = scratch("damage", "pcap");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    for per in ["packet", "flow"] {
        let args = ["--per", per, "--out", "-"];
        let (whole, cut) = (run("features", &[&whole], &args), run("features", &[&cut], &args));
        assert_eq!((whole.status.code(), cut.status.code()), (Some(0), Some(3)));
        assert!(stderr(&cut).contains("damaged: the capture is cut short"), "{}", stderr(&cut));
        let (whole, cut) = (stdout(&whole), stdout(&cut));
        assert!(cut.lines().count() > 1);
        assert!(per == "flow" || whole.starts_with(&cut), "the rows before the damage");
    }
}

#[test]
fn what_has_no_row_per_packet_is_refused() {
    for (args, facts) in [
        (["--features", "packet_series"], "`packet_series`"),
        (["--packets", "3"], "found 3"),
        (["--mask", "tcp_timestamps"], "tcp_timestamps"),
        (["--labels", "labels.csv"], "--per packet"),
    ] {
        let done = run(
            "features",
            &golden()[..1],
            &[&args, ["--per", "packet", "--out", "-"].as_slice()].concat(),
        );
        assert_eq!(done.status.code(), Some(1));
        assert!(stderr(&done).contains(facts), "{}", stderr(&done));
        assert!(done.stdout.is_empty());
    }
}
