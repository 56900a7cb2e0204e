//! Progress bars on standard error; none when it is no terminal.

use super::Session;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serveflow_train::pipeline::Step;

/// A bar that follows the steps of training.
pub(crate) struct Progress {
    bar: ProgressBar,
    title: String,
}

impl Progress {
    pub(crate) fn new(session: &Session) -> Self {
        let target =
            if session.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{prefix:<28} [{bar:30}] {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        Self { bar, title: String::new() }
    }

    /// Shows `done` of `total` under a title; a new title leaves the old line standing.
    pub(crate) fn show(&mut self, title: &str, done: usize, total: usize, message: &str) {
        if self.title != title {
            title.clone_into(&mut self.title);
            self.bar.reset();
            self.bar.set_prefix(title.to_owned());
        }
        self.bar.set_length(total as u64);
        self.bar.set_message(message.to_owned());
        self.bar.set_position(done as u64);
    }

    /// Shows a step of training.
    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Recording(done, total) => self.show("recording captures", done, total, ""),
            Step::Training(tier, progress) => {
                let loss = progress.validation_loss;
                let message = loss.map_or_else(String::new, |loss| format!("loss {loss:.4}"));
                let title = format!("training {tier}");
                self.show(&title, progress.done, progress.total, &message);
            }
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
