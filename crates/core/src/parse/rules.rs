//! What of a packet its flow key is made of.

/// Which packet of a tunnel the key and the features are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Tunnels {
    /// The outer one: all that goes through a tunnel is one flow, of the tunnel's ends.
    Outer,
    /// The innermost one: flows are those of the hosts that talk through the tunnel.
    #[default]
    Inner,
}

impl Tunnels {
    /// Both, in the order of the words' mention.
    pub const ALL: [Self; 2] = [Self::Inner, Self::Outer];

    /// The choice as configs and bundles spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
        }
    }

    /// The choice of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tunnels| tunnels.name() == name)
    }
}

/// What makes the key of a packet: all that look at the same traffic must go by the same rules, or
/// packets of one flow part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct KeyRules {
    /// Whether the outermost VLAN id is part of the key.
    pub vlan_in_key: bool,
    /// Which packet of a tunnel counts. The numbers that tell tunnels apart (VNI, TEID, GRE key,
    /// MPLS label) are no part of the key.
    pub tunnels: Tunnels,
}

impl KeyRules {
    /// The same, with that packet of a tunnel.
    #[must_use]
    pub fn with_tunnels(self, tunnels: Tunnels) -> Self {
        Self { tunnels, ..self }
    }
}
