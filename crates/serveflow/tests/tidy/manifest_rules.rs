//! Rules for the crates' manifests: which crate may depend on which, and that all share one list of
//! lints.

use super::scan::words;
use super::tree::Text;

/// Each crate's directory, its package, and the packages of ours that it may use: arrows point
/// down.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("core", "serveflow-core", &[]),
    ("io", "serveflow-io", &["serveflow-core"]),
    ("model", "serveflow-model", &["serveflow-core"]),
    ("output", "serveflow-output", &["serveflow-core", "serveflow-io"]),
    ("label", "serveflow-label", &["serveflow-core", "serveflow-io"]),
    (
        "train",
        "serveflow-train",
        &["serveflow-core", "serveflow-io", "serveflow-model", "serveflow-label"],
    ),
    (
        "serve",
        "serveflow-serve",
        &["serveflow-core", "serveflow-io", "serveflow-model", "serveflow-output"],
    ),
    (
        "report",
        "serveflow-report",
        &["serveflow-core", "serveflow-model", "serveflow-label", "serveflow-train"],
    ),
    (
        "bench",
        "serveflow-bench",
        &[
            "serveflow-core",
            "serveflow-io",
            "serveflow-model",
            "serveflow-label",
            "serveflow-train",
            "serveflow-serve",
            "serveflow-report",
        ],
    ),
    (
        "serveflow",
        "serveflow",
        &[
            "serveflow-core",
            "serveflow-io",
            "serveflow-model",
            "serveflow-output",
            "serveflow-label",
            "serveflow-train",
            "serveflow-serve",
            "serveflow-report",
            "serveflow-bench",
        ],
    ),
];

/// What the serving runtime never needs, so that other programs can embed it.
const NOT_IN_SERVE: &[&str] = &["clap", "parquet", "indicatif", "hdrhistogram", "anyhow"];

pub(crate) fn heavy_runtime(manifests: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    let of_serve = |manifest: &&Text| manifest.path == "crates/serve/Cargo.toml";
    for manifest in manifests.iter().filter(of_serve) {
        for (number, section, line) in lines_of(manifest) {
            let is_library = section.contains("dependencies") && !section.contains("dev-");
            for heavy in NOT_IN_SERVE.iter().filter(|_| is_library) {
                if !words(line, heavy).is_empty() {
                    let path = &manifest.path;
                    found.push(format!("{path}:{number}: the runtime may not use {heavy}"));
                }
            }
        }
    }
    found
}

/// The lines of a manifest without comments, each with its number and the section that it stands
/// in.
fn lines_of(manifest: &Text) -> impl Iterator<Item = (usize, &str, &str)> {
    let lines = manifest.text.lines().enumerate();
    lines.scan("", |section, (number, line)| {
        let line = line.split('#').next().unwrap_or(line).trim();
        if line.starts_with('[') {
            *section = line;
        }
        Some((number + 1, *section, line))
    })
}

/// Every mention of one of our packages among the dependencies, with its line: as key, as header or
/// as `package = `.
fn our_dependencies(manifest: &Text) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, section, line) in lines_of(manifest) {
        if !section.contains("dependencies") {
            continue;
        }
        for at in words(line, "serveflow").into_iter().chain(words(line, "serveflow_")) {
            let rest = line[at..].chars();
            let name = rest.take_while(|&c| c.is_alphanumeric() || matches!(c, '-' | '_'));
            found.push((number, name.collect()));
        }
    }
    found
}

pub(crate) fn wrong_arrows(manifests: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in manifests {
        let path = &manifest.path;
        let directory = path.trim_start_matches("crates/").trim_end_matches("/Cargo.toml");
        let Some((_, package, allowed)) = ARROWS.iter().find(|(name, ..)| *name == directory)
        else {
            found.push(format!("{path}:1: `{directory}` is no crate of ARCHITECTURE.md's table"));
            continue;
        };
        if !lines_of(manifest).any(|(_, _, line)| line == format!("name = \"{package}\"")) {
            found.push(format!("{path}:1: the package of `{directory}` is not named {package}"));
        }
        for (number, used) in our_dependencies(manifest) {
            if !allowed.contains(&used.as_str()) {
                found.push(format!("{path}:{number}: {package} may not use {used}"));
            }
        }
    }
    found
}

pub(crate) fn missing_lints(manifests: &[Text]) -> Vec<String> {
    let shares = |manifest: &&Text| {
        lines_of(manifest)
            .any(|(_, section, line)| section == "[lints]" && line == "workspace = true")
    };
    let missing = manifests.iter().filter(|manifest| !shares(manifest));
    missing
        .map(|manifest| format!("{}:1: has no `[lints]` with `workspace = true`", manifest.path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(directory: &str, package: &str, rest: &str) -> Vec<Text> {
        let text = format!("[package]\nname = \"{package}\"\n{rest}");
        vec![Text::new(&format!("crates/{directory}/Cargo.toml"), &text)]
    }

    #[test]
    fn a_wrong_arrow_is_found_in_each_spelling() {
        let spellings = [
            "[dependencies]\nserveflow-model.workspace = true\n",
            "[dev-dependencies]\nserveflow-model = { path = \"../model\" }\n",
            "[target.'cfg(unix)'.build-dependencies]\nm = { package = \"serveflow-model\", path = \
             \"x\" }\n",
            "[features]\n[dependencies.serveflow-model]\n",
        ];
        for spelling in spellings {
            assert_eq!(
                wrong_arrows(&manifest("io", "serveflow-io", spelling)),
                ["crates/io/Cargo.toml:4: serveflow-io may not use serveflow-model"]
            );
            assert_eq!(wrong_arrows(&manifest("train", "serveflow-train", spelling)), [""; 0]);
        }
    }

    #[test]
    fn a_library_that_the_runtime_may_not_use_is_found() {
        let found = |section: &str| {
            let rest = format!("[{section}]\nclap = \"4\"\nclap_complete = \"4\"\n");
            heavy_runtime(&manifest("serve", "serveflow-serve", &rest))
        };
        let expected = ["crates/serve/Cargo.toml:4: the runtime may not use clap"];
        assert_eq!(found("dependencies"), expected);
        assert_eq!(found("target.'cfg(unix)'.dependencies"), expected);
        assert_eq!(found("dev-dependencies"), [""; 0]);
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_found() {
        assert_eq!(
            wrong_arrows(&manifest("utils", "serveflow-utils", "")),
            ["crates/utils/Cargo.toml:1: `utils` is no crate of ARCHITECTURE.md's table"]
        );
        assert_eq!(
            wrong_arrows(&manifest("io", "io", "")),
            ["crates/io/Cargo.toml:1: the package of `io` is not named serveflow-io"]
        );
    }

    #[test]
    fn a_manifest_without_the_shared_lints_is_found() {
        assert_eq!(
            missing_lints(&manifest("io", "serveflow-io", "[lints]\nworkspace = true\n")),
            [""; 0]
        );
        assert_eq!(
            missing_lints(&manifest("io", "serveflow-io", "[lints]\n# workspace = true\n")),
            ["crates/io/Cargo.toml:1: has no `[lints]` with `workspace = true`"]
        );
    }
}
