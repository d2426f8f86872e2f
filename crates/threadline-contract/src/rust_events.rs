//! Rust of a registry's events: a type and a macro for each, so that a missing required attribute does not compile. The SDK has
//! those of the base contract (`crates/threadline-sdk/src/events/generated.rs`); a company generates its own.
//!
//! Conditions that depend on a value (`required_when`) are no matter of types: the hub checks them.

use std::fmt::Write as _;

use crate::registry::{Attribute, Base, Class, Event, Level, Registry, Use};

/// How the events of one crate are written.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The module in which the text is compiled, from the crate's root: `events`.
    pub module: &'a str,
    /// Path of the `tracing` crate from there.
    pub tracing: &'a str,
}

/// The events of the base contract that the SDK has.
pub const SDK_EVENTS: &[&str] = &[
    "request.finished",
    "security.audit",
    "security.authn.rejected",
    "security.authn.succeeded",
    "security.authz.denied",
    "security.endpoint.unknown",
    "security.tls.handshake_failed",
    "service.started",
    "service.stopping",
];

/// How an event ends whose name says it.
const OUTCOMES: &[(&str, &str)] = &[
    ("security.authn.rejected", "Failure"),
    ("security.authn.succeeded", "Success"),
    ("security.authz.denied", "Denied"),
    ("security.endpoint.unknown", "Failure"),
    ("security.tls.handshake_failed", "Failure"),
];

const OUTCOME: &str = "threadline.outcome";

/// The Rust text of the events that `chosen` names; those that are not in the registry are left out.
pub fn source(registry: &Registry, chosen: &[&str], options: Options<'_>) -> String {
    let mut out = format!(
        "//! Generated from contract {} by `threadline-contract`; a test of that crate keeps it true.\n\nuse std::borrow::Cow;\n",
        registry.version()
    );
    let _ = write!(
        out,
        "\n/// Version of the contract that these events are of.\npub const CONTRACT_VERSION: &str = {:?};\n",
        registry.version()
    );
    secrets(&mut out, registry);
    let events: Vec<&Event> = chosen.iter().filter_map(|name| registry.events.get(*name)).collect();
    let mut closed: Vec<&Attribute> = events
        .iter()
        .flat_map(|event| &event.uses)
        .filter(|used| used.values.is_empty())
        .filter_map(|used| registry.attribute(&used.key))
        .filter(|attribute| attribute.closed && !attribute.members.is_empty())
        .collect();
    closed.sort_by_key(|attribute| &attribute.key);
    closed.dedup_by_key(|attribute| &attribute.key);
    for attribute in closed {
        values(&mut out, &type_name(&attribute.key), &attribute.brief, &attribute.members);
    }
    for event in events {
        Generator { registry, event, options }.write(&mut out);
    }
    out
}

/// Keys whose values are never sent.
fn secrets(out: &mut String, registry: &Registry) {
    out.push_str("\n/// Keys of secrets, sorted: their values are masked before a record leaves the process.\npub const SECRET_KEYS: &[&str] = &[\n");
    for attribute in registry.attributes.values().filter(|attribute| attribute.class == Class::Secret) {
        let _ = writeln!(out, "    {:?},", attribute.key);
    }
    out.push_str("];\n");
}

/// A closed list of values as a type.
fn values(out: &mut String, name: &str, brief: &str, values: &[String]) {
    let _ = write!(
        out,
        "\n/// {brief}\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\n#[non_exhaustive]\npub enum {name} {{\n"
    );
    let named = variants(values);
    for (name, value) in &named {
        let _ = writeln!(out, "    /// `{}`.\n    {name},", value.escape_debug());
    }
    let _ = write!(
        out,
        "}}\n\nimpl {name} {{\n    /// The value, as the contract has it.\n    pub const fn as_str(self) -> &'static str {{\n        match self {{\n"
    );
    for (name, value) in &named {
        let _ = writeln!(out, "            Self::{name} => {value:?},");
    }
    out.push_str("        }\n    }\n}\n");
}

/// Words of a name: its parts between what cannot stand in a name of Rust.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    let name: String = words(name).map(capital).collect();
    match name.as_str() {
        "Self" => "Self_".to_owned(),
        name if name.starts_with(|c: char| c.is_ascii_alphabetic()) => name.to_owned(),
        other => format!("N{other}"),
    }
}

fn snake(name: &str) -> String {
    let name = words(name).collect::<Vec<_>>().join("_");
    if KEYWORDS.contains(&name.as_str()) {
        return name + "_";
    }
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("n{name}") }
}

/// What no field may be called (Rust reference, "Keywords", edition 2024).
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct",
    "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while",
    "yield",
];

/// Names in their order; one that is taken already gets a number.
fn apart(names: impl Iterator<Item = String>, taken: &[&str]) -> Vec<String> {
    let mut given: Vec<String> = Vec::new();
    for name in names {
        let is_free = |name: &String| !taken.contains(&name.as_str()) && !given.contains(name);
        let numbered = (2..).map(|number| format!("{name}{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(is_free);
        given.push(free.unwrap_or(name));
    }
    given
}

/// The names of values as variants.
fn variants(values: &[String]) -> Vec<(String, &str)> {
    let names = apart(values.iter().map(|value| camel(value)), &[]);
    names.into_iter().zip(values.iter().map(String::as_str)).collect()
}

/// A name as Rust has it: without the prefixes that every name of ours has.
fn short(name: &str) -> &str {
    ["threadline.", "security."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

fn type_name(name: &str) -> String {
    camel(short(name))
}

fn field_name(key: &str) -> String {
    snake(short(key))
}

/// How an attribute is held and handed on.
enum Kind {
    Closed(String),
    Text,
    Int,
    Double,
    Bool,
}

impl Kind {
    fn held(&self) -> String {
        match self {
            Kind::Closed(name) => name.clone(),
            Kind::Text => "Cow<'a, str>".to_owned(),
            Kind::Int => "i64".to_owned(),
            Kind::Double => "f64".to_owned(),
            Kind::Bool => "bool".to_owned(),
        }
    }

    /// The expression that records a required one, and an optional one.
    fn recorded(&self, name: &str, required: bool) -> String {
        match (self, required) {
            (Kind::Closed(_), true) => format!("self.{name}.as_str()"),
            (Kind::Text, true) => format!("&*self.{name}"),
            (_, true) => format!("self.{name}"),
            (Kind::Closed(_), false) => format!("self.optional.{name}.map(|value| value.as_str())"),
            (Kind::Text, false) => format!("self.optional.{name}.as_deref()"),
            (_, false) => format!("self.optional.{name}"),
        }
    }
}

struct Generator<'a> {
    registry: &'a Registry,
    event: &'a Event,
    options: Options<'a>,
}

impl Generator<'_> {
    fn name(&self) -> String {
        type_name(&self.event.name)
    }

    /// What is used, but arrays and maps, which `tracing` has no fields for.
    fn uses(&self, required: bool) -> impl Iterator<Item = (&Use, Kind)> {
        self.event
            .uses
            .iter()
            .filter(move |used| (used.level == Level::Required) == required)
            .filter_map(|used| Some((used, self.kind(used)?)))
    }

    fn kind(&self, used: &Use) -> Option<Kind> {
        if !used.values.is_empty() {
            return Some(Kind::Closed(format!("{}{}", self.name(), type_name(&used.key))));
        }
        let attribute = self.registry.attribute(&used.key)?;
        if attribute.closed && !attribute.members.is_empty() {
            return Some(Kind::Closed(type_name(&attribute.key)));
        }
        match attribute.base {
            Base::Str => Some(Kind::Text),
            Base::Int => Some(Kind::Int),
            Base::Double => Some(Kind::Double),
            Base::Bool => Some(Kind::Bool),
            _ => None,
        }
    }

    /// The field that an attribute of the event is; what every event has goes by names of its own.
    fn field(&self, key: &str) -> String {
        let uses = &self.event.uses;
        let names = apart(uses.iter().map(|used| field_name(&used.key)), &["optional", "message"]);
        let at = uses.iter().position(|used| used.key == key);
        at.and_then(|at| names.get(at).cloned()).unwrap_or_else(|| field_name(key))
    }

    fn brief(&self, key: &str) -> String {
        let brief = self.registry.attribute(key).map_or("", |attribute| attribute.brief.as_str());
        format!("`{key}`: {brief}")
    }

    fn outcome(&self) -> Option<&'static str> {
        OUTCOMES.iter().find(|(name, _)| *name == self.event.name).map(|(_, outcome)| *outcome)
    }

    fn write(&self, out: &mut String) {
        for used in &self.event.uses {
            if let (false, Some(Kind::Closed(name))) = (used.values.is_empty(), self.kind(used)) {
                values(
                    out,
                    &name,
                    &format!("{} of `{}`", self.brief(&used.key), self.event.name),
                    &used.values,
                );
            }
        }
        self.types(out);
        self.emit(out);
        self.rules(out);
    }

    fn types(&self, out: &mut String) {
        let (name, event) = (self.name(), self.event);
        let text = self.uses(false).any(|(_, kind)| matches!(kind, Kind::Text));
        let may = if text { "<'a>" } else { "" };
        let whole = self.lifetime();
        let _ = write!(
            out,
            "\n/// `{}`: {}\n#[derive(Clone, Debug)]\npub struct {name}{whole} {{\n",
            event.name, event.brief
        );
        for (used, kind) in self.uses(true) {
            let _ = writeln!(
                out,
                "    /// {}\n    pub {}: {},",
                self.brief(&used.key),
                self.field(&used.key),
                kind.held()
            );
        }
        let _ = writeln!(out, "    /// What need not be there.\n    pub optional: {name}Optional{may},\n}}\n");
        let _ = write!(
            out,
            "/// What a [`{name}`] need not have.\n#[derive(Clone, Debug, Default)]\npub struct {name}Optional{may} {{\n"
        );
        for (used, kind) in self.uses(false) {
            let _ = writeln!(
                out,
                "    /// {} ({})\n    pub {}: Option<{}>,",
                self.brief(&used.key),
                used.level,
                self.field(&used.key),
                kind.held()
            );
        }
        out.push_str("}\n");
    }

    fn lifetime(&self) -> &'static str {
        let text = self.uses(true).chain(self.uses(false)).any(|(_, kind)| matches!(kind, Kind::Text));
        if text { "<'a>" } else { "" }
    }

    /// Levels of `tracing` that the event's severities allow, the usual one first.
    fn levels(&self) -> Vec<&'static str> {
        let Some(severity) = &self.event.severity else { return vec!["INFO"] };
        let ranges = std::iter::once(severity.range).chain(severity.when.iter().map(|(_, range)| *range));
        let mut levels = Vec::new();
        for range in ranges {
            for (level, number) in [("INFO", 9), ("WARN", 13), ("ERROR", 17)] {
                if (range.min..=range.max).contains(&number) && !levels.contains(&level) {
                    levels.push(level);
                }
            }
        }
        if levels.is_empty() { vec!["INFO"] } else { levels }
    }

    fn emit(&self, out: &mut String) {
        let (name, event, tracing) = (self.name(), self.event, self.options.tracing);
        let anonymous = if self.lifetime().is_empty() { "" } else { "<'_>" };
        let levels = self.levels();
        let first = levels.first().copied().unwrap_or("INFO");
        let _ = write!(
            out,
            "\nimpl {name}{anonymous} {{\n    /// The event's name.\n    pub const NAME: &'static str = {:?};\n\
             \n    /// Records it, at the level that it usually has.\n    pub fn emit(&self, message: &str) {{\n        self.emit_at({tracing}::Level::{first}, message);\n    }}\n\
             \n    /// Records it at a level; one that the contract does not allow becomes the usual one.\n    pub fn emit_at(&self, level: {tracing}::Level, message: &str) {{\n",
            event.name
        );
        let mut fields = String::new();
        for required in [true, false] {
            for (used, kind) in self.uses(required) {
                let recorded = kind.recorded(&self.field(&used.key), required);
                let _ = write!(fields, " {:?} = {recorded},", used.key);
            }
        }
        for (at, level) in levels.iter().skip(1).enumerate() {
            let _ = write!(
                out,
                "        {}if level == {tracing}::Level::{level} {{\n            {tracing}::event!(name: {:?}, target: \"threadline\", {tracing}::Level::{level}, message = message,{fields});\n        }}",
                if at == 0 { "" } else { " else " },
                event.name
            );
        }
        let only = levels.len() == 1;
        let (open, close) =
            if only { ("        let _ = level;\n", "") } else { (" else {\n    ", "        }\n") };
        let _ = write!(
            out,
            "{open}        {tracing}::event!(name: {:?}, target: \"threadline\", {tracing}::Level::{first}, message = message,{fields});\n{close}    }}\n}}\n",
            event.name
        );
    }

    /// The macro: takes `name: value` pairs one by one, and sorts them into what is required and what is not.
    fn rules(&self, out: &mut String) {
        let (name, event, module) = (self.name(), self.event, self.options.module);
        let rule = field_name(&event.name);
        let known: Vec<String> = [true, false]
            .iter()
            .flat_map(|required| self.uses(*required))
            .map(|(used, _)| self.field(&used.key))
            .collect();
        let _ = write!(
            out,
            "\n/// Records `{}`: {}\n///\n/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.\n#[macro_export]\nmacro_rules! {rule} {{\n",
            event.name, event.brief
        );
        let any: Vec<String> = event.any_of.iter().flatten().map(|key| self.field(key)).collect();
        let state = "[$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*]";
        for required in [true, false] {
            for (used, kind) in self.uses(required) {
                if used.key == OUTCOME && self.outcome().is_some() {
                    continue;
                }
                let field = self.field(&used.key);
                let value = taken(&kind, module);
                let seen = if any.contains(&field) { " x" } else { "" };
                let next = if required {
                    format!("[$($r)* {field}: {value},] [$($o)*] [$($any)*{seen}] [$($m)*]")
                } else {
                    format!(
                        "[$($r)*] [$($o)* {field}: ::core::option::Option::Some({value}),] [$($any)*{seen}] [$($m)*]"
                    )
                };
                let _ = writeln!(
                    out,
                    "    (@ {state} {field}: $v:expr $(, $($rest:tt)*)?) => {{ $crate::{rule}!(@ {next} $($($rest)*)?) }};"
                );
            }
        }
        let _ = writeln!(
            out,
            "    (@ {state} message: $v:expr $(, $($rest:tt)*)?) => {{ $crate::{rule}!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) }};"
        );
        let outcome = self
            .outcome()
            .map(|outcome| format!("outcome: $crate::{module}::Outcome::{outcome}, "))
            .unwrap_or_default();
        if !any.is_empty() {
            let _ = writeln!(
                out,
                "    (@ [$($r:tt)*] [$($o:tt)*] [] [$($m:tt)*]) => {{\n        ::core::compile_error!(\"{rule}! needs one of: {}\")\n    }};",
                any.join(", ")
            );
        }
        for (pattern, message) in [("", format!("{:?}", event.brief)), ("$m:expr", "&$m".to_owned())] {
            let _ = writeln!(
                out,
                "    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [{pattern}]) => {{\n        $crate::{module}::{name} {{\n            {outcome}$($r)*\n            optional: $crate::{module}::{name}Optional {{ $($o)* ..::core::default::Default::default() }},\n        }}.emit({message})\n    }};"
            );
        }
        let _ = write!(
            out,
            "    (@ {state} $other:ident : $($rest:tt)*) => {{\n        ::core::compile_error!(::core::concat!(\"{rule}! has no attribute `\", ::core::stringify!($other), \"`; it has: {}, message\"))\n    }};\n\
             \x20   (@ $($other:tt)*) => {{\n        ::core::compile_error!(\"{rule}! takes `name: value` pairs, separated by commas\")\n    }};\n\
             \x20   ($($input:tt)*) => {{\n        $crate::{rule}!(@ [] [] [] [] $($input)*)\n    }};\n}}\n",
            known
                .iter()
                .filter(|name| *name != "outcome" || self.outcome().is_none())
                .cloned()
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
}

/// What becomes of a value that a macro is given.
fn taken(kind: &Kind, module: &str) -> String {
    match kind {
        Kind::Closed(name) => {
            format!("{{ #[allow(unused_imports)] use $crate::{module}::{name}::*; $v }}")
        }
        Kind::Text => "::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))".to_owned(),
        Kind::Int => "::core::convert::TryInto::<i64>::try_into($v).unwrap_or(i64::MAX)".to_owned(),
        Kind::Double => "::core::convert::Into::<f64>::into($v)".to_owned(),
        Kind::Bool => "$v".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{base_layers, load};

    #[test]
    fn names_are_names_of_rust() {
        for (name, upper, lower) in [
            ("http.request.method", "HttpRequestMethod", "http_request_method"),
            ("type", "Type", "type_"),
            ("self", "Self_", "self_"),
            ("2xx", "N2xx", "n2xx"),
            ("a+b c", "ABC", "a_b_c"),
            ("\u{e9}t\u{e9}", "T", "t"),
            ("*", "N", "n"),
        ] {
            assert_eq!((camel(name), snake(name)), (upper.to_owned(), lower.to_owned()), "{name}");
        }
        let values = ["a-b", "a.b", "*", "+", "c"].map(str::to_owned);
        let named = variants(&values);
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["AB", "AB2", "N", "N2", "C"]);
        let fields = ["a_b", "a_b", "message", "optional"].map(str::to_owned);
        let given = apart(fields.into_iter(), &["optional", "message"]);
        assert_eq!(given, ["a_b", "a_b2", "message2", "optional2"]);
    }

    #[test]
    fn the_sdk_has_the_events_of_the_contract() {
        let registry = load(&base_layers()).unwrap();
        for name in SDK_EVENTS {
            assert!(registry.events.contains_key(*name), "{name} is not in the contract");
        }
        let text = source(&registry, SDK_EVENTS, Options { module: "events", tracing: "::tracing" });
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../threadline-sdk/src/events/generated.rs");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text, "{path} is not as generated: UPDATE_GOLDEN=1 cargo test");
    }
}
