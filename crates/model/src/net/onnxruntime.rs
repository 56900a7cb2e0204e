//! ONNX Runtime, from a library that the operator names.
//!
//! A session has one thread for the work within an operator and runs operators in turn, which means
//! that it starts none: it computes on its caller's. A session serves one caller at a time, so a
//! net keeps as many as were ever needed at once, and makes the next from the file when all are in
//! use.

use super::Take;
use super::file::Ports;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::value::TensorRef;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The library that was opened first, and what it was opened as. The bindings keep one per process
/// whatever their users do, so a second one can only be refused; which nets it scores is said per
/// bundle.
static LIBRARY: OnceLock<(PathBuf, Environment)> = OnceLock::new();
/// Held while a library is opened.
static OPENING: Mutex<()> = Mutex::new(());

/// An open library.
#[derive(Clone, Copy)]
pub(super) struct Library(&'static Environment);

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Library").finish_non_exhaustive()
    }
}

impl Library {
    /// Opens the library.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let refused = |found: &dyn fmt::Display| {
            format!("expected the library of ONNX Runtime, found none that loads: {found}")
        };
        // The crate looks for what is relative beside the program.
        let path = path.canonicalize().map_err(|error| refused(&error))?;
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        match LIBRARY.get() {
            Some((named, environment)) if *named == path => return Ok(Self(environment)),
            Some((named, _)) => {
                return Err(refused(&format_args!("{} was named before", named.display())));
            }
            None => {}
        }
        let builder = ort::init_from(&path).map_err(|error| refused(&error))?;
        let opened = builder.with_name("serveflow").with_telemetry(false).build();
        let environment = opened.map_err(|error| refused(&error))?;
        Ok(Self(&LIBRARY.get_or_init(|| (path, environment)).1))
    }
}

/// A net.
pub(super) struct Net {
    library: Library,
    bytes: Vec<u8>,
    output: String,
    idle: Mutex<Vec<Session>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("output", &self.output).finish_non_exhaustive()
    }
}

impl Net {
    /// Reads a net.
    pub(super) fn open(library: Library, bytes: &[u8], ports: &Ports) -> Result<Self, String> {
        let idle = Mutex::default();
        let net = Self { library, bytes: bytes.to_vec(), output: ports.output.clone(), idle };
        net.give(net.session()?);
        Ok(net)
    }

    fn session(&self) -> Result<Session, String> {
        let open = || -> ort::Result<Session> {
            Session::builder(self.library.0)?
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_parallel_execution(false)?
                // What goes wrong is told by errors.
                .with_log_level(LogLevel::Fatal)?
                .commit_from_memory(&self.bytes)
        };
        open().map_err(|error| refused(&error))
    }

    fn give(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// Scores values of these dimensions.
    pub(super) fn run(&self, values: &[f32], dims: &[usize], take: Take<'_>) -> Result<(), String> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = idle.map_or_else(|| self.session(), Ok)?;
        let scored = self.run_in(&mut session, values, dims, take);
        self.give(session);
        scored
    }

    fn run_in(
        &self,
        session: &mut Session,
        values: &[f32],
        dims: &[usize],
        take: Take<'_>,
    ) -> Result<(), String> {
        let input = TensorRef::from_array_view((dims, values)).map_err(|error| refused(&error))?;
        let outputs = session.run(ort::inputs![input]).map_err(|error| refused(&error))?;
        let scores = outputs.get(&self.output).ok_or("expected scores, found none")?;
        let (dims, scores) = scores.try_extract_tensor().map_err(|error| refused(&error))?;
        let dims: Vec<usize> = dims.iter().map(|&dim| dim.max(0) as usize).collect();
        take(&dims, scores)
    }
}

fn refused(error: &dyn fmt::Display) -> String {
    format!("expected a net that can be scored, found: {error}")
}
