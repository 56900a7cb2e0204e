//! Laws of the help texts, over all commands.

use super::args::{Cli, heading, program};
use super::house_words::{HELP_WORDS, HOUSE_WORDS, has_words};
use clap::{Arg, ArgAction, Command, Parser};

/// Columns of the help, and of each line in it.
const COLUMNS: usize = 100;

/// Every command with its path, the program itself first; `help` is that of clap.
fn commands() -> Vec<(String, Command)> {
    fn visit(path: &str, command: &Command, found: &mut Vec<(String, Command)>) {
        found.push((path.to_owned(), command.clone()));
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            visit(&format!("{path} {}", inner.get_name()), inner, found);
        }
    }
    let mut program = program();
    program.build();
    let mut found = Vec::new();
    visit("serveflow", &program, &mut found);
    found
}

/// Both helps of a command: that of `-h` and that of `--help`.
fn helps(command: &Command) -> [String; 2] {
    let mut command = command.clone().term_width(COLUMNS);
    [command.render_help().to_string(), command.render_long_help().to_string()]
}

/// The examples of a help text: lines below `Examples:`, those that go on joined.
fn examples(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let mut all: Vec<String> = Vec::new();
    let mut continues = false;
    for line in lines {
        let part = line.trim().trim_end_matches('\\').trim_end();
        match all.last_mut().filter(|_| continues) {
            Some(last) => *last = format!("{last} {part}"),
            None => all.push(part.to_owned()),
        }
        continues = line.ends_with('\\');
    }
    all
}

/// The words of the calls of `serveflow` in a line of a shell, as far as examples use one.
pub(super) fn calls(line: &str) -> Vec<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let (mut quote, mut is_word) = (None, false);
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
            (None, ' ') if is_word => {
                words.push(std::mem::take(&mut word));
                is_word = false;
            }
            (None, ' ') => {}
            (_, c) => {
                word.push(c);
                is_word = true;
            }
        }
    }
    let is_end = |word: &String| ["|", ">", "&&", "#"].contains(&word.as_str());
    let parts = words.split(is_end).map(<[String]>::to_vec);
    parts.filter(|part| part.first().is_some_and(|first| first == "serveflow")).collect()
}

#[test]
fn every_option_has_a_heading_and_global_options_come_last() {
    for (path, command) in commands() {
        let options: Vec<&Arg> = command.get_arguments().filter(|a| !a.is_positional()).collect();
        for positional in command.get_positionals() {
            // A heading would put it behind the options.
            assert!(positional.get_help_heading().is_none(), "{path}: {}", positional.get_id());
            assert!(positional.get_help().is_some(), "{path}: {}", positional.get_id());
        }
        for option in &options {
            let (name, heading) = (option.get_id(), option.get_help_heading());
            assert!(heading.is_some(), "{path}: --{name} has no heading");
            assert!(option.get_help().is_some(), "{path}: --{name} has no help");
        }
        let is_global = |option: &&&Arg| option.get_help_heading() == Some(heading::GLOBAL);
        let first = options.iter().position(|option| is_global(&option)).unwrap();
        assert!(options[first..].iter().all(|option| is_global(&option)), "{path}");
        let help = &helps(&command)[1];
        let headings = help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' '));
        let headings: Vec<&str> = headings.take_while(|line| *line != "Examples:").collect();
        assert_eq!(headings.last(), Some(&"Global options:"), "{path}: {headings:?}");
        assert!(!headings.contains(&"Options:"), "{path}: {headings:?}");
    }
}

#[test]
fn every_command_has_two_examples_that_can_be_typed() {
    for (path, command) in commands() {
        for help in helps(&command) {
            let all = examples(&help);
            assert!(all.len() >= 2, "{path}: {all:?}");
            for example in all {
                let calls = calls(&example);
                assert!(!calls.is_empty(), "{path}: `{example}` calls no serveflow");
                let text = calls.iter().map(|call| call.join(" ") + " ").collect::<String>();
                assert!(text.contains(&format!("{path} ")), "{path}: `{example}`");
                for call in calls {
                    let parsed = Cli::try_parse_from(call);
                    assert!(parsed.is_ok(), "{path}: `{example}`: {}", parsed.unwrap_err());
                }
            }
        }
    }
}

#[test]
fn help_has_the_words_of_the_field() {
    for (path, command) in commands() {
        for help in helps(&command) {
            let text = help.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
            let words = HOUSE_WORDS.iter().chain(HELP_WORDS);
            let found: Vec<_> = words.filter(|(word, _)| has_words(&text, word)).collect();
            assert!(found.is_empty(), "{path}: {found:?} in\n{help}");
        }
    }
}

#[test]
fn help_fits_its_columns() {
    for (path, command) in commands() {
        for help in helps(&command) {
            for line in help.lines() {
                assert!(line.chars().count() <= COLUMNS, "{path}: {line}");
            }
        }
        // Examples are not cut by the wrapping of lines either.
        let texts = [command.get_after_help(), command.get_after_long_help()];
        for text in texts.into_iter().flatten().map(ToString::to_string) {
            for line in text.lines() {
                assert!(line.chars().count() <= COLUMNS, "{path}: {line}");
            }
        }
    }
}

#[test]
fn units_and_values_are_stated() {
    let units = [("_ms", "millisecond"), ("_us", "microsecond"), ("_s", "second")];
    let counts = ["flows_per_s"];
    for (path, command) in commands() {
        for option in command.get_arguments() {
            let id = option.get_id().as_str();
            let texts = [option.get_help(), option.get_long_help()];
            let help: String = texts.into_iter().flatten().map(ToString::to_string).collect();
            for (ending, unit) in units {
                let is_of = id.ends_with(ending) && !counts.contains(&id);
                assert!(!is_of || help.contains(unit), "{path}: --{id}: {help}");
            }
            if option.is_positional() || !option.get_action().takes_values() {
                continue;
            }
            let names = option.get_value_names().unwrap_or_default();
            let is_list = option.get_value_delimiter().is_some();
            let has_dots = names.iter().any(|name| name.ends_with(",..."));
            assert_eq!(is_list, has_dots, "{path}: --{id} {names:?}");
            let is_repeatable = matches!(option.get_action(), ArgAction::Append) && !is_list;
            let takes_many = option.get_num_args().is_some_and(|range| range.max_values() > 1);
            let is_said = help.contains("repeatable") || takes_many;
            assert!(!is_repeatable || is_said, "{path}: --{id}: {help}");
        }
    }
}

#[test]
fn the_short_help_of_train_has_fifteen_options() {
    let all = commands();
    let (_, train) = all.iter().find(|(path, _)| path == "serveflow train").unwrap();
    let [short, long] = helps(train);
    let shown = |help: &str| -> Vec<String> {
        // Wrapped text is indented further than the names of options.
        let is_option = |line: &&str| line.starts_with("      --") || line.starts_with("  -");
        let options = help.lines().filter(is_option);
        let name = |line: &str| line.split("--").nth(1).map(|rest| rest.to_owned());
        let names =
            options.filter_map(name).map(|rest| rest.split([' ', '=']).next().map(str::to_owned));
        names
            .flatten()
            .filter(|name| !["config", "quiet", "help"].contains(&name.as_str()))
            .collect()
    };
    assert_eq!(shown(&short).len(), 15, "{short}");
    assert!(shown(&long).len() > 45, "{long}");
    assert!(short.contains("`serveflow train --help` shows all options by section"), "{short}");
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let manual = super::manual().unwrap();
    for (path, _) in commands() {
        let title = format!(".TH {} 1", path.replace(' ', "-"));
        assert!(manual.contains(&title), "{title}");
    }
}

#[test]
fn the_laws_can_fail() {
    assert!(has_words("a model is asked", "asked") && !has_words("a basket, tasked", "ask"));
    assert!(!has_words("--pass-on", "pass on") && has_words("it says so.", "says"));
    let help =
        "Usage\n\nExamples:\n  serveflow run a \\\n    --out 'b c'\n  x | serveflow man > m\n\nEnd";
    assert_eq!(examples(help), ["serveflow run a --out 'b c'", "x | serveflow man > m"]);
    assert_eq!(calls("serveflow run a --out 'b c'"), [["serveflow", "run", "a", "--out", "b c"]]);
    assert_eq!(calls("x | serveflow man > m"), [["serveflow", "man"]]);
}
