//! Stands at the way in: checks every record, masks what must not be kept, refuses what a company wants refused, and counts.
//! One guard serves one request; contract and board are shared.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use threadline_model::builder::BatchBuilder;
use threadline_model::inspect::{Inspector, Refused};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView, SpanView};
use threadline_model::schema::verdict;
use threadline_model::value::Value;

use crate::check::{Bits, Checker, Judged};
use crate::contract::Contract;
use crate::finding::{Finding, Words};
use crate::rules::Rule;
use crate::score::{Board, Sender, Tally};
use crate::secrets;

/// Resources that a guard remembers.
const RESOURCES_MAX: usize = 256;
/// Bytes of a resource that is remembered.
const RESOURCE_BYTES_MAX: usize = 16 << 10;

/// What is known of a resource.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    judged: Judged,
    /// Position in `senders`.
    sender: usize,
}

/// Counts of one sender in this request.
#[derive(Debug)]
struct Counts {
    sender: Sender,
    records: u64,
    violated: u64,
    quarantined: u64,
    /// By bit.
    rules: [u64; 64],
    /// Bits of rules of which an example is known.
    examples: u64,
    findings: Vec<Finding>,
}

/// Checks the records of one request.
#[derive(Debug)]
pub struct Guard {
    checker: Checker,
    board: Arc<Board>,
    resources: HashMap<Vec<u8>, Known, FxBuildHasher>,
    print: Vec<u8>,
    json: String,
    senders: Vec<Counts>,
    resource: Known,
    scope: Judged,
    /// Findings in words, for whoever wants them all.
    watcher: Option<Vec<Finding>>,
}

impl Guard {
    /// A guard of one request. What it counts goes to the board when it is dropped.
    pub fn new(contract: Arc<Contract>, board: Arc<Board>) -> Guard {
        Guard {
            checker: Checker::new(contract),
            board,
            resources: HashMap::default(),
            print: Vec::new(),
            json: String::new(),
            senders: Vec::new(),
            resource: Known::default(),
            scope: Judged::default(),
            watcher: None,
        }
    }

    /// A guard that also keeps findings in words, until they are taken.
    pub fn watching(contract: Arc<Contract>, board: Arc<Board>) -> Guard {
        let mut guard = Guard::new(contract, board);
        guard.watcher = Some(Vec::new());
        guard
    }

    /// The findings since the last call, those of a resource with its first record. Only of a guard that is watching.
    pub fn findings(&mut self) -> Vec<Finding> {
        self.watcher.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The bits of the rules that a record breaks, without its resource's and its scope's. Nothing is counted or handed on.
    #[inline]
    pub fn judge(&mut self, log: &LogView<'_>) -> u64 {
        self.checker.log(log, &mut Bits::default()).bits & self.enabled()
    }

    /// The same for a span.
    #[inline]
    pub fn judge_span(&mut self, span: &SpanView<'_>) -> u64 {
        self.checker.span(span, &mut Bits::default()).bits & self.enabled()
    }

    fn enabled(&self) -> u64 {
        self.checker.contract.enabled
    }

    fn sender(&mut self, resource: &ResourceView<'_>) -> usize {
        let find = |key: &str| {
            resource.attributes.iter().find_map(|(known, value)| match value {
                Value::Str(text) if *known == key => Some(*text),
                _ => None,
            })
        };
        let masked = |key| {
            let text = find(key).unwrap_or_default();
            secrets::redact(text, false, &|_| false).map_or_else(|| text.to_owned(), |(text, _)| text)
        };
        let sender = Sender::new(&masked("service.name"), &masked("service.version"));
        if let Some(at) = self.senders.iter().position(|known| known.sender == sender) {
            return at;
        }
        let examples = self.board.examples(&sender);
        let counts = Counts {
            sender,
            records: 0,
            violated: 0,
            quarantined: 0,
            rules: [0; 64],
            examples,
            findings: Vec::new(),
        };
        self.senders.push(counts);
        self.senders.len() - 1
    }

    /// Counts a record; says which rules want an example.
    #[inline]
    fn count(&mut self, bits: u64) -> u64 {
        let Some(counts) = self.senders.get_mut(self.resource.sender) else { return 0 };
        counts.records += 1;
        if bits == 0 {
            return 0;
        }
        counts.violated += 1;
        let mut rest = bits;
        while rest != 0 {
            if let Some(count) = counts.rules.get_mut(rest.trailing_zeros() as usize) {
                *count += 1;
            }
            rest &= rest - 1;
        }
        bits & !counts.examples
    }

    fn remember(&mut self, words: Words) {
        if let Some(counts) = self.senders.get_mut(self.resource.sender) {
            for finding in words.findings {
                if counts.examples & finding.rule.bit() == 0 {
                    counts.examples |= finding.rule.bit();
                    counts.findings.push(finding);
                }
            }
        }
    }

    /// All bits of a record, with those of its resource and scope.
    #[inline]
    fn all(&self, judged: &Judged) -> u64 {
        (judged.bits | self.resource.judged.bits | self.scope.bits) & self.enabled()
    }

    /// Counts a record that was judged, keeps findings in words where they are wanted, and gives its `verdict`, or why it
    /// is refused. `explain` judges it again in words.
    #[inline]
    fn conclude(
        &mut self,
        judged: &Judged,
        explain: impl FnOnce(&mut Checker, &mut Words),
    ) -> Result<i64, Refused> {
        if !self.checker.contract.policy().check {
            return Ok(self.redacted(judged));
        }
        let bits = self.all(judged);
        let wanted = self.count(bits);
        if wanted != 0 || self.watcher.is_some() {
            let wanted = if self.watcher.is_some() { self.enabled() } else { wanted };
            let mut words = Words { wanted, ..Words::default() };
            explain(&mut self.checker, &mut words);
            self.put_down(words);
        }
        self.verdict(bits, judged)
    }

    /// Keeps findings: all for a watcher, an example of each rule for the board.
    #[cold]
    #[inline(never)]
    fn put_down(&mut self, words: Words) {
        if let Some(watcher) = &mut self.watcher {
            watcher.extend_from_slice(&words.findings);
        }
        self.remember(words);
    }

    /// The `verdict` of a record, or why it is refused.
    #[inline]
    fn verdict(&mut self, bits: u64, judged: &Judged) -> Result<i64, Refused> {
        let contract = &self.checker.contract;
        let reject = bits & contract.reject;
        if reject != 0 && !judged.never_sampled {
            let rules: Vec<&str> = Rule::of(reject).map(Rule::id).collect();
            return Err(("contract", format!("{}: the contract refuses such records here", rules.join(", "))));
        }
        let mut verdict = bits as i64 | verdict::CHECKED;
        if bits & contract.quarantine != 0 && !judged.never_sampled {
            verdict |= verdict::QUARANTINED;
            if let Some(counts) = self.senders.get_mut(self.resource.sender) {
                counts.quarantined += 1;
            }
        }
        Ok(verdict | self.redacted(judged))
    }

    /// What is to be done, as far as the policy wants it done.
    #[inline]
    fn allowed(&self, judged: Judged) -> Judged {
        Judged { mask: judged.mask & self.checker.contract.policy().mask, ..judged }
    }

    /// The bit that says that something was masked, if it was.
    fn redacted(&self, judged: &Judged) -> i64 {
        let masked = judged.mask | self.resource.judged.mask | self.scope.mask;
        if masked { verdict::REDACTED } else { 0 }
    }

    /// Attributes with masks in them.
    fn masked<'a>(
        &self,
        attributes: &[Attribute<'a>],
        texts: &'a mut Vec<(usize, Masked)>,
    ) -> Vec<Attribute<'a>> {
        for (at, (key, value)) in attributes.iter().enumerate() {
            if let Some((new_key, _)) = secrets::redact(key, false, &|_| false) {
                texts.push((at, Masked::Key(new_key)));
            }
            if let Some(masked) = self.masked_value(Some(key), value) {
                texts.push((at, masked));
            }
        }
        let mut out = attributes.to_vec();
        for (at, masked) in texts.iter() {
            if let Some((key, value)) = out.get_mut(*at) {
                match masked {
                    Masked::Key(text) => *key = text,
                    other => *value = other.view(),
                }
            }
        }
        out
    }

    fn masked_value(&self, key: Option<&str>, value: &Value<'_>) -> Option<Masked> {
        let contract = &self.checker.contract;
        let attr = key.and_then(|key| contract.attrs.get(contract.find(key) as usize));
        if attr.is_some_and(|attr| attr.secret || attr.redact)
            && !matches!(value, Value::Empty | Value::Str(""))
        {
            return Some(Masked::Text(secrets::mask(Rule::SecretAttribute).to_owned()));
        }
        let card = || Some(Masked::Text(secrets::mask(Rule::SecretCard).to_owned()));
        match *value {
            Value::Str(text) => secrets::redact(text, false, &|_| false).map(|(text, _)| Masked::Text(text)),
            Value::Json(json) => secrets::redact(json, true, &|key| contract.is_secret_key(key))
                .map(|(json, _)| Masked::Json(json)),
            Value::Bytes(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                secrets::redact(&text, false, &|_| false).map(|(text, _)| Masked::Text(text))
            }
            Value::Int(int) if secrets::is_card_number(int) => card(),
            Value::Double(double) if double.fract() == 0.0 && secrets::is_card_number(double as i64) => card(),
            _ => None,
        }
    }

    #[cold]
    #[inline(never)]
    fn push_masked_log(
        &self,
        log: &LogView<'_>,
        verdict: i64,
        builder: &mut BatchBuilder,
    ) -> Result<(), Refused> {
        let mut texts = Vec::new();
        let attributes = self.masked(log.attributes, &mut texts);
        let body = self.masked_value(None, &log.body);
        let (severity_text, event_name) = (masked_text(log.severity_text), masked_text(log.event_name));
        let masked = LogView {
            attributes: &attributes,
            body: body.as_ref().map_or(log.body, Masked::view),
            severity_text: severity_text.as_deref().unwrap_or(log.severity_text),
            event_name: event_name.as_deref().unwrap_or(log.event_name),
            ..*log
        };
        builder.push_log(&masked, verdict)
    }

    #[cold]
    #[inline(never)]
    fn push_masked_span(
        &self,
        span: &SpanView<'_>,
        verdict: i64,
        builder: &mut BatchBuilder,
    ) -> Result<(), Refused> {
        let mut texts = Vec::new();
        let attributes = self.masked(span.attributes, &mut texts);
        let json = |json: &str| match self.masked_value(None, &Value::Json(json)) {
            Some(Masked::Json(json)) => json,
            _ => json.to_owned(),
        };
        let (events, links) = (json(span.events_json), json(span.links_json));
        let text = |text: &str| masked_text(text).unwrap_or_else(|| text.to_owned());
        let (name, message, state) = (text(span.name), text(span.status_message), text(span.trace_state));
        let masked = SpanView {
            attributes: &attributes,
            events_json: &events,
            links_json: &links,
            name: &name,
            status_message: &message,
            trace_state: &state,
            ..*span
        };
        builder.push_span(&masked, verdict)
    }
}

fn masked_text(text: &str) -> Option<String> {
    secrets::redact(text, false, &|_| false).map(|(text, _)| text)
}

/// A value with a mask in it, or a key.
#[derive(Debug)]
enum Masked {
    Key(String),
    Text(String),
    Json(String),
}

impl Masked {
    fn view(&self) -> Value<'_> {
        match self {
            Masked::Key(text) | Masked::Text(text) => Value::Str(text),
            Masked::Json(json) => Value::Json(json),
        }
    }
}

/// Writes all that a resource's verdict comes from. Texts end with a byte that UTF-8 does not have.
fn print(resource: &ResourceView<'_>, json: &mut String, out: &mut Vec<u8>) {
    out.clear();
    for (key, value) in resource.attributes {
        out.extend_from_slice(key.as_bytes());
        out.push(0xff);
        match value {
            Value::Str(text) => out.extend_from_slice(text.as_bytes()),
            other => {
                json.clear();
                other.write_json(json);
                out.push(0xfe);
                out.extend_from_slice(json.as_bytes());
            }
        }
        out.push(0xff);
    }
    out.extend_from_slice(resource.schema_url.as_bytes());
}

impl Inspector for Guard {
    fn resource(&mut self, resource: &ResourceView<'_>, builder: &mut BatchBuilder) {
        let mut made = std::mem::take(&mut self.print);
        print(resource, &mut self.json, &mut made);
        let known = self.resources.get(&made).copied();
        self.resource = known.unwrap_or_else(|| {
            let judged = self.checker.resource(resource, &mut Bits::default());
            let judged = self.allowed(judged);
            let known = Known { judged, sender: self.sender(resource) };
            if self.resources.len() < RESOURCES_MAX && made.len() <= RESOURCE_BYTES_MAX {
                self.resources.insert(made.clone(), known);
            }
            known
        });
        self.print = made;
        if known.is_none() && self.resource.judged.bits != 0 {
            let mut words = Words { wanted: self.enabled(), ..Words::default() };
            self.checker.resource(resource, &mut words);
            self.put_down(words);
        }
        if !self.resource.judged.mask {
            return builder.set_resource(resource);
        }
        let mut texts = Vec::new();
        let attributes = self.masked(resource.attributes, &mut texts);
        let schema_url = masked_text(resource.schema_url);
        let schema_url = schema_url.as_deref().unwrap_or(resource.schema_url);
        builder.set_resource(&ResourceView { attributes: &attributes, schema_url, ..*resource });
    }

    fn scope(&mut self, scope: &ScopeView<'_>, builder: &mut BatchBuilder) {
        let judged = self.checker.scope(scope, &mut Bits::default());
        self.scope = self.allowed(judged);
        if !self.scope.mask {
            return builder.set_scope(scope);
        }
        let mut texts = Vec::new();
        let attributes = self.masked(scope.attributes, &mut texts);
        let text = |text: &str| masked_text(text).unwrap_or_else(|| text.to_owned());
        let (name, version, schema_url) = (text(scope.name), text(scope.version), text(scope.schema_url));
        let masked = ScopeView {
            name: &name,
            version: &version,
            attributes: &attributes,
            schema_url: &schema_url,
            ..*scope
        };
        builder.set_scope(&masked);
    }

    fn log(&mut self, log: &LogView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        let judged = self.checker.log(log, &mut Bits::default());
        let judged = self.allowed(judged);
        let verdict = self.conclude(&judged, |checker, words| {
            checker.log(log, words);
        })?;
        if judged.mask { self.push_masked_log(log, verdict, builder) } else { builder.push_log(log, verdict) }
    }

    fn span(&mut self, span: &SpanView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        let judged = self.checker.span(span, &mut Bits::default());
        let judged = self.allowed(judged);
        let verdict = self.conclude(&judged, |checker, words| {
            checker.span(span, words);
        })?;
        if judged.mask {
            self.push_masked_span(span, verdict, builder)
        } else {
            builder.push_span(span, verdict)
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for counts in self.senders.drain(..) {
            let mut tally = Tally {
                records: counts.records,
                violated: counts.violated,
                quarantined: counts.quarantined,
                ..Tally::default()
            };
            for rule in Rule::ALL {
                let records = counts.rules.get(*rule as usize).copied().unwrap_or(0);
                if records > 0 {
                    tally.rules.entry(*rule).or_default().records = records;
                }
            }
            for finding in counts.findings {
                if let Some(count) = tally.rules.get_mut(&finding.rule) {
                    count.example = Some(finding);
                }
            }
            if counts.records > 0 {
                self.board.add(counts.sender, tally);
            }
        }
    }
}
