//! Parsers of option values. Closed lists are stated in the help and in the error alike.

use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use serveflow_core::features::{ENCODERS, Mask};
use serveflow_core::gate::Uncertainty;
use serveflow_core::parse::Header;
use serveflow_label::Split;
use serveflow_model::bundle::{LANE_NAMES, LEARNED};
use serveflow_model::formats::FORMATS;
use serveflow_train::pipeline::Kind;
use serveflow_train::planner::limits::Objective;
use serveflow_train::planner::replay::Rule;

/// A value of a closed list: its name, what it means, and what it stands for.
type Choice<T> = (&'static str, &'static str, T);

/// One of a closed list of values.
fn one_of<T: Clone + Send + Sync + 'static>(
    choices: Vec<Choice<T>>,
) -> impl TypedValueParser<Value = T> {
    let value = |(name, help, _): &Choice<T>| match help.is_empty() {
        true => PossibleValue::new(*name),
        false => PossibleValue::new(*name).help(*help),
    };
    let names: Vec<PossibleValue> = choices.iter().map(value).collect();
    PossibleValuesParser::new(names).map(move |name: String| {
        let found = choices.iter().find(|(known, ..)| *known == name);
        found.expect("the parser accepts the names of the list alone").2.clone()
    })
}

/// `--objective`
pub(crate) fn objective() -> impl TypedValueParser<Value = Objective> {
    let help = |objective| match objective {
        Objective::Latency => "Geometric mean of the time from first packet to verdict",
        Objective::Cpu => "Core time per flow",
        Objective::Escalation => "Share of flows escalated by the first stage",
    };
    one_of(Objective::ALL.map(|value| (value.name(), help(value), value)).to_vec())
}

fn measures() -> Vec<Choice<Uncertainty>> {
    let help = |measure| match measure {
        Uncertainty::LeastConfidence => "1 - largest probability",
        Uncertainty::Margin => "1 - difference of the two largest probabilities",
        Uncertainty::Entropy => "Normalised Shannon entropy of the probabilities",
    };
    Uncertainty::ALL.map(|value| (value.name(), help(value), value)).to_vec()
}

/// `--uncertainty`
pub(crate) fn measure() -> impl TypedValueParser<Value = Uncertainty> {
    one_of(measures())
}

/// `--rule`
pub(crate) fn rule() -> impl TypedValueParser<Value = Rule> {
    let learned = (LEARNED, "Predicted gain of a later stage minus its cost", Rule::Learned);
    let doubts =
        measures().into_iter().map(|(name, help, value)| (name, help, Rule::Uncertainty(value)));
    one_of([learned].into_iter().chain(doubts).collect())
}

/// `--kinds`
pub(crate) fn kind() -> impl TypedValueParser<Value = Kind> {
    let help = |kind| match kind {
        Kind::Tree => "Decision tree",
        Kind::Forest => "Random forest",
        Kind::Boosted => "Gradient-boosted trees",
        Kind::Given => "Model of another library",
    };
    one_of(Kind::ALL.map(|value| (value.name(), help(value), value)).to_vec())
}

/// `--split`
pub(crate) fn split() -> impl TypedValueParser<Value = Split> {
    one_of(Split::ALL.map(|value| (value.name(), "", value)).to_vec())
}

/// `--headers`
pub(crate) fn header() -> impl TypedValueParser<Value = Header> {
    one_of(Header::ALL.map(|value| (value.name(), "", value)).to_vec())
}

/// `--mask`; `none` is no mask.
pub(crate) fn mask() -> impl TypedValueParser<Value = Option<Mask>> {
    let help = |mask| match mask {
        Mask::Addresses => "IPv4 and IPv6 addresses",
        Mask::Ports => "TCP and UDP ports",
        Mask::Checksums => "IPv4, TCP, UDP and ICMP checksums",
        Mask::IpId => "IPv4 identification and IPv6 flow label",
        Mask::SeqAck => "TCP sequence and acknowledgement numbers",
        Mask::TcpTimestamps => "TCP options, which may hold time stamps",
        Mask::Ttl => "IPv4 time to live and IPv6 hop limit",
    };
    let masks = Mask::ALL.map(|value| (value.name(), help(value), Some(value)));
    one_of(masks.into_iter().chain([("none", "No mask", None)]).collect())
}

/// `--features`
pub(crate) fn encoder() -> PossibleValuesParser {
    let value = |name: &'static str, doc: &'static str| PossibleValue::new(name).help(doc);
    ENCODERS.iter().map(|encoder| value(encoder.name, encoder.doc)).collect::<Vec<_>>().into()
}

/// `--format` of verdicts.
pub(crate) fn sink() -> PossibleValuesParser {
    serveflow_output::FORMATS.iter().map(|sink| sink.name).collect::<Vec<_>>().into()
}

/// `--format` of a model file.
pub(crate) fn model_format() -> PossibleValuesParser {
    FORMATS.iter().map(|entry| entry.name).collect::<Vec<_>>().into()
}

/// `--lane`
pub(crate) fn lane() -> PossibleValuesParser {
    LANE_NAMES.into()
}

/// Encoders of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoders(pub(crate) Vec<String>);

/// `--extra-features`
pub(crate) fn encoders(text: &str) -> Result<Encoders, String> {
    let known: Vec<&str> = ENCODERS.iter().map(|encoder| encoder.name).collect();
    let names: Vec<String> = text.split('+').map(str::to_owned).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("expected some of {}, found `{name}`", known.join(", "))),
        None => Ok(Encoders(names)),
    }
}

/// Milliseconds of a wait: a stage of one packet waits for nothing.
pub(crate) fn wait() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=i64::MAX as u64)
}

/// A number that a plan can hold: TOML's integers have a sign.
pub(crate) fn plan_number() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(..=i64::MAX as u64)
}

/// Microseconds of an inline budget.
pub(crate) fn budget_us() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(..=1_000_000_000_000)
}

/// A share: 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// A share above 0.
pub(crate) fn some_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a number above 0 and up to 1".to_owned())
}

/// A share above 0 and below 1.
pub(crate) fn between(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|&share: &f64| share > 0.0 && share < 1.0);
    share.ok_or_else(|| "expected a number above 0 and below 1".to_owned())
}

/// A number above 0.
pub(crate) fn quantity(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}
