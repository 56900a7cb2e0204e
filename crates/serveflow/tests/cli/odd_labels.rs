//! Labels that are odd: few, strange, missing, or from a capture's comments.

use super::kit::{self, data, pcapng, put, scratch, serveflow, some_labels, text, train};
use serde_json::Value;
use std::path::Path;

fn evaluate(bundle: &Path, captures: &Path, labels: &[&str]) -> kit::Ran {
    let mut args = vec!["evaluate", "--bundle", text(bundle), "--captures", text(captures)];
    args.extend(labels);
    serveflow(&args)
}

/// A table without the lines that `keep` refuses, given a line's fields.
fn lines(table: &str, mut keep: impl FnMut(&[&str]) -> bool) -> String {
    let keep =
        |(index, line): &(usize, &str)| *index == 0 || keep(&line.split(',').collect::<Vec<_>>());
    let kept: Vec<&str> = table.lines().enumerate().filter(keep).map(|(_, line)| line).collect();
    kept.join("\n") + "\n"
}

#[test]
fn a_label_that_training_never_sees_is_a_class_all_the_same() {
    let dir = scratch("late-label");
    let table = some_labels(&["llmnr", "mdns"]).replace(",test,mdns,", ",test,late,");
    let labels = put(dir.join("labels.csv"), table);
    let bundle = dir.join("bundle");
    train(&labels, &data(), &bundle, &["--class-weights", "balanced"]).exits(0);
    evaluate(&bundle, &data(), &["--labels", text(&labels)]).exits(0);
    // A bundle that does not know the class says so.
    let known = put(dir.join("known.csv"), some_labels(&["llmnr", "mdns"]));
    train(&known, &data(), &bundle, &[]).exits(0);
    let ran = evaluate(&bundle, &data(), &["--labels", text(&labels)]).exits(1);
    assert!(ran.err.contains("`late`") && ran.err.contains("llmnr, mdns"), "{}", ran.err);
}

#[test]
fn splits_of_one_flow_do_and_of_none_are_refused() {
    let dir = scratch("few");
    let table = some_labels(&["llmnr", "mdns"]);
    let mut val = 0;
    let one = lines(&table, |fields| fields[1] != "val" || std::mem::replace(&mut val, 1) == 0);
    let labels = put(dir.join("one.csv"), one);
    let stages =
        ["--stages", "tree@1,tree@1,boosted@1,forest@2,boosted@5,boosted@5", "--trees", "3"];
    let twice = train(&labels, &data(), &dir.join("bundle"), &stages).exits(1);
    assert!(twice.err.contains("expected tree@1 once, found it twice"), "{}", twice.err);
    let by_gate = ["--uncertainty", "entropy", "--no-audit"];
    let twice = train(&labels, &data(), &dir.join("bundle"), &[&stages[..], &by_gate].concat());
    twice.exits(1).says(&["expected tree@1 once, found it twice"]);
    let stages = ["--stages", "tree@1,boosted@1,forest@2,boosted@5", "--trees", "3"];
    let stages = [&stages[..], &by_gate].concat();
    train(&labels, &data(), &dir.join("bundle"), &stages).exits(0);
    evaluate(&dir.join("bundle"), &data(), &["--labels", text(&labels)]).exits(0);
    for split in ["train", "val"] {
        let labels = put(dir.join("none.csv"), lines(&table, |fields| fields[1] != split));
        let ran = train(&labels, &data(), &dir.join("bundle"), &[]).exits(1);
        assert!(ran.err.contains(&format!("`{split}`")), "{}", ran.err);
    }
    let labels = put(dir.join("untested.csv"), lines(&table, |fields| fields[1] != "test"));
    let ran = evaluate(&dir.join("bundle"), &data(), &["--labels", text(&labels)]).exits(1);
    assert!(ran.err.contains("`test`"), "{}", ran.err);
}

#[test]
fn a_capture_that_is_missing_is_damage_and_the_rest_is_used() {
    let dir = scratch("missing");
    let table = some_labels(&["llmnr", "mdns"]);
    let gone = table.lines().nth(1).unwrap().replacen("llmnr.pcap.zst", "gone.pcap", 1);
    assert!(gone.starts_with("test/gone.pcap,"), "{gone}");
    let labels = put(dir.join("labels.csv"), format!("{table}{gone}\n"));
    let ran = train(&labels, &data(), &dir.join("bundle"), &[]).exits(3);
    assert!(ran.err.contains("damaged: cannot open") && ran.err.contains("1 listed but not met"));
    let ran = evaluate(&dir.join("bundle"), &data(), &["--labels", text(&labels)]).exits(3);
    assert!(ran.err.contains("gone.pcap") && ran.out.contains("1 listed but not met"));
}

#[test]
fn any_text_may_be_a_label() {
    let dir = scratch("unicode");
    let odd = "nt\"p, \u{fc}\u{1f980}\n= [x] 'a.b' \\";
    let quoted = format!("\"{}\"", odd.replace('"', "\"\""));
    let table = some_labels(&["llmnr", "mdns"]).replace(",mdns,17,", &format!(",{quoted},17,"));
    let labels = put(dir.join("labels.csv"), table);
    let bundle = dir.join("bundle");
    train(&labels, &data(), &bundle, &[]).exits(0);
    let json = dir.join("evaluation.json");
    evaluate(&bundle, &data(), &["--labels", text(&labels), "--json", text(&json)]).exits(0);
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(report["classes"][1]["label"], odd);
    let capture = data().join("test/mdns.pcap.zst");
    let ran = serveflow(&["run", text(&capture), "--bundle", text(&bundle)]).exits(0);
    assert!(ran.verdicts().iter().any(|verdict| verdict["label"] == odd));
    let ran = serveflow(&["run", text(&capture), "--bundle", text(&bundle), "--format", "csv"]);
    assert!(ran.exits(0).out.contains(&quoted));
}

#[test]
fn tables_are_refused_with_line_and_column() {
    let dir = scratch("tables");
    let table = some_labels(&["llmnr"]);
    let bad = table.replacen(",17,", ",tls,", 1);
    let words =
        ["bad.csv: line 2: proto: expected an IP protocol number or tcp, udp, ", "found `tls`"];
    let labels = put(dir.join("bad.csv"), bad);
    train(&labels, &data(), &dir.join("bundle"), &[]).exits(1).says(&words);
    evaluate(kit::bundle(), &data(), &["--labels", text(&labels)]).exits(1).says(&words);
    let headless =
        put(dir.join("headless.csv"), lines(&table, |_| true).replacen("label", "name", 1));
    train(&headless, &data(), &dir.join("bundle"), &[]).exits(1).says(&["line 1", "`label`"]);
    for labels_from in ["path", "pcapml"] {
        let args = ["train", "--captures", "x", "--out", "y", "--labels", "z", "--labels-from"];
        let args: Vec<&str> = args.into_iter().chain([labels_from]).collect();
        serveflow(&args).exits(2);
    }
}

#[test]
fn folders_and_comments_label_as_well() {
    let dir = scratch("folders");
    let captures = dir.join("captures");
    for label in ["llmnr", "mdns"] {
        let folder = captures.join(label);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(data().join(format!("train/{label}.pcap.zst")), folder.join("a.pcap.zst"))
            .unwrap();
    }
    put(captures.join("README.md"), "no capture");
    let bundle = dir.join("bundle");
    let args = ["train", "--captures", text(&captures), "--out", text(&bundle), "--rounds", "2"];
    serveflow(&args).exits(0).says(&["with 2 labels", " 0 unlabelled, 0 listed but not met"]);
    let ran = evaluate(&bundle, &captures, &[]).exits(0);
    assert!(ran.out.contains("0 listed but not met"));

    let comments = scratch("comments");
    let mut frames = Vec::new();
    for (number, label) in ["llmnr", "mdns"].into_iter().enumerate() {
        let mut more = kit::sample_frames(&format!("train/{label}.pcap.zst"));
        more.iter_mut().for_each(|frame| frame.note = Some(format!("{number},{label}")));
        frames.append(&mut more);
    }
    put(comments.join("a.pcapng"), pcapng(&frames));
    let from = ["--labels-from", "pcapml"];
    let args = ["train", "--captures", text(&comments), "--out", text(&bundle), "--rounds", "2"];
    let args: Vec<&str> = args.into_iter().chain(from).collect();
    serveflow(&args).exits(0).says(&["with 2 labels", " 0 unlabelled, 0 listed but not met"]);
    let ran = evaluate(&bundle, &comments, &from).exits(0);
    assert!(ran.out.contains("0 listed but not met"));
}
