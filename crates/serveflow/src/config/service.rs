//! `[service]`: how a running service is looked at, changed and confined.

use super::{Config, ConfigError};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[service]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedService {
    /// The bundle that is served where none is named on the command line.
    pub bundle: Option<PathBuf>,
    /// Address of metrics and health.
    pub metrics: Option<String>,
    /// Path of the control socket.
    pub control: Option<PathBuf>,
    /// Whether a bundle that changed on disk is served at once.
    pub watch_bundle: Option<bool>,
    /// How the log is written: text or json.
    pub log: Option<String>,
    /// The user to become once everything is open.
    pub user: Option<String>,
    /// Whether privileges are given up once everything is open.
    pub confine: Option<bool>,
    /// Longest time from SIGTERM to the end, milliseconds.
    pub stop_ms: Option<usize>,
}

/// How a running service is looked at, changed and confined, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// The bundle that is served where none is named on the command line.
    pub bundle: Option<PathBuf>,
    /// Address of metrics and health.
    pub metrics: Option<SocketAddr>,
    /// Path of the control socket.
    pub control: Option<PathBuf>,
    /// Whether a bundle that changed on disk is served at once.
    pub watch_bundle: bool,
    /// Whether the log is written as JSON.
    pub json_log: bool,
    /// The user to become once everything is open.
    pub user: Option<String>,
    /// Whether privileges are given up once everything is open.
    pub confine: bool,
    /// Longest time from SIGTERM to the end, milliseconds.
    pub stop_ms: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            bundle: None,
            metrics: None,
            control: None,
            watch_bundle: false,
            json_log: false,
            user: None,
            confine: true,
            stop_ms: 5000,
        }
    }
}

impl TypedService {
    /// Fills what was not typed, and checks it.
    pub(super) fn check(&self) -> Result<ServiceLimits, ConfigError> {
        let default = ServiceLimits::default();
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let metrics = given(&self.metrics).map(|text| {
            text.parse().map_err(|_| ConfigError::Wrong {
                key: "service.metrics".to_owned(),
                message: format!(
                    "expected an address and a port, as 127.0.0.1:9464, found `{text}`"
                ),
            })
        });
        let json_log = match self.log.as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(found) => {
                let (key, expected) = ("service.log".to_owned(), "text, json".to_owned());
                return Err(ConfigError::Unknown { key, expected, found: found.to_owned() });
            }
        };
        let stop_ms = self.stop_ms.unwrap_or(default.stop_ms);
        Config::within("service.stop_ms", stop_ms, 600_000)?;
        let path =
            |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        Ok(ServiceLimits {
            bundle: path(&self.bundle),
            metrics: metrics.transpose()?,
            control: path(&self.control),
            watch_bundle: self.watch_bundle.unwrap_or(default.watch_bundle),
            json_log,
            user: given(&self.user),
            confine: self.confine.unwrap_or(default.confine),
            stop_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<ServiceLimits, String> {
        toml::from_str::<TypedService>(text).unwrap().check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_typed_has_a_default_and_nonsense_is_refused() {
        assert_eq!(checked("").unwrap(), ServiceLimits::default());
        let limits = checked("metrics = \"[::1]:9464\"\nlog = \"json\"\nuser = \"\"").unwrap();
        assert_eq!(
            (limits.metrics, limits.json_log, limits.user),
            ("[::1]:9464".parse().ok(), true, None)
        );
        let error = checked("metrics = \"9464\"").unwrap_err();
        assert!(
            error.starts_with("service.metrics: ") && error.contains("127.0.0.1:9464"),
            "{error}"
        );
        assert!(checked("log = \"xml\"").unwrap_err().contains("text, json"));
        assert!(checked("stop_ms = 0").unwrap_err().contains("service.stop_ms"));
    }
}
