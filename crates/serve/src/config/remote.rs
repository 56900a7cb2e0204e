//! `[remote]` of `serveflow.toml`: where the servers of remote models stand, and how they are
//! asked.

use super::ConfigError;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// `[remote]` as it is typed, and `[remote.models.NAME]` with the same keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedRemote {
    /// Servers, as `grpc://host:port`, `grpcs://`, `http://` or `https://`.
    pub endpoints: Option<Vec<String>>,
    /// Longest time for an answer, all tries together, milliseconds.
    pub timeout_ms: Option<u64>,
    /// Time between two looks at a server, milliseconds.
    pub health_ms: Option<u64>,
    /// Share of requests that may be asked once more.
    pub retry_ratio: Option<f64>,
    /// A file that holds the bearer token.
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds the bearer token.
    pub token_env: Option<String>,
    /// The certificates that servers' certificates are signed by, PEM.
    pub ca_file: Option<PathBuf>,
    /// Whether the token may go in the clear to another machine.
    pub allow_insecure_token: Option<bool>,
    /// The servers of single models, by the model's name.
    pub models: BTreeMap<String, TypedRemote>,
}

/// The servers of remote models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteConfig {
    all: Option<Servers>,
    models: BTreeMap<String, Servers>,
}

/// Servers that hold the same models, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Where they stand; at least one.
    pub endpoints: Vec<Address>,
    /// Longest time for an answer, all tries together, milliseconds.
    pub timeout_ms: u64,
    /// Time between two looks at a server, milliseconds.
    pub health_ms: u64,
    /// Of 1000 requests, so many may be asked once more.
    pub retries_per_1000: u32,
    /// Where the bearer token stands.
    pub token: Option<TokenPlace>,
    /// The certificates that servers' certificates are signed by; none for those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Where a bearer token stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// gRPC in the clear.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// All of them, by name.
    const ALL: [(&str, Self); 4] = [
        ("grpc", Self::Grpc),
        ("grpcs", Self::Grpcs),
        ("http", Self::Http),
        ("https", Self::Https),
    ];

    /// Whether what is said can be read on the way.
    #[must_use]
    pub fn is_clear(self) -> bool {
        matches!(self, Self::Grpc | Self::Http)
    }

    /// Whether it is gRPC.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// Where a server stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Host and port, as they stand in addresses.
    pub authority: String,
    /// What stands before `/v2`, without a slash at its end; empty for gRPC.
    pub path: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Scheme::ALL.into_iter().find(|&(_, scheme)| scheme == self.scheme);
        write!(f, "{}://{}{}", name.map_or("", |name| name.0), self.authority, self.path)
    }
}

impl Address {
    /// Reads an address; a port that is not there is 80, or 443 with TLS.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = |expected: &str| Err(format!("expected {expected}, found `{text}`"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("grpc://, grpcs://, http:// or https:// and a host");
        };
        let Some((_, scheme)) = Scheme::ALL.into_iter().find(|&(name, _)| name == scheme) else {
            return wrong("grpc://, grpcs://, http:// or https://");
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.trim_end_matches('/');
        if scheme.is_grpc() && !path.is_empty() {
            return wrong("no path behind a gRPC server");
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        if !path.bytes().all(is_plain) {
            return wrong("a path of letters, digits, `-`, `.`, `_`, `~` and `/`");
        }
        let is_bare = authority.starts_with('[') && authority.ends_with(']');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !is_bare => (host, port),
            _ => (authority, if scheme.is_clear() { "80" } else { "443" }),
        };
        if !is_host(host) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return wrong("a host and a port from 1 to 65535");
        }
        Ok(Self { scheme, authority: format!("{host}:{port}"), path: path.to_owned() })
    }

    /// Its host, without the brackets of IPv6.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |at| at.0);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let ip = self.host().parse::<std::net::IpAddr>();
        ip.map_or(self.host().eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
    }
}

fn is_host(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inside {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !host.is_empty() && host.bytes().all(fits)
        }
    }
}

/// A key that is refused, and why.
fn refused(section: &str, key: &str, message: impl Into<String>) -> ConfigError {
    ConfigError::Wrong { key: format!("{section}.{key}"), message: message.into() }
}

impl TypedRemote {
    /// Checks it and fills in the defaults.
    ///
    /// # Errors
    /// When an address or a limit makes no sense, when a token would go in the clear to another
    /// machine, or when this program was built without remote models and endpoints are named.
    pub fn check(&self) -> Result<RemoteConfig, ConfigError> {
        let all = self.servers("remote")?;
        let mut models = BTreeMap::new();
        for (name, own) in &self.models {
            let section = format!("remote.models.{name}");
            if !own.models.is_empty() {
                return Err(refused(
                    &section,
                    "models",
                    "expected only below [remote], found it below a model",
                ));
            }
            let servers = own.over(self).servers(&section)?;
            let none = || refused(&section, "endpoints", "expected at least one, found none");
            models.insert(name.clone(), servers.ok_or_else(none)?);
        }
        let is_asked = all.is_some() || !models.is_empty();
        if is_asked && !cfg!(feature = "remote") {
            let message = "expected a program that was built with remote models, found one \
                           without: build it with the cargo feature `remote`: cargo build \
                           --release -p serveflow --features remote";
            return Err(refused("remote", "endpoints", message));
        }
        Ok(RemoteConfig { all, models })
    }

    /// What is typed for a model goes before what is typed for all.
    fn over(&self, all: &Self) -> Self {
        let has_token = self.token_file.is_some() || self.token_env.is_some();
        let (file, env) = if has_token {
            (&self.token_file, &self.token_env)
        } else {
            (&all.token_file, &all.token_env)
        };
        Self {
            endpoints: self.endpoints.clone().or_else(|| all.endpoints.clone()),
            timeout_ms: self.timeout_ms.or(all.timeout_ms),
            health_ms: self.health_ms.or(all.health_ms),
            retry_ratio: self.retry_ratio.or(all.retry_ratio),
            token_file: file.clone(),
            token_env: env.clone(),
            ca_file: self.ca_file.clone().or_else(|| all.ca_file.clone()),
            allow_insecure_token: self.allow_insecure_token.or(all.allow_insecure_token),
            models: BTreeMap::new(),
        }
    }

    /// The servers of a section; none where it names none.
    fn servers(&self, section: &str) -> Result<Option<Servers>, ConfigError> {
        let times = [("timeout_ms", self.timeout_ms), ("health_ms", self.health_ms)];
        for (key, ms) in times {
            if let Some(found) = ms.filter(|ms| !(1..=3_600_000).contains(ms)) {
                let message = format!("expected 1 to 3600000, found {found}");
                return Err(refused(section, key, message));
            }
        }
        let ratio = self.retry_ratio.unwrap_or(0.1);
        if !(0.0..=1.0).contains(&ratio) {
            let message = format!("expected 0 to 1, found {ratio}");
            return Err(refused(section, "retry_ratio", message));
        }
        let token = self.token(section)?;
        let mut endpoints = Vec::new();
        let mut seen = BTreeSet::new();
        for text in self.endpoints.iter().flatten() {
            let address = Address::read(text).map_err(|why| refused(section, "endpoints", why))?;
            if !seen.insert(address.clone()) {
                let message = format!("expected each once, found {address} twice");
                return Err(refused(section, "endpoints", message));
            }
            let is_open = address.scheme.is_clear() && !address.is_loopback();
            if token.is_some() && is_open && self.allow_insecure_token != Some(true) {
                let message = format!(
                    "expected TLS where a token is sent, found {address}; allow_insecure_token = \
                     true sends it in the clear"
                );
                return Err(refused(section, "endpoints", message));
            }
            endpoints.push(address);
        }
        Ok((!endpoints.is_empty()).then(|| Servers {
            endpoints,
            timeout_ms: self.timeout_ms.unwrap_or(1000),
            health_ms: self.health_ms.unwrap_or(1000),
            retries_per_1000: (ratio * 1000.0).round() as u32,
            token,
            ca_file: self.ca_file.clone().filter(|path| !path.as_os_str().is_empty()),
        }))
    }

    /// Where the token stands; what is typed empty stands for nothing.
    fn token(&self, section: &str) -> Result<Option<TokenPlace>, ConfigError> {
        let file = self.token_file.clone().filter(|path| !path.as_os_str().is_empty());
        let env = self.token_env.clone().filter(|name| !name.is_empty());
        match (file, env) {
            (Some(_), Some(_)) => {
                Err(refused(section, "token_file", "expected this or token_env, found both"))
            }
            (file, env) => Ok(file.map(TokenPlace::File).or(env.map(TokenPlace::Env))),
        }
    }
}

impl RemoteConfig {
    /// Whether no server is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.models.is_empty()
    }

    /// The servers of a model, if any are named.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&Servers> {
        self.models.get(model).or(self.all.as_ref())
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
