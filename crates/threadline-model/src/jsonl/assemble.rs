//! Makes a record of a line's fields.

use super::line::{Claimed, Texts};
use super::mapping::{Slot, Unit};
use super::scan::Read;
use super::{Parsed, Record, time};
use crate::id::{SpanId, TraceId};
use crate::record::{Attribute, LogView, ResourceView, ScopeView, SpanView};
use crate::value::Value;

/// A record on its way. Slots are taken one after the other. What a slot cannot use, or the record has no place for,
/// becomes an attribute under its own name, so that nothing is lost.
pub(super) struct Assembly<'a> {
    pub(super) texts: Texts<'a>,
    /// Bit by slot: whether it still holds a value.
    pub(super) taken: u32,
    pub(super) slots: &'a [Claimed; Slot::COUNT],
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) resource: Vec<Attribute<'a>>,
    pub(super) time_unread: bool,
}

impl<'a> Assembly<'a> {
    /// What a slot holds.
    #[inline]
    fn look(&self, slot: Slot) -> Option<&'a Claimed> {
        if self.taken & 1 << slot as u32 == 0 { None } else { self.slots.get(slot as usize) }
    }

    #[inline(never)]
    fn keep(&mut self, key: &'a str, value: Value<'a>) {
        // An absent value is no attribute: an empty trace id says that there is none.
        if !matches!(value, Value::Empty | Value::Str("")) {
            self.attributes.push((key, value));
        }
    }

    /// The slot through `read`; kept as an attribute where that gives nothing.
    #[inline(always)]
    fn read<T>(&mut self, slot: Slot, read: impl FnOnce(Value<'a>, Unit) -> Option<T>) -> Option<T> {
        let claimed = self.look(slot)?;
        self.taken &= !(1 << slot as u32);
        let value = self.texts.value(claimed.value);
        let found = read(value, claimed.unit);
        if found.is_none() {
            self.keep(self.texts.text(claimed.name), value);
        }
        found
    }

    fn text(&mut self, slot: Slot) -> Option<&'a str> {
        self.read(slot, |value, _| match value {
            Value::Str(text) if !text.is_empty() => Some(text),
            _ => None,
        })
    }

    fn time(&mut self, slot: Slot) -> u64 {
        let sent = self.look(slot).is_some_and(|claimed| !matches!(claimed.value, Read::Null));
        let time = self.read(slot, nano);
        self.time_unread |= sent && time.is_none();
        // OTLP's fixed64 has the bits of a time before 1970 too.
        time.map_or(0, |time| time as u64)
    }

    /// Makes the record and hands it on.
    pub(super) fn finish<T>(&mut self, take: impl FnOnce(&Parsed<'_>) -> T) -> T {
        self.resource_slots();
        let scope = ScopeView { name: self.text(Slot::Scope).unwrap_or_default(), ..ScopeView::default() };
        let record = match self.span_ids() {
            Some((trace, span)) => Record::Span(self.span(trace, span)),
            None => Record::Log(self.log()),
        };
        let resource = ResourceView { attributes: &self.resource, ..ResourceView::default() };
        let record = match record {
            Record::Log(log) => Record::Log(LogView { attributes: &self.attributes, ..log }),
            Record::Span(span) => Record::Span(SpanView { attributes: &self.attributes, ..span }),
        };
        take(&Parsed { resource, scope, record, time_unread: self.time_unread })
    }

    fn resource_slots(&mut self) {
        let service = self.text(Slot::Service);
        let pod = self.text(Slot::Pod);
        let instance = self.text(Slot::Instance).or(pod);
        let known = [("service.name", service), ("service.instance.id", instance), ("k8s.pod.name", pod)];
        for (key, text) in known {
            let new = !self.resource.iter().any(|(other, _)| *other == key);
            self.resource.extend(text.filter(|_| new).map(|text| (key, Value::Str(text))));
        }
    }

    /// The ids, when the line is a span. Only looks; the slots are taken later.
    fn span_ids(&self) -> Option<(TraceId, SpanId)> {
        let text = |wanted: Slot| match self.look(wanted)?.value {
            Read::Str(text) => Some(self.texts.text(text)),
            _ => None,
        };
        let has = |wanted: Slot| self.look(wanted).is_some();
        // Two of start, end and duration: a proxy that writes a line at the end knows its start by the duration only.
        if [Slot::Time, Slot::End, Slot::Duration].into_iter().filter(|slot| has(*slot)).count() < 2 {
            return None;
        }
        // A log may tell a duration too; only a span tells its name or its end.
        if !has(Slot::End) && !has(Slot::Name) {
            return None;
        }
        Some((TraceId::from_hex(text(Slot::Trace)?)?, SpanId::from_hex(text(Slot::Span)?)?))
    }

    fn log(&mut self) -> LogView<'a> {
        let time_unix_nano = self.time(Slot::Time);
        let observed_time_unix_nano = self.time(Slot::Observed);
        let (severity_text, severity_number) = self.severity();
        let body = self.read(Slot::Body, |value, _| Some(value)).unwrap_or(Value::Empty);
        let trace_id = self.read(Slot::Trace, |value, _| hex(value).and_then(TraceId::from_hex));
        let span_id = self.read(Slot::Span, |value, _| hex(value).and_then(SpanId::from_hex));
        let event_name = self.text(Slot::Event).unwrap_or_default();
        let flags = self.flags();
        self.keep_rest();
        LogView {
            time_unix_nano,
            observed_time_unix_nano,
            severity_number,
            severity_text,
            event_name,
            body,
            flags,
            trace_id,
            span_id,
            ..LogView::default()
        }
    }

    fn span(&mut self, trace_id: TraceId, span_id: SpanId) -> SpanView<'a> {
        self.taken &= !(1 << Slot::Trace as u32 | 1 << Slot::Span as u32);
        let timed = self.look(Slot::Time).is_some();
        let mut start_time_unix_nano = self.time(Slot::Time);
        let duration = self.read(Slot::Duration, |value, unit| match value {
            Value::Int(int) => time::from_int(int, unit),
            Value::Double(double) => time::from_double(double, unit),
            Value::Str(text) => text.parse().ok().and_then(|int| time::from_int(int, unit)),
            _ => None,
        });
        let end_time_unix_nano = if self.look(Slot::End).is_some() {
            self.time(Slot::End)
        } else {
            start_time_unix_nano.wrapping_add_signed(duration.unwrap_or(0))
        };
        if !timed {
            start_time_unix_nano = end_time_unix_nano.wrapping_sub_signed(duration.unwrap_or(0));
        }
        let parent_span_id = self.read(Slot::Parent, |value, _| hex(value).and_then(SpanId::from_hex));
        let name = self.text(Slot::Name).unwrap_or_default();
        let kind = self.read(Slot::Kind, |value, _| named(value, "SPAN_KIND_", &KINDS)).unwrap_or(0);
        let status_code =
            self.read(Slot::Status, |value, _| named(value, "STATUS_CODE_", &STATUSES)).unwrap_or(0);
        let status_message = self.text(Slot::StatusMessage).unwrap_or_default();
        let flags = self.flags();
        self.keep_rest();
        SpanView {
            parent_span_id,
            name,
            kind,
            start_time_unix_nano,
            end_time_unix_nano,
            status_code,
            status_message,
            flags,
            ..SpanView::new(trace_id, span_id)
        }
    }

    fn severity(&mut self) -> (&'a str, i32) {
        let number = self.read(Slot::SeverityNumber, |value, _| match value {
            Value::Int(int) => i32::try_from(int).ok(),
            _ => None,
        });
        let named = self.read(Slot::Severity, |value, _| match value {
            Value::Str(text) if !text.is_empty() => Some((text, time::severity_number(text))),
            Value::Int(level) => Some(("", time::severity_of_level(level))).filter(|(_, number)| *number > 0),
            _ => None,
        });
        let (text, from_text) = named.unwrap_or(("", 0));
        (text, number.unwrap_or(from_text))
    }

    fn flags(&mut self) -> u32 {
        self.read(Slot::Flags, |value, _| match value {
            Value::Int(int) => u32::try_from(int).ok(),
            Value::Str(text) => u32::from_str_radix(text, 16).ok().filter(|_| text.len() == 2),
            _ => None,
        })
        .unwrap_or(0)
    }

    /// Slots that this kind of record has no place for.
    fn keep_rest(&mut self) {
        for (at, claimed) in self.slots.iter().enumerate() {
            if self.taken == 0 {
                return;
            }
            if self.taken & 1 << at != 0 {
                self.taken &= !(1 << at);
                self.keep(self.texts.text(claimed.name), self.texts.value(claimed.value));
            }
        }
    }
}

const KINDS: [&str; 6] = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
const STATUSES: [&str; 3] = ["UNSET", "OK", "ERROR"];

fn nano(value: Value<'_>, unit: Unit) -> Option<i64> {
    match value {
        Value::Int(int) => time::from_int(int, unit),
        Value::Double(double) => time::from_double(double, unit),
        Value::Str(text) => time::from_text(text, unit),
        _ => None,
    }
}

fn hex(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Str(text) => Some(text),
        _ => None,
    }
}

fn named(value: Value<'_>, prefix: &str, names: &[&str]) -> Option<i32> {
    match value {
        Value::Int(int) => i32::try_from(int).ok(),
        Value::Str(text) => {
            let name = text.strip_prefix(prefix).unwrap_or(text);
            let at = names.iter().position(|known| known.eq_ignore_ascii_case(name))?;
            i32::try_from(at).ok()
        }
        _ => None,
    }
}
