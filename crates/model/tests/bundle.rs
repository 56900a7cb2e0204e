//! Bundles: what is written loads again, and what does not fit is refused with a sentence that
//! says where, what was expected and what was found.
#![allow(clippy::unwrap_used)]

#[path = "common/bundles.rs"]
mod bundles;

use bundles::{Files, labels, load, plan_text, scratch, valid};
use proptest::prelude::*;
use serveflow_core::FlowConfig;
use serveflow_core::parse::Tunnels;
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::{self, Bundle, FlowPlan, Plan, UnknownPlan, sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[test]
fn what_is_written_loads_again() {
    let files = valid();
    let plan: Plan = toml::from_str(&plan_text(&files)).unwrap();
    let models: BTreeMap<String, Vec<u8>> =
        files.iter().filter(|(name, _)| name.starts_with("models/")).cloned().collect();
    let dir = scratch("round-trip");
    let written = bundle::write(&dir, &plan, models).unwrap();
    let loaded = Bundle::load(&dir).unwrap();
    assert_eq!((&loaded.plan, &loaded.id), (&plan, &written.id));
    assert_eq!(loaded.cascade.labels(), labels());
    assert_eq!((loaded.cascade.stages().len(), loaded.models.len()), (2, 2));
    assert_eq!(loaded.flow_config().idle_ns, 120_000_000_000);
    for (stage, model) in loaded.cascade.stages().iter().zip(&loaded.models) {
        assert_eq!(stage.features.shape(), model.shape());
    }
    // Written elsewhere it is the same bundle, byte for byte.
    let again = scratch("round-trip-again");
    let models = valid().into_iter().filter(|(name, _)| name.starts_with("models/")).collect();
    assert_eq!(bundle::write(&again, &plan, models).unwrap().id, written.id);
    let sums = std::fs::read(dir.join("SHA256SUMS")).unwrap();
    assert_eq!(sha256(&sums), written.id);
}

#[test]
fn the_hash_list_is_one_that_sha256sum_reads() {
    let dir = scratch("sha256sum");
    bundles::put(&dir, &valid());
    let Ok(output) =
        Command::new("sha256sum").arg("-c").arg("SHA256SUMS").current_dir(&dir).output()
    else {
        return; // The tool is not there.
    };
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.lines().all(|line| line.ends_with(": OK")), "{said}");
    std::fs::write(dir.join("models/a.json"), "x").unwrap();
    let output = Command::new("sha256sum").arg("-c").arg("SHA256SUMS").current_dir(&dir).output();
    assert!(!output.unwrap().status.success());
    assert!(load(&dir).unwrap_err().contains("models/a.json"));
}

#[test]
fn open_set_rules_are_checked() {
    let text = plan_text(&valid());
    let rule = UnknownPlan {
        score: "entropy".to_owned(),
        threshold: 0.75,
        rate: 0.02,
        flows: 812,
        measured: 0.0185,
    };
    let load = |name: &str, change: &dyn Fn(&mut Plan, &mut UnknownPlan)| {
        let (mut plan, mut rule): (Plan, _) = (toml::from_str(&text).unwrap(), rule.clone());
        change(&mut plan, &mut rule);
        plan.stages.last_mut().unwrap().unknown = Some(rule);
        let models = valid().into_iter().filter(|(name, _)| name.starts_with("models/")).collect();
        bundle::write(&scratch(&format!("open-set-{name}")), &plan, models)
            .map_err(|error| error.to_string())
    };
    let loaded = load("fine", &|_, _| ()).unwrap();
    let stages = loaded.cascade.stages();
    assert_eq!(stages[0].unknown, None);
    assert!(stages[1].unknown.is_some_and(|own| own.is_unknown(&[0.4, 0.3, 0.3])));
    assert_eq!(loaded.plan.stages[1].unknown.as_ref(), Some(&rule));
    let error = load("score", &|_, rule| rule.score = "luck".to_owned()).unwrap_err();
    assert!(error.contains("stage `slow`: unknown.score") && error.contains("luck"), "{error}");
    // What says that a flow is of no class must not be a class.
    let error = load("label", &|plan, _| {
        plan.stages.iter_mut().for_each(|stage| stage.gate = None);
        plan.stages.remove(0);
        plan.labels[0] = "unknown".to_owned();
    });
    assert!(error.unwrap_err().contains("expected no label `unknown`"));
}

/// Replaces text in a file of a valid bundle, hashes it anew and loads it.
fn edited(file: &str, from: &str, to: &str) -> Result<Bundle, String> {
    let mut files = valid();
    let (_, bytes) = files.iter_mut().find(|(name, _)| name == file).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "`{from}` stands in {file}: {text}");
    *bytes = text.replacen(from, to, 1).into_bytes();
    let dir = scratch(&format!("edited-{}", sha256(format!("{file}{from}{to}").as_bytes())));
    bundles::put(&dir, &files);
    load(&dir)
}

/// What is replaced in a valid plan, by what, and the words of the refusal.
const MISFITS: [(&str, &str, &[&str]); 37] = [
    (
        "serveflow-plan/1",
        "serveflow-plan/2",
        &["plan.toml", "serveflow-plan/1", "`serveflow-plan/2`"],
    ),
    ("format = \"serveflow-plan/1\"\n", "", &["plan.toml", "serveflow-plan/1", "``"]),
    ("format = \"serveflow-plan/1\"", "format = 1", &["plan.toml", "serveflow-plan/1"]),
    ("task = ", "tusk = ", &["plan.toml", "tusk"]),
    ("wait_ms = 50", "wait = 50", &["plan.toml", "`wait`"]),
    ("wait_ms = 50\n", "", &["plan.toml", "wait_ms"]),
    ("idle_ms = 120000", "idle_ms = -1", &["plan.toml", "idle_ms", "-1"]),
    ("packets = 2", "packets = 70000", &["plan.toml", "packets", "70000"]),
    ("packets = 2", "packets = 0", &["stage `slow`", "0"]),
    ("packets = 1", "packets = 3", &["stage `fast`"]),
    ("wait_ms = 50", "wait_ms = 60", &["plan.toml", "stage `slow`", "50 ms", "60 ms"]),
    (
        "\"packet_series\"",
        "\"packet_serial\"",
        &["stage `fast`", "features", "packet_serial", "flow_stats"],
    ),
    ("\"ports\"", "\"harbours\"", &["stage `fast`", "masks", "harbours", "ports"]),
    ("\"udp\"", "\"ipx\"", &["stage `fast`", "headers", "ipx", "icmp"]),
    ("lane = \"inline\"", "lane = \"fast\"", &["stage `fast`", "lane", "`fast`", "inline, thread"]),
    ("rule = \"margin\"", "rule = \"luck\"", &["stage `fast`", "rule", "luck", "entropy"]),
    ("format = \"forest\"", "format = \"pickle\"", &["stage `fast`", "format", "pickle", "forest"]),
    ("threshold = 0.25\n", "", &["stage `fast`", "gate", "threshold"]),
    (
        "threshold = 0.25\n",
        "threshold = 0.25\n[stages.gate.thresholds]\na = 0.1\n",
        &["stage `fast`", "either"],
    ),
    (
        "threshold = 0.25\n",
        "[stages.gate.thresholds]\na = 0.1\nb = 0.2\n",
        &["stage `fast`", "`c`"],
    ),
    (
        "threshold = 0.25\n",
        "[stages.gate.thresholds]\na = 0.1\nz = 0.2\n",
        &["stage `fast`", "`z`"],
    ),
    ("threshold = 0.25\n", "threshold = \"low\"\n", &["plan.toml", "threshold"]),
    ("threshold = 0.25", "threshold = nan", &["plan.toml", "stage `fast`", "threshold", "NaN"]),
    ("threshold = 0.25", "threshold = -inf", &["plan.toml", "stage `fast`", "threshold", "-inf"]),
    ("threshold = 0.25", "threshold = 1e300", &["plan.toml", "stage `fast`", "finite", "inf"]),
    (
        "threshold = 0.25\n",
        "[stages.gate.thresholds]\na = 0.1\nb = inf\nc = 0.1\n",
        &["plan.toml", "stage `fast`", "thresholds.b", "inf"],
    ),
    ("packets = 2", "packets = 65535", &["plan.toml", "stage `slow`", "packets", "65535"]),
    (
        "[stages.gate]\nrule = \"margin\"\nthreshold = 0.25\n",
        "",
        &["stage `fast`", "gate", "missing"],
    ),
    ("models/a.json", "models/z.json", &["models/z.json", "SHA256SUMS"]),
    ("models/a.json", "../a.json", &["../a.json"]),
    ("models/a.json", "plan.toml", &["plan.toml", "not a forest"]),
    (
        "\"a\", \"b\", \"c\"",
        "\"a\", \"b\"",
        &["models/a.json", "stage `fast`", "2 labels", "3 classes"],
    ),
    ("\"a\", \"b\", \"c\"", "\"a\", \"b\", \"b\"", &["plan.toml", "label", "`b`"]),
    ("\"a\", \"b\", \"c\"", "", &["stage `fast`", "0 labels", "3 classes"]),
    ("name = \"slow\"", "name = \"fast\"", &["plan.toml", "stage", "`fast`"]),
    ("models/a.json", "models/b.json", &["models/b.json", "stage `fast`", "words"]),
    ("task = ", "task = = ", &["plan.toml", "line 2"]),
];

#[test]
fn plans_that_do_not_fit_are_refused_with_a_sentence() {
    for (from, to, words) in MISFITS {
        let message = edited("plan.toml", from, to).map(|bundle| bundle.plan);
        let Err(message) = message else { panic!("{from:?} -> {to:?} is refused") };
        let missing = words.iter().find(|word| !message.contains(**word));
        assert!(missing.is_none(), "{from:?} -> {to:?}: no {missing:?} in: {message}");
    }
}

#[test]
fn degradation_has_a_number_for_each_gate() {
    let degradation = |gates: &str| {
        let level = "escalated = 0.1\nmacro_f1 = 0.9\naccuracy = 0.9\n";
        edited(
            "plan.toml",
            "[flows]",
            &format!("[[degradation]]\n{level}gates = {gates}\n\n[flows]"),
        )
    };
    let bundle = degradation("[[0.5]]").unwrap();
    assert_eq!((bundle.cascade.degradation_levels(), bundle.plan.degradation.len()), (1, 1));
    for (gates, word) in [
        ("[]", "level of degradation"),
        ("[[]]", "level of degradation"),
        ("[[0.5, 0.6]]", "level of degradation"),
        ("[[nan]]", "finite"),
        ("[[1e300]]", "finite"),
    ] {
        let Err(message) = degradation(gates) else { panic!("{gates} is refused") };
        assert!(message.contains("stage `fast`") && message.contains(word), "{message}");
    }
}

#[test]
fn a_plan_may_say_less_where_there_is_a_default() {
    assert!(edited("plan.toml", "lane = \"inline\"\n", "").is_ok());
    assert!(edited("plan.toml", "task = \"a test\"\n", "").is_ok());
    let headers = "headers = [\"ipv4\", \"tcp\", \"udp\"]\n";
    assert!(edited("plan.toml", headers, "").is_ok());
    let lane = edited("plan.toml", "lane = \"inline\"", "lane = \"thread\"").unwrap();
    assert_eq!(lane.cascade.stages()[0].lane, 1);
}

/// Bundles from before there was a choice were trained on the outer packets.
#[test]
fn a_plan_that_does_not_speak_of_tunnels_means_the_outer_packet() {
    let tunnels = |words: &str| {
        let bundle = edited("plan.toml", "[flows]\n", &format!("[flows]\n{words}"))?;
        Ok::<_, String>(bundle.flow_config().key.tunnels)
    };
    assert_eq!(tunnels(""), Ok(Tunnels::Outer));
    assert_eq!(tunnels("tunnels = \"outer\"\n"), Ok(Tunnels::Outer));
    assert_eq!(tunnels("tunnels = \"inner\"\n"), Ok(Tunnels::Inner));
    let message = tunnels("tunnels = \"both\"\n").unwrap_err();
    assert!(message.contains("expected `inner` or `outer`, found `both`"), "{message}");
    let flows = FlowPlan::from_config(&FlowConfig::default());
    assert_eq!(flows.config(), FlowConfig::default());
    assert!(toml::to_string(&flows).unwrap().contains("tunnels = \"inner\""));
}

#[test]
fn models_that_do_not_fit_are_refused_with_a_sentence() {
    for (from, to, words) in [
        ("serveflow-forest", "another-forest", &["another-forest", "expected"][..]),
        ("\"version\":1", "\"version\":9", &["9", "expected 1"]),
        ("\"kind\":\"boosted\"", "\"kind\":\"blessed\"", &["blessed", "boosted"]),
        ("\"classes\":3", "\"classes\":0", &["0 classes", "expected 1"]),
        ("\"classes\":3", "\"classes\":2", &["base scores"]),
        ("\"classes\":3", "\"klasses\":3", &["klasses"]),
        ("\"numbers\":", "\"numbers\":1", &["stage `fast`", "numbers"]),
        ("}", "", &["models/a.json", "not a forest file"]),
        ("{", "", &["models/a.json", "not a forest file", "line 1"]),
        ("\"left\":[-1]", "\"left\":[0]", &["tree 0", "node 0", "child 0"]),
        ("\"left\":[-1]", "\"left\":[-7]", &["tree 0", "child -7"]),
        ("\"left\":[-1]", "\"left\":[-1,-2]", &["tree 0", "2 left"]),
        ("\"tests\":[3]", "\"tests\":[99999999]", &["tree 0", "node 0", "outside the row"]),
        ("\"tests\":[3]", "\"tests\":[-1]", &["tree 0", "thresholds"]),
    ] {
        let result = edited("models/a.json", from, to).map(|bundle| bundle.plan);
        let Err(message) = result else { panic!("{from:?} -> {to:?} is refused") };
        let missing = words.iter().find(|word| !message.contains(**word));
        assert!(missing.is_none(), "{from:?} -> {to:?}: no {missing:?} in: {message}");
        assert!(message.contains("models/a.json"), "{message}");
    }
}

#[test]
fn every_cut_of_a_model_is_refused() {
    let (name, whole) = valid().remove(1);
    assert_eq!(name, "models/a.json");
    let dir = scratch("cuts");
    for len in 0..whole.len() {
        let mut files = valid();
        files[1].1.truncate(len);
        bundles::put(&dir, &files);
        let message = load(&dir).unwrap_err();
        assert!(message.contains("models/a.json"), "{len} bytes: {message}");
    }
}

/// Changes one line of the hash list and loads.
fn with_sums(name: &str, edit: impl Fn(&mut Vec<String>)) -> Result<Bundle, String> {
    let dir = scratch(name);
    bundles::put(&dir, &valid());
    let path = dir.join("SHA256SUMS");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    edit(&mut lines);
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
    load(&dir)
}

#[test]
fn hash_lists_that_do_not_fit_are_refused_with_a_sentence() {
    let outside = scratch("outside");
    std::fs::write(outside.join("x"), "x").unwrap();
    let line = |name: &str| format!("{}  {name}", sha256(b"x"));
    let absolute = line(outside.join("x").to_str().unwrap());
    type Edit<'a> = Box<dyn Fn(&mut Vec<String>) + 'a>;
    let cases: Vec<(&str, Edit<'_>, &[&str])> = vec![
        ("sums-empty", Box::new(Vec::clear), &["SHA256SUMS", "line 1"]),
        ("sums-lacks", Box::new(|l| drop(l.remove(0))), &["does not list `models/a.json`"]),
        (
            "sums-gone",
            Box::new(|l| l.push(line("models/c.json"))),
            &["models/c.json", "SHA256SUMS"],
        ),
        ("sums-dir", Box::new(|l| l.push(line("models"))), &["models"]),
        ("sums-wrong", Box::new(|l| l[0].replace_range(..4, "0000")), &["a.json", "expected 0000"]),
        ("sums-short", Box::new(|l| l[1].truncate(60)), &["SHA256SUMS", "line 2"]),
        ("sums-space", Box::new(|l| l[2] = l[2].replacen("  ", " ", 1)), &["SHA256SUMS", "line 3"]),
        ("sums-words", Box::new(|l| l.push("hello".into())), &["SHA256SUMS", "line 4"]),
        ("sums-up", Box::new(|l| l.push(line("../outside/x"))), &["SHA256SUMS", "line 4"]),
        ("sums-up-deep", Box::new(|l| l.push(line("models/../../outside/x"))), &["line 4"]),
        ("sums-absolute", Box::new(|l| l.push(absolute.clone())), &["SHA256SUMS", "line 4"]),
    ];
    for (name, edit, words) in cases {
        let message = with_sums(name, edit).unwrap_err();
        let missing = words.iter().find(|word| !message.contains(**word));
        assert!(missing.is_none(), "{name}: no {missing:?} in: {message}");
    }
    assert!(with_sums("sums-order", |lines| lines.reverse()).is_ok());
}

/// Puts something else in the place of a file of a bundle, and loads.
#[cfg(unix)]
fn replaced(test: &str, name: &str, put: impl Fn(&Path)) -> Result<Bundle, String> {
    let dir = scratch(&format!("replaced-{test}"));
    bundles::put(&dir, &valid());
    let path = dir.join(name);
    let _ = std::fs::rename(&path, dir.join("before"));
    put(&path);
    let read = bundle::read_unsigned(&dir).map(drop).map_err(|error| error.to_string());
    let loaded = load(&dir);
    // Whoever writes a bundle anew reads it by the same rules, but for the hash list.
    assert!(name == "SHA256SUMS" || loaded.is_ok() == read.is_ok(), "{read:?}");
    loaded
}

#[test]
#[cfg(unix)]
fn only_regular_files_inside_of_the_bundle_are_read() {
    use std::os::unix::fs::symlink;
    let outside = scratch("replaced-outside");
    bundles::put(&outside, &valid());
    let fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let device = |path: &Path| symlink("/dev/zero", path).unwrap();
    let long = |path: &Path| {
        let most = if path.ends_with("SHA256SUMS") { bundle::MOST_SUMS_BYTES } else { 1 << 40 };
        std::fs::File::create(path).unwrap().set_len(most + 1).unwrap();
    };
    for name in ["SHA256SUMS", "plan.toml", "models/a.json"] {
        let link = |path: &Path| symlink(outside.join(name), path).unwrap();
        let turning = |path: &Path| symlink(path.file_name().unwrap(), path).unwrap();
        let hidden = |path: &Path| {
            fifo(&path.with_extension("fifo"));
            symlink(path.with_extension("fifo"), path).unwrap();
        };
        let folder = |path: &Path| std::fs::create_dir(path).unwrap();
        type Put<'a> = &'a dyn Fn(&Path);
        let cases: [(&str, Put<'_>, &str); 7] = [
            ("link", &link, "found a link to"),
            ("device", &device, "found a link to /dev/zero"),
            ("fifo", &fifo, "expected a regular file, found a FIFO"),
            ("hidden", &hidden, "expected a regular file, found a FIFO"),
            ("folder", &folder, "expected a regular file, found a directory"),
            ("long", &long, "expected at most"),
            ("turning", &turning, "symbolic links"),
        ];
        for (case, put, word) in cases {
            let message = replaced(case, name, put).unwrap_err();
            assert!(message.contains(name) && message.contains(word), "{case}: {message}");
        }
        // A link within the bundle is a file of the bundle, as where bundles are mounted by their
        // version.
        let inner = |path: &Path| {
            let up = path.ancestors().nth(1 + name.matches('/').count()).unwrap();
            symlink(up.join("before"), path).unwrap();
        };
        replaced("inner", name, inner).unwrap();
    }
    let linked = scratch("replaced-linked").join("bundle");
    symlink(&outside, &linked).unwrap();
    load(&linked).unwrap();
}

/// A model that is to come into a bundle is read by the bundle's rules, but that it may stand
/// anywhere.
#[test]
#[cfg(unix)]
fn a_model_file_is_a_regular_one_and_no_longer_than_a_bundle() {
    use std::os::unix::fs::symlink;
    let dir = scratch("model-files");
    let at = |name: &str| dir.join(name);
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    symlink(at("fifo"), at("to-fifo")).unwrap();
    symlink("/dev/zero", at("device")).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    let long = std::fs::File::create(at("long")).unwrap();
    long.set_len(bundle::MOST_BUNDLE_BYTES + 1).unwrap();
    for (name, words) in [
        ("fifo", "expected a regular file, found a FIFO"),
        ("to-fifo", "expected a regular file, found a FIFO"),
        ("device", "expected a regular file, found a device"),
        ("folder", "expected a regular file, found a directory"),
        ("long", "expected at most"),
        ("none", "No such file"),
    ] {
        let message = bundle::model_file(&at(name)).unwrap_err().to_string();
        assert!(message.contains(words) && message.contains(name), "{name}: {message}");
    }
    std::fs::write(at("model"), "trees").unwrap();
    symlink(at("model"), at("to-model")).unwrap();
    for name in ["model", "to-model"] {
        assert_eq!(bundle::model_file(&at(name)).unwrap(), b"trees");
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    for name in ["SHA256SUMS", "plan.toml", "models/b.json"] {
        let dir = scratch("gone");
        bundles::put(&dir, &valid());
        std::fs::remove_file(dir.join(name)).unwrap();
        let message = load(&dir).unwrap_err();
        let is_list = name == "SHA256SUMS";
        let word = if is_list { "found plan.toml without SHA256SUMS" } else { "no such file" };
        assert!(message.contains(name) && message.contains(word), "{message}");
    }
    let message = load(Path::new("no such directory")).unwrap_err();
    assert!(message.contains("no such directory: expected a bundle"), "{message}");
    let message = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap_err();
    assert!(message.contains("Cargo.toml"), "{message}");
}

#[test]
fn a_file_below_a_file_is_not_written() {
    let dir = scratch("unwritable");
    std::fs::write(dir.join("file"), "x").unwrap();
    let plan: Plan = toml::from_str(&plan_text(&valid())).unwrap();
    let message = bundle::write(&dir.join("file"), &plan, BTreeMap::new()).unwrap_err().to_string();
    assert!(message.contains("unwritable/file/") && message.contains("plan.toml"), "{message}");
}

#[test]
fn what_does_not_load_replaces_nothing() {
    let dir = scratch("kept");
    bundles::put(&dir, &valid());
    let before = load(&dir).unwrap().id;
    let plan: Plan = toml::from_str(&plan_text(&valid())).unwrap();
    let file = plan.stages[0].model.file.clone();
    let broken = BTreeMap::from([(file, b"no model".to_vec())]);
    let message = bundle::write(&dir, &plan, broken).unwrap_err().to_string();
    assert!(message.contains("kept"), "{message}");
    assert_eq!(load(&dir).unwrap().id, before);
    assert!(!dir.join(".part").exists(), "nothing is left behind");
}

/// Loads, and scores rows if it loads: nothing may panic.
fn survives(files: &Files, dir: &str) {
    let dir = scratch(dir);
    bundles::put(&dir, files);
    let Ok(bundle) = Bundle::load(&dir) else { return };
    for model in &bundle.models {
        let mut rows = Rows::with_capacity(model.shape(), 3);
        for fill in [0, u32::MAX, 0x5555_5555] {
            let (words, numbers) = rows.push();
            words.fill(fill);
            numbers.fill(f32::from_bits(fill));
        }
        let mut scores = Scores::default();
        model.score(&rows, &mut scores).unwrap();
        assert_eq!((scores.len(), scores.classes()), (3, labels().len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn spoiled_bundles_never_panic(
        file in 0usize..3,
        spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..4),
    ) {
        let mut files = valid();
        let bytes = &mut files[file].1;
        for (at, value, how) in spoils {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                // A digit keeps most of the text readable.
                1 => bytes[at] = b'0' + value % 10,
                2 => bytes.insert(at, value),
                _ => { bytes.remove(at); }
            }
        }
        survives(&files, "spoiled");
    }

    #[test]
    fn random_bytes_never_panic(
        file in 0usize..3,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut files = valid();
        files[file].1 = bytes;
        survives(&files, "random");
    }

    #[test]
    fn spoiled_hash_lists_never_panic(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let dir = scratch("spoiled-sums");
        bundles::put(&dir, &valid());
        let path = dir.join("SHA256SUMS");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        let before = std::mem::replace(&mut bytes[at], value);
        std::fs::write(path, bytes).unwrap();
        let result = Bundle::load(&dir);
        prop_assert!(result.is_err() || before == value || value == b'\r');
    }
}
