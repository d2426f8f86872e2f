//! A second implementation of the line parser, over serde_json and without thought of speed: what the fast one must
//! agree with. Mapping and times are shared.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::jsonl::mapping::{Mapping, Role, Slot, Unit};
use threadline_model::jsonl::{LineError, Parsed, Record, time};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView, SpanView};
use threadline_model::value::{ObjectWriter, Value};

/// Nesting of values beyond which a line is not taken.
const DEPTH_MAX: usize = 64;
/// Fields of a line beyond which it is not taken.
const FIELDS_MAX: usize = 4096;

/// A text of the line, or of the scratch text.
#[derive(Clone, Debug)]
enum Text<'a> {
    Line(&'a str),
    Scratch(Range<usize>),
}

/// A value as read.
#[derive(Clone, Debug)]
enum Read<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(Text<'a>),
    Json(Range<usize>),
}

/// Reads lines. Keeps its buffers from line to line.
#[derive(Debug)]
pub(crate) struct LineParser {
    mapping: Mapping,
    scratch: String,
    attributes: Vec<Attribute<'static>>,
    resource: Vec<Attribute<'static>>,
}

/// What a line holds, sorted by role.
struct Fields<'m, 'a> {
    mapping: &'m Mapping,
    scratch: &'m mut String,
    count: usize,
    slots: [Option<Claimed<'a>>; Slot::COUNT],
    attributes: Vec<(Text<'a>, Read<'a>)>,
    resource: Vec<(Text<'a>, Read<'a>)>,
    too_complex: bool,
}

#[derive(Clone, Debug)]
struct Claimed<'a> {
    rank: u8,
    unit: Unit,
    key: Text<'a>,
    value: Read<'a>,
}

impl LineParser {
    /// A parser with a mapping.
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self { mapping, scratch: String::new(), attributes: Vec::new(), resource: Vec::new() }
    }

    /// Reads one line and hands the record on.
    ///
    /// # Errors
    /// Why the line is no record.
    pub(crate) fn parse<T>(
        &mut self,
        line: &[u8],
        take: impl FnOnce(&Parsed<'_>) -> T,
    ) -> Result<T, LineError> {
        self.scratch.clear();
        let mut fields = Fields {
            mapping: &self.mapping,
            scratch: &mut self.scratch,
            count: 0,
            slots: [const { None }; Slot::COUNT],
            attributes: Vec::new(),
            resource: Vec::new(),
            too_complex: false,
        };
        read(line, &mut fields)?;
        let Fields { slots, attributes: read_attributes, resource: read_resource, .. } = fields;
        let texts = Texts { scratch: &self.scratch };
        let mut attributes = reuse(std::mem::take(&mut self.attributes));
        let mut resource = reuse(std::mem::take(&mut self.resource));
        attributes.extend(read_attributes.iter().map(|(key, value)| (texts.text(key), texts.value(value))));
        resource.extend(read_resource.iter().map(|(key, value)| (texts.text(key), texts.value(value))));
        let mut assembly = Assembly { texts, slots, attributes, resource, time_unread: false };
        let taken = assembly.finish(take);
        let Assembly { attributes, resource, .. } = assembly;
        self.attributes = reuse(attributes);
        self.resource = reuse(resource);
        Ok(taken)
    }
}

/// The same allocation for attributes of another lifetime.
fn reuse<'b>(mut attributes: Vec<Attribute<'_>>) -> Vec<Attribute<'b>> {
    attributes.clear();
    attributes.into_iter().map(|_| ("", Value::Empty)).collect()
}

fn read<'a>(line: &'a [u8], fields: &mut Fields<'_, 'a>) -> Result<(), LineError> {
    if line.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{') {
        return match serde_json::from_slice::<IgnoredAny>(line) {
            Ok(_) => Err(LineError::NotObject),
            Err(error) => Err(LineError::NotJson(json_error(&error))),
        };
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let outcome = json.deserialize_map(Members { fields: &mut *fields, place: Place::Top });
    if let Err(error) = outcome.and_then(|()| json.end()) {
        return Err(if fields.too_complex {
            LineError::TooComplex
        } else {
            LineError::NotJson(json_error(&error))
        });
    }
    if fields.count == 0 { Err(LineError::Empty) } else { Ok(()) }
}

/// The cause without the line number, which is always 1 here.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or(&text);
    format!("{cause} at column {}", error.column())
}

/// Where an object stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Attributes,
    Resource,
}

struct Members<'f, 'm, 'a> {
    fields: &'f mut Fields<'m, 'a>,
    place: Place,
}

impl<'a> Visitor<'a> for Members<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = self.fields;
        while let Some(key) = map.next_key_seed(KeySeed { scratch: &mut *fields.scratch })? {
            fields.count += 1;
            if fields.count > FIELDS_MAX {
                fields.too_complex = true;
                return Err(A::Error::custom("too many fields"));
            }
            map.next_value_seed(FieldSeed { fields: &mut *fields, key, place: self.place })?;
        }
        Ok(())
    }
}

struct KeySeed<'s> {
    scratch: &'s mut String,
}

impl<'a> DeserializeSeed<'a> for KeySeed<'_> {
    type Value = Text<'a>;

    fn deserialize<D: serde::Deserializer<'a>>(self, json: D) -> Result<Text<'a>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for KeySeed<'_> {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Text<'a>, E> {
        Ok(Text::Line(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(scratch_text(self.scratch, text))
    }
}

fn scratch_text<'a>(scratch: &mut String, text: &str) -> Text<'a> {
    let start = scratch.len();
    scratch.push_str(text);
    Text::Scratch(start..scratch.len())
}

/// Reads the value of a field and puts it where its role says.
struct FieldSeed<'f, 'm, 'a> {
    fields: &'f mut Fields<'m, 'a>,
    key: Text<'a>,
    place: Place,
}

impl<'a> DeserializeSeed<'a> for FieldSeed<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> FieldSeed<'_, '_, 'a> {
    fn role(&self) -> Option<(Role, u8)> {
        let name = match &self.key {
            Text::Line(text) => text,
            Text::Scratch(range) => self.fields.scratch.get(range.clone()).unwrap_or_default(),
        };
        match self.place {
            Place::Top => self.fields.mapping.claim(name).map(|claim| (claim.role, claim.rank)),
            Place::Attributes | Place::Resource => None,
        }
    }

    fn put(self, value: Read<'a>) {
        let role = self.role();
        let FieldSeed { fields, key, place } = self;
        match role {
            Some((Role::Ignore, _)) => {}
            Some((Role::Slot(slot, unit), rank)) => {
                let claimed = Claimed { rank, unit, key, value };
                let Some(place) = fields.slots.get_mut(slot as usize) else { return };
                let loser = match place {
                    Some(holder) if holder.rank <= rank => Some(claimed),
                    holder => holder.replace(claimed),
                };
                fields.attributes.extend(loser.map(|loser| (loser.key, loser.value)));
            }
            Some((Role::Attribute(key), _)) => {
                let key = scratch_text(fields.scratch, fields.mapping.key(key));
                fields.attributes.push((key, value));
            }
            Some((Role::Resource(key), _)) => {
                let key = scratch_text(fields.scratch, fields.mapping.key(key));
                fields.resource.push((key, value));
            }
            _ if place == Place::Resource => fields.resource.push((key, value)),
            _ => fields.attributes.push((key, value)),
        }
    }
}

impl<'a> Visitor<'a> for FieldSeed<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.put(Read::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(Read::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.put(Read::Int(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        // Beyond 63 bits OpenTelemetry has no int; a double keeps the magnitude, as JSON itself would.
        self.put(i64::try_from(value).map_or(Read::Double(value as f64), Read::Int));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.put(Read::Double(value));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.put(Read::Str(Text::Line(text)));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let text = scratch_text(self.fields.scratch, text);
        self.put(Read::Str(text));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<(), A::Error> {
        let start = self.fields.scratch.len();
        let mut typed = Typed { out: self.fields.scratch, depth: 1, too_complex: &mut self.fields.too_complex };
        typed.seq(seq)?;
        let end = self.fields.scratch.len();
        self.put(Read::Json(start..end));
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, map: A) -> Result<(), A::Error> {
        let place = match self.role() {
            Some((Role::Attributes, _)) => Some(Place::Attributes),
            Some((Role::ResourceAttributes, _)) => Some(Place::Resource),
            _ => None,
        };
        if let Some(place) = place {
            return Members { fields: self.fields, place }.visit_map(map);
        }
        let start = self.fields.scratch.len();
        let mut typed = Typed { out: self.fields.scratch, depth: 1, too_complex: &mut self.fields.too_complex };
        typed.map(map)?;
        let end = self.fields.scratch.len();
        self.put(Read::Json(start..end));
        Ok(())
    }
}

/// Writes a nested value as typed JSON.
struct Typed<'o> {
    out: &'o mut String,
    depth: usize,
    too_complex: &'o mut bool,
}

impl Typed<'_> {
    fn seq<'a, A: SeqAccess<'a>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        self.out.push('[');
        let start = self.out.len();
        loop {
            let before = self.out.len();
            if before > start {
                self.out.push(',');
            }
            let typed = Typed { out: self.out, depth: self.depth + 1, too_complex: self.too_complex };
            if seq.next_element_seed(typed)?.is_none() {
                self.out.truncate(before);
                break;
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn map<'a, A: MapAccess<'a>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let mut object = ObjectWriter::new(self.out);
        while let Some(key) = map.next_key::<std::borrow::Cow<'a, str>>()? {
            let out = object.key(&key);
            map.next_value_seed(Typed { out, depth: self.depth + 1, too_complex: self.too_complex })?;
        }
        object.end();
        Ok(())
    }

    fn deep<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth > DEPTH_MAX {
            *self.too_complex = true;
            return Err(E::custom("nested too deeply"));
        }
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for Typed<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Typed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Value::Empty.write_json(self.out);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        Value::Bool(value).write_json(self.out);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        Value::Int(value).write_json(self.out);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        i64::try_from(value).map_or(Value::Double(value as f64), Value::Int).write_json(self.out);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        Value::Double(value).write_json(self.out);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        Value::Str(text).write_json(self.out);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, seq: A) -> Result<(), A::Error> {
        self.deep()?;
        self.seq(seq)
    }

    fn visit_map<A: MapAccess<'a>>(mut self, map: A) -> Result<(), A::Error> {
        self.deep()?;
        self.map(map)
    }
}

/// Resolves texts once the scratch text no longer grows.
#[derive(Clone, Copy)]
struct Texts<'a> {
    scratch: &'a str,
}

impl<'a> Texts<'a> {
    fn text(&self, text: &Text<'a>) -> &'a str {
        match text {
            Text::Line(text) => text,
            Text::Scratch(range) => self.scratch.get(range.clone()).unwrap_or_default(),
        }
    }

    fn value(&self, value: &Read<'a>) -> Value<'a> {
        match value {
            Read::Null => Value::Empty,
            Read::Bool(value) => Value::Bool(*value),
            Read::Int(value) => Value::Int(*value),
            Read::Double(value) => Value::Double(*value),
            Read::Str(text) => Value::Str(self.text(text)),
            Read::Json(range) => Value::Json(self.scratch.get(range.clone()).unwrap_or_default()),
        }
    }
}

/// Makes a record of slots. What a slot cannot use becomes an attribute under its own name, so that nothing is lost.
struct Assembly<'a> {
    texts: Texts<'a>,
    slots: [Option<Claimed<'a>>; Slot::COUNT],
    attributes: Vec<Attribute<'a>>,
    resource: Vec<Attribute<'a>>,
    time_unread: bool,
}

impl<'a> Assembly<'a> {
    fn take(&mut self, slot: Slot) -> Option<(&'a str, Value<'a>, Unit)> {
        let claimed = self.slots.get_mut(slot as usize)?.take()?;
        Some((self.texts.text(&claimed.key), self.texts.value(&claimed.value), claimed.unit))
    }

    fn keep(&mut self, key: &'a str, value: Value<'a>) {
        // An absent value is no attribute: an empty trace id says that there is none.
        if !matches!(value, Value::Empty | Value::Str("")) {
            self.attributes.push((key, value));
        }
    }

    /// The slot through `read`; kept as an attribute where that gives nothing.
    fn read<T>(&mut self, slot: Slot, read: impl FnOnce(Value<'a>, Unit) -> Option<T>) -> Option<T> {
        let (key, value, unit) = self.take(slot)?;
        let found = read(value, unit);
        if found.is_none() {
            self.keep(key, value);
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
        let sent = self
            .slots
            .get(slot as usize)
            .is_some_and(|slot| !matches!(slot, None | Some(Claimed { value: Read::Null, .. })));
        let time = self.read(slot, nano);
        self.time_unread |= sent && time.is_none();
        // OTLP's fixed64 has the bits of a time before 1970 too.
        time.map_or(0, |time| time as u64)
    }

    fn finish<T>(&mut self, take: impl FnOnce(&Parsed<'_>) -> T) -> T {
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
        let slot = |slot: Slot| self.slots.get(slot as usize).and_then(Option::as_ref);
        let text = |wanted: Slot| match &slot(wanted)?.value {
            Read::Str(text) => Some(self.texts.text(text)),
            _ => None,
        };
        let has = |wanted: Slot| slot(wanted).is_some();
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
        let body = self.take(Slot::Body).map_or(Value::Empty, |(_, value, _)| value);
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
        let _ = (self.take(Slot::Trace), self.take(Slot::Span));
        let timed = self.slots.get(Slot::Time as usize).is_some_and(Option::is_some);
        let mut start_time_unix_nano = self.time(Slot::Time);
        let duration = self.read(Slot::Duration, |value, unit| match value {
            Value::Int(int) => time::from_int(int, unit),
            Value::Double(double) => time::from_double(double, unit),
            Value::Str(text) => text.parse().ok().and_then(|int| time::from_int(int, unit)),
            _ => None,
        });
        let end_time_unix_nano = if self.slots.get(Slot::End as usize).is_some_and(Option::is_some) {
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
        for at in 0..Slot::COUNT {
            let Some(claimed) = self.slots.get_mut(at).and_then(Option::take) else { continue };
            let (key, value) = (self.texts.text(&claimed.key), self.texts.value(&claimed.value));
            self.keep(key, value);
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
