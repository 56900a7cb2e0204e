//! `[live]`: which interfaces are listened to, and how.

use super::{Config, ConfigError};
use serde::Deserialize;

/// `[live]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedLive {
    /// Names of the interfaces.
    pub interfaces: Option<Vec<String>>,
    /// How frames come: by packet sockets or by AF_XDP.
    pub source: Option<String>,
    /// A filter as in pcap-filter(7).
    pub filter: Option<String>,
    /// Whether frames are taken that are not addressed to the interface.
    pub promiscuous: Option<bool>,
    /// Who stamps the time: the kernel or the network card.
    pub timestamps: Option<String>,
    /// Most bytes kept of a frame.
    pub snap_bytes: Option<u32>,
    /// The ring of each worker and interface, MiB.
    pub ring_mb: Option<usize>,
    /// A block of the ring, KiB.
    pub block_kb: Option<usize>,
    /// How the kernel hands frames over: block by block, or frame by frame.
    pub rx_mode: Option<String>,
    /// Longest that a frame waits in a block that is not full, milliseconds.
    pub block_ms: Option<u32>,
    /// How long a worker looks for a frame before it sleeps, microseconds.
    pub spin_us: Option<u32>,
    /// Whether an interface that is not there is waited for.
    pub wait_for_interface: Option<bool>,
}

/// How interfaces are listened to, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLimits {
    /// Names of the interfaces.
    pub interfaces: Vec<String>,
    /// Whether frames come by AF_XDP, and not by packet sockets.
    pub xdp: bool,
    /// A filter as in pcap-filter(7).
    pub filter: Option<String>,
    /// Whether frames are taken that are not addressed to the interface.
    pub promiscuous: bool,
    /// Whether the network card stamps the time.
    pub hardware_time: bool,
    /// Most bytes kept of a frame.
    pub snap_bytes: u32,
    /// Bytes of a block of a ring.
    pub block_bytes: usize,
    /// Blocks of a ring.
    pub blocks: usize,
    /// Longest that a frame waits in a block that is not full, milliseconds; `None`: each frame is
    /// handed over at once.
    pub block_ms: Option<u32>,
    /// How long a worker looks for a frame before it sleeps, microseconds.
    pub spin_us: u32,
    /// Whether an interface that is not there, or was removed, is waited for.
    pub wait_for_interface: bool,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            xdp: false,
            filter: None,
            promiscuous: true,
            hardware_time: false,
            snap_bytes: 256,
            block_bytes: 1 << 16,
            blocks: 1024,
            block_ms: None,
            spin_us: 0,
            wait_for_interface: false,
        }
    }
}

/// Shorter ones are not to be had of the kernel.
const DEFAULT_BLOCK_MS: u32 = 1;
const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;
/// Whole pages on all machines.
const LEAST_BLOCK: usize = 64;
/// Bytes of a block that headers take, of the block and of a frame.
const HEADERS: usize = 512;

/// Longest name of an interface on Linux, bytes.
const NAME_BYTES: usize = 15;

/// Holds an interface's name to what the kernel takes for one.
fn is_name(name: &str) -> Result<(), ConfigError> {
    let is_odd = |byte: u8| byte == b'/' || byte == b':' || byte.is_ascii_whitespace() || byte == 0;
    let is_path = name == "." || name == "..";
    if (1..=NAME_BYTES).contains(&name.len()) && !name.bytes().any(is_odd) && !is_path {
        return Ok(());
    }
    let message = format!(
        "expected names of 1 to {NAME_BYTES} bytes without spaces, `/` and `:`, found {name:?}"
    );
    Err(ConfigError::Wrong { key: "live.interfaces".to_owned(), message })
}

impl TypedLive {
    /// Fills what was not typed, and checks it.
    pub(super) fn check(&self) -> Result<LiveLimits, ConfigError> {
        let default = LiveLimits::default();
        let xdp = self.is_xdp()?;
        let hardware_time = match self.timestamps.as_deref() {
            None | Some("kernel") => false,
            Some("hardware") => true,
            Some(found) => {
                let (key, expected) = ("live.timestamps".to_owned(), "kernel, hardware".to_owned());
                return Err(ConfigError::Unknown { key, found: found.to_owned(), expected });
            }
        };
        let block_kb = self.block_kb.unwrap_or(default.block_bytes / KIB);
        let ring_mb = self.ring_mb.unwrap_or(default.block_bytes * default.blocks / MIB);
        let snap_bytes = self.snap_bytes.unwrap_or(default.snap_bytes);
        let spin_us = self.spin_us.unwrap_or(default.spin_us);
        let block_ms = self.block_ms()?;
        let limits = [
            ("live.ring_mb", ring_mb, 1 << 14),
            ("live.block_kb", block_kb, 1 << 14),
            ("live.snap_bytes", snap_bytes as usize, 1 << 18),
            ("live.block_ms", block_ms.unwrap_or(DEFAULT_BLOCK_MS) as usize, 1000),
            // Nothing is no time to spin.
            ("live.spin_us", spin_us.max(1) as usize, 50_000),
        ];
        limits.into_iter().try_for_each(|(key, found, most)| Config::within(key, found, most))?;
        if block_kb < LEAST_BLOCK || !block_kb.is_power_of_two() {
            let message =
                format!("expected a power of two of at least {LEAST_BLOCK}, found {block_kb}");
            return Err(ConfigError::Wrong { key: "live.block_kb".to_owned(), message });
        }
        let at_most = |key: &str, found: usize, most: usize, beside: String| {
            let message = format!("expected at most {most} with {beside}, found {found}");
            let wrong = || ConfigError::Wrong { key: key.to_owned(), message };
            if found > most { Err(wrong()) } else { Ok(()) }
        };
        // One block is read while another is filled.
        let most = ring_mb * MIB / KIB / 2;
        at_most("live.block_kb", block_kb, most, format!("live.ring_mb = {ring_mb}"))?;
        // The kernel would cut longer frames without a word.
        let most = block_kb * KIB - HEADERS;
        let beside = format!("live.block_kb = {block_kb}");
        at_most("live.snap_bytes", snap_bytes as usize, most, beside)?;
        let interfaces = self.interfaces.clone().unwrap_or_default();
        let mut seen = interfaces.iter().enumerate();
        if let Some((_, twice)) = seen.find(|(at, name)| interfaces[..*at].contains(name)) {
            let message = format!("expected each interface once, found `{twice}` again");
            return Err(ConfigError::Wrong { key: "live.interfaces".to_owned(), message });
        }
        interfaces.iter().try_for_each(|name| is_name(name))?;
        Ok(LiveLimits {
            interfaces,
            xdp,
            filter: self.filter(),
            promiscuous: self.promiscuous.unwrap_or(default.promiscuous),
            hardware_time,
            snap_bytes,
            block_bytes: block_kb * KIB,
            blocks: ring_mb * MIB / (block_kb * KIB),
            block_ms,
            spin_us,
            wait_for_interface: self.wait_for_interface.unwrap_or(default.wait_for_interface),
        })
    }

    /// The filter, if there is one.
    fn filter(&self) -> Option<String> {
        self.filter.clone().filter(|text| !text.trim().is_empty())
    }

    /// Whether frames come by AF_XDP, which does without much that packet sockets do.
    fn is_xdp(&self) -> Result<bool, ConfigError> {
        match self.source.as_deref() {
            None | Some("packet") => return Ok(false),
            Some("xdp") => {}
            Some(found) => {
                let (key, expected) = ("live.source".to_owned(), "packet, xdp".to_owned());
                return Err(ConfigError::Unknown { key, found: found.to_owned(), expected });
            }
        }
        let refused = |key: &str, message: &str| {
            Err(ConfigError::Wrong { key: key.to_owned(), message: message.to_owned() })
        };
        if !cfg!(feature = "xdp") {
            let message = "expected a program that was built with AF_XDP, found one without: build \
                           it with the cargo feature `xdp`: cargo build --release -p serveflow \
                           --features xdp";
            return refused("live.source", message);
        }
        if self.timestamps.as_deref() == Some("hardware") {
            let message = "expected `kernel` with live.source = \"xdp\", since frames have the \
                           time at which they are read there, found `hardware`";
            return refused("live.timestamps", message);
        }
        if self.filter().is_some() {
            let message = "expected none with live.source = \"xdp\", since such frames pass no \
                           filter, found one; [input] chooses among flows";
            return refused("live.filter", message);
        }
        if self.rx_mode.as_deref() == Some("block") {
            let message = "expected `frame` with live.source = \"xdp\", where each frame is handed \
                           over at once, found `block`";
            return refused("live.rx_mode", message);
        }
        if self.wait_for_interface == Some(true) {
            let message = "expected false with live.source = \"xdp\", which needs more privileges \
                           to open an interface than a running service keeps, found true";
            return refused("live.wait_for_interface", message);
        }
        Ok(true)
    }

    /// Longest wait of a block, if frames come in blocks.
    fn block_ms(&self) -> Result<Option<u32>, ConfigError> {
        match (self.rx_mode.as_deref(), self.block_ms) {
            (None | Some("frame"), None) => Ok(None),
            (Some("block"), typed) => Ok(Some(typed.unwrap_or(DEFAULT_BLOCK_MS))),
            (None | Some("frame"), Some(_)) => Err(ConfigError::Wrong {
                key: "live.block_ms".to_owned(),
                message:
                    "expected live.rx_mode = \"block\" beside it, found frames that are handed \
                          over one by one"
                        .to_owned(),
            }),
            (Some(found), _) => Err(ConfigError::Unknown {
                key: "live.rx_mode".to_owned(),
                found: found.to_owned(),
                expected: "frame, block".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<LiveLimits, String> {
        toml::from_str::<TypedLive>(text).unwrap().check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_typed_has_a_default_and_nonsense_is_refused() {
        assert_eq!(checked("").unwrap(), LiveLimits::default());
        let limits = checked("interfaces = [\"eth0\"]\nring_mb = 8\nblock_kb = 1024").unwrap();
        assert_eq!((limits.blocks, limits.block_bytes), (8, 1 << 20));
        let limits = checked("rx_mode = \"block\"").unwrap();
        assert_eq!((limits.block_ms, limits.spin_us), (Some(1), 0));
        assert_eq!(checked("rx_mode = \"block\"\nblock_ms = 8").unwrap().block_ms, Some(8));
        for (text, expected) in [
            ("ring_mb = 0", "live.ring_mb: expected at least 1, found 0"),
            ("block_kb = 100", "live.block_kb: expected a power of two of at least 64, found 100"),
            ("snap_bytes = 999999", "live.snap_bytes: expected at most 262144, found 999999"),
            (
                "snap_bytes = 65535",
                "live.snap_bytes: expected at most 65024 with live.block_kb = 64, found 65535",
            ),
            (
                "timestamps = \"gps\"",
                "live.timestamps: expected one of kernel, hardware, found `gps`",
            ),
            (
                "interfaces = [\"a\", \"b\", \"a\"]",
                "live.interfaces: expected each interface once, found `a` again",
            ),
            (
                "block_ms = 8",
                "live.block_ms: expected live.rx_mode = \"block\" beside it, found frames that are \
                 handed over one by one",
            ),
            ("rx_mode = \"bock\"", "live.rx_mode: expected one of frame, block, found `bock`"),
            (
                "ring_mb = 1\nblock_kb = 1024",
                "live.block_kb: expected at most 512 with live.ring_mb = 1, found 1024",
            ),
            ("spin_us = 60000", "live.spin_us: expected at most 50000, found 60000"),
            (
                "interfaces = [\"0123456789abcdef\"]",
                "live.interfaces: expected names of 1 to 15 bytes without spaces, `/` and `:`, \
                 found \"0123456789abcdef\"",
            ),
        ] {
            assert_eq!(checked(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn af_xdp_is_told_from_packet_sockets() {
        assert!(!checked("source = \"packet\"").unwrap().xdp);
        let text = "live.source: expected one of packet, xdp, found `dpdk`";
        assert_eq!(checked("source = \"dpdk\"").unwrap_err(), text);
    }

    #[cfg(not(feature = "xdp"))]
    #[test]
    fn without_the_feature_it_is_told_how_to_build_it() {
        let refused = checked("source = \"xdp\"").unwrap_err();
        assert!(
            refused.starts_with("live.source: expected a program that was built with AF_XDP"),
            "{refused}"
        );
        assert!(refused.ends_with("--features xdp"), "{refused}");
    }

    #[cfg(feature = "xdp")]
    #[test]
    fn what_af_xdp_cannot_do_is_refused() {
        assert!(checked("source = \"xdp\"\nfilter = \" \"").unwrap().xdp);
        for (key, value) in [("timestamps", "hardware"), ("filter", "tcp"), ("rx_mode", "block")] {
            let refused = checked(&format!("source = \"xdp\"\n{key} = \"{value}\"")).unwrap_err();
            assert!(refused.starts_with(&format!("live.{key}: expected ")), "{refused}");
            assert!(refused.contains(" with live.source = \"xdp\", "), "{refused}");
        }
    }
}
