//! Where the values of a configuration stand, so that each error names file, line, column and key.

use super::ConfigError;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The file of a configuration, and what the command line puts over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    file: Option<Arc<File>>,
    /// Options of the command line, by the key that they put a value in place of.
    options: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, PartialEq, Eq)]
struct File {
    path: PathBuf,
    text: String,
}

impl Origin {
    /// Values stand in this file.
    #[must_use]
    pub fn of_file(path: &Path, text: String) -> Self {
        let file = Some(Arc::new(File { path: path.to_owned(), text }));
        Self { file, options: BTreeMap::new() }
    }

    /// The value of a key comes by an option of the command line.
    pub fn put_over(&mut self, key: &'static str, option: &'static str) {
        self.options.insert(key, option);
    }

    /// An error, with the place of its key before it.
    #[must_use]
    pub fn located(&self, error: ConfigError) -> ConfigError {
        let Some(key) = error.key() else { return error };
        match self.place(key) {
            Some(place) => ConfigError::At { place, error: Box::new(error) },
            None => error,
        }
    }

    /// Where the value of a key stands, or the section that it should stand in: `FILE:LINE:COLUMN`,
    /// or the option of the command line. A key that stands nowhere has no place.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<String> {
        if let Some(option) = self.options.get(key) {
            return Some((*option).to_owned());
        }
        let file = self.file.as_ref()?;
        let table = DeTable::parse(&file.text).ok()?;
        Some(file.position(find(table.get_ref(), key)?))
    }

    /// What the reader of TOML says, in the words of the other errors.
    pub(super) fn refused(&self, error: &toml::de::Error) -> ConfigError {
        let Some(file) = &self.file else {
            return ConfigError::Typed { place: String::new(), message: error.to_string() };
        };
        let span = error.span().unwrap_or(0..0);
        let place = file.position(span.start);
        let key = DeTable::parse(&file.text).ok().and_then(|table| {
            let mut path = Vec::new();
            key_at(table.get_ref(), span.start, &mut path).then(|| path.join("."))
        });
        let mut message = key.map_or_else(String::new, |key| format!("{key}: "));
        message.push_str(&in_words(error.message(), file.text.get(span).unwrap_or_default()));
        ConfigError::Typed { place, message }
    }
}

impl File {
    /// A byte of the text as `FILE:LINE:COLUMN`.
    fn position(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }
}

/// Where the value of a key begins, or else the deepest table on the way to it.
fn find(table: &DeTable<'_>, key: &str) -> Option<usize> {
    for (name, value) in table {
        let bare: &str = name.get_ref();
        for spelled in [bare.to_owned(), format!("\"{bare}\"")] {
            let Some(rest) = key.strip_prefix(&spelled) else { continue };
            if rest.is_empty() {
                return Some(value.span().start);
            }
            // A name may hold dots, and one may begin like another one.
            let (Some(rest), DeValue::Table(inner)) = (rest.strip_prefix('.'), value.get_ref())
            else {
                continue;
            };
            return Some(find(inner, rest).unwrap_or(name.span().start));
        }
    }
    None
}

/// The key that a byte of the text belongs to; whether there is one.
fn key_at(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) -> bool {
    for (name, value) in table {
        path.push(spelled(name.get_ref()));
        let is_inside = match value.get_ref() {
            DeValue::Table(inner) => key_at(inner, at, path),
            _ => false,
        };
        if is_inside || holds(name, at) || holds(value, at) {
            return true;
        }
        path.pop();
    }
    false
}

fn holds<T>(part: &Spanned<T>, at: usize) -> bool {
    part.span().contains(&at)
}

/// A name as it stands in keys.
fn spelled(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_bare) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

/// What was expected and found, from the reader's words; `text` is what stands at the place.
fn in_words(message: &str, text: &str) -> String {
    let wrong = ["invalid type: ", "invalid value: "];
    let rest = wrong.iter().find_map(|start| message.strip_prefix(start));
    if let Some((_, expected)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) {
        return format!("expected {}, found {}", expectation(expected), shortened(text));
    }
    if let Some((_, known)) = message.split_once(", expected ")
        && message.starts_with("unknown field ")
    {
        let known = known.trim_start_matches("one of ").replace('`', "");
        return format!("expected a key of {known}, found {}", shortened(text));
    }
    if message.ends_with("number overflowed") {
        let expected = "a number of at most 9223372036854775807";
        return format!("expected {expected}, found {}", shortened(text));
    }
    let mut words = message.replace('\n', "; ");
    if !text.trim().is_empty() && !message.contains("found") {
        let _ = write!(words, ", found {}", shortened(text));
    }
    words
}

/// What a type of the program is to somebody who writes a configuration.
fn expectation(of_type: &str) -> &str {
    match of_type {
        "usize" | "u64" => "a whole number from 0",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "text in quotes",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        "any valid TOML value" => "a value",
        of_type if of_type.starts_with("struct ") => "a table",
        of_type => of_type,
    }
}

/// The beginning of what stands somewhere, on one line.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > MOST {
        line = line.chars().take(MOST).chain("...".chars()).collect();
    }
    format!("`{line}`")
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
