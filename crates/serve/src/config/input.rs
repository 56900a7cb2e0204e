//! `[input]`: which flows are served at all, where there is more traffic than the machine can take.

use super::ConfigError;
use serde::Deserialize;
use serveflow_core::select::{Lists, Prefix, Selection, SelectionSpec};
use serveflow_io::OrderRules;
use std::ops::RangeInclusive;
use std::sync::Arc;
use toml::Value;

/// `[input]` as it is typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedInput {
    /// The share of all flows that is kept.
    pub share: Option<f64>,
    /// Which share it is.
    pub share_seed: Option<u64>,
    /// Flows must be on each of these lists that is not empty.
    pub only: TypedLists,
    /// Flows must be on none of these lists.
    pub drop: TypedLists,
    /// How far packets of captures are put back in order, milliseconds of packet time.
    pub reorder_ms: Option<u64>,
    /// How far packets of captures are put back in order, packets.
    pub reorder_packets: Option<usize>,
}

/// How far packets of captures are put back in order; 0 of either leaves them as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    /// Packet time, nanoseconds.
    pub reorder_ns: u64,
    /// Packets.
    pub packets: usize,
}

/// The most packets that may be held to be put in order: they stay in memory meanwhile.
const MOST_REORDERED: usize = 1 << 20;

/// Lists of flows as they are typed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypedLists {
    /// Prefixes or addresses, of either end.
    pub prefixes: Vec<String>,
    /// Ports, or ranges of them as text, of either end.
    pub ports: Vec<Value>,
    /// IP protocols, by name or number.
    pub protocols: Vec<Value>,
}

/// The protocols that have a name here. All have a number.
const PROTOCOLS: [(&str, u8); 13] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("sctp", 132),
    ("udplite", 136),
];

impl TypedInput {
    /// How far packets are put back in order.
    ///
    /// # Errors
    /// When more packets would be held than makes sense.
    pub fn reorder(&self) -> Result<Reorder, ConfigError> {
        let usual = OrderRules::default();
        let packets = self.reorder_packets.unwrap_or(usual.reorder_packets);
        if packets > MOST_REORDERED {
            let (key, most) = ("input.reorder_packets", MOST_REORDERED);
            return Err(ConfigError::TooLarge { key, most, found: packets });
        }
        let reorder_ns = self.reorder_ms.map(|ms| ms.saturating_mul(super::MILLISECOND));
        Ok(Reorder { reorder_ns: reorder_ns.unwrap_or(usual.reorder_ns), packets })
    }

    /// The selection; none where all flows are served.
    ///
    /// # Errors
    /// When a share is none, or something on a list is not what the list is of.
    pub fn check(&self) -> Result<Option<Arc<Selection>>, ConfigError> {
        let share = self.share.unwrap_or(1.0);
        if !(share > 0.0 && share <= 1.0) {
            let message = format!("expected a share above 0 and up to 1, found {share}");
            return Err(ConfigError::Wrong { key: "input.share".to_owned(), message });
        }
        let spec = SelectionSpec {
            share,
            share_seed: self.share_seed.unwrap_or(SelectionSpec::default().share_seed),
            only: self.only.check("input.only")?,
            drop: self.drop.check("input.drop")?,
        };
        Ok(Selection::new(&spec).map(Arc::new))
    }
}

impl TypedLists {
    fn check(&self, key: &str) -> Result<Lists, ConfigError> {
        let refused =
            |list: &str, message| ConfigError::Wrong { key: format!("{key}.{list}"), message };
        let prefix = |text: &String| text.parse::<Prefix>().map_err(|e| e.to_string());
        let prefixes: Result<_, _> = self.prefixes.iter().map(prefix).collect();
        let ports: Result<_, _> = self.ports.iter().map(ports).collect();
        let protocols: Result<_, _> = self.protocols.iter().map(protocol).collect();
        Ok(Lists {
            prefixes: prefixes.map_err(|message| refused("prefixes", message))?,
            ports: ports.map_err(|message| refused("ports", message))?,
            protocols: protocols.map_err(|message| refused("protocols", message))?,
        })
    }
}

/// A port, or a range such as `"8000-8100"`. Port 0 is that of protocols without ports, and on no
/// list.
fn ports(typed: &Value) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0);
    let range = match typed {
        Value::Integer(number) => port(&number.to_string()).map(|port| port..=port),
        Value::String(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            port(first).zip(port(last)).map(|(first, last)| first..=last)
        }
        _ => None,
    };
    range.filter(|range| !range.is_empty()).ok_or_else(|| {
        format!("expected a port from 1 to 65535 or a range such as \"8000-8100\", found {typed}")
    })
}

/// A protocol by its name or number.
fn protocol(typed: &Value) -> Result<u8, String> {
    let found = match typed {
        Value::Integer(number) => u8::try_from(*number).ok(),
        Value::String(text) => {
            PROTOCOLS.iter().find(|(name, _)| name == text).map(|&(_, number)| number)
        }
        _ => None,
    };
    found.ok_or_else(|| {
        let names = PROTOCOLS.map(|(name, _)| name).join(", ");
        format!("expected a protocol number from 0 to 255 or one of {names}, found {typed}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Typed;

    fn checked(toml: &str) -> Result<Option<Arc<Selection>>, ConfigError> {
        toml::from_str::<Typed>(&format!("[input]\n{toml}")).unwrap().input.check()
    }

    #[test]
    fn nothing_typed_selects_nothing() {
        for toml in ["", "share = 1", "share_seed = 4", "only = { ports = [] }\ndrop = {}"] {
            assert_eq!(checked(toml).unwrap(), None, "{toml}");
        }
    }

    #[test]
    fn what_is_typed_is_what_is_selected() {
        let lists = |prefixes: &[&str], ports: &[RangeInclusive<u16>], protocols: &[u8]| Lists {
            prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
            ports: ports.to_vec(),
            protocols: protocols.to_vec(),
        };
        let typed = "share = 0.25\nshare_seed = 7\n\
            only = { prefixes = [\"10.0.0.0/8\", \"::1\"], ports = [443, \"8000-8100\", \"53\"] }\n\
            drop.protocols = [\"icmp\", 50]";
        let spec = SelectionSpec {
            share: 0.25,
            share_seed: 7,
            only: lists(&["10.0.0.0/8", "::1"], &[443..=443, 8_000..=8_100, 53..=53], &[]),
            drop: lists(&[], &[], &[1, 50]),
        };
        assert_eq!(checked(typed).unwrap(), Selection::new(&spec).map(Arc::new));
    }

    #[test]
    fn what_is_wrong_is_refused_with_key_expectation_and_what_was_found() {
        for (toml, words) in [
            ("share = 0", ["input.share: ", "above 0 and up to 1", "found 0"]),
            ("share = 1.5", ["input.share: ", "above 0 and up to 1", "found 1.5"]),
            ("share = nan", ["input.share: ", "above 0 and up to 1", "found NaN"]),
            ("only.prefixes = [\"10/8\"]", ["input.only.prefixes: ", "10.0.0.0/8", "found `10/8`"]),
            (
                "drop.prefixes = [\"10.1.0.0/8\"]",
                ["input.drop.prefixes: ", "10.0.0.0/8", "found `10.1"],
            ),
            ("drop.ports = [0]", ["input.drop.ports: ", "from 1 to 65535", "found 0"]),
            ("drop.ports = [70000]", ["input.drop.ports: ", "from 1 to 65535", "found 70000"]),
            ("drop.ports = [\"9-5\"]", ["input.drop.ports: ", "from 1 to 65535", "found \"9-5\""]),
            ("only.ports = [true]", ["input.only.ports: ", "from 1 to 65535", "found true"]),
            ("only.protocols = [\"tpc\"]", ["input.only.protocols: ", "tcp, udp", "found \"tpc\""]),
            ("only.protocols = [256]", ["input.only.protocols: ", "0 to 255", "found 256"]),
        ] {
            let told = checked(toml).unwrap_err().to_string();
            words.iter().for_each(|word| assert!(told.contains(word), "{word}: {told}"));
        }
        for toml in
            ["shares = 1", "only = { hosts = [] }", "only.prefixes = [8]", "share = \"all\""]
        {
            assert!(toml::from_str::<Typed>(&format!("[input]\n{toml}")).is_err(), "{toml}");
        }
    }
}
