//! Rules for documents, data and every other tracked text.

use super::scan::line_of;
use super::tree::{Entry, Text};

/// Directories of one person's machine. Split, so that this file does not name them itself.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Hosts of package registries: a mirror, or their names, are a machine's business.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb.debian", ".org"),
];

/// What Cargo itself writes into the lock file for a package of the public registry, and no other
/// source.
const LOCK_SOURCE: &str =
    concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"");

/// All data that is tracked, together.
const DATA_BYTES: u64 = 20_000_000;

/// What makes a file data, wherever it stands.
const DATA_ENDINGS: &[&str] = &[
    ".zst", ".gz", ".pcap", ".pcapng", ".cap", ".csv", ".bin", ".npy", ".onnx", ".parquet", ".ubj",
];

/// Columns of a line of source, comments and strings included.
const COLUMNS: usize = 100;

/// Sources that people write: Rust, Python, TOML, and scripts without an ending.
pub(crate) fn is_source(path: &str) -> bool {
    let ending = [".rs", ".py", ".sh", ".toml"].iter().any(|ending| path.ends_with(ending));
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_script = path.starts_with("scripts/") || path.starts_with(".ci/");
    // Plans of bundles are written by the program.
    (ending && !path.starts_with("data/")) || (is_script && !name.contains('.'))
}

pub(crate) fn long_lines(sources: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources {
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                let place = format!("{}:{}", file.path, number + 1);
                found.push(format!("{place}: {columns} columns, at most {COLUMNS} are allowed"));
            }
        }
    }
    found
}

pub(crate) fn machine_names(texts: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for file in texts {
        let path = &file.path;
        if path.ends_with("Cargo.lock") {
            let sources =
                file.text.lines().enumerate().filter(|(_, line)| line.starts_with("source = "));
            let strange = sources.filter(|&(_, line)| line != LOCK_SOURCE);
            found.extend(strange.map(|(number, line)| format!("{path}:{}: `{line}`", number + 1)));
            continue;
        }
        for name in MACHINE_PATHS.iter().chain(REGISTRY_HOSTS) {
            for (at, _) in file.text.match_indices(name) {
                // Part of a longer path or name, such as `frame/work/`, is something else.
                let before = file.text[..at].chars().next_back().unwrap_or(' ');
                if !before.is_alphanumeric() {
                    let line = line_of(&file.text, at);
                    found.push(format!("{path}:{line}: `{name}` belongs to one machine"));
                }
            }
        }
    }
    found
}

/// The targets of a document's links that are paths, each with the byte where it stands.
fn linked_paths(document: &str) -> Vec<(&str, usize)> {
    let starts = document.match_indices("](").map(|(at, _)| at + 2);
    let targets = starts.filter_map(|at| {
        let target = &document[at..at + document[at..].find(')')?];
        let path = target.split(['#', ' ']).next().unwrap_or(target);
        (!path.is_empty() && !path.contains("://") && !path.starts_with("mailto:"))
            .then_some((path, at))
    });
    targets.collect()
}

/// `path` as seen from `directory`, from the root; `None` if it leads out of the tree.
fn resolve(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

pub(crate) fn dead_links(documents: &[Text], entries: &[Entry]) -> Vec<String> {
    let exists = |path: &str| {
        let inside = format!("{path}/");
        path.is_empty()
            || entries.iter().any(|entry| entry.path == path || entry.path.starts_with(&inside))
    };
    let mut found = Vec::new();
    for document in documents {
        for (target, at) in linked_paths(&document.text) {
            let path = resolve(parent(&document.path), target);
            if target.starts_with('/') || !path.is_some_and(|path| exists(&path)) {
                let line = line_of(&document.text, at);
                found.push(format!("{}:{line}: `{target}` leads nowhere", document.path));
            }
        }
    }
    found
}

fn is_data(path: &str) -> bool {
    path.starts_with("data/") || DATA_ENDINGS.iter().any(|ending| path.ends_with(ending))
}

pub(crate) fn too_much_data(entries: &[Entry]) -> Vec<String> {
    let mut data: Vec<&Entry> = entries.iter().filter(|entry| is_data(&entry.path)).collect();
    let total: u64 = data.iter().map(|entry| entry.bytes).sum();
    if total <= DATA_BYTES {
        return Vec::new();
    }
    data.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    let largest =
        data.iter().take(10).map(|entry| format!("{}:1: {} bytes", entry.path, entry.bytes));
    let sum = format!(
        "{total} bytes of data are tracked, at most {DATA_BYTES} are allowed; the largest:"
    );
    std::iter::once(sum).chain(largest).collect()
}

/// Data needs a README.md or ORIGIN in its directory or one above it that says "Origin" and
/// "Licence". What stands in `data/` itself, or at the root, says it for no directory below.
pub(crate) fn data_without_origin(entries: &[Entry], notes: &[Text]) -> Vec<String> {
    let says_it = |directory: &str| {
        notes.iter().any(|note| {
            parent(&note.path) == directory
                && note.text.contains("Origin")
                && note.text.contains("Licence")
        })
    };
    let mut without: Vec<String> = Vec::new();
    for entry in entries.iter().filter(|entry| is_data(&entry.path)) {
        let own = parent(&entry.path);
        let above = std::iter::successors(Some(own), |directory| Some(parent(directory)));
        let mut candidates = above.take_while(|&directory| {
            !directory.is_empty() && (directory == own || directory != "data")
        });
        if !candidates.any(says_it) {
            without.push(format!(
                "{own}:1: holds data, and no README.md or ORIGIN with \"Origin\" and \"Licence\""
            ));
        }
    }
    without.dedup();
    without
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_found() {
        let line = |columns: usize| format!("\n# {}\n", "ü".repeat(columns - 2));
        assert_eq!(long_lines(&[Text::new("scripts/a", &line(100))]), [""; 0]);
        assert_eq!(
            long_lines(&[Text::new("scripts/a", &line(101))]),
            ["scripts/a:2: 101 columns, at most 100 are allowed"]
        );
        for path in ["crates/io/src/a.rs", "deny.toml", "scripts/a.py", ".ci/run", "scripts/test"] {
            assert!(is_source(path), "{path}");
        }
        for path in ["data/a/plan.toml", "docs/a.md", "scripts/a.txt", "README.md"] {
            assert!(!is_source(path), "{path}");
        }
    }

    fn entry(path: &str, bytes: u64) -> Entry {
        Entry { path: path.to_owned(), bytes }
    }

    #[test]
    fn a_machine_path_or_a_registry_host_is_found() {
        let path = MACHINE_PATHS[0];
        let host = REGISTRY_HOSTS[1];
        let text = format!("see {path}x\nframe{path}\nhttps://{host}/\n");
        assert_eq!(
            machine_names(&[Text::new("a.md", &text)]),
            [
                format!("a.md:1: `{path}` belongs to one machine"),
                format!("a.md:3: `{host}` belongs to one machine"),
            ]
        );
    }

    #[test]
    fn a_strange_source_in_the_lock_file_is_found() {
        let text = format!("{LOCK_SOURCE}\nsource = \"registry+https://mirror.example/index\"\n");
        assert_eq!(
            machine_names(&[Text::new("Cargo.lock", &text)]),
            ["Cargo.lock:2: `source = \"registry+https://mirror.example/index\"`"]
        );
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](../x/y.rs) [b](../x#top)\n[c](https://example.org/z) [d](#here) [e](z.md) \
                    [f](../../x) [g](/x)";
        let found = dead_links(&[Text::new("docs/a.md", text)], &[entry("x/y.rs", 1)]);
        assert_eq!(
            found,
            [
                "docs/a.md:2: `z.md` leads nowhere",
                "docs/a.md:2: `../../x` leads nowhere",
                "docs/a.md:2: `/x` leads nowhere",
            ]
        );
    }

    #[test]
    fn too_much_data_is_found() {
        let within = [entry("data/a/b", DATA_BYTES), entry("src/code.rs", 7)];
        assert_eq!(too_much_data(&within), [""; 0]);
        let above = [entry("data/a/b", DATA_BYTES), entry("crates/io/tests/c.pcap", 1)];
        assert_eq!(too_much_data(&above).len(), 3);
    }

    #[test]
    fn data_without_an_origin_is_found() {
        let entries = [
            entry("crates/io/tests/few.pcap", 1),
            entry("data/README.md", 1),
            entry("data/known/train/a.pcap.zst", 1),
            entry("data/new/a.csv", 1),
        ];
        let both = "## Origin\n## Licence\n";
        let notes = [
            Text::new("README.md", both),
            Text::new("data/README.md", both),
            Text::new("data/known/ORIGIN", both),
            Text::new("data/new/README.md", "## Origin\n"),
        ];
        let found = data_without_origin(&entries, &notes);
        let lines: Vec<&str> =
            found.iter().map(|line| line.split(" holds").next().unwrap()).collect();
        assert_eq!(lines, ["crates/io/tests:1:", "data/new:1:"]);
    }
}
