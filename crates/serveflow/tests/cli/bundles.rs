//! Bundles put together by hand: columns go where they are named, and what does not match is
//! refused by name.

use super::kit::{Ran, data, put, scratch, serveflow, some_labels, text, train};
use std::path::{Path, PathBuf};

/// A LightGBM model of two classes: the second where `column` is above `threshold`.
fn model(columns: &str, column: usize, threshold: &str) -> String {
    let count = columns.split(' ').count();
    let tree = format!(
        "Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature={column}\nthreshold={threshold}\n\
         decision_type=2\nleft_child=-1\nright_child=-2\nleaf_value=-3 3\nis_linear=0\n\n\n"
    );
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx={}\n\
         objective=binary sigmoid:1\n\
         feature_names={columns}\ntree_sizes={}\n\n{tree}end of trees\n",
        count - 1,
        tree.len()
    )
}

/// The columns of one packet's series, in another order than that of the features.
const COLUMNS: &str = "payload direction size gap_us tcp_flags";

struct Bench {
    dir: PathBuf,
    labels: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let dir = scratch(name);
        let labels = put(dir.join("labels.csv"), some_labels(&["dns", "http"]));
        Self { dir, labels }
    }

    fn model(&self, name: &str, text: String) -> PathBuf {
        put(self.dir.join(name), text)
    }

    /// `bundle add` of a stage that sees one packet's series.
    fn add(&self, stage: &str, model: &Path, more: &[&str]) -> Ran {
        let bundle = self.dir.join("bundle");
        let args = ["bundle", "add", text(&bundle), "--stage", stage, "--model", text(model)];
        serveflow(&[&args[..], more].concat())
    }

    fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }
}

const SERIES: [&str; 4] = ["--packets", "1", "--features", "packet_series"];

#[test]
fn a_model_is_bound_by_its_names_and_answers() {
    let bench = Bench::new("bundle-names");
    let model = bench.model("model.txt", model(COLUMNS, 2, "70"));
    let classes = ["--classes", "dns,http"];
    bench.add("size@1", &model, &[&SERIES[..], &classes].concat()).exits(0);
    let bundle = bench.bundle();
    let checked = serveflow(&["bundle", "check", text(&bundle)]).exits(0);
    assert!(checked.out.contains("size@1") && checked.out.contains("lightgbm"), "{}", checked.out);
    let capture = data().join("test/dns.pcap.zst");
    let ran = serveflow(&["run", text(&capture), "--bundle", text(&bundle)]).exits(0);
    let verdicts = ran.verdicts();
    assert!(verdicts.len() > 10);
    let table = bench.dir.join("table.csv");
    let features =
        ["features", text(&capture), "--features", "packet_series", "--out", text(&table)];
    serveflow(&features).exits(0);
    let written = std::fs::read_to_string(table).unwrap();
    let mut lines = written.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let size = head.iter().position(|name| *name == "size").unwrap();
    let expected: Vec<bool> = lines.map(|line| line[size].parse::<f32>().unwrap() > 70.0).collect();
    let found: Vec<bool> = verdicts.iter().map(|verdict| verdict["label"] == "http").collect();
    assert_eq!(found, expected);
    assert!(found.contains(&true) && found.contains(&false));
}

#[test]
fn what_does_not_match_is_refused_by_name_and_leaves_no_bundle() {
    let bench = Bench::new("bundle-refused");
    let good = bench.model("model.txt", model(COLUMNS, 2, "70"));
    let classes = [&SERIES[..], &["--classes", "dns,http"]].concat();
    let odd = bench.model("odd.txt", model("payload direction size gap_us teapot", 2, "70"));
    bench
        .add("a", &odd, &classes)
        .exits(1)
        .says(&["column 4, `teapot`", "none of the stage's features"]);
    // Without names of ours, the order rules, and the first column without a counterpart is named.
    let few = bench.model("few.txt", model("Column_0 Column_1 Column_2", 2, "70"));
    bench.add("a", &few, &classes).exits(1).says(&["takes 3 columns", "has 5", "`tcp_flags`"]);
    let many = bench.model("many.txt", model("c0 c1 c2 c3 c4 c5", 2, "70"));
    bench.add("a", &many, &classes).exits(1).says(&["takes 6 columns", "`payload`", "column 5"]);
    let twice = put(bench.dir.join("twice.txt"), "size\nsize\ngap_us\ndirection\npayload\n");
    let columns = ["--columns", text(&twice)];
    bench.add("a", &few, &[&classes[..], &columns].concat()).exits(1).says(&["takes 3", "has 5"]);
    let five = bench.model("five.txt", model("c0 c1 c2 c3 c4", 2, "70"));
    let ran = bench.add("a", &five, &[&classes[..], &columns].concat()).exits(1);
    ran.says(&["column 1, `size`", "twice"]);
    bench.add("a", &good, &SERIES).exits(1).says(&["expected labels", "--classes"]);
    bench
        .add("a", &good, &["--classes", "dns,http"])
        .exits(1)
        .says(&["--packets for a new one", "`a`"]);
    let three = [&SERIES[..], &["--classes", "dns,http,tls"]].concat();
    bench.add("a", &good, &three).exits(1).says(&["3 labels", "2 classes"]);
    let noise = bench.model("noise.bin", "nothing".to_owned());
    bench.add("a", &noise, &classes).exits(1).says(&["noise.bin", "lightgbm", "--format"]);
    let broken = bench.model("broken.txt", model(COLUMNS, 2, "x"));
    bench.add("a", &broken, &classes).exits(1).says(&["broken.txt", "tree 0", "`threshold`"]);
    assert!(!bench.bundle().join("plan.toml").exists());
}

#[test]
fn gates_are_calibrated_when_a_second_stage_joins() {
    let bench = Bench::new("bundle-gates");
    let fast = bench.model("fast.txt", model(COLUMNS, 2, "70"));
    let slow = bench.model("slow.txt", model("pkt2_payload pkt1_size pkt1_payload", 1, "90"));
    bench.add("fast@1", &fast, &[&SERIES[..], &["--classes", "dns,http"]].concat()).exits(0);
    let deeper = ["--packets", "2", "--features", "packet_series"];
    bench.add("slow@2", &slow, &deeper).exits(1).says(&["`fast@1`", "gate", "--captures"]);
    let data = data();
    // The models are no good ones, whatever the order of their classes.
    let labelled = ["--captures", text(&data), "--labels", text(&bench.labels), "--accept"];
    let names = put(bench.dir.join("names.txt"), "pkt2_payload\npkt1_size\npkt1_payload\n");
    let columns = ["--columns", text(&names)];
    let ran = bench.add("slow@2", &slow, &[&deeper[..], &labelled, &columns].concat());
    ran.exits(0).says(&["calibration flows", "fast@1", "slow@2"]);
    let bundle = bench.bundle();
    let plan = std::fs::read_to_string(bundle.join("plan.toml")).unwrap();
    let plan: toml::Table = plan.parse().unwrap();
    let stages = plan["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    assert!(stages[0]["gate"]["calibration"]["flows"].as_integer().unwrap() > 50);
    assert!(stages[1].get("gate").is_none() && stages[1].get("cost").is_some());
    let args = ["evaluate", "--bundle", text(&bundle), "--split", "val"];
    serveflow(&[&args[..], &labelled[..4]].concat()).exits(0);
    // The fast model is replaced: its gate knew the old one.
    bench.add("fast@1", &slow, &columns).exits(1).says(&["`fast@1`", "gate", "replaced"]);
}

#[test]
fn a_plan_with_degradation_levels_takes_another_stage_and_another_model() {
    let bench = Bench::new("bundle-degradation");
    let (data, bundle) = (data(), bench.bundle());
    // Labels that one packet does not tell apart, or there is nothing to escalate less of.
    put(bench.labels.clone(), some_labels(&["http", "tls"]));
    let has_levels = || {
        let plan = std::fs::read_to_string(bundle.join("plan.toml")).unwrap();
        plan.parse::<toml::Table>().unwrap().contains_key("degradation")
    };
    let stages = ["--stages", "tree@1,boosted@3", "--escalate", "0.4", "--no-audit"];
    let fast = bench.model("fast.txt", model(COLUMNS, 2, "70"));
    // The model is no good one, whatever the order of its classes.
    let labelled = ["--captures", text(&data), "--labels", text(&bench.labels), "--accept"];
    let more = [&SERIES[..], &labelled].concat();
    for rule in ["learned", "margin"] {
        let by = [&stages[..], &["--rule", rule]].concat();
        train(&bench.labels, &data, &bundle, &by).exits(0);
        assert!(has_levels(), "{rule}");
        // Another stage: the levels have numbers for one gate, and there are two.
        bench.add("size@1", &fast, &more).exits(0);
        assert!(!has_levels(), "{rule}");
        train(&bench.labels, &data, &bundle, &by).exits(0);
        // Another model: the levels belong to the gate of the one that is replaced.
        bench.add("tree@1", &fast, &more).exits(0);
        assert!(!has_levels(), "{rule}");
        serveflow(&["bundle", "check", text(&bundle)]).exits(0);
    }
}

#[test]
fn stages_whose_names_are_alike_keep_their_files() {
    let bench = Bench::new("bundle-alike");
    let fast = bench.model("fast.txt", model(COLUMNS, 2, "70"));
    let other = bench.model("other.txt", model(COLUMNS, 2, "1000"));
    let data = data();
    // The models are no good ones, whatever the order of their classes.
    let labelled = ["--captures", text(&data), "--labels", text(&bench.labels), "--accept"];
    bench.add("a@1", &fast, &[&SERIES[..], &["--classes", "dns,http"]].concat()).exits(0);
    bench.add("a_1", &other, &[&SERIES[..], &labelled].concat()).exits(0);
    let file = |at: usize| {
        let plan = std::fs::read_to_string(bench.bundle().join("plan.toml")).unwrap();
        let plan: toml::Table = plan.parse().unwrap();
        let file = plan["stages"][at]["model"]["file"].as_str().unwrap().to_owned();
        std::fs::read_to_string(bench.bundle().join(file)).unwrap()
    };
    assert!(file(0).contains("threshold=70") && file(1).contains("threshold=1000"));
    // What is replaced leaves no file behind.
    let models = || std::fs::read_dir(bench.bundle().join("models")).unwrap().count();
    let before = models();
    bench.add("a_1", &fast, &labelled).exits(0);
    assert_eq!((models(), file(1)), (before, file(0)));
    assert!(!bench.bundle().join(".lock").exists());
}

#[test]
fn names_in_the_file_are_not_overruled_and_other_hands_are_noticed() {
    let bench = Bench::new("bundle-hands");
    let fast = bench.model("fast.txt", model(COLUMNS, 2, "70"));
    let order = put(bench.dir.join("order.txt"), "size\ngap_us\ndirection\ntcp_flags\npayload\n");
    let classes = [&SERIES[..], &["--classes", "dns,http"]].concat();
    let columns = ["--columns", text(&order)];
    let ran = bench.add("a", &fast, &[&classes[..], &columns].concat()).exits(1);
    ran.says(&["column 0 is `payload`", "found `size`"]);
    bench
        .add("a", &fast, &[&classes[..], &["--logits"]].concat())
        .exits(1)
        .says(&["--logits", "trees"]);
    bench.add("a", &fast, &classes).exits(0);
    let plan = bench.bundle().join("plan.toml");
    let written = std::fs::read_to_string(&plan).unwrap();
    put(plan, written + "\n");
    bench.add("a", &fast, &[]).exits(1).says(&["bundle pack", "SHA-256"]);
}

#[test]
fn what_was_changed_by_hand_is_packed_anew() {
    let bench = Bench::new("bundle-pack");
    let model = bench.model("model.txt", model(COLUMNS, 2, "70"));
    bench.add("size@1", &model, &[&SERIES[..], &["--classes", "dns,http"]].concat()).exits(0);
    let bundle = bench.bundle();
    let id = |ran: &Ran| ran.out.lines().last().unwrap().to_owned();
    let before = id(&serveflow(&["bundle", "check", text(&bundle)]).exits(0));
    let plan = bundle.join("plan.toml");
    let written = std::fs::read_to_string(&plan).unwrap();
    put(plan.clone(), written.replacen("task = \"\"", "task = \"mine\"", 1));
    serveflow(&["bundle", "check", text(&bundle)]).exits(1).says(&["plan.toml", "SHA-256"]);
    let packed = serveflow(&["bundle", "pack", text(&bundle)]).exits(0);
    let after = id(&serveflow(&["bundle", "check", text(&bundle)]).exits(0));
    assert_eq!(id(&packed), after);
    assert_ne!(after, before);
    serveflow(&["bundle", "check", text(&bundle), "--id", &after[..12]]).exits(0);
    serveflow(&["bundle", "check", text(&bundle), "--id", &before])
        .exits(1)
        .says(&[&before, &after]);
    // What does not load is not packed, and what was there stays.
    put(plan, written.replacen("packets = 1", "packets = 0", 1));
    serveflow(&["bundle", "pack", text(&bundle)]).exits(1).says(&["0"]);
}
