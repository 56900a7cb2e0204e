//! `[service]`: how a running service is looked at, changed and confined.

use super::{Config, ConfigError};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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
    /// The group that may use the control socket.
    pub control_group: Option<String>,
    /// Who may use the control socket, as chmod(1) writes it.
    pub control_mode: Option<String>,
    /// Whether a bundle that changed on disk is served at once.
    pub watch_bundle: Option<bool>,
    /// How the log is written: text or json.
    pub log: Option<String>,
    /// The user to become once everything is open.
    pub user: Option<String>,
    /// Whether privileges are given up once everything is open.
    pub confine: Option<bool>,
    /// Longest time from SIGTERM to the end, milliseconds.
    pub shutdown_timeout_ms: Option<usize>,
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
    /// The group that may use the control socket, by name or number.
    pub control_group: Option<String>,
    /// Permissions of the control socket.
    pub control_mode: u32,
    /// Whether a bundle that changed on disk is served at once.
    pub watch_bundle: bool,
    /// Whether the log is written as JSON.
    pub json_log: bool,
    /// The user to become once everything is open.
    pub user: Option<String>,
    /// Whether privileges are given up once everything is open.
    pub confine: bool,
    /// Longest time from SIGTERM to the end, milliseconds.
    pub shutdown_timeout_ms: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            bundle: None,
            metrics: None,
            control: None,
            control_group: None,
            control_mode: 0o660,
            watch_bundle: false,
            json_log: false,
            user: None,
            confine: true,
            shutdown_timeout_ms: 5000,
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
        let shutdown_timeout_ms = self.shutdown_timeout_ms.unwrap_or(default.shutdown_timeout_ms);
        Config::within("service.shutdown_timeout_ms", shutdown_timeout_ms, 600_000)?;
        let path =
            |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        // A bare name has no directory, which the socket is to be removed from at the end.
        let control = path(&self.control).map(|path| std::path::absolute(&path).unwrap_or(path));
        self.check_control(control.as_deref())?;
        Ok(ServiceLimits {
            bundle: path(&self.bundle),
            metrics: metrics.transpose()?,
            control,
            control_group: given(&self.control_group),
            control_mode: self.mode()?.unwrap_or(default.control_mode),
            watch_bundle: self.watch_bundle.unwrap_or(default.watch_bundle),
            json_log,
            user: given(&self.user),
            confine: self.confine.unwrap_or(default.confine),
            shutdown_timeout_ms,
        })
    }
}

/// Longest path of a socket, bytes: what `sun_path` of unix(7) holds, less its end.
const SOCKET_BYTES: usize = 107;

impl TypedService {
    /// The permissions of the control socket.
    fn mode(&self) -> Result<Option<u32>, ConfigError> {
        let Some(text) = self.control_mode.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        let wrong = || ConfigError::Wrong {
            key: "service.control_mode".to_owned(),
            message: format!(
                "expected an octal mode up to \"777\", such as \"660\", found `{text}`"
            ),
        };
        mode.map(Some).ok_or_else(wrong)
    }

    /// Holds what is said of the control socket to what a socket can be.
    fn check_control(&self, control: Option<&Path>) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: String| {
            Err(ConfigError::Wrong { key: format!("service.{key}"), message })
        };
        let path = control.map_or("", |path| path.to_str().unwrap_or("?"));
        if path.len() > SOCKET_BYTES {
            let found = path.len();
            let message = format!("expected a path of at most {SOCKET_BYTES} bytes, found {found}");
            return wrong("control", message);
        }
        if path.contains('\0') {
            return wrong("control", format!("expected a path, found a 0 in {path:?}"));
        }
        let is_group = self.control_group.as_deref().is_some_and(|group| !group.is_empty());
        if is_group && path.is_empty() {
            let message = "expected service.control beside it, found none".to_owned();
            return wrong("control_group", message);
        }
        Ok(())
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
        assert!(
            checked("shutdown_timeout_ms = 0").unwrap_err().contains("service.shutdown_timeout_ms")
        );
        assert_eq!(checked("control_mode = \"0640\"").unwrap().control_mode, 0o640);
        for text in [
            "control_mode = \"999\"",
            "control_mode = \"1777\"",
            "control_mode = \"+7\"",
            "control_group = \"wheel\"",
        ] {
            let error = checked(text).unwrap_err();
            assert!(error.contains("expected") && error.contains("found"), "{error}");
        }
        let long = format!("control = \"/{}\"", "x".repeat(SOCKET_BYTES));
        assert!(checked(&long).unwrap_err().contains("at most 107 bytes, found 108"));
    }
}
