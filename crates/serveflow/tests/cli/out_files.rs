//! Files that `run` and `features` write: what is there stays unless told otherwise, and the format
//! is that of the ending.

use super::kit::{self, Ran, data, put, run, scratch, serveflow, text};
use std::path::{Path, PathBuf};

fn capture() -> PathBuf {
    data().join("test/llmnr.pcap.zst")
}

fn to(out: &Path, more: &[&str]) -> Ran {
    let mut args = vec!["--out", text(out)];
    args.extend(more);
    run(&[&capture()], &args)
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_file_that_is_there_is_kept_added_to_or_emptied_by_word() {
    for (name, heading) in [("v.jsonl", 0), ("v.csv", 1)] {
        let out = scratch("kept").join(name);
        let flows = to(&out, &[]).exits(0).account("flows:")[0] as usize;
        assert_eq!(lines(&out), flows + heading);
        let before = std::fs::read(&out).unwrap();
        to(&out, &[]).exits(1).says(&[name, "--append", "--overwrite"]);
        assert_eq!(std::fs::read(&out).unwrap(), before);
        to(&out, &["--append"]).exits(0);
        assert_eq!(lines(&out), 2 * flows + heading, "one heading");
        // What a process left behind that was killed.
        let mut cut = std::fs::read(&out).unwrap();
        cut.truncate(cut.len() - 5);
        std::fs::write(&out, cut).unwrap();
        to(&out, &["--append"]).exits(0);
        assert_eq!(lines(&out), 3 * flows + heading);
        to(&out, &["--overwrite"]).exits(0);
        assert_eq!(lines(&out), flows + heading);
    }
    let empty = put(scratch("kept-empty").join("v.jsonl"), "");
    to(&empty, &[]).exits(0);
}

#[test]
fn a_start_that_is_refused_leaves_the_file_as_it_is() {
    let dir = scratch("refused");
    let out = put(dir.join("v.jsonl"), "precious\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("metrics = \"{}\"\n", taken.local_addr().unwrap());
    let cases = [
        ("[service]\n".to_owned() + &metrics, "in use"),
        ("[service]\ncontrol = \"/nonexistent/socket\"\n".to_owned(), "service.control"),
        ("[output]\nformat = \"xml\"\n".to_owned(), "output.format"),
    ];
    for (config, word) in cases {
        let config = put(dir.join("serveflow.toml"), config);
        for how in ["--append", "--overwrite"] {
            to(&out, &[how, "--config", text(&config)]).exits(1).says(&[word]);
            assert_eq!(std::fs::read(&out).unwrap(), b"precious\n");
        }
    }
    let bundle = dir.join("none");
    let capture = capture();
    let line = ["run", text(&capture), "--bundle", text(&bundle), "--out", text(&out)];
    serveflow(&[&line[..], &["--overwrite"]].concat()).exits(1);
    // Verdicts behind something else would make a file that nothing reads.
    to(&out, &["--append"]).exits(1).says(&["format", "another beginning"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"precious\n");
}

#[test]
fn the_format_is_that_of_the_ending_unless_it_is_stated() {
    let dir = scratch("endings");
    for (name, first) in [
        ("v.csv", "flow,"),
        ("v.CSV", "flow,"),
        ("v.jsonl", "{"),
        ("v.ndjson", "{"),
        ("v.json", "{"),
        ("v.log", "{"),
        ("v", "{"),
    ] {
        let out = dir.join(name);
        to(&out, &[]).exits(0);
        assert!(std::fs::read_to_string(&out).unwrap().starts_with(first), "{name}");
    }
    to(&dir.join("w.txt"), &["--format", "csv"]).exits(0);
    assert!(std::fs::read_to_string(dir.join("w.txt")).unwrap().starts_with("flow,"));
    for (name, format) in [("x.jsonl", "csv"), ("x.csv", "json")] {
        let out = dir.join(name);
        to(&out, &["--format", format]).exits(1).says(&["--format", format, name]);
        assert!(!out.exists());
    }
    to(&dir.join("x.parquet"), &[]).exits(1).says(&[".parquet", "json or csv"]);
    let config = put(dir.join("serveflow.toml"), "[output]\nformat = \"csv\"\n");
    to(&dir.join("y.jsonl"), &["--config", text(&config)]).exits(1).says(&["output.format", "csv"]);
}

/// Runs the program by a shell, which closes or limits something first.
fn by_shell(before: &str, args: &[&str], after: &str) -> Ran {
    let mut line = vec!["-c".to_owned(), format!("{before} exec \"$0\" \"$@\" {after}")];
    line.push(env!("CARGO_BIN_EXE_serveflow").to_owned());
    line.extend(args.iter().map(|&arg| arg.to_owned()));
    let output = std::process::Command::new("sh").args(line).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = output.status.code().expect("no signal ended it");
    Ran { code, out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn an_output_that_is_closed_or_may_not_grow_is_an_error_that_counts() {
    let bundle = text(kit::bundle());
    let capture = data().join("test/dns.pcap.zst");
    let args = ["run", text(&capture), "--bundle", bundle];
    by_shell("", &args, ">&-").exits(1).says(&["standard output", "closed"]);
    by_shell("", &["completions", "bash"], ">&-").exits(1).says(&["standard output", "closed"]);
    let out = scratch("limited").join("v.jsonl");
    let limited = [&args[..], &["--out", text(&out)]].concat();
    let ran = by_shell("ulimit -f 40;", &limited, "").exits(1);
    let whole = std::fs::read_to_string(&out).unwrap();
    assert!(whole.ends_with("}\n"), "whole lines");
    let counts = format!("{} were written", whole.lines().count());
    ran.says(&["v.jsonl: cannot write verdicts", &counts]);
}

#[test]
fn tables_of_features_follow_the_same_rules() {
    let dir = scratch("tables");
    let table = |name: &str, more: &[&str]| {
        let (capture, out) = (capture(), dir.join(name));
        let args = ["features", text(&capture), "--out", text(&out)];
        serveflow(&[&args[..], more].concat())
    };
    for (name, start) in [("a.parquet", b"PAR1"), ("a.csv", b"src,"), ("a", b"src,")] {
        table(name, &[]).exits(0);
        let before = std::fs::read(dir.join(name)).unwrap();
        assert!(before.starts_with(start), "{name}");
        table(name, &["--packets", "2"]).exits(1).says(&[name, "--overwrite"]);
        assert_eq!(std::fs::read(dir.join(name)).unwrap(), before);
        table(name, &["--packets", "2", "--overwrite"]).exits(0);
        assert_ne!(std::fs::read(dir.join(name)).unwrap(), before);
    }
    table("b.csv", &["--format", "parquet"]).exits(1).says(&["--format parquet", "b.csv"]);
    table("b.parquet", &["--format", "csv"]).exits(1).says(&["--format csv", "b.parquet"]);
    assert!(!dir.join("b.csv").exists() && !dir.join("b.parquet").exists());
}

#[test]
fn a_report_replaces_a_report_and_nothing_else() {
    let dir = scratch("report-files");
    let capture = put(dir.join("a.pcap"), std::fs::read(data().join("labels.csv")).unwrap());
    let table = put(dir.join("labels.csv"), "file,label\n");
    let bundle = dir.join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let sums = put(bundle.join("SHA256SUMS"), "x");
    let model = put(bundle.join("model.json"), "{}");
    for path in [&capture, &table, &sums, &model] {
        let before = std::fs::read(path).unwrap();
        for command in ["evaluate", "bench"] {
            let mut args = vec![command];
            match command {
                "bench" => args.extend(["packets", text(&capture)]),
                _ => args.extend(["--bundle", text(&bundle), "--captures", text(&dir)]),
            }
            let labels = ["--labels", text(&table)];
            args.extend(labels.into_iter().filter(|_| command == "evaluate"));
            args.extend(["--json", text(path)]);
            let words = "expected a new file or a report to replace, found ";
            serveflow(&args).exits(1).says(&[words, text(path)]);
            assert_eq!(std::fs::read(path).unwrap(), before, "{args:?}");
        }
    }
    let report = put(dir.join("old.json"), "{ \"schema\": 1 }");
    let capture = data().join("test/nbns.pcap.zst");
    for path in [report, dir.join("new.json")] {
        let args = ["bench", "packets", text(&capture), "--rounds", "1", "--json", text(&path)];
        serveflow(&args).exits(0);
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains("serveflow-bench"), "{written}");
    }
}

/// Each output of each command, under each ending that says compression.
#[test]
fn no_plain_text_has_a_compressed_name() {
    let dir = scratch("compressed");
    let (capture, bundle) = (capture(), kit::bundle());
    let commands: [(&str, Vec<&str>); 5] = [
        ("--out", vec!["run", text(&capture), "--bundle", text(bundle)]),
        ("--out", vec!["run", text(&capture), "--bundle", text(bundle), "--format", "csv"]),
        ("--out", vec!["features", text(&capture)]),
        ("--out", vec!["features", text(&capture), "--format", "parquet"]),
        ("--json", vec!["bench", "packets", text(&capture), "--rounds", "1"]),
    ];
    for ending in ["csv.gz", "jsonl.zst", "json.ZST", "csv.bz2", "parquet.xz", "Z", "zip"] {
        let out = dir.join(format!("v.{ending}"));
        for (option, command) in &commands {
            let line = [command.as_slice(), &[option, text(&out)]].concat();
            let word = ending.rsplit('.').next().unwrap().to_lowercase();
            let word = format!("with the ending .{word}");
            serveflow(&line).exits(1).says(&["not compressed", text(&out), &word]);
            assert!(!out.exists(), "{line:?}");
        }
    }
    // Nothing is written, so nothing is wrong.
    to(&dir.join("v.csv.gz"), &["--format", "null"]).exits(0);
    // An ending is what stands last.
    to(&dir.join("v.gz.csv"), &[]).exits(0);
}

/// `check --out` refuses what `run --out` refuses, with its words, and leaves nothing behind.
#[test]
fn check_tries_the_output_as_run_does() {
    let dir = scratch("check-out");
    let taken = put(dir.join("taken.jsonl"), "precious\n");
    let rotated = put(dir.join("rotated.toml"), "[output]\nrotate_mb = 1\n");
    let plain = put(dir.join("plain.toml"), "");
    let fifo = dir.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (out, config, words) in [
        (taken.as_path(), &plain, "expected"),
        (&dir.join("v.csv.gz"), &plain, "not compressed"),
        (&dir.join("v.parquet"), &plain, ".parquet"),
        (&dir.join("none/v.jsonl"), &plain, "No such file"),
        (&fifo, &rotated, "expected a regular file to rotate"),
    ] {
        let args = ["--out", text(out), "--config", text(config)];
        let bundle = ["check", "--bundle", text(kit::bundle())];
        let checked = serveflow(&[&bundle[..], &args].concat()).exits(1).says(&[words]);
        let ran = run(&[&capture()], &args).exits(1).says(&[words]);
        assert_eq!(checked.err.lines().last(), ran.err.lines().last());
    }
    assert_eq!(std::fs::read(&taken).unwrap(), b"precious\n");
    let new = dir.join("new.jsonl");
    serveflow(&["check", "--bundle", text(kit::bundle()), "--out", text(&new)]).exits(0);
    assert!(!new.exists());
}
