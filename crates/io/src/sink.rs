//! Where verdicts go.

use serveflow_core::verdict::Verdict;
use std::io;

/// Takes verdicts, a batch at a time.
pub trait Sink: Send {
    /// Takes verdicts in the order in which they came.
    ///
    /// # Errors
    /// When what lies behind the sink fails; how many of the verdicts it took is then unknown.
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()>;

    /// Says what the labels and stages of a plan are called, for verdicts that come from now on.
    /// Those of plan 0 were told when the sink was made. Sinks that name nothing do nothing.
    fn name_plan(&mut self, _plan: u8, _labels: &[String], _stages: &[String]) {}

    /// Makes sure that what was written has left the process.
    ///
    /// # Errors
    /// When what lies behind the sink fails.
    fn flush(&mut self) -> io::Result<()>;
}

/// Counts verdicts and forgets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Null {
    /// Verdicts so far.
    pub count: u64,
}

impl Sink for Null {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.count += verdicts.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps verdicts, for tests and for callers that want them all.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Verdicts so far.
    pub verdicts: Vec<Verdict>,
}

impl Sink for Memory {
    fn write(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        self.verdicts.extend_from_slice(verdicts);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
