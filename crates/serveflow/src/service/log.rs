//! The log of a service, on standard error.

use tracing_subscriber::filter::LevelFilter;

/// Begins the log: a line of text for each event, or an object of JSON; of errors alone where it should be
/// quiet. A second call changes nothing.
pub fn begin(json: bool, quiet: bool) {
    let level = if quiet { LevelFilter::ERROR } else { LevelFilter::INFO };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
    // Who writes to a log that nobody reads goes on: a word about it would have no place to go.
    let log = log.log_internal_errors(false);
    let _ = match json {
        true => log.json().flatten_event(true).with_target(false).try_init(),
        false => log.with_target(false).with_ansi(false).try_init(),
    };
}
