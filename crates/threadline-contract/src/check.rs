//! The check of records. One body of code judges and explains: what it finds goes to a [`Sink`], which keeps bits, or
//! words for people.

use std::sync::Arc;

use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView, SpanView};
use threadline_model::value::Value;

use crate::contract::{Attr, Contract, Ev, Id, NONE, is_listed};
use crate::registry::{Level, SeverityRange};
use crate::rules::Rule;
use crate::secrets;

/// Keys that are not in the contract, or members of templates, remembered at most.
const KEYS_MAX: usize = 256;
/// Marks positions of [`Checker::keys`] among ids of attributes.
const LOCAL: u32 = 1 << 31;

/// Gets what is found.
pub(crate) trait Sink {
    /// A rule is broken.
    fn hit(&mut self, rule: Rule, about: &About<'_>);
}

/// What a rule was broken by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'a> {
    /// The event's name.
    Event(&'a str),
    /// An attribute that is not there.
    Missing(&'a str, &'a Level),
    /// None of these attributes is there.
    NoneOf(&'a Ev, u64),
    /// An attribute's value.
    Attribute(&'a str, Value<'a>, Option<&'a Attr>),
    /// An attribute's value, which is not among those that the event allows.
    Value(&'a str, Value<'a>, &'a [Box<str>]),
    /// The severity, and what it must be.
    Severity(i32, SeverityRange),
    /// A number and its limit.
    Limit(&'a str, usize, usize),
    /// A text other than an attribute's value.
    Field(&'a str),
}

/// Keeps bits.
#[derive(Default)]
pub(crate) struct Bits(pub(crate) u64);

impl Sink for Bits {
    #[inline(always)]
    fn hit(&mut self, rule: Rule, _: &About<'_>) {
        self.0 |= rule.bit();
    }
}

/// A key that is not in the contract as it is.
#[derive(Debug)]
struct Key {
    text: Box<str>,
    id: Id,
    /// Bits of rules that the key's own text breaks.
    bits: u64,
}

/// Checks records, one after the other. Attributes come in the same order record after record, so that a key is compared with
/// what was at its place before, and only looked up where it differs. What a record gets does not depend on what came
/// before it.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) contract: Arc<Contract>,
    /// By position: the attribute that was there.
    recent: Vec<u32>,
    keys: Vec<Key>,
    last_event: u32,
}

/// A text with flags from the first pass.
const SECRETS: u64 = Rule::SecretJwt.bit()
    | Rule::SecretBearer.bit()
    | Rule::SecretCard.bit()
    | Rule::SecretPrivateKey.bit()
    | Rule::SecretConnectionString.bit();

/// What a check says of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Bits of the rules that it breaks, whether they are looked at or not.
    pub(crate) bits: u64,
    /// Whether something must be masked.
    pub(crate) mask: bool,
    /// Whether it is of an event that is never sampled.
    pub(crate) never_sampled: bool,
}

impl Checker {
    pub(crate) fn new(contract: Arc<Contract>) -> Checker {
        Checker { contract, recent: Vec::new(), keys: Vec::new(), last_event: u32::MAX }
    }

    /// The attribute of the key at this position; bits of rules that the key's text breaks.
    #[inline]
    fn key(&mut self, position: usize, key: &str) -> (Id, u64) {
        let recent = self.recent.get(position).copied().unwrap_or(NONE);
        if recent < LOCAL {
            if self.contract.attrs.get(recent as usize).is_some_and(|attr| *attr.key == *key) {
                return (recent, 0);
            }
        } else if let Some(known) = self.keys.get((recent & !LOCAL) as usize)
            && *known.text == *key
        {
            return (known.id, known.bits);
        }
        self.key_slow(position, key)
    }

    #[inline(never)]
    fn key_slow(&mut self, position: usize, key: &str) -> (Id, u64) {
        let id = self.contract.find(key);
        let exact = self.contract.attrs.get(id as usize).is_some_and(|attr| *attr.key == *key);
        let mut bits = 0;
        let known = if exact {
            id
        } else {
            let flags = secrets::flags(key);
            if flags != 0 {
                bits = secrets::verify(key, false, flags);
            }
            let at = self.keys.iter().position(|known| *known.text == *key);
            let at = at.or_else(|| {
                (self.keys.len() < KEYS_MAX && key.len() <= 256).then(|| {
                    self.keys.push(Key { text: key.into(), id, bits });
                    self.keys.len() - 1
                })
            });
            at.map_or(NONE, |at| LOCAL | at as u32)
        };
        if self.recent.len() <= position && position < KEYS_MAX {
            self.recent.resize(position + 1, NONE);
        }
        if let Some(recent) = self.recent.get_mut(position) {
            *recent = known;
        }
        (id, bits)
    }

    #[inline]
    fn event(&mut self, name: &str) -> Option<u32> {
        let same = |at: u32| self.contract.events.get(at as usize).is_some_and(|event| *event.name == *name);
        if same(self.last_event) {
            return Some(self.last_event);
        }
        let found = self.contract.event_id(name)?;
        self.last_event = found;
        Some(found)
    }

    /// Checks a log record.
    pub(crate) fn log<S: Sink>(&mut self, log: &LogView<'_>, sink: &mut S) -> Judged {
        let contract = Arc::clone(&self.contract);
        let mut judged = Judged::default();
        let name = event_name(log);
        let event = if name.is_empty() {
            None
        } else {
            let found = self.event(name).and_then(|at| contract.events.get(at as usize));
            if found.is_none() {
                report(sink, &mut judged, Rule::EventUnknown, &About::Event(name));
            }
            found
        };
        let (seen, at) = self.attributes(&contract, log.attributes, event, &mut judged, sink);
        if let Some(event) = event {
            judged.never_sampled = event.never_sampled;
            let found = |slot: usize| {
                let position = usize::from(at.get(slot).copied()?);
                let is = seen >> slot & 1 == 1;
                is.then(|| log.attributes.get(position).map(|(_, value)| value)).flatten()
            };
            complete(event, seen, &found, &mut judged, sink);
            severity(event, log.severity_number, &found, &mut judged, sink);
            if event.request_scoped && log.trace_id.is_none() {
                report(sink, &mut judged, Rule::TraceMissing, &About::Event(name));
            }
        }
        let max = contract.policy().body_bytes_max;
        self.value("body", &log.body, max, &mut judged, sink);
        self.text("severity_text", log.severity_text, &mut judged, sink);
        if event.is_none() {
            self.text("event_name", log.event_name, &mut judged, sink);
        }
        judged
    }

    /// Checks a span: attributes and texts, for the contract has no spans.
    pub(crate) fn span<S: Sink>(&mut self, span: &SpanView<'_>, sink: &mut S) -> Judged {
        let mut judged = Judged::default();
        let contract = Arc::clone(&self.contract);
        self.attributes(&contract, span.attributes, None, &mut judged, sink);
        for (field, text) in
            [("name", span.name), ("status_message", span.status_message), ("trace_state", span.trace_state)]
        {
            self.text(field, text, &mut judged, sink);
        }
        for (field, json) in [("events", span.events_json), ("links", span.links_json)] {
            if !json.is_empty() {
                self.value(field, &Value::Json(json), usize::MAX, &mut judged, sink);
            }
        }
        judged
    }

    /// Checks what all records of a sender have in common.
    pub(crate) fn resource<S: Sink>(&mut self, resource: &ResourceView<'_>, sink: &mut S) -> Judged {
        let contract = Arc::clone(&self.contract);
        let mut judged = Judged::default();
        self.attributes(&contract, resource.attributes, None, &mut judged, sink);
        self.text("schema_url", resource.schema_url, &mut judged, sink);
        for (id, level) in &contract.resource {
            let Some(attr) = contract.attrs.get(*id as usize).filter(|_| *level == Level::Required) else {
                continue;
            };
            let is = |(key, value): &Attribute<'_>| {
                *key == &*attr.key && !matches!(value, Value::Empty | Value::Str(""))
            };
            if !resource.attributes.iter().any(is) {
                report(sink, &mut judged, Rule::ResourceMissing, &About::Missing(&attr.key, level));
            }
        }
        judged
    }

    /// Checks an instrumentation scope.
    pub(crate) fn scope<S: Sink>(&mut self, scope: &ScopeView<'_>, sink: &mut S) -> Judged {
        let mut judged = Judged::default();
        if scope.attributes.is_empty()
            && scope.name.is_empty()
            && scope.version.is_empty()
            && scope.schema_url.is_empty()
        {
            return judged;
        }
        let contract = Arc::clone(&self.contract);
        self.attributes(&contract, scope.attributes, None, &mut judged, sink);
        for text in [scope.name, scope.version, scope.schema_url] {
            self.text("scope", text, &mut judged, sink);
        }
        judged
    }

    /// Checks attributes; says which slots of the event are there, and where.
    fn attributes<S: Sink>(
        &mut self,
        contract: &Contract,
        attributes: &[Attribute<'_>],
        event: Option<&Ev>,
        judged: &mut Judged,
        sink: &mut S,
    ) -> (u64, [u16; 64]) {
        let policy = contract.policy();
        let (mut seen, mut places) = (0u64, [0u16; 64]);
        if attributes.len() > policy.attributes_max {
            let about = About::Limit("attributes", attributes.len(), policy.attributes_max);
            report(sink, judged, Rule::LimitAttributes, &about);
        }
        for (position, (key, value)) in attributes.iter().enumerate() {
            let (id, bits) = self.key(position, key);
            if bits != 0 {
                judged.mask |= bits & SECRETS != 0;
                Rule::of(bits).for_each(|rule| report(sink, judged, rule, &About::Field("an attribute's key")));
            }
            self.value(key, value, policy.value_bytes_max, judged, sink);
            let Some(attr) = contract.attrs.get(id as usize) else {
                report(sink, judged, Rule::AttributeUnknown, &About::Attribute(key, *value, None));
                continue;
            };
            if !attr.fits(value) {
                report(sink, judged, Rule::AttributeType, &About::Attribute(key, *value, Some(attr)));
            }
            if attr.deprecated | attr.secret | attr.redact | !attr.closed.is_empty() {
                special(attr, key, value, judged, sink);
            }
            let Some(event) = event else { continue };
            let slot = event.slots.get(id as usize).copied().unwrap_or(0);
            if slot != 0 && !matches!(value, Value::Empty) {
                let slot = usize::from(slot - 1);
                seen |= 1 << slot;
                if let Some(place) = places.get_mut(slot) {
                    *place = position.min(usize::from(u16::MAX)) as u16;
                }
                if event.valued >> slot & 1 == 1
                    && let Some(list) = event.values.get(slot)
                    && !is_listed(list, value)
                {
                    report(sink, judged, Rule::AttributeValue, &About::Value(key, *value, list));
                }
            }
        }
        (seen, places)
    }

    /// Checks a text for secrets and forged lines.
    #[inline]
    fn text<S: Sink>(&self, field: &str, text: &str, judged: &mut Judged, sink: &mut S) {
        if text.is_empty() {
            return;
        }
        let flags = secrets::flags(text);
        if flags != 0 {
            self.suspicious(field, text, false, flags, judged, sink);
        }
    }

    #[cold]
    #[inline(never)]
    fn suspicious<S: Sink>(
        &self,
        field: &str,
        text: &str,
        json: bool,
        flags: u16,
        judged: &mut Judged,
        sink: &mut S,
    ) {
        let bits = secrets::verify(text, json, flags);
        judged.mask |= bits & SECRETS != 0;
        Rule::of(bits).for_each(|rule| report(sink, judged, rule, &About::Field(field)));
    }

    /// Checks a value for secrets, forged lines and length.
    #[inline]
    fn value<S: Sink>(
        &self,
        field: &str,
        value: &Value<'_>,
        bytes_max: usize,
        judged: &mut Judged,
        sink: &mut S,
    ) {
        let len = match *value {
            Value::Str(text) => {
                self.text(field, text, judged, sink);
                text.len()
            }
            Value::Int(int) => {
                if secrets::is_card_number(int) {
                    judged.mask = true;
                    report(sink, judged, Rule::SecretCard, &About::Field(field));
                }
                return;
            }
            Value::Empty | Value::Bool(_) => return,
            Value::Double(_) | Value::Json(_) | Value::Bytes(_) => self.value_slow(field, value, judged, sink),
        };
        if len > bytes_max {
            report(sink, judged, Rule::LimitValue, &About::Limit(field, len, bytes_max));
        }
    }

    #[inline(never)]
    fn value_slow<S: Sink>(&self, field: &str, value: &Value<'_>, judged: &mut Judged, sink: &mut S) -> usize {
        match *value {
            Value::Double(double) => {
                let whole = double as i64;
                if double.fract() == 0.0 && secrets::is_card_number(whole) {
                    judged.mask = true;
                    report(sink, judged, Rule::SecretCard, &About::Field(field));
                }
                8
            }
            Value::Json(json) => {
                let flags = secrets::flags(json);
                if flags != 0 {
                    self.suspicious(field, json, true, flags, judged, sink);
                }
                if secrets::has_secret_member(json, &|key| self.contract.is_secret_key(key)) {
                    judged.mask = true;
                    report(sink, judged, Rule::SecretAttribute, &About::Field(field));
                }
                json.len()
            }
            Value::Bytes(bytes) => {
                self.text(field, &String::from_utf8_lossy(bytes), judged, sink);
                bytes.len()
            }
            _ => 0,
        }
    }
}

/// The event's name. An appender that has none puts the place in the source there, which names no event.
pub(crate) fn event_name<'a>(log: &LogView<'a>) -> &'a str {
    let name = log.event_name;
    if name.starts_with("event ") && name.contains(':') { "" } else { name }
}

#[inline(always)]
fn report<S: Sink>(sink: &mut S, judged: &mut Judged, rule: Rule, about: &About<'_>) {
    judged.bits |= rule.bit();
    sink.hit(rule, about);
}

/// Attributes of which more than the type matters.
fn special<S: Sink>(attr: &Attr, key: &str, value: &Value<'_>, judged: &mut Judged, sink: &mut S) {
    let about = About::Attribute(key, *value, Some(attr));
    if attr.deprecated {
        report(sink, judged, Rule::AttributeDeprecated, &about);
    }
    let masked = match value {
        Value::Empty => true,
        Value::Str(text) => secrets::is_masked(text),
        _ => false,
    };
    if attr.secret && !masked {
        report(sink, judged, Rule::SecretAttribute, &About::Field(key));
    }
    judged.mask |= (attr.secret | attr.redact) & !masked;
    if !attr.closed.is_empty() && !is_listed(&attr.closed, value) {
        report(sink, judged, Rule::AttributeValue, &About::Value(key, *value, &attr.closed));
    }
}

/// Checks that all attributes are there that must be.
#[inline]
fn complete<'v, 'a: 'v, S: Sink>(
    event: &Ev,
    seen: u64,
    found: &dyn Fn(usize) -> Option<&'v Value<'a>>,
    judged: &mut Judged,
    sink: &mut S,
) {
    let mut missing = event.required & !seen;
    for (bit, slot, condition) in &event.conditional {
        if seen & bit == 0 && found(*slot).is_some_and(|value| condition.test.holds(value)) {
            missing |= bit;
        }
    }
    while missing != 0 {
        if let Some(used) = event.uses.get(missing.trailing_zeros() as usize) {
            report(sink, judged, Rule::AttributeMissing, &About::Missing(&used.key, &used.level));
        }
        missing &= missing - 1;
    }
    for any in &event.any_of {
        if any & seen == 0 {
            report(sink, judged, Rule::AttributeMissing, &About::NoneOf(event, *any));
        }
    }
}

/// Checks the severity.
#[inline]
fn severity<'v, 'a: 'v, S: Sink>(
    event: &Ev,
    number: i32,
    found: &dyn Fn(usize) -> Option<&'v Value<'a>>,
    judged: &mut Judged,
    sink: &mut S,
) {
    let Some(severity) = &event.severity else { return };
    let mut range = severity.range;
    for ((when, other), slot) in severity.when.iter().zip(&event.severity_slots) {
        if found(*slot).is_some_and(|value| when.test.holds(value)) {
            range = *other;
            break;
        }
    }
    if number < range.min || number > range.max {
        report(sink, judged, Rule::SeverityRange, &About::Severity(number, range));
    }
}
