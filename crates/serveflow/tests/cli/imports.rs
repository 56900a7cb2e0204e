//! Imported models that load and would answer wrongly: classes and columns in another order, values
//! that were missing, and answers that are not those of the library.

use super::kit::{Ran, data, put, scratch, serveflow, some_labels, text};
use std::path::{Path, PathBuf};

/// A LightGBM model of two classes, whose columns have no names of ours: the second where `column`
/// is above 65.
fn model(column: usize) -> String {
    let tree = format!(
        "Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature={column}\nthreshold=65\n\
         decision_type=2\nleft_child=-1\n\
         right_child=-2\nleaf_value=-3 3\nis_linear=0\n\n\n"
    );
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=4\n\
         objective=binary sigmoid:1\n\
         feature_names=c0 c1 c2 c3 c4\ntree_sizes={}\n\n{tree}end of trees\n",
        tree.len()
    )
}

/// Of a packet's series, sizes are the first column.
const SIZE: usize = 0;
const SIZE_REVERSED: usize = 4;

struct Bench {
    dir: PathBuf,
    labels: PathBuf,
}

impl Bench {
    /// First packets of DNS are larger than those of HTTP, which open a connection.
    fn new(name: &str) -> Self {
        let dir = scratch(name);
        let labels = put(dir.join("labels.csv"), some_labels(&["dns", "http"]));
        Self { dir, labels }
    }

    /// `bundle add` of a stage that sees one packet's series, to a bundle of its own.
    fn add(&self, model: String, more: &[&str]) -> Ran {
        let model = put(self.dir.join("model.txt"), model);
        let (bundle, data) = (self.dir.join("bundle"), data());
        let _ = std::fs::remove_dir_all(&bundle);
        let args = ["bundle", "add", text(&bundle), "--stage", "m@1", "--model", text(&model)];
        let series = ["--packets", "1", "--features", "packet_series"];
        let labelled = ["--captures", text(&data), "--labels", text(&self.labels)];
        serveflow(&[&args[..], &series, &labelled, more].concat())
    }

    /// The table of features of the labelled flows: its header and its lines.
    fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let labels = std::fs::read(&self.labels).unwrap();
        // Captures of a table are looked for beside it.
        let (data, out) = (data(), self.dir.join("table.csv"));
        let beside = self.dir.join("data");
        let _ = std::os::unix::fs::symlink(&data, &beside);
        let table = String::from_utf8(labels).unwrap();
        let (header, rest) = table.split_once('\n').unwrap();
        let lines: String = rest.lines().map(|line| format!("data/{line}\n")).collect();
        let labels = put(self.dir.join("beside.csv"), format!("{header}\n{lines}"));
        let args = ["features", text(&beside), "--labels", text(&labels), "--out", text(&out)];
        let series = ["--packets", "1", "--features", "packet_series"];
        serveflow(&[&args[..], &series].concat()).exits(0);
        let text = std::fs::read_to_string(out).unwrap();
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect());
        (lines.next().unwrap(), lines.collect())
    }
}

const RIGHT: [&str; 2] = ["--classes", "http,dns"];

#[test]
fn labels_that_are_numbers_need_their_order() {
    let bench = Bench::new("import-numbers");
    let table = std::fs::read_to_string(&bench.labels).unwrap();
    let numbers = |http: &str, dns: &str| {
        put(
            bench.labels.clone(),
            table.replace(",http,", &format!(",{http},")).replace(",dns,", &format!(",{dns},")),
        );
    };
    // As text, 10 stands before 9.
    numbers("9", "10");
    let refused = bench.add(model(SIZE), &[]).exits(1);
    refused.says(&["model.txt", "--classes 9,10", "--classes 10,9"]);
    let taken = bench.add(model(SIZE), &["--classes", "9,10"]).exits(0);
    taken.says(&["0 = 9, 1 = 10", "by --classes", "accuracy"]);
    // Where both orders agree, nothing needs to be said.
    numbers("1", "2");
    let taken = bench.add(model(SIZE), &[]).exits(0);
    taken.says(&["0 = 1, 1 = 2", "the model file names none"]);
    numbers("-2", "-1");
    bench.add(model(SIZE), &[]).exits(1).says(&["--classes -2,-1", "--classes -1,-2"]);
    bench.add(model(SIZE), &["--classes", "-2,-1"]).exits(0).says(&["0 = -2, 1 = -1"]);
}

#[test]
fn another_order_of_classes_is_found() {
    let bench = Bench::new("import-classes");
    let taken = bench.add(model(SIZE), &RIGHT).exits(0);
    taken.says(&["0 = http, 1 = dns", "accuracy 0.7", "macro-F1"]);
    let turned = ["--classes", "dns,http"];
    let refused = bench.add(model(SIZE), &turned).exits(1);
    refused.says(&["model.txt", "another order of classes", "--classes http,dns", "--accept"]);
    assert!(!bench.dir.join("bundle").exists());
    let accepted = bench.add(model(SIZE), &[&turned[..], &["--accept"]].concat()).exits(0);
    accepted.says(&["accepted", "--classes http,dns"]);
    // Without --classes they are in the order of their text.
    bench.add(model(SIZE), &[]).exits(1).says(&["0 = dns, 1 = http", "--classes http,dns"]);
}

#[test]
fn another_order_of_columns_is_found() {
    let bench = Bench::new("import-columns");
    let refused = bench.add(model(SIZE_REVERSED), &RIGHT).exits(1);
    refused.says(&["columns in reverse", "far better", "--columns"]);
    let names = "payload\ntcp_flags\ndirection\ngap_us\nsize\n";
    let names = put(bench.dir.join("names.txt"), names);
    let columns = [&RIGHT[..], &["--columns", text(&names)]].concat();
    bench.add(model(SIZE_REVERSED), &columns).exits(0);
}

/// What the library says of a flow whose first packet has this size: http and dns.
fn answer(size: &str) -> [f64; 2] {
    let dns = 1.0 / (1.0 + if size.parse::<f64>().unwrap() > 65.0 { -3.0_f64 } else { 3.0 }.exp());
    [1.0 - dns, dns]
}

#[test]
fn an_import_is_held_to_the_answers_of_its_library() {
    let bench = Bench::new("import-expect");
    let (header, lines) = bench.table();
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let keys: Vec<usize> =
        ["src", "src_port", "dst", "dst_port", "proto", "first_ts"].map(at).to_vec();
    let write = |keys: &[usize], lines: &mut dyn Iterator<Item = (&Vec<String>, [f64; 2])>| {
        let head: Vec<&str> = keys.iter().map(|&key| header[key].as_str()).collect();
        let mut text = [&head[..], &["p_http", "p_dns"]].concat().join(",") + "\n";
        for (line, [http, dns]) in lines {
            let mut cells: Vec<String> = keys.iter().map(|&key| line[key].clone()).collect();
            cells.extend([http.to_string(), dns.to_string()]);
            text += &(cells.join(",") + "\n");
        }
        put(bench.dir.join("expected.csv"), text)
    };
    let answered = || lines.iter().map(|line| (line, answer(&line[at("size")])));
    let hold = |path: &Path, more: &[&str]| {
        bench.add(model(SIZE), &[&RIGHT[..], &["--expect", text(path)], more].concat())
    };
    // By flow, in any order and as a part of them, and by the order of all.
    let path = write(&keys, &mut answered().rev().skip(7));
    hold(&path, &[]).exits(0).says(&["compared with", "2 classes", "7 flows are not in it"]);
    let path = write(&[], &mut answered());
    hold(&path, &[]).exits(0).says(&["compared with", &format!("{} rows", lines.len())]);
    let path = write(&[], &mut answered().skip(1));
    hold(&path, &[]).exits(1).says(&["expected.csv", "a row for each of", "found"]);
    // What says nothing holds nothing.
    for keys in [&keys[..], &[]] {
        let path = write(keys, &mut answered().take(0));
        let refused = hold(&path, &[]).exits(1);
        refused.says(&["expected.csv", "expected rows of the exported flows, found none"]);
    }
    // One answer that is another.
    let spoiled = |(row, (line, [http, dns])): (usize, (_, [f64; 2]))| match row {
        20 => (line, [http + 0.01, dns - 0.01]),
        _ => (line, [http, dns]),
    };
    let path = write(&keys, &mut answered().enumerate().map(spoiled));
    let refused = hold(&path, &[]).exits(1);
    refused.says(&["row 21", "class `http`", "expected 0.", "found 0.", "1 of", "--tolerance"]);
    hold(&path, &["--tolerance", "0.02"]).exits(0);
    // A model of other columns, whatever the calibration flows say.
    let path = write(&keys, &mut answered());
    let reversed = [&RIGHT[..], &["--accept", "--expect", text(&path)]].concat();
    bench.add(model(SIZE_REVERSED), &reversed).exits(1).says(&["expected.csv", "row 1 "]);
    // A flow that is none, one that is there twice, a class that is none, and no numbers.
    for (from, to, words) in [
        (lines[3][keys[5]].as_str(), "17.5", "17.5"),
        ("p_http", "p_teapot", "p_http"),
        ("p_http,p_dns\n", "p_http,p_tea\n", "p_dns"),
        (",src_port,", ",port,", "src_port"),
    ] {
        let path = write(&keys, &mut answered());
        let table = std::fs::read_to_string(&path).unwrap().replacen(from, to, 1);
        put(path.clone(), table);
        hold(&path, &[]).exits(1).says(&["expected.csv", words]);
    }
}

#[test]
fn what_was_missing_is_kept_in_the_bundle() {
    let bench = Bench::new("import-missing");
    let taken = bench.add(model(SIZE), &[&RIGHT[..], &["--missing", "zero"]].concat());
    taken.exits(0);
    let bundle = bench.dir.join("bundle");
    let plan = std::fs::read_to_string(bundle.join("plan.toml")).unwrap();
    assert!(plan.contains("missing = 0.0"), "{plan}");
    let told = serveflow(&["inspect", text(&bundle)]).exits(0);
    assert!(told.out.contains("missing  the value 0"), "{}", told.out);
    let odd = bench.add(model(SIZE), &[&RIGHT[..], &["--missing", "nan"]].concat());
    odd.exits(2).says(&["--missing", "`zero` or a finite number"]);
    bench.add(model(SIZE), &[&RIGHT[..], &["--missing", "-1"]].concat()).exits(0);
}

/// A pipe that nobody writes to does not keep the command waiting.
#[test]
fn a_model_that_is_a_pipe_is_refused_at_once() {
    let dir = scratch("import-fifo");
    let (fifo, bundle) = (dir.join("model.txt"), dir.join("bundle"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let args = ["bundle", "add", text(&bundle), "--stage", "m@1", "--model", text(&fifo)];
    serveflow(&args).exits(1).says(&[text(&fifo), "expected a regular file, found a FIFO"]);
    assert!(!bundle.exists());
}
