//! Words of the house that no user should have to translate, each with the field's word in its
//! place. This is the one list: `help_tests.rs` holds the help to it, and `tests/tidy.rs` all other
//! text for users.

/// Words for all texts: sentences of the program, report pages, documents, help.
pub(crate) const HOUSE_WORDS: &[(&str, &str)] = &[
    ("anew", "again"),
    ("answer", "label, prediction, scores or response"),
    ("answered", "decided or scored"),
    ("answers", "labels, predictions or responses"),
    ("asked", "scored, in inference or requested"),
    ("asks", "scores or requests"),
    ("by word", "in the configuration"),
    ("comes by", "arrives on"),
    ("doubt", "uncertainty"),
    ("doubts", "is uncertain"),
    ("ease", "recovery"),
    ("go on", "are escalated or continue"),
    ("goes on", "is escalated or continues"),
    ("grant", "guarantee"),
    ("granted", "guaranteed"),
    ("honest", "audit"),
    ("not wanted", "ignored"),
    ("nobody", "no user, process or thread"),
    ("odd", "novel"),
    ("oddness", "novelty score"),
    ("of its own", "separate or its own"),
    ("of their own", "separate or their own"),
    ("pass on", "escalate"),
    ("passed on", "escalated"),
    ("passes on", "escalates"),
    ("passes flows on", "escalates flows"),
    ("price", "cost"),
    ("promise", "guarantee"),
    ("promised", "guaranteed"),
    ("question", "inference"),
    ("relief", "degradation"),
    ("sure", "certain"),
    ("surest", "most certain"),
    ("tell", "report or distinguish"),
    ("tells", "reports or distinguishes"),
    ("told", "reported or written"),
    ("valve", "degradation"),
    ("waiting room", "collecting"),
    ("wish", "objective and constraints"),
    ("wishes", "objectives and constraints"),
    ("worth", "gain"),
    ("yardstick", "baseline"),
];

/// Words that are plain English in longer texts, and house language in the short ones of the help.
pub(crate) const HELP_WORDS: &[(&str, &str)] = &[
    ("account", "counter"),
    ("accounts", "counters"),
    ("ask", "score or request"),
    ("join", "add an external model, or combine"),
    ("of your own", "your"),
    ("say", "name or report"),
    ("says", "names or reports"),
    ("that is to", "to"),
];

/// Whether a text in lower case has a word or words, as whole ones.
pub(crate) fn has_words(text: &str, words: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_-".contains(c));
    text.match_indices(words).any(|(at, found)| {
        let (before, after) = (&text[..at], &text[at + found.len()..]);
        !is_part(before.chars().next_back()) && !is_part(after.chars().next())
    })
}
