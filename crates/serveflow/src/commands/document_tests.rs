//! Law of the documents: each command and option that they name exists.

use super::args::program;
use super::help_tests::calls;
use clap::Command;
use std::path::{Path, PathBuf};

/// Documents outside of `docs/` that call the program.
const DOCUMENTS: [&str; 4] =
    ["README.md", "CONTRIBUTING.md", "examples/README.md", "packaging/serveflow.service"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = DOCUMENTS.iter().map(|name| root().join(name)).collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(ending) if ending == "md" => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// The pieces of a document that are typed or named: code lines with what continues them, and code
/// spans.
fn pieces(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let text = text.replace("\\\n", " ");
    for line in text.lines() {
        let code =
            line.trim().trim_start_matches("$ ").trim_start_matches("ExecStart=/usr/local/bin/");
        let code = code
            .strip_prefix("cargo run --release -- ")
            .map_or(code.to_owned(), |rest| format!("serveflow {rest}"));
        if code.split(' ').any(|word| word == "serveflow") {
            found.push(code);
        }
    }
    // Spans may go on in the next line.
    let joined = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    found.extend(joined.split('`').skip(1).step_by(2).map(str::to_owned));
    found
}

/// What is unknown in a piece that begins with `serveflow`, or with a command and has an option.
fn unknown(piece: &str, program: &Command) -> Option<String> {
    let first = piece.split(' ').next()?;
    let is_short = program.find_subcommand(first).is_some() && piece.contains(" --");
    let line = if is_short { format!("serveflow {piece}") } else { piece.to_owned() };
    calls(&line).iter().find_map(|call| unknown_in(&call[1..], program))
}

fn unknown_in(words: &[String], program: &Command) -> Option<String> {
    let mut command = program;
    let mut takes_value = false;
    let mut has_operand = false;
    for word in words {
        if let Some(name) = word.strip_prefix("--") {
            let name = name.split(['=', ',']).next().unwrap_or(name);
            let name = name.trim_end_matches(['.', ';', ':', ')']);
            // `bench --json` is the option of each bench.
            let all = [command].into_iter().chain(command.get_subcommands());
            let mut options = all.flat_map(Command::get_arguments);
            let found = options.find(|arg| arg.get_long() == Some(name));
            let Some(option) = found else {
                return Some(format!("`{}` has no --{name}", command.get_name()));
            };
            takes_value = option.get_action().takes_values() && !word.contains('=');
            continue;
        }
        let is_value = std::mem::take(&mut takes_value);
        if is_value || word.starts_with('-') || has_operand || !command.has_subcommands() {
            continue;
        }
        match command.find_subcommand(word) {
            Some(inner) => command = inner,
            // A name in capitals or dots stands for what a user fills in.
            None if word.chars().all(|c| c.is_ascii_lowercase()) => {
                return Some(format!("`{}` has no command `{word}`", command.get_name()));
            }
            None => has_operand = true,
        }
    }
    None
}

#[test]
fn documents_name_commands_and_options_that_exist() {
    let mut program = program();
    program.build();
    let mut found = Vec::new();
    let mut count = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for piece in pieces(&text) {
            count += usize::from(!calls(&piece).is_empty());
            let is_unknown = unknown(&piece, &program);
            found.extend(is_unknown.map(|what| format!("{}: {what}: {piece}", path.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(count >= 20, "documents call the program, found {count} calls");
}

#[test]
fn the_law_of_documents_can_fail() {
    let mut program = program();
    program.build();
    let text = "Run `serveflow run a --bundel b`, `train --join x`\nand \
                `serveflow\nconrol status`.\n\n\
                \x20   serveflow bundle add m --stage s \\\n        --measure margin\n";
    let found: Vec<String> = pieces(text).iter().filter_map(|p| unknown(p, &program)).collect();
    for what in ["--bundel", "--join", "`conrol`", "--measure"] {
        assert!(found.iter().any(|found| found.contains(what)), "{what}: {found:?}");
    }
    for right in ["train --guarantee 0.1", "serveflow BUNDLE", "serveflow control shadow --stop"] {
        assert_eq!(unknown(right, &program), None, "{right}");
    }
}
