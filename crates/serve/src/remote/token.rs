//! The bearer token: read when it is first needed, and anew when its file changes.

use crate::config::TokenPlace;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What tells whether a file changed.
type Stamp = (Option<SystemTime>, u64);

/// Where a token stands, and what it was when last read.
pub(super) struct Token {
    file: Option<PathBuf>,
    last: Mutex<(Stamp, String)>,
}

// A token does not get into a log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Token {
    /// Reads a token for the first time.
    pub(super) fn open(place: &TokenPlace) -> Result<Self, String> {
        match place {
            TokenPlace::File(path) => {
                let last = (stamp(path), read(path)?);
                Ok(Self { file: Some(path.clone()), last: Mutex::new(last) })
            }
            TokenPlace::Env(name) => {
                let found = std::env::var(name).map_err(|error| format!("${name}: {error}"))?;
                let token = checked(&found).map_err(|why| format!("${name}: {why}"))?;
                Ok(Self { file: None, last: Mutex::new(((None, 0), token)) })
            }
        }
    }

    /// The value of an `authorization` header. A file that cannot be read any more leaves the last
    /// token.
    pub(super) fn header(&self) -> String {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.file {
            let now = stamp(path);
            if now != last.0
                && let Ok(token) = read(path)
            {
                *last = (now, token);
            }
        }
        format!("Bearer {}", last.1)
    }
}

fn stamp(path: &Path) -> Stamp {
    std::fs::metadata(path).map_or((None, 0), |data| (data.modified().ok(), data.len()))
}

fn read(path: &Path) -> Result<String, String> {
    let told = |why: String| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
    checked(&text).map_err(told)
}

fn checked(text: &str) -> Result<String, String> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected a token of visible ASCII characters".to_owned());
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_when_it_changes_and_kept_when_it_goes() {
        let dir = std::env::temp_dir().join(format!("serveflow-token-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("token");
        std::fs::write(&path, "first\n").unwrap();
        let token = Token::open(&TokenPlace::File(path.clone())).unwrap();
        assert_eq!(token.header(), "Bearer first");
        std::fs::write(&path, "the second").unwrap();
        assert_eq!(token.header(), "Bearer first", "what holds a space is no token");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(token.header(), "Bearer second");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(token.header(), "Bearer second");
        let error = Token::open(&TokenPlace::File(path)).unwrap_err();
        assert!(error.contains("token"), "{error}");
        assert!(!format!("{token:?}").contains("second"));
        std::fs::remove_dir_all(&dir).unwrap();
        let missing = TokenPlace::Env("SERVEFLOW_NO_SUCH_VARIABLE".to_owned());
        assert!(Token::open(&missing).unwrap_err().contains("SERVEFLOW_NO_SUCH_VARIABLE"));
    }
}
