//! Words of the house in text for users: in the strings of the program, in documents, in the
//! example configuration.

use super::scan::{code_of, items_under, line_of, strings};
use super::tree::Text;
use crate::house_words::{HELP_WORDS, HOUSE_WORDS, has_words};

/// The list itself names the words.
const LIST: &str = "crates/serveflow/src/commands/house_words.rs";

/// Documents that users read, and the settings that `config example` prints.
pub(crate) fn is_document(path: &str) -> bool {
    let in_docs = path.starts_with("docs/") && path.ends_with(".md");
    in_docs || path == "README.md" || path == "crates/serve/src/serveflow.toml"
}

/// The words of the house in a text, each with what to write in its place.
fn house_words(text: &str) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let found = HOUSE_WORDS.iter().filter(|(word, _)| has_words(&text, word));
    found.map(|(word, instead)| format!("`{word}`: write {instead}")).collect()
}

/// The text of a string literal without line breaks, escapes and the names in its placeholders.
fn shown(literal: &str) -> String {
    let mut shown = String::new();
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        match c {
            // An escaped line break takes no place, other escapes part words.
            '\\' => match chars.next() {
                Some('\n') => {}
                _ => shown.push(' '),
            },
            '{' => {
                let _name = chars.by_ref().find(|c| *c == '}');
                shown.push('x');
            }
            c => shown.push(c),
        }
    }
    shown
}

pub(crate) fn in_strings(files: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("tests.rs");
    let is_shown = |path: &str| path.contains("/src/") && !is_test(path) && path != LIST;
    for file in files.iter().filter(|file| is_shown(&file.path)) {
        let tests = items_under(&code_of(&file.text), "#[cfg(test)]");
        for at in strings(&file.text) {
            if tests.iter().any(|test| test.contains(&at.start)) {
                continue;
            }
            let line = line_of(&file.text, at.start);
            let words = house_words(&shown(&file.text[at]));
            found.extend(words.iter().map(|word| format!("{}:{line}: {word}", file.path)));
        }
    }
    found
}

/// The text of a document with blocks and spans of code blanked, and the marks of comments: names
/// of keys and files stand in these.
fn prose(document: &str) -> String {
    let mut is_code = false;
    let lines = document.lines().map(|line| {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
            return String::new();
        }
        let line = line.strip_prefix('#').unwrap_or(line);
        let spans = line.split('`').enumerate();
        let outside = spans.map(|(number, part)| if number % 2 == 0 { part } else { "x" });
        if is_code { String::new() } else { outside.collect() }
    });
    lines.map(|line| format!("{line}\n")).collect()
}

pub(crate) fn in_documents(documents: &[Text]) -> Vec<String> {
    let mut found = Vec::new();
    for document in documents {
        let mut line = 1;
        for paragraph in prose(&document.text).split("\n\n") {
            let words = house_words(paragraph);
            found.extend(words.iter().map(|word| format!("{}:{line}: {word}", document.path)));
            line += paragraph.matches('\n').count() + 2;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_words_in_strings_are_found() {
        let text = "/// Asked.\nconst A: &str = \"is not \\\n    asked {told}\";\n\
            const B: &str = \"the basket was tasked\";\nconst C: &str = \"pass\\non\";\n\
            #[cfg(test)]\nmod tests {\n    const D: &str = \"asked\";\n}\n";
        let found = in_strings(&[Text::new("crates/io/src/a.rs", text)]);
        assert_eq!(
            found,
            [
                "crates/io/src/a.rs:2: `asked`: write scored, in inference or requested",
                "crates/io/src/a.rs:5: `pass on`: write escalate",
            ]
        );
        for path in ["crates/io/tests/a.rs", "crates/io/src/a_tests.rs", LIST] {
            assert_eq!(in_strings(&[Text::new(path, text)]), [""; 0]);
        }
    }

    #[test]
    fn house_words_in_documents_are_found() {
        let text = "# Nobody\n\n`asked` goes\n  on\n\n```\nasked\n```\n\n- Told, of its own.\n";
        assert_eq!(
            in_documents(&[Text::new("docs/a.md", text)]),
            [
                "docs/a.md:1: `nobody`: write no user, process or thread",
                "docs/a.md:3: `goes on`: write is escalated or continues",
                "docs/a.md:10: `of its own`: write separate or its own",
                "docs/a.md:10: `told`: write reported or written",
            ]
        );
        assert!(is_document("docs/a.md") && !is_document("docs/a.svg"));
    }

    #[test]
    fn every_word_is_listed_once_and_none_is_a_word_to_use() {
        let all: Vec<&(&str, &str)> = HOUSE_WORDS.iter().chain(HELP_WORDS).collect();
        for (number, (word, instead)) in all.iter().enumerate() {
            assert!(all[..number].iter().all(|(other, _)| other != word), "{word} twice");
            assert_eq!(house_words(instead), [""; 0], "{word}");
        }
    }
}
