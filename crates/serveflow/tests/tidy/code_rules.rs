//! Rules for Rust sources: sizes, and what may be called where.

use super::scan::{code_of, functions, imports, items_under, line_of, without_tests, words};
use super::tree::Text;
use std::collections::BTreeMap;

/// A file longer than this has more than one subject.
const FILE_LINES: usize = 600;
/// A function longer than this does more than one thing.
const FUNCTION_LINES: usize = 70;

/// The one crate that talks to the kernel.
const UNSAFE_ALLOWED: &[&str] = &["crates/io/src/"];

/// Below the worker, time is packet data. Files here may read a clock all the same, each for a
/// reason.
const CLOCK_ALLOWED: &[&str] = &[];

/// Names that read a clock, wherever they were imported from.
const CLOCKS: &[&str] = &["Instant", "SystemTime", "clock_gettime", "gettimeofday", "_rdtsc"];

/// Paths that `serveflow-core` may neither import nor name: it only computes.
const CORE_PATHS: &[&str] =
    &["std::thread", "std::fs", "std::io", "std::process", "std::env", "log", "tracing"];

/// Names and macros that have no place in `serveflow-core`. Addresses of `std::net` are data, its
/// sockets are not.
const CORE_NAMES: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "println!",
    "print!",
    "eprintln!",
    "eprint!",
    "dbg!",
];

/// Each finding as `path:line: what`.
fn finding(file: &Text, at: usize, what: &str) -> String {
    format!("{}:{}: {what}", file.path, line_of(&file.text, at))
}

/// Whether a file is a crate's own code, and not its tests, benches or examples.
fn is_source(path: &str) -> bool {
    path.contains("/src/") && !is_test(path)
}

/// Whether a file below `src` holds tests alone.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn is_in(path: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|start| path.starts_with(start))
}

pub(crate) fn long_files(files: &[Text]) -> Vec<String> {
    let lengths = files.iter().map(|file| (file, file.text.lines().count()));
    let long = lengths.filter(|&(_, lines)| lines > FILE_LINES);
    long.map(|(file, lines)| {
        format!("{}:{lines}: {lines} lines, at most {FILE_LINES} are allowed", file.path)
    })
    .collect()
}

pub(crate) fn long_functions(files: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let code = code_of(&file.text);
        for (name, range) in functions(&code) {
            let lines = line_of(&code, range.end - 1) - line_of(&code, range.start) + 1;
            if lines > FUNCTION_LINES {
                let what =
                    format!("`{name}` has {lines} lines, at most {FUNCTION_LINES} are allowed");
                found.push(finding(file, range.start, &what));
            }
        }
    }
    found
}

pub(crate) fn stray_unsafe(files: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        if !file.path.contains("/src/") || is_in(&file.path, UNSAFE_ALLOWED) {
            continue;
        }
        for at in words(&code_of(&file.text), "unsafe") {
            found.push(finding(file, at, "`unsafe` outside of serveflow-io"));
        }
    }
    found
}

pub(crate) fn clock_calls(files: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    let below_the_worker = ["crates/core/", "crates/model/", "crates/io/"];
    for file in files {
        if !is_source(&file.path)
            || !is_in(&file.path, &below_the_worker)
            || is_in(&file.path, CLOCK_ALLOWED)
        {
            continue;
        }
        let code = without_tests(&code_of(&file.text));
        for clock in CLOCKS {
            for at in words(&code, clock) {
                let what = format!("`{clock}`: time is packet data here, not a clock's");
                found.push(finding(file, at, &what));
            }
        }
    }
    found
}

pub(crate) fn core_calls(files: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        if !is_source(&file.path) || !file.path.starts_with("crates/core/") {
            continue;
        }
        let code = without_tests(&code_of(&file.text));
        let imported = imports(&code);
        for path in CORE_PATHS {
            let inside = format!("{path}::");
            let imports =
                imported.iter().filter(|(name, _)| name == path || name.starts_with(&inside));
            let mut places: Vec<usize> = imports.map(|&(_, at)| at).collect();
            places.extend(words(&code, &inside));
            found.extend(
                places
                    .iter()
                    .map(|&at| finding(file, at, &format!("`{path}`: the core only computes"))),
            );
        }
        for name in CORE_NAMES {
            let places = words(&code, name).into_iter();
            found.extend(
                places.map(|at| finding(file, at, &format!("`{name}`: the core only computes"))),
            );
        }
    }
    // An import may be found twice: as a path, and as text.
    found.sort();
    found.dedup();
    found
}

/// Calls that panic where the system has no thread to give; `Builder` says it in an error.
const PANICKING_SPAWNS: &[&str] = &["thread::spawn(", "scope.spawn("];

pub(crate) fn panicking_spawns(files: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_source(&file.path)) {
        let code = without_tests(&code_of(&file.text));
        let imported = imports(&code).into_iter().filter(|(name, _)| name == "std::thread::spawn");
        let calls = PANICKING_SPAWNS.iter().flat_map(|call| words(&code, call));
        for at in imported.map(|(_, at)| at).chain(calls) {
            let what = "a spawn that panics where there is no thread; use `thread::Builder`";
            found.push(finding(file, at, what));
        }
    }
    found
}

/// What may stand before the name of a public type.
const TYPES: &[&str] = &["struct", "enum", "trait", "type", "union"];

/// The name of the public type that begins at this `pub`, if one does.
fn public_type(code: &str, at: usize) -> Option<&str> {
    let rest = code[at + 3..].strip_prefix(char::is_whitespace)?;
    let mut parts = rest.split_whitespace().filter(|part| *part != "unsafe");
    let kind = parts.next()?;
    let name = parts.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    TYPES.contains(&kind).then_some(&name[..end])
}

/// Public types that share a name. A twin for other systems, under `#[cfg(not(`, is the same type.
pub(crate) fn twin_types(files: &[Text]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_source(&file.path)) {
        let code = without_tests(&code_of(&file.text));
        let twins = items_under(&code, "#[cfg(not(");
        for at in words(&code, "pub") {
            if let Some(name) =
                public_type(&code, at).filter(|_| !twins.iter().any(|t| t.contains(&at)))
            {
                let place = format!("{}:{}", file.path, line_of(&code, at));
                places.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    let shared = places.into_iter().filter(|(_, places)| places.len() > 1);
    shared
        .map(|(name, places)| {
            format!("{}: the public type `{name}` is also at {}", places[0], places[1..].join(", "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_one_name_are_found() {
        let twin = "pub struct A;\n#[cfg(not(unix))]\nmod m {\n    pub struct A;\n}\n";
        let types = "pub(crate) struct A;\npub enum A<T> {}\npub unsafe trait B {}\nstruct B;\n\
            #[cfg(test)]\nmod t {\n    pub type B = u8;\n}\n";
        let at = |path: &str, text: &str| Text::new(&format!("crates/{path}.rs"), text);
        assert_eq!(twin_types(&[at("io/src/a", twin), at("io/tests/a", types)]), [""; 0]);
        assert_eq!(
            twin_types(&[at("io/src/a", twin), at("core/src/b", types)]),
            ["crates/io/src/a.rs:1: the public type `A` is also at crates/core/src/b.rs:2"]
        );
    }

    fn one(path: &str, text: &str) -> Vec<Text> {
        vec![Text::new(path, text)]
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(long_files(&one("crates/core/src/a.rs", &"\n".repeat(600))), [""; 0]);
        assert_eq!(
            long_files(&one("crates/core/src/a.rs", &"\n".repeat(601))),
            ["crates/core/src/a.rs:601: 601 lines, at most 600 are allowed"]
        );
    }

    #[test]
    fn a_long_function_is_found() {
        let body = |lines: usize| {
            format!("// {{\nfn f<'a>(x: [u8; 2]) -> char {{\n{}'}}'\n}}\n", "\n".repeat(lines))
        };
        assert_eq!(long_functions(&one("crates/io/tests/a.rs", &body(67))), [""; 0]);
        assert_eq!(
            long_functions(&one("crates/io/tests/a.rs", &body(68))),
            ["crates/io/tests/a.rs:2: `f` has 71 lines, at most 70 are allowed"]
        );
    }

    #[test]
    fn stray_unsafe_is_found_in_tests_of_src_too() {
        let text =
            "#![forbid(unsafe_code)]\n// unsafe\n#[cfg(test)]\nmod t {\n    unsafe fn f() {}\n}\n";
        assert_eq!(
            stray_unsafe(&one("crates/model/src/a.rs", text)),
            ["crates/model/src/a.rs:5: `unsafe` outside of serveflow-io"]
        );
        assert_eq!(stray_unsafe(&one("crates/io/src/a.rs", text)), [""; 0]);
    }

    #[test]
    fn a_clock_is_found_below_the_worker() {
        let text = "use std::time::{Duration, Instant};\n/// Not `Instant`.\n#[cfg(test)]\nuse \
                    x::SystemTime;\n";
        for path in ["crates/core/src/a.rs", "crates/io/src/a.rs", "crates/model/src/b/a.rs"] {
            assert_eq!(
                clock_calls(&one(path, text)),
                [format!("{path}:1: `Instant`: time is packet data here, not a clock's")]
            );
        }
        assert_eq!(clock_calls(&one("crates/serveflow/src/a.rs", text)), [""; 0]);
        assert_eq!(clock_calls(&one("crates/io/tests/a.rs", text)), [""; 0]);
    }

    #[test]
    fn a_spawn_that_panics_is_found() {
        let text = "use std::thread::{self, spawn};\nfn f() {\n    std::thread::spawn(|| ());\n    \
            thread::scope(|scope| {\n        scope.spawn(|| ());\n    });\n    \
            Builder::new().spawn(f);\n    command.spawn();\n}\n#[cfg(test)]\nmod tests {\n    \
            fn f() {\n        thread::spawn(|| ());\n    }\n}\n";
        let what = "a spawn that panics where there is no thread; use `thread::Builder`";
        for path in ["crates/train/src/a.rs", "crates/serveflow/src/a.rs"] {
            let expected = [1, 3, 5].map(|line| format!("{path}:{line}: {what}"));
            assert_eq!(panicking_spawns(&one(path, text)), expected);
        }
        assert_eq!(panicking_spawns(&one("crates/serveflow/tests/a.rs", text)), [""; 0]);
    }

    #[test]
    fn what_the_core_may_not_call_is_found() {
        let text = "use std::{fmt, fs::{self, File}};\nuse std::net::{IpAddr, UdpSocket};\nfn f(x: \
                    f64) -> f64 {\n    println!(\"std::env::args\");\n    \
                    std::thread::yield_now();\n    log::info!(\"\");\n    x.log(2.0)\n}\n\
                    #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(
            core_calls(&one("crates/core/src/a.rs", text)),
            [
                "crates/core/src/a.rs:1: `std::fs`: the core only computes",
                "crates/core/src/a.rs:2: `UdpSocket`: the core only computes",
                "crates/core/src/a.rs:4: `println!`: the core only computes",
                "crates/core/src/a.rs:5: `std::thread`: the core only computes",
                "crates/core/src/a.rs:6: `log`: the core only computes",
            ]
        );
        assert_eq!(core_calls(&one("crates/io/src/a.rs", text)), [""; 0]);
    }
}
