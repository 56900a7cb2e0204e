//! Every error of a configuration has a place.

use super::*;
use crate::config::{EXAMPLE, Typed};

#[test]
fn a_key_is_found_however_it_is_written() {
    let text = "# α\n[live]\nring_mb = 7\n\n[lanes.stages]\n\"tree@1\" = \"inline\"\n\
                [remote.models.\"a.b\"]\nhealth_ms = 3\n[input]\nonly = { ports = [1] }\n";
    let origin = Origin::of_file(Path::new("f.toml"), text.to_owned());
    for (key, place) in [
        ("live.ring_mb", "f.toml:3:11"),
        ("lanes.stages.\"tree@1\"", "f.toml:6:12"),
        ("remote.models.a.b.health_ms", "f.toml:8:13"),
        ("input.only.ports", "f.toml:10:18"),
        // Not there: its section.
        ("live.block_kb", "f.toml:2:2"),
    ] {
        assert_eq!(origin.place(key).as_deref(), Some(place), "{key}");
    }
    assert_eq!(origin.place("flows.idle_ms"), None);
    let mut origin = origin;
    origin.put_over("live.ring_mb", "--ring");
    assert_eq!(origin.place("live.ring_mb").as_deref(), Some("--ring"));
}

/// Each key of the example, as a section and a name.
fn keys() -> Vec<(String, String)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.strip_prefix("# ").and_then(|l| l.split_once(" = ")) {
            let is_key = !name.contains(' ') && !name.contains('(');
            if is_key {
                keys.push((section.clone(), name.to_owned()));
            }
        }
    }
    keys
}

/// Values that no key, or hardly any, can have.
const ODD: [&str; 12] = [
    "-1",
    "0",
    "1.5",
    "99999999999999999999",
    "9223372036854775807",
    "true",
    "\"no such word\"",
    "\"\\u0000\"",
    "[[1]]",
    "[\"0123456789abcdef\"]",
    "{ no_such = 1 }",
    "1979-05-27",
];

/// Words of the program, which mean nothing to whoever writes a configuration.
const FOREIGN: [&str; 9] =
    ["usize", "u64", "u32", "i64", "f64", "struct", "Typed", "serde", "invalid type"];

/// Whatever is wrong about whichever key, the error names file, line, column, key, what was
/// expected and what was found; and each key has values that are refused.
#[test]
fn each_wrong_value_of_each_key_is_refused_with_its_place() {
    let keys = keys();
    assert!(keys.len() > 55, "the example names its keys: {}", keys.len());
    let bundle = serveflow_core::FlowConfig::default();
    for (section, key) in keys {
        let mut refusals = 0;
        for odd in ODD {
            let text = format!("# a comment\n\n[{section}]\n{key} = {odd}\n");
            let typed = Typed::read(Path::new("dir/s.toml"), text.clone());
            let checked = typed.and_then(|typed| {
                typed.check(&bundle)?;
                typed.open_models()
            });
            let Err(error) = checked else { continue };
            let said = error.to_string();
            refusals += 1;
            let column = key.len() + 4;
            let places = [
                format!("dir/s.toml:4:{column}: {section}.{key}"),
                // A key or a value inside of it.
                "dir/s.toml:4:".to_owned(),
            ];
            let is_inner = odd.starts_with(['[', '{']);
            let place = if is_inner { &places[1] } else { &places[0] };
            assert!(said.starts_with(place), "{text}: {said}");
            assert!(said.contains(&format!(" {section}.{key}")), "{text}: {said}");
            assert!(said.contains("expected ") && said.contains("found "), "{text}: {said}");
            let foreign = FOREIGN.iter().find(|word| said.contains(**word));
            assert_eq!(foreign, None, "{text}: {said}");
            assert_eq!(said.lines().count(), 1, "{text}: {said}");
        }
        assert!(refusals >= 5, "{section}.{key}: {refusals} of {} are refused", ODD.len());
    }
}

#[test]
fn unknown_keys_and_broken_files_have_a_place_too() {
    for (text, said) in [
        ("[flows]\nidle = 5", "s.toml:2:1: flows.idle: expected a key of capacity, idle_ms, "),
        ("[flow]\nidle_ms = 5", "s.toml:1:2: flow: expected a key of input, flows, "),
        ("[flows\n", "s.toml:1:7: "),
        ("a = 1 b = 2", "s.toml:1:"),
        ("[live]\nring_mb = 1\nring_mb = 2", "s.toml:3:1: "),
    ] {
        let error = Typed::read(Path::new("s.toml"), text.to_owned()).unwrap_err().to_string();
        assert!(error.starts_with(said), "{text}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
