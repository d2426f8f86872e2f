//! How values of settings are written: sizes, durations, addresses, lists, retention rules.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use threadline_contract::Policy;
use threadline_contract::rules::{Action, Rule};
use threadline_model::schema::Table;
use threadline_query::lang::Network;
use threadline_store::RetentionRule;

use super::nearest;

/// A way to write values of type `T`.
pub trait Kind<T>: Named {
    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong and how it is written.
    fn parse(text: &str) -> Result<T, String>;
    /// Writes a value so that [`Kind::parse`] gives it back.
    fn write(value: &T) -> String;
}

/// Name of a kind, as in the reference.
pub trait Named {
    /// The name.
    const NAME: &'static str;
}

macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident = $name:literal;)+) => {
        $($(#[$doc])+ #[derive(Debug)] pub struct $kind;
        impl $kind {
            /// Name of the kind.
            pub const NAME: &'static str = $name;
        }
        impl Named for $kind { const NAME: &'static str = $name; })+
    };
}

kinds! {
    /// Bytes, with `KiB`, `MiB`, `GiB`, `TiB` (1024) or `kB`, `MB`, `GB`, `TB` (1000).
    Bytes = "size";
    /// A span of time: `ms`, `s`, `m`, `h`, `d`, `w`; parts add up.
    Period = "duration";
    /// IP address and port.
    Address = "address";
    /// A path.
    Folder = "path";
    /// A whole number, at least 1.
    Count = "count";
    /// A number from 0 to 1.
    Share = "share";
    /// `true` or `false`.
    Switch = "switch";
    /// One word.
    Word = "word";
    /// An address of the web.
    Url = "url";
    /// Words with commas between.
    Words = "list";
    /// Retention rules.
    Retention = "rules";
    /// What is done about rules of the contract.
    Actions = "actions";
    /// Whether senders must show a certificate.
    Demand = "demand";
    /// What becomes of records that their sender may not write.
    Verdict = "verdict";
    /// Who may write as which services.
    Senders = "senders";
    /// IP networks.
    Networks = "networks";
}

/// Whether senders must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Who shows none gets no connection.
    Required,
    /// Who shows none needs a token.
    Optional,
}

/// What becomes of records that their sender may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// They are refused.
    Refuse,
    /// They are kept and marked.
    Flag,
}

/// A rule: who may write as which services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderRule {
    /// Identity of a certificate, or `token:NAME`; with `*`.
    pub identity: String,
    /// Names of services; with `*`.
    pub services: Vec<String>,
}

/// How values of a kind are written, for the reference: kind, explanation, example.
pub const WRITTEN: &[(&str, &str, &str)] = &[
    (
        Bytes::NAME,
        "bytes, or with `KiB`, `MiB`, `GiB`, `TiB` (1024) or `kB`, `MB`, `GB`, `TB` (1000)",
        "512MiB",
    ),
    (Period::NAME, "`ms`, `s`, `m`, `h`, `d` (24 h), `w`; parts add up", "1h30m"),
    (Address::NAME, "IP address and port; port 0 lets the system choose", "127.0.0.1:7311"),
    (Folder::NAME, "a path, relative to the working folder", "/var/lib/threadline"),
    (Count::NAME, "a whole number, at least 1", "16"),
    (Share::NAME, "a number from 0 to 1", "0.25"),
    (Switch::NAME, "`true` or `false`", "false"),
    (Word::NAME, "letters, digits, `-`, `_`, `.`; may be empty", "production"),
    (
        Url::NAME,
        "an address that begins with `https://` or `http://`; may be empty",
        "https://logs.example.com",
    ),
    (Words::NAME, "a list in the file, commas elsewhere", "https://a.example,https://b.example"),
    (
        Retention::NAME,
        "`[[retention]]` tables in the file; elsewhere `key=value` with commas, rules with `;` between",
        "service=checkout,age_max=30d; event=security.*,age_max=1w",
    ),
    (
        Actions::NAME,
        "`rule=action` with commas between, a list of these in the file; actions are `off`, `tag`, `quarantine`, `reject`",
        "event.unknown=quarantine,attribute.unknown=tag",
    ),
    (Demand::NAME, "`required` or `optional`", "optional"),
    (Verdict::NAME, "`refuse` or `flag`", "flag"),
    (
        Networks::NAME,
        "IP addresses and networks (CIDR): a list in the file, commas elsewhere",
        "10.0.0.0/8,2001:db8::1",
    ),
    (
        Senders::NAME,
        "`[[senders]]` tables in the file, `services` a text with spaces between names; elsewhere `key=value` with commas, \
         rules with `;` between; `*` stands for any text",
        "identity=spiffe://acme/collector,services=*; identity=gateway.acme.internal,services=shop shop-*",
    ),
];

/// Bytes of a word.
const WORD_BYTES_MAX: usize = 64;

const UNITS_BYTES: &[(&str, u64)] = &[
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

const UNITS_MS: &[(&str, u64)] = &[
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Bytes from text such as `512MiB` or `67108864`.
///
/// # Errors
/// How sizes are written.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || "write a size such as `512MiB`, `1.5GB` or `67108864`".to_owned();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_'))).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (number, unit) = (number.replace('_', ""), unit.trim().to_lowercase());
    let factor = match unit.as_str() {
        "" => 1,
        unit => UNITS_BYTES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| "the size is beyond 16 EiB".to_owned());
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
    if unit.is_empty() || bytes >= u64::MAX as f64 {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

/// The shortest exact way to write a size.
pub fn write_bytes(bytes: u64) -> String {
    [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// A duration from text such as `30d` or `1h30m`.
///
/// # Errors
/// How durations are written.
pub fn parse_period(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration such as `30s`, `250ms`, `1h30m` or `30d`".to_owned();
    let mut total = 0u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = UNITS_MS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)?;
        total = total.checked_add(ms).ok_or_else(wrong)?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// The shortest exact way to write a duration, down to milliseconds.
pub fn write_period(period: Duration) -> String {
    let mut rest = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, factor) in UNITS_MS.iter().filter(|(unit, _)| !matches!(*unit, "min" | "w")) {
        if rest >= *factor {
            out.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    out
}

impl Kind<u64> for Bytes {
    fn parse(text: &str) -> Result<u64, String> {
        parse_bytes(text)
    }

    fn write(value: &u64) -> String {
        write_bytes(*value)
    }
}

impl Kind<usize> for Bytes {
    fn parse(text: &str) -> Result<usize, String> {
        usize::try_from(parse_bytes(text)?).map_err(|_| "the size is beyond this machine".to_owned())
    }

    fn write(value: &usize) -> String {
        write_bytes(*value as u64)
    }
}

impl Kind<Option<u64>> for Bytes {
    fn parse(text: &str) -> Result<Option<u64>, String> {
        if text == "none" { Ok(None) } else { parse_bytes(text).map(Some) }
    }

    fn write(value: &Option<u64>) -> String {
        value.map_or_else(|| "none".to_owned(), write_bytes)
    }
}

impl Kind<Duration> for Period {
    fn parse(text: &str) -> Result<Duration, String> {
        parse_period(text)
    }

    fn write(value: &Duration) -> String {
        write_period(*value)
    }
}

impl Kind<SocketAddr> for Address {
    fn parse(text: &str) -> Result<SocketAddr, String> {
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        text.parse()
            .map_err(|_| "write an IP address and a port such as `127.0.0.1:7311` or `[::]:7311`".to_owned())
    }

    fn write(value: &SocketAddr) -> String {
        value.to_string()
    }
}

impl Kind<PathBuf> for Folder {
    fn parse(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("write a path".to_owned()) } else { Ok(PathBuf::from(text)) }
    }

    fn write(value: &PathBuf) -> String {
        value.display().to_string()
    }
}

impl Kind<Option<PathBuf>> for Folder {
    fn parse(text: &str) -> Result<Option<PathBuf>, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn write(value: &Option<PathBuf>) -> String {
        value.as_ref().map_or_else(String::new, |path| path.display().to_string())
    }
}

impl Kind<ClientAuth> for Demand {
    fn parse(text: &str) -> Result<ClientAuth, String> {
        match text {
            "required" => Ok(ClientAuth::Required),
            "optional" => Ok(ClientAuth::Optional),
            _ => Err("write `required` or `optional`".to_owned()),
        }
    }

    fn write(value: &ClientAuth) -> String {
        match value {
            ClientAuth::Required => "required",
            ClientAuth::Optional => "optional",
        }
        .to_owned()
    }
}

impl Kind<Mismatch> for Verdict {
    fn parse(text: &str) -> Result<Mismatch, String> {
        match text {
            "refuse" => Ok(Mismatch::Refuse),
            "flag" => Ok(Mismatch::Flag),
            _ => Err("write `refuse` or `flag`".to_owned()),
        }
    }

    fn write(value: &Mismatch) -> String {
        match value {
            Mismatch::Refuse => "refuse",
            Mismatch::Flag => "flag",
        }
        .to_owned()
    }
}

impl Kind<Vec<SenderRule>> for Senders {
    fn parse(text: &str) -> Result<Vec<SenderRule>, String> {
        text.split(';').map(str::trim).filter(|rule| !rule.is_empty()).map(parse_sender).collect()
    }

    fn write(value: &Vec<SenderRule>) -> String {
        let rule =
            |rule: &SenderRule| format!("identity={},services={}", rule.identity, rule.services.join(" "));
        value.iter().map(rule).collect::<Vec<_>>().join("; ")
    }
}

fn parse_sender(text: &str) -> Result<SenderRule, String> {
    let mut rule = SenderRule { identity: String::new(), services: Vec::new() };
    for part in text.split(',') {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("`{}` is not `key=value`", part.trim()))?;
        match key.trim() {
            "identity" => rule.identity = value.trim().to_owned(),
            "services" => rule.services = value.split_whitespace().map(str::to_owned).collect(),
            other => return Err(format!("a sender rule has no `{other}`; there are identity, services")),
        }
    }
    let too_long = |text: &String| text.len() > crate::door::pattern::PATTERN_BYTES_MAX;
    if rule.identity.is_empty() || rule.services.is_empty() {
        return Err("a sender rule needs `identity` and `services`".to_owned());
    }
    if too_long(&rule.identity) || rule.services.iter().any(too_long) {
        return Err("a name in a sender rule is too long".to_owned());
    }
    Ok(rule)
}

impl Kind<Vec<Network>> for Networks {
    fn parse(text: &str) -> Result<Vec<Network>, String> {
        let network = |text: &str| {
            let (address, bits) = text.split_once('/').map_or((text, None), |(a, bits)| (a, Some(bits)));
            let address: IpAddr = address.parse().ok()?;
            let width = if address.is_ipv4() { 32 } else { 128 };
            Network::new(address, bits.map_or(Some(width), |bits| bits.parse().ok())?)
        };
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words
            .map(|word| {
                network(word).ok_or_else(|| {
                    format!("`{word}` is no network: write one such as `10.0.0.0/8` or `192.0.2.1`")
                })
            })
            .collect()
    }

    fn write(value: &Vec<Network>) -> String {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Kind<Policy> for Actions {
    fn parse(text: &str) -> Result<Policy, String> {
        let mut policy = Policy::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (id, name) =
                pair.split_once('=').ok_or("write `rule=action`, such as `secret.jwt=quarantine`")?;
            let rule = Rule::parse(id.trim()).ok_or_else(|| {
                let hint = nearest(id.trim(), Rule::ALL.iter().map(|rule| rule.id()));
                let hint = hint.map(|known| format!(", did you mean `{known}`?")).unwrap_or_default();
                format!("there is no rule `{}`{hint}", id.trim())
            })?;
            let action = Action::parse(name.trim())
                .ok_or_else(|| format!("`{}` is no action: off, tag, quarantine or reject", name.trim()))?;
            policy.set(rule, action);
        }
        Ok(policy)
    }

    fn write(value: &Policy) -> String {
        let changed = Rule::ALL.iter().filter(|rule| value.action(**rule) != rule.default_action());
        let pairs = changed.map(|rule| format!("{rule}={}", value.action(*rule).name()));
        pairs.collect::<Vec<_>>().join(",")
    }
}

impl Kind<usize> for Count {
    fn parse(text: &str) -> Result<usize, String> {
        text.parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| "write a whole number, at least 1".to_owned())
    }

    fn write(value: &usize) -> String {
        value.to_string()
    }
}

impl Kind<f64> for Share {
    fn parse(text: &str) -> Result<f64, String> {
        text.parse()
            .ok()
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or_else(|| "write a number from 0 to 1".to_owned())
    }

    fn write(value: &f64) -> String {
        value.to_string()
    }
}

impl Kind<bool> for Switch {
    fn parse(text: &str) -> Result<bool, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("write `true` or `false`".to_owned()),
        }
    }

    fn write(value: &bool) -> String {
        value.to_string()
    }
}

impl Kind<String> for Word {
    fn parse(text: &str) -> Result<String, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.chars().all(fits) && text.len() <= WORD_BYTES_MAX {
            return Ok(text.to_owned());
        }
        Err(format!("write at most {WORD_BYTES_MAX} letters, digits, `-`, `_`, `.`"))
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

impl Kind<String> for Url {
    fn parse(text: &str) -> Result<String, String> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '?' | '#' | '@');
        if text.is_empty() || rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(fits)) {
            return Ok(text.trim_end_matches('/').to_owned());
        }
        Err("write an address such as https://logs.example.com, without user, query or fragment".to_owned())
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

impl Kind<Vec<String>> for Words {
    fn parse(text: &str) -> Result<Vec<String>, String> {
        Ok(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }

    fn write(value: &Vec<String>) -> String {
        value.join(",")
    }
}

const RULE_KEYS: [&str; 4] = ["table", "service", "event", "age_max"];

impl Kind<Vec<RetentionRule>> for Retention {
    fn parse(text: &str) -> Result<Vec<RetentionRule>, String> {
        text.split(';').map(str::trim).filter(|rule| !rule.is_empty()).map(parse_rule).collect()
    }

    fn write(value: &Vec<RetentionRule>) -> String {
        value.iter().map(write_rule).collect::<Vec<_>>().join("; ")
    }
}

fn parse_rule(text: &str) -> Result<RetentionRule, String> {
    let mut rule = RetentionRule { table: None, service: None, event: None, age_max: Duration::ZERO };
    for part in text.split(',') {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("`{}` is not `key=value`", part.trim()))?;
        let (key, value) = (key.trim(), value.trim());
        match key {
            "table" => rule.table = Some(Table::parse(value).ok_or("table is `logs` or `spans`")?),
            "service" => rule.service = Some(value.to_owned()),
            "event" => rule.event = Some(event_pattern(value)?),
            "age_max" => rule.age_max = parse_period(value)?,
            _ => {
                let hint = nearest(key, RULE_KEYS.into_iter()).map_or_else(
                    || format!("; there are {}", RULE_KEYS.join(", ")),
                    |k| format!(", did you mean `{k}`?"),
                );
                return Err(format!("a retention rule has no `{key}`{hint}"));
            }
        }
    }
    if rule.age_max.is_zero() {
        return Err("a retention rule needs `age_max`, such as `30d`".to_owned());
    }
    Ok(rule)
}

fn event_pattern(text: &str) -> Result<String, String> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    if stem.contains('*') {
        return Err("event is a name, or a class with `*` at its end such as `security.*`".to_owned());
    }
    Ok(text.to_owned())
}

fn write_rule(rule: &RetentionRule) -> String {
    let mut parts = Vec::new();
    parts.extend(rule.table.map(|table| format!("table={}", table.name())));
    parts.extend(rule.service.as_ref().map(|service| format!("service={service}")));
    parts.extend(rule.event.as_ref().map(|event| format!("event={event}")));
    parts.push(format!("age_max={}", write_period(rule.age_max)));
    parts.join(",")
}

/// A value of the file in the one text form that all sources share.
pub(super) fn from_toml(key: &str, value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(int) => Ok(int.to_string()),
        toml::Value::Float(float) => Ok(float.to_string()),
        toml::Value::Boolean(bool) => Ok(bool.to_string()),
        toml::Value::Array(items) => {
            let separator = if items.iter().any(toml::Value::is_table) { ";" } else { "," };
            let items: Result<Vec<_>, _> = items.iter().map(|item| item_text(item, separator)).collect();
            Ok(items?.join(separator))
        }
        toml::Value::Table(_) if matches!(key, "retention" | "senders") => {
            Err(format!("write `[[{key}]]`, with two brackets"))
        }
        toml::Value::Table(_) | toml::Value::Datetime(_) => {
            Err("this setting is no table and no date".to_owned())
        }
    }
}

fn item_text(item: &toml::Value, separator: &str) -> Result<String, String> {
    let text = match item {
        toml::Value::Table(members) => {
            let members: Result<Vec<_>, _> = members
                .iter()
                .map(|(key, value)| item_text(value, ",").map(|value| format!("{key}={value}")))
                .collect();
            return Ok(members?.join(","));
        }
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(int) => int.to_string(),
        other => return Err(format!("`{other}` does not fit here")),
    };
    // The text form has no quoting: a separator inside a value would silently make two of it.
    if text.contains(separator) || text.contains([',', ';']) {
        return Err(format!("`{text}` contains `,` or `;`"));
    }
    Ok(text)
}
