//! Mistakes that new users make, and what the sentence about each must say: what is wrong, and what
//! to do.

use super::kit::{self, Ran, data, program, put, scratch, serveflow, some_labels, text, train};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The table of two labels, each line changed; a line is its fields.
fn changed(change: impl Fn(&mut Vec<String>)) -> String {
    let table = some_labels(&["llmnr", "mdns"]);
    let (header, rest) = table.split_once('\n').unwrap();
    let line = |line: &str| {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        change(&mut fields);
        fields.join(",")
    };
    let lines: Vec<String> = rest.lines().map(line).filter(|line| !line.is_empty()).collect();
    format!("{header}\n{}\n", lines.join("\n"))
}

fn number(field: &str) -> u64 {
    field.parse().unwrap()
}

fn trained(dir: &Path, table: &str) -> Ran {
    let labels = put(dir.join("labels.csv"), table);
    train(&labels, &data(), &dir.join("bundle"), &["--stages", "tree@1", "--no-audit"])
}

fn evaluated(dir: &Path, table: &str) -> Ran {
    let labels = put(dir.join("evaluated.csv"), table);
    let args = ["evaluate", "--bundle", text(kit::bundle()), "--captures"];
    let data = data();
    serveflow(&[&args[..], &[text(&data), "--labels", text(&labels)]].concat())
}

const FILE: usize = 0;
const SPLIT: usize = 1;
const LABEL: usize = 2;
const SRC: usize = 4;
const FIRST: usize = 8;

#[test]
fn labels_that_match_nothing_are_refused_with_the_cause() {
    let dir = scratch("no-match");
    type Change = fn(&mut Vec<String>);
    let cases: [(&str, Change, &[&str]); 8] = [
        (
            "milliseconds",
            |line| line[FIRST] = (number(&line[FIRST]) / 1_000).to_string(),
            &["`first_ts_us` held milliseconds"],
        ),
        (
            "seconds",
            |line| line[FIRST] = (number(&line[FIRST]) / 1_000_000).to_string(),
            &["`first_ts_us` held seconds"],
        ),
        (
            "nanoseconds",
            |line| line[FIRST].push_str("000"),
            &["`first_ts_us` held nanoseconds: divide it by 1,000"],
        ),
        (
            "an hour off",
            |line| line[FIRST] = (number(&line[FIRST]) + 3_600_000_000).to_string(),
            &["1 hour earlier (a time zone?): subtract 3,600,000,000 us"],
        ),
        (
            "one folder too many",
            |line| line[FILE].insert_str(0, "captures/"),
            &["folders too many", "`captures/t", "do not exist"],
        ),
        ("case", |line| line[FILE] = line[FILE].to_uppercase(), &["upper and lower case"]),
        ("ending", |line| line[FILE] = line[FILE].replace(".zst", ""), &["another ending"]),
        (
            "IPv4 in IPv6",
            |line| {
                for column in [SRC, SRC + 2] {
                    match line[column].contains(':') {
                        true => line.clear(),
                        false => line[column].insert_str(0, "::ffff:"),
                    }
                    if line.is_empty() {
                        return;
                    }
                }
            },
            &["addresses of IPv4 were written as such"],
        ),
    ];
    for (name, change, words) in cases {
        let table = changed(change);
        for ran in [trained(&dir, &table), evaluated(&dir, &table)] {
            let ran = ran.exits(1).says(words);
            let all = ["error: no row of the label table matches a flow", "would match a flow if"];
            let ran = ran.says(&all);
            assert!(ran.err.contains("0 of "), "{name}: {}", ran.err);
        }
    }
    assert!(!dir.join("bundle/plan.toml").exists());
}

#[test]
fn labels_of_which_some_match_are_a_warning_with_counts() {
    let dir = scratch("half-match");
    let table = changed(|line| {
        if line[LABEL] == "mdns" && line[SPLIT] == "test" {
            line[FIRST] = (number(&line[FIRST]) / 1_000).to_string();
        }
    });
    let words =
        ["warning: ", "40 do not", "40 rows would match a flow if `first_ts_us` held milli"];
    evaluated(&dir, &table).exits(0).says(&words);
    // Both ports of mDNS are the same, so that exchanged ones do no harm there.
    let swapped = changed(|line| line.swap(SRC + 1, SRC + 3));
    let words =
        ["warning: ", "79 do not", "79 rows would match a flow if `src_port` and `dst_port`"];
    evaluated(&dir, &swapped).exits(0).says(&words);
    // What matches says so too.
    let whole = some_labels(&["llmnr", "mdns"]);
    trained(&dir, &whole).exits(0).says(&["282 of 282 rows match a flow, 0 do not"]);
}

#[test]
fn a_feature_table_is_not_written_without_labels() {
    let dir = scratch("features-match");
    let capture = dir.join("llmnr.pcap.zst");
    std::fs::copy(data().join("test/llmnr.pcap.zst"), &capture).unwrap();
    let (out, labels) = (dir.join("table.csv"), dir.join("labels.csv"));
    let own = |change: &dyn Fn(usize, &mut Vec<String>)| {
        let at = std::cell::Cell::new(0);
        let table = changed(|line| match line[FILE].strip_prefix("test/llmnr") {
            Some(rest) => {
                line[FILE] = format!("llmnr{rest}");
                at.set(at.get() + 1);
                change(at.get(), line);
            }
            None => line.clear(),
        });
        put(labels.clone(), table);
        let args = ["features", text(&capture), "--labels", text(&labels), "--out", text(&out)];
        serveflow(&args)
    };
    let ms = |line: &mut Vec<String>| line[FIRST] = (number(&line[FIRST]) / 1_000).to_string();
    own(&|_, line| ms(line)).exits(1).says(&["0 of 25 rows match a flow", "held milliseconds"]);
    assert!(!out.exists());
    own(&|_, line| line[FILE].insert_str(0, "x/"))
        .exits(1)
        .says(&["labels.csv", "folders too many"]);
    own(&|_, line| line[FILE] = "other.pcap".to_owned()).exits(1).says(&["do not exist"]);
    assert!(!out.exists());
    own(&|at, line| {
        if at < 3 {
            ms(line);
        }
    })
    .exits(0)
    .says(&["warning: ", "23 of 25", "2 rows would"]);
    std::fs::remove_file(&out).unwrap();
    own(&|_, _| ()).exits(0).says(&["25 of 25 rows match a flow"]);
}

#[test]
fn tables_that_cannot_be_misread_are_read() {
    let dir = scratch("kinds-of-tables");
    let table = some_labels(&["llmnr", "mdns"]);
    let expected = evaluated(&dir, &table).exits(0).out;
    let expected = expected.lines().next().unwrap();
    for table in [
        table.replace(',', ";"),
        table.replace(',', "\t"),
        table.replace(",17,", ",udp,"),
        table.replacen("file,split,label,proto", "FILE,Split,LABEL,Proto", 1),
    ] {
        let ran = evaluated(&dir, &table).exits(0);
        assert_eq!(ran.out.lines().next().unwrap(), expected);
    }
    let without = table.lines().map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        [&fields[..1], &fields[2..]].concat().join(",") + "\n"
    });
    trained(&dir, &without.collect::<String>()).exits(0).says(&["282 of 282 rows"]);
}

#[test]
fn what_is_wrong_with_a_table_is_said_at_once_and_what_to_do() {
    let dir = scratch("table-mistakes");
    let table = some_labels(&["llmnr", "mdns"]);
    let zeek = "ts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n";
    let line = table.lines().nth(1).unwrap();
    let twice = format!("{table}{}\n", line.replace(",llmnr,", ",mdns,"));
    let count = table.lines().count();
    let few: String =
        table.lines().take(4).map(|line| line.replace(",test,", ",,") + "\n").collect();
    let few = few.replacen(",llmnr,", ",mdns,", 1);
    for (table, words) in [
        (
            zeek.to_owned(),
            &["Zeek's conn.log", "`id.orig_h` to `src_ip`", "`ts` to `first_ts_us`"][..],
        ),
        (
            twice,
            &[
                &format!("line {}: label: ", count + 1),
                "in line 2, `llmnr` (test), found `mdns` (test)",
            ],
        ),
        (
            changed(|line| line[SPLIT] = "train".to_owned()),
            &["the split `val` has no labelled flow", "282 train, 0 val", "column `split` empty"],
        ),
        (few, &["has no labelled flow", "too few to be split by time"]),
        (some_labels(&["mdns"]), &["at least 2 classes, found 1, `mdns`", "labels.csv"]),
        (
            changed(|line| {
                if line[LABEL] == "mdns" && line[SPLIT] == "train" {
                    line[SPLIT] = "test".to_owned();
                }
            }),
            &["training flows of at least 2 classes", "`llmnr`"],
        ),
    ] {
        trained(&dir, &table).exits(1).says(words);
    }
}

#[test]
fn folders_of_another_depth_are_refused_with_the_labels_they_gave() {
    let dir = scratch("depth");
    for path in ["deep/home1/llmnr/a.pcap.zst", "deep/home1/mdns/a.pcap.zst"] {
        let label = Path::new(path).parent().unwrap().file_name().unwrap().to_str().unwrap();
        let to = dir.join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(data().join(format!("train/{label}.pcap.zst")), to).unwrap();
    }
    let deep = dir.join("deep");
    let bundle = dir.join("bundle");
    let refused = serveflow(&["train", "--captures", text(&deep), "--out", text(&bundle)]).exits(1);
    refused.says(&[
        "at least 2 classes, found 1, `home1`",
        "home1/llmnr/a.pcap.zst is labelled `home1`",
        &format!("with --captures {} the labels are `llmnr`, `mdns`", text(&deep.join("home1"))),
    ]);
    assert!(!bundle.exists());
}

#[test]
fn a_bundle_goes_into_a_folder_of_its_own() {
    let dir = scratch("own-folder");
    let labels = put(dir.join("labels.csv"), some_labels(&["llmnr", "mdns"]));
    let into = |out: &Path, captures: &Path| {
        let args = ["train", "--captures", text(captures), "--labels", text(&labels), "--out"];
        let more = ["--stages", "tree@1", "--no-audit"];
        serveflow(&[&args[..], &[text(out)], &more[..]].concat())
    };
    let captures = dir.join("captures");
    for file in ["train/llmnr", "train/mdns", "val/mdns", "test/llmnr", "test/mdns"] {
        let to = captures.join(format!("{file}.pcap.zst"));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(data().join(format!("{file}.pcap.zst")), to).unwrap();
    }
    into(&captures, &captures).exits(1).says(&["--out", "with the capture", "separate folder"]);
    assert!(!captures.join("pool").exists());
    let notes = dir.join("notes");
    std::fs::create_dir(&notes).unwrap();
    put(notes.join("notes.md"), "mine");
    into(&notes, &data()).exits(1).says(&["--out", "new or empty folder", "`notes.md`"]);
    let bundle = dir.join("bundle");
    into(&bundle, &data()).exits(0);
    into(&bundle, &data()).exits(0).says(&["replacing the bundle ", "2 labels) in"]);
}

#[test]
fn bundles_and_captures_that_are_confused_are_told_apart() {
    let dir = scratch("confused");
    let capture = data().join("test/llmnr.pcap.zst");
    let (capture, bundle) = (text(&capture), text(kit::bundle()));
    let run = |bundle: &Path, more: &[&str]| {
        serveflow(&[&["run", capture, "--bundle", text(bundle)], more].concat())
    };
    let swapped = serveflow(&["run", bundle, "--bundle", capture]).exits(1);
    swapped.says(&["expected a bundle", "found a file", "without --bundle"]);
    run(&dir, &[]).exits(1).says(&[
        "expected a bundle",
        "`serveflow train`",
        "a directory without them",
    ]);
    run(&dir.join("nowhere"), &[]).exits(1).says(&["expected a bundle", "found nothing"]);
    let touched = dir.join("touched");
    std::fs::create_dir_all(touched.join("models")).unwrap();
    for name in ["plan.toml", "SHA256SUMS", "drift.json"] {
        // Not every bundle has what tells drift.
        let _ = std::fs::copy(kit::bundle().join(name), touched.join(name));
    }
    for entry in std::fs::read_dir(kit::bundle().join("models")).unwrap() {
        let entry = entry.unwrap();
        let mut bytes = std::fs::read(entry.path()).unwrap();
        bytes.push(b'\n');
        std::fs::write(touched.join("models").join(entry.file_name()), bytes).unwrap();
    }
    run(&touched, &[]).exits(1).says(&["SHA-256: expected", "`serveflow bundle pack` accepts it"]);
    std::fs::remove_file(touched.join("SHA256SUMS")).unwrap();
    run(&touched, &[]).exits(1).says(&["plan.toml without SHA256SUMS", "`serveflow bundle pack`"]);
}

#[test]
fn windows_belong_to_the_bundle() {
    let dir = scratch("window-mistakes");
    let capture = data().join("test/llmnr.pcap.zst");
    let run = ["run", text(&capture), "--bundle", text(kit::bundle())];
    let config = put(dir.join("window.toml"), "[flows]\nwindow_ms = 10000\n");
    let refused = serveflow(&[&run[..], &["--config", text(&config)]].concat()).exits(1);
    refused.says(&["flows.window_ms: expected 0 or nothing, found 10000", "--window-ms"]);
    let wrong = serveflow(&[&run[..], &["--window-ms", "10000"]].concat()).exits(2);
    let wrong = wrong.says(&["--window-ms", "windows belong to the bundle"]);
    assert!(!wrong.err.contains("similar"), "{}", wrong.err);
}

#[test]
fn a_socket_of_no_service_is_named_as_such() {
    let dir = scratch("sockets");
    let nowhere = dir.join("none.sock");
    let left = dir.join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    for socket in [nowhere, left] {
        let asked = serveflow(&["control", "status", "--socket", text(&socket)]).exits(1);
        asked.says(&[&format!("no service at {}", text(&socket)), "service.control"]);
    }
}

#[test]
fn stages_that_are_given_are_all_trained_whatever_the_budget() {
    let dir = scratch("budget");
    let labels = put(dir.join("labels.csv"), some_labels(&["llmnr", "mdns"]));
    let bundle = dir.join("bundle");
    let stages = ["--stages", "tree@1,tree@2,tree@3", "--budget-s", "0", "--no-audit"];
    train(&labels, &data(), &bundle, &stages).exits(0);
    let plan = std::fs::read_to_string(bundle.join("plan.toml")).unwrap();
    for stage in ["tree@1", "tree@2", "tree@3"] {
        assert!(plan.contains(&format!("name = \"{stage}\"")), "{stage}: {plan}");
    }
    // Nothing that is shown of it is cut short.
    let shown = serveflow(&["inspect", text(&bundle)]).exits(0).out;
    for line in shown.lines() {
        let end = line.trim_end();
        assert!(!end.ends_with(" of") && !end.ends_with(':') && end == line, "{line}");
    }
    assert!(shown.contains("learned: escalates if the predicted gain of a later stage"), "{shown}");
    assert!(shown.contains("packets  1, no wait"), "{shown}");
    assert!(shown.contains("packets  2, waits at most 10000 ms"), "{shown}");
}

#[test]
fn a_training_says_what_each_class_has_and_what_is_missing() {
    let dir = scratch("summary");
    let table = changed(|line| {
        if line[LABEL] == "mdns" && line[SPLIT] == "test" {
            line[LABEL] = "late".to_owned();
        }
    });
    let words = ["No training flow has the label `late`"];
    let ran = trained(&dir, &table).exits(0).says(&[&format!("warning: {}", words[0])]);
    let line = ran.err.lines().find(|line| line.starts_with("mdns ")).unwrap_or_default();
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((fields.len(), fields[1], fields[3], fields[5]), (7, "149", "14", "0"), "{line}");
    let bundle = dir.join("bundle");
    for name in ["report.txt", "report.html", "report.json"] {
        let report = std::fs::read_to_string(bundle.join(name)).unwrap();
        let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(report.contains(words[0]), "{name}: {report}");
    }
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["warnings"][0]["kind"], "no_training_flows");
    assert_eq!(report["data"]["classes"][0]["label"], "mdns");
}

#[test]
fn an_interrupted_training_says_that_it_can_be_taken_up_again() {
    let dir = scratch("interrupted");
    let labels = put(dir.join("labels.csv"), some_labels(&["llmnr", "mdns"]));
    let (data, bundle) = (data(), dir.join("bundle"));
    // So many trees take hours.
    let args = ["train", "--captures", text(&data), "--labels", text(&labels), "--out"];
    let more = ["--stages", "forest@5", "--trees", "1000000", "--threads", "1"];
    let mut child = program().args(args).arg(&bundle).args(more).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("mdns  ") {
        let read = said.read_line(&mut text).unwrap();
        assert!(read > 0, "the training ended: {text}");
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    said.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    let pool: PathBuf = bundle.join("pool");
    let words = format!("kept in {}; run the same command again to continue", pool.display());
    assert!(text.contains("interrupted: ") && text.contains(&words), "{text}");
}
