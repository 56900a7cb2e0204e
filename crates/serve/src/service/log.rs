//! The log of a service, on standard error. Nobody who writes to it waits: lines go through a
//! bounded buffer to a thread, and what finds the buffer full is dropped and counted.

use crate::clock;
use serveflow_output::{Lines, Output, OutputLimits, OutputStatus, RecordWriter, StandardStream};
use std::borrow::Cow;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait.
const BUFFER_BYTES: usize = 1 << 20;
/// Longest that the end of the process waits for a reader of the log.
const PATIENCE: Duration = Duration::from_millis(500);

/// The log of this process; there is one standard error.
static LINES: OnceLock<Output> = OnceLock::new();
/// Whether its thread runs.
static IS_FOLLOWED: AtomicBool = AtomicBool::new(false);

/// Begins the log: a line of text for each event, or an object of JSON; of errors alone where it
/// should be quiet. A second call changes nothing. Lines are kept until [`follow`] is called, or
/// [`finish`].
pub fn begin(json: bool, quiet: bool) {
    let limits = OutputLimits {
        buffer_bytes: BUFFER_BYTES,
        is_lossless: false,
        ends_with_reader: false,
        stall_ns: u64::MAX,
        now: clock::now_ns,
    };
    if LINES.set(Output::new(limits)).is_err() {
        return;
    }
    let level = if quiet { LevelFilter::ERROR } else { LevelFilter::INFO };
    let log = tracing_subscriber::fmt().with_writer(Door { is_json: json }).with_max_level(level);
    let log = log.log_internal_errors(false);
    let _ = match json {
        true => log.json().flatten_event(true).with_target(false).try_init(),
        false => log.with_target(false).with_ansi(false).try_init(),
    };
}

/// Starts the thread that writes, with the privileges that the process has now. From now on what a
/// thread says that panics is in the log as well, since it must not wait for a reader either.
///
/// # Errors
/// When the system gives no thread.
pub fn follow() -> io::Result<()> {
    let Some(lines) = LINES.get() else { return Ok(()) };
    if IS_FOLLOWED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let started = StandardStream::error().and_then(|stream| lines.write_to(stream, "log"));
    // So that the end of the process still writes what waits.
    started.inspect_err(|_| IS_FOLLOWED.store(false, Ordering::Relaxed))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

/// Whether this process has a log.
#[must_use]
pub fn is_begun() -> bool {
    LINES.get().is_some()
}

/// Lines that were dropped since nobody took them.
#[must_use]
pub fn dropped() -> u64 {
    LINES.get().map_or(0, |lines| lines.status().all_lost())
}

/// Writes what waits, before the process ends. A reader that stands still is waited for only for a
/// moment.
pub fn finish() {
    if let Some(lines) = LINES.get() {
        if follow().is_err()
            && let Ok(stream) = StandardStream::error()
        {
            lines.write_here(stream);
        }
        let OutputStatus { .. } = lines.close(PATIENCE);
    }
}

/// Where events come in.
#[derive(Clone, Copy)]
struct Door {
    is_json: bool,
}

impl<'a> MakeWriter<'a> for Door {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl io::Write for Door {
    /// Takes an event: its line, and the end of it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let bytes = escaped(text, self.is_json).into_bytes();
        let mut line = Lines { bytes, ends: Vec::new() };
        line.bytes.push(b'\n');
        line.end_record();
        if let Some(lines) = LINES.get() {
            lines.clone().take(&mut line)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a character shows as itself, where it stands. Others move the cursor, change colours,
/// begin a line or turn the direction of writing: text that comes from outside could so look like
/// what it is not.
fn is_plain(letter: char) -> bool {
    let turns = matches!(letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}'))
}

/// A text for a terminal, in which all characters are escaped that are neither plain nor lay it
/// out: names of files and answers of a service may hold any.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    let is_shown = |letter: char| is_plain(letter) || matches!(letter, '\n' | '\t');
    if text.chars().all(is_shown) {
        return text.into();
    }
    let escape = |letter: char| match is_shown(letter) {
        true => letter.to_string(),
        false => letter.escape_default().to_string(),
    };
    text.chars().map(escape).collect::<String>().into()
}

/// The same for a text that is one line.
#[must_use]
pub fn shown_line(text: &str) -> String {
    escaped(text, false)
}

/// The same for an object of JSON, which stays one.
#[must_use]
pub fn shown_json(text: &str) -> String {
    text.split('\n').map(|line| escaped(line, true)).collect::<Vec<_>>().join("\n")
}

/// A line with all characters escaped that are not plain: as JSON has it, or as Rust has it.
fn escaped(line: &str, is_json: bool) -> String {
    if line.chars().all(is_plain) {
        return line.to_owned();
    }
    let mut text = String::with_capacity(line.len() + 8);
    for letter in line.chars() {
        match letter {
            _ if is_plain(letter) => text.push(letter),
            // All of them are below U+10000. In JSON they stand inside of strings alone.
            _ if is_json => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => text.extend(letter.escape_default()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_from_outside_makes_a_line_or_a_colour_of_its_own() {
        let others = "é 🦀 漢".chars();
        let all: String = (0..0x3000).filter_map(char::from_u32).chain(others).collect();
        let text = escaped(&all, false);
        assert!(text.chars().all(is_plain) && text.contains("\\n") && text.contains("\\u{1b}"));
        assert!(text.contains("é 🦀 漢") && text.contains("\\u{202e}"));
        // What a JSON writer leaves as it is inside of a string.
        let object = serde_json::json!({ "path": all }).to_string();
        let line = escaped(&object, true);
        assert!(line.chars().all(is_plain));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["path"].as_str(), Some(all.as_str()));
    }

    #[test]
    fn no_text_from_outside_commands_a_terminal() {
        let all = (0..0x3000).filter_map(char::from_u32).chain("é 🦀 漢".chars());
        let all: String = all.collect();
        let text = shown(&all);
        assert!(text.chars().all(|letter| is_plain(letter) || "\n\t".contains(letter)));
        assert!(text.contains("\\u{1b}") && text.contains("\\u{7f}") && text.contains("\\u{9b}"));
        assert!(shown_line(&all).chars().all(is_plain));
        // One of each is left or escaped, and none goes.
        for letter in all.chars() {
            let (shown, line) = (shown(letter.encode_utf8(&mut [0; 4])).len(), letter.len_utf8());
            assert!(shown >= line, "{letter:?}");
        }
        let object = serde_json::json!({ "path": all });
        for text in [object.to_string(), serde_json::to_string_pretty(&object).unwrap()] {
            let shown = shown_json(&text);
            assert!(shown.chars().all(|letter| is_plain(letter) || letter == '\n'));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), object);
        }
        assert_eq!(shown("a\n\tb é"), "a\n\tb é");
    }

    #[test]
    fn plain_lines_are_left_as_they_are() {
        for line in ["", "a b=\"c\" {}", "straße 漢字"] {
            assert_eq!((escaped(line, true), escaped(line, false)), (line.into(), line.into()));
        }
    }
}
