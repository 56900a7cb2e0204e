//! `[output]`: where verdicts go, in which format, and what happens when they cannot.

use super::{Config, ConfigError};
use serde::Deserialize;
use serveflow_output::Rotation;

const MEBIBYTE: usize = 1 << 20;

/// `[output]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedOutput {
    /// Name of the sink.
    pub format: Option<String>,
    /// Whether provisional verdicts are written.
    pub provisional: Option<bool>,
    /// Most that waits to be written, MiB.
    pub buffer_mb: Option<usize>,
    /// Time without progress after which the output counts as stalled, milliseconds.
    pub stall_ms: Option<usize>,
    /// Size at which a file is set aside for a new one, MiB; 0 never.
    pub rotate_mb: Option<usize>,
    /// Age at which a file is set aside for a new one, seconds; 0 never.
    pub rotate_s: Option<usize>,
    /// Files that are kept beside the one that is written.
    pub keep_files: Option<usize>,
}

/// Where verdicts go, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// Name of the sink, where it was stated.
    pub format: Option<String>,
    /// Most bytes that wait to be written.
    pub buffer_bytes: usize,
    /// Time without progress after which the output counts as stalled, nanoseconds.
    pub stall_ns: u64,
    /// When a file is set aside for a new one.
    pub rotation: Rotation,
}

impl TypedOutput {
    /// Fills what was not typed, and checks it.
    pub(super) fn check(&self) -> Result<OutputConfig, ConfigError> {
        let buffer_mb = self.buffer_mb.unwrap_or(16);
        let stall_ms = self.stall_ms.unwrap_or(5000);
        let keep_files = self.keep_files.unwrap_or(10);
        let (rotate_mb, rotate_s) = (self.rotate_mb.unwrap_or(0), self.rotate_s.unwrap_or(0));
        for (key, found, most) in [
            ("output.buffer_mb", buffer_mb, 1 << 14),
            ("output.stall_ms", stall_ms, 86_400_000),
            ("output.keep_files", keep_files, 1 << 16),
            ("output.rotate_mb", rotate_mb.max(1), 1 << 30),
            ("output.rotate_s", rotate_s.max(1), 1 << 32),
        ] {
            Config::within(key, found, most)?;
        }
        let some = |value: usize| (value > 0).then_some(value as u64);
        let format = self.format.clone().filter(|format| !format.is_empty());
        let known: Vec<&str> = serveflow_output::FORMATS.iter().map(|sink| sink.name).collect();
        if let Some(found) = format.as_deref().filter(|format| !known.contains(format)) {
            let (key, expected) = ("output.format".to_owned(), known.join(", "));
            return Err(ConfigError::Unknown { key, found: found.to_owned(), expected });
        }
        Ok(OutputConfig {
            format,
            buffer_bytes: buffer_mb * MEBIBYTE,
            stall_ns: stall_ms as u64 * 1_000_000,
            rotation: Rotation {
                most_bytes: some(rotate_mb).map(|mb| mb * MEBIBYTE as u64),
                most_age_ns: some(rotate_s).map(|s| s * 1_000_000_000),
                keep: keep_files as u32,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<OutputConfig, String> {
        let typed = toml::from_str::<TypedOutput>(text).unwrap();
        typed.check().map_err(|error| error.to_string())
    }

    #[test]
    fn units_are_those_of_the_names_and_nonsense_is_refused() {
        let config = checked("rotate_mb = 2\nrotate_s = 3\nbuffer_mb = 1\nstall_ms = 4").unwrap();
        let Rotation { most_bytes, most_age_ns, keep } = config.rotation;
        assert_eq!((most_bytes, most_age_ns, keep), (Some(2 << 20), Some(3_000_000_000), 10));
        assert_eq!((config.buffer_bytes, config.stall_ns), (1 << 20, 4_000_000));
        assert!(!checked("").unwrap().rotation.is_on());
        assert_eq!(checked("format = \"\"").unwrap().format, None);
        assert!(checked("format = \"xml\"").unwrap_err().contains("output.format"));
        for (key, values) in [
            ("buffer_mb", [0_u64, 1 << 40]),
            ("stall_ms", [0, 1 << 40]),
            ("keep_files", [0, 1 << 40]),
            ("rotate_mb", [1 << 40, 1 << 62]),
            ("rotate_s", [1 << 40, 1 << 62]),
        ] {
            for value in values {
                let error = checked(&format!("{key} = {value}")).unwrap_err();
                assert!(error.contains(&format!("output.{key}: ")), "{error}");
            }
        }
    }
}
