//! Label tables, labels by path, and labels in packet comments; and the sample's own table, which
//! another program wrote, against the flow table.
#![allow(clippy::unwrap_used)]

mod common;

use common::{data, pcap, pcapng, put, quick_plan, scratch, udp};
use serveflow_core::parse::Reject;
use serveflow_core::verdict::FiveTuple;
use serveflow_label::{
    FileLabels, LabelBook, LabelError, Split, by_path, from_comments, read_table,
};
use serveflow_train::dataset::{Dataset, record};
use serveflow_train::dataset::{LabelMatch, survey};
use serveflow_train::pipeline::TrainPlan;
use std::collections::HashSet;
use std::path::Path;

const START: u64 = 1_700_000_000_000_000_000;
const HEADER: &str = "file,split,label,proto,src_ip,src_port,dst_ip,dst_port,first_ts_us";

/// A table's book, or its error.
fn table(name: &str, bytes: impl AsRef<[u8]>) -> Result<LabelBook, LabelError> {
    let dir = scratch(&format!("table-{name}"));
    read_table(&put(dir.join("labels.csv"), bytes), &dir)
}

fn refused(name: &str, bytes: impl AsRef<[u8]>) -> String {
    table(name, bytes).unwrap_err().to_string()
}

fn recorded(book: &LabelBook, plan: &TrainPlan) -> Dataset {
    let depths = TrainPlan::depths(&plan.tiers);
    record(book, &plan.recording(&depths), &mut |_| ()).unwrap()
}

const GOOD: &str = "a.pcap,train,x,17,10.0.0.1,5000,10.0.0.2,53,1700000000000000";

#[test]
fn tables_of_every_make_say_the_same() {
    let plain =
        format!("{HEADER}\n{GOOD}\na.pcap,,y,17,10.0.0.1,5001,10.0.0.2,53,1700000000000001\n");
    let expected = format!("{:?}", names_and_files(&table("plain", &plain).unwrap()));
    let reordered: String = plain
        .lines()
        .map(|line| line.split(',').rev().chain(["more"]).collect::<Vec<_>>().join(","))
        .map(|line| line + "\n")
        .collect();
    let makes: [(&str, String); 11] = [
        ("crlf", plain.replace('\n', "\r\n")),
        ("bom", format!("\u{feff}{plain}")),
        (
            "quoted",
            plain
                .replace(',', "\",\"")
                .replace('\n', "\"\n\"")
                .trim_end_matches('"')
                .replacen("file", "\"file", 1),
        ),
        ("spaces", plain.replace(',', " , ")),
        ("blank", plain.replace('\n', "\n\n")),
        ("columns", reordered),
        ("semicolons", plain.replace(',', ";")),
        ("tabs", plain.replace(',', "\t")),
        ("dots", plain.replacen("a.pcap", "./a.pcap", 1)),
        ("names", plain.replace(",17,", ",udp,")),
        ("letters", plain.replacen(HEADER, &HEADER.to_uppercase(), 1)),
    ];
    for (name, bytes) in makes {
        let book = table(name, &bytes).unwrap_or_else(|error| panic!("{name}: {error}\n{bytes}"));
        assert_eq!(
            format!("{:?}", names_and_files(&book)),
            expected.replace("table-plain", &format!("table-{name}"))
        );
    }
    assert_ne!(
        table("one", plain.clone()).unwrap().sha256,
        table("two", plain + "\n").unwrap().sha256
    );
}

/// What a book says, in an order that does not depend on hashes.
fn names_and_files(book: &LabelBook) -> impl std::fmt::Debug + use<> {
    let file = |(path, labels): (&std::path::PathBuf, &FileLabels)| {
        let FileLabels::Flows(flows) = labels else { panic!("flows are listed") };
        let mut flows: Vec<String> = flows.iter().map(|flow| format!("{flow:?}")).collect();
        flows.sort();
        (path.clone(), flows)
    };
    (book.labels.clone(), book.files.iter().map(file).collect::<Vec<_>>())
}

#[test]
fn bad_fields_are_named_with_line_and_column() {
    let bad = |column: &str, found: &str| -> String {
        let at = HEADER.split(',').position(|name| name == column).unwrap();
        let mut fields: Vec<&str> = GOOD.split(',').collect();
        fields[at] = found;
        fields.join(",")
    };
    for (column, found) in [
        ("file", ""),
        ("split", "exam"),
        ("label", ""),
        ("proto", "6.0"),
        ("proto", "tls"),
        ("proto", "256"),
        ("src_ip", "10.0.0"),
        ("src_port", "65536"),
        ("dst_ip", "host"),
        ("dst_port", "-1"),
        ("first_ts_us", "1.5"),
        ("first_ts_us", "99999999999999999999"),
    ] {
        let bad = bad(column, found);
        let odd = "a.pcap,train,\"two\nlines\",17,10.0.0.1,5000,10.0.0.2,53,1700000000000000";
        for (name, text, line) in [
            ("second", format!("{HEADER}\n{bad}\n"), 2),
            ("last", format!("{HEADER}\n{GOOD}\n{GOOD}\n{bad}"), 4),
            ("crlf", format!("{HEADER}\r\n{GOOD}\r\n{bad}\r\n"), 3),
            ("blank", format!("\n{HEADER}\n\n\n{GOOD}\n\n{bad}\n"), 7),
            ("newline", format!("{HEADER}\n{odd}\n{bad}\n"), 4),
        ] {
            let message = refused("bad", text);
            let expected = format!("labels.csv: line {line}: {column}: expected ");
            assert!(message.contains(&expected), "{name}: no `{expected}` in: {message}");
            assert!(message.ends_with(&format!("found `{found}`")), "{name}: {message}");
        }
    }
}

#[test]
fn tables_that_are_none_are_refused() {
    for (name, text, words) in [
        ("empty", String::new(), &["line 1", "`file`", "`first_ts_us`"][..]),
        ("header", HEADER.to_owned(), &["no labels", "a line per flow"]),
        ("column", HEADER.replace("src_port", "sport"), &["line 1", "`src_port`"]),
        (
            "short",
            format!("{HEADER}\r\n{GOOD}\r\na.pcap,train,x\r\n"),
            &["line 3", "9 fields", "found 3"],
        ),
        ("long", format!("{HEADER}\n{GOOD},more\n"), &["line 2", "9 fields", "found 10"]),
    ] {
        let message = refused(name, text);
        let missing = words.iter().find(|word| !message.contains(**word));
        assert!(missing.is_none(), "{name}: no {missing:?} in: {message}");
    }
    let mut bytes = format!("{HEADER}\r\n{GOOD}\r\n{GOOD}\r\n").into_bytes();
    let at = bytes.iter().rposition(|&byte| byte == b'x').unwrap();
    bytes[at] = 0xff;
    assert!(refused("bytes", bytes).contains("line 3"));
    let message = read_table(Path::new("nowhere.csv"), Path::new(".")).unwrap_err().to_string();
    assert!(message.starts_with("nowhere.csv: "), "{message}");
}

#[test]
fn more_labels_than_a_cascade_takes_are_refused() {
    let line = |n: u32| format!("a.pcap,,label {n},17,10.0.0.1,1,10.0.0.2,2,{n}\n");
    let most: String = (0..65_535).map(line).collect();
    assert_eq!(table("most", format!("{HEADER}\n{most}")).unwrap().labels.len(), 65_535);
    let message = refused("more", format!("{HEADER}\n{most}{}", line(65_535)));
    assert!(message.contains("at most 65535") && message.contains("found 65536"), "{message}");
}

#[test]
fn every_flow_of_the_sample_is_met() {
    for (task, listed, broken) in [("app_protocol", 4949, 1), ("iot_sentinel", 8833, 0)] {
        let book = read_table(&data(task).join("labels.csv"), &data(task)).unwrap();
        let all: usize = book.files.values().map(FileLabels::listed).sum();
        assert_eq!(all, listed, "{task}");
        let dataset = recorded(&book, &quick_plan(&["tree@1"]));
        // One listed flow is a single packet whose TCP header claims more bytes than it has.
        let rejected = dataset.accounts.packets.rejected[Reject::BadTransport as usize];
        assert_eq!((dataset.missing, rejected), (broken, broken as u64), "{task}");
        assert_eq!(dataset.accounts.rejected(), rejected, "{task}");
        let met: usize = Split::ALL.iter().map(|&split| dataset.split(split).len()).sum();
        assert_eq!(met, listed - broken, "{task}");
        assert!(dataset.damaged.is_empty() && dataset.accounts.balance(), "{task}");
        // What is not listed are late packets of connections that had been closed, and connections
        // that were tried again after a reset: flows on the five-tuple of a listed one.
        let ends = |flow: &FiveTuple| {
            let (src, dst) = ((flow.src, flow.src_port), (flow.dst, flow.dst_port));
            (src.min(dst), src.max(dst), flow.proto)
        };
        let known = dataset.flows.iter().filter(|flow| flow.label.is_some());
        let known: HashSet<_> = known.map(|flow| (flow.file, ends(&flow.flow))).collect();
        let more = dataset.flows.iter().filter(|flow| flow.label.is_none());
        for flow in more.clone() {
            assert!(known.contains(&(flow.file, ends(&flow.flow))), "{task}: {flow:?}");
        }
        assert!(more.count() <= 20, "{task}: {} more", dataset.flows.len() - met);
    }
}

/// Two flows of each host, 50 ms apart, with 3 packets each.
fn traffic(hosts: u8, gap_ns: u64) -> Vec<(u64, Vec<u8>)> {
    let mut frames = Vec::new();
    for host in 1..=hosts {
        for port in [53, 123] {
            let at = START + u64::from(host) * 100_000_000 + u64::from(port) * 400_000;
            let (us, them) = ((host, 5000), (254, port));
            for packet in 0..3 {
                let frame = if packet == 1 { udp(them, us, 40) } else { udp(us, them, 20) };
                frames.push((at + packet * gap_ns, frame));
            }
        }
    }
    frames.sort_by_key(|(at, _)| *at);
    frames
}

#[test]
fn folders_and_files_say_label_and_split() {
    let dir = scratch("paths");
    for path in ["dns/a.pcap", "dns/deep/b.pcap", "ntp.p1.pcap", "test/smb.pcap", "web/val/c.pcap"]
    {
        put(dir.join(path), pcap(&traffic(5, 1000)));
    }
    for path in ["notes.txt", "dns/.hidden.pcap", "labels.csv"] {
        put(dir.join(path), "no capture");
    }
    let book = by_path(&dir).unwrap();
    assert_eq!(book.labels, ["dns", "ntp", "smb", "web"]);
    let dataset = recorded(&book, &quick_plan(&["tree@1"]));
    assert_eq!((dataset.flows.len(), dataset.missing, dataset.damaged.len()), (50, 0, 0));
    for flow in &dataset.flows {
        let label = dataset.labels[usize::from(flow.label.unwrap())].as_str();
        match label {
            "smb" => assert_eq!(flow.split, Split::Test),
            "web" => assert_eq!(flow.split, Split::Val),
            _ => {}
        }
    }
    // Ten flows of a capture: seven train, then one or two validate, the rest test.
    let of = |label: u16, file: usize| {
        let flows = dataset.flows.iter().filter(move |flow| flow.file == file);
        flows.filter(move |flow| flow.label == Some(label)).map(|flow| flow.split)
    };
    let splits: Vec<Split> = of(0, 0).collect();
    assert_eq!(splits, [&[Split::Train; 7][..], &[Split::Val; 2], &[Split::Test]].concat());
    assert!(by_path(&scratch("paths-empty")).is_err());
    let lonely = scratch("paths-none");
    put(lonely.join("notes.txt"), "x");
    assert!(by_path(&lonely).unwrap_err().to_string().contains("folders named by label"));
    assert!(by_path(&dir.join("nowhere")).is_err());
}

#[test]
fn comments_label_flows_and_list_none() {
    let comment = |host: u8, port: u8| {
        if port == 53 { format!("{host},dns") } else { format!("{host},ntp,x") }
    };
    let dir = scratch("comments");
    let frames = traffic(10, 1000);
    let comments: Vec<String> = frames
        .iter()
        .map(|(_, frame)| {
            let ports = [frame[35], frame[37]];
            let host = frame[29].min(frame[33]);
            // Flows of host 3 carry none.
            let port = if ports.contains(&53) { 53 } else { 123 };
            if host == 3 { String::new() } else { comment(host, port) }
        })
        .collect();
    let noted: Vec<(u64, Vec<u8>, &str)> = frames
        .iter()
        .zip(&comments)
        .map(|((at, frame), comment)| (*at, frame.clone(), comment.as_str()))
        .collect();
    let path = put(dir.join("a.pcapng"), pcapng(&noted));
    let book = from_comments(std::slice::from_ref(&path)).unwrap();
    assert_eq!(book.labels, ["dns", "ntp"]);
    let dataset = recorded(&book, &quick_plan(&["tree@1"]));
    assert_eq!((dataset.flows.len(), dataset.missing), (20, 0));
    for flow in &dataset.flows {
        let port = flow.flow.dst_port;
        let expected = (flow.flow.src.to_string() != "10.0.0.3").then_some(u16::from(port == 123));
        assert_eq!(flow.label, expected, "{:?}", flow.flow);
    }
    let silent: Vec<(u64, Vec<u8>, &str)> =
        noted.iter().map(|(at, f, _)| (*at, f.clone(), "")).collect();
    let silent = put(dir.join("silent.pcapng"), pcapng(&silent));
    let message = from_comments(&[silent]).unwrap_err().to_string();
    assert!(message.contains("silent.pcapng") && message.contains("sample id,label"), "{message}");
    let cut = pcapng(&noted);
    let cut = put(dir.join("cut.pcapng"), &cut[..cut.len() - 3]);
    assert!(from_comments(&[cut]).unwrap_err().to_string().contains("cut.pcapng, byte"));
}

#[test]
fn a_table_finds_flows_by_key_and_time_to_the_microsecond() {
    let dir = scratch("table-times");
    put(dir.join("a.pcap"), pcap(&traffic(2, 1000)));
    let first = (START + 100_000_000 + 53 * 400_000) / 1000;
    for (shift, met) in [(-2i64, false), (-1, true), (0, true), (1, true), (2, false)] {
        let at = first.cast_signed() + shift;
        // The two ends may stand in either order.
        for ends in ["10.0.0.1,5000,10.0.0.254,53", "10.0.0.254,53,10.0.0.1,5000"] {
            let text = format!("{HEADER}\na.pcap,train,x,17,{ends},{at}\n");
            let book = read_table(&put(dir.join("labels.csv"), text), &dir).unwrap();
            let dataset = recorded(&book, &quick_plan(&["tree@1"]));
            assert_eq!(dataset.missing, usize::from(!met), "{shift} us");
            assert_eq!(dataset.split(Split::Train).len(), usize::from(met), "{shift} us");
        }
    }
}

#[test]
fn a_flow_listed_twice_counts_once_and_a_contradiction_is_refused() {
    let other = GOOD.replace(",x,", ",y,");
    let book = table("twice", format!("{HEADER}\n{GOOD}\n{GOOD}\n")).unwrap();
    assert_eq!(book.files.values().map(FileLabels::listed).sum::<usize>(), 1);
    let third = GOOD.replace("5000", "5001");
    let message = refused("contradiction", format!("{HEADER}\n{third}\n{GOOD}\n\n{other}\n"));
    let words = "line 5: label: expected the label and split of this flow in line 3, `x` (train), \
                 found `y` (train)";
    assert!(message.ends_with(words), "{message}");
    // The ends may stand the other way round, and the split alone may differ.
    let other = GOOD
        .replace("10.0.0.1,5000,10.0.0.2,53", "10.0.0.2,53,10.0.0.1,5000")
        .replace(",train,", ",,");
    let message = refused("contradiction", format!("{HEADER}\n{GOOD}\n{other}\n"));
    assert!(message.ends_with("in line 2, `x` (train), found `x`"), "{message}");
}

/// Each split in each case, in a table and as a folder.
#[test]
fn a_split_is_read_in_any_case() {
    for split in Split::ALL {
        let name = split.name();
        let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        for spelled in [name, &title, &name.to_uppercase()] {
            assert_eq!(Split::from_name(spelled), Some(split));
            let line = GOOD.replacen(",train,", &format!(",{spelled},"), 1);
            let found = table("any-case", format!("{HEADER}\n{line}\n")).unwrap();
            let plain = GOOD.replacen(",train,", &format!(",{name},"), 1);
            let plain = table("any-case", format!("{HEADER}\n{plain}\n")).unwrap();
            assert_eq!(format!("{:?}", found.files), format!("{:?}", plain.files), "{spelled}");
        }
    }
    assert_eq!(Split::from_name("tests"), None);
    let line = GOOD.replacen(",train,", ",exam,", 1);
    let error = refused("no-split", format!("{HEADER}\n{line}\n"));
    assert!(error.contains("train, val, test (in any case) or nothing"), "{error}");
    assert!(error.contains("exam"), "{error}");
}

#[test]
fn a_table_without_a_split_is_split_by_time() {
    let with = format!("{HEADER}\n{}\n", GOOD.replace(",train,", ",,"));
    let without = with.replace(",split,", ",").replace(",,", ",");
    let [with, without] = [("with", with), ("without", without)].map(|(name, text)| {
        let book = table(name, text).unwrap();
        let files: Vec<String> = book.files.values().map(|labels| format!("{labels:?}")).collect();
        files
    });
    assert_eq!(with, without);
}

#[test]
fn ports_may_be_left_out_where_a_protocol_has_none() {
    let of = |proto: &str, port: &str| {
        let line = format!("a.pcap,train,x,{proto},10.0.0.1,{port},10.0.0.2,{port},1\n");
        table("ports", format!("{HEADER}\n{line}"))
    };
    for proto in ["icmp", "1", "ICMPv6", "47"] {
        let [empty, zero] = ["", "0"].map(|port| of(proto, port).unwrap().files);
        assert_eq!(format!("{empty:?}"), format!("{zero:?}"), "{proto}");
    }
    for proto in ["tcp", "17", "33", "SCTP", "136"] {
        let message = of(proto, "").unwrap_err().to_string();
        assert!(message.ends_with("src_port: expected a port number, found ``"), "{message}");
    }
}

/// However the captures are listed, and however their paths are written: the one that is told is
/// the one that the row means, and its flows are those of the rows.
#[test]
fn the_capture_that_is_suggested_is_the_one_that_is_meant() {
    let dir = scratch("suggested");
    let names = ["test/a.p1.pcap", "test/a.pcap", "train/a.pcap", "train/b.pcap", "val/a.pcap"];
    let mut captures = Vec::new();
    let mut table = Vec::new();
    for (at, name) in names.iter().enumerate() {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        // The first by name are the last by time.
        let begin = START + (names.len() - at) as u64 * 1_000_000_000_000;
        let frames: Vec<(u64, Vec<u8>)> = (0..8)
            .map(|flow| (begin + flow * 7_000_001_000, udp((1, 5_000 + flow as u16), (2, 53), 9)))
            .collect();
        captures.push(put(dir.join(name), pcap(&frames)));
        for (flow, (ns, _)) in frames.iter().enumerate() {
            let keys = format!("17,10.0.0.1,{},10.0.0.2,53,{}", 5_000 + flow, ns / 1_000);
            table.push((*name, keys));
        }
    }
    type Write = fn(&str) -> String;
    let writes: [Write; 5] = [
        |name| name.replace(".pcap", ".pcapng"),
        |name| name.to_uppercase(),
        |name| name.replace('/', "\\"),
        |name| format!("data/app/{name}"),
        |name| format!("{name}.zst"),
    ];
    for turn in 0..captures.len() {
        captures.rotate_left(1);
        // All rows, and those of one capture alone.
        for (write, only) in writes.iter().flat_map(|write| [(write, None), (write, Some(turn))]) {
            let is_odd = |name: &str| only.is_none_or(|only| names[only] == name);
            let line = |(name, keys): &(&str, String)| {
                let file = if is_odd(name) { write(name) } else { (*name).to_owned() };
                format!("{file},,x,{keys}\n")
            };
            let lines: String = table.iter().map(line).collect();
            let labels = put(dir.join("labels.csv"), format!("{HEADER}\n{lines}"));
            let book = read_table(&labels, &dir).unwrap();
            let flows = serveflow_core::FlowConfig::default();
            let dataset = survey(&book, flows, &mut |_| ()).unwrap();
            let found = LabelMatch::new(&book, &dataset, &captures, flows).unwrap();
            let meant = names[only.unwrap_or(0)];
            let words = format!("`{meant}` in place of `{}`", write(meant));
            let [(said, rows)] = &found.causes[..] else { panic!("{found}") };
            assert!(said.contains("as listed") && said.ends_with(&words), "{said}: {words}");
            assert_eq!(*rows, if only.is_some() { 8 } else { table.len() }, "{found}");
        }
    }
}
