//! One output for several sinks.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// A writer that several sinks write to: what one of them hands over at once stays together.
///
/// The text sinks hand over whole lines, so their lines never mix.
#[derive(Clone)]
pub struct SharedWriter(Arc<Mutex<Box<dyn Write + Send>>>);

impl SharedWriter {
    /// A shared face of a writer.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    fn writer(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        self.0.lock().expect("no writer panics")
    }
}

impl Write for SharedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}
