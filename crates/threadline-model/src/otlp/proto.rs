//! Export requests in binary protobuf (opentelemetry-proto 1.11), from bytes to views without an object per
//! attribute. Protobuf's rules hold: unknown fields are skipped, the last scalar wins, the pieces of an embedded
//! message are merged wherever they stand. A known field of a wrong wire type makes the request malformed.

use super::fault::{Fault, defer};
use super::parts::{Event, Link, close};
use super::scratch::{Any, Arena, Scratch, Text};
use super::wire::{Field, Names, Wire, address};
use super::{Decoded, MISSING_ID, Malformed, Place, VALUE_DEPTH_MAX};
use crate::builder::BatchBuilder;
use crate::id::{SpanId, TraceId};
use crate::inspect::Inspector;
use crate::record::{LogView, ResourceView, ScopeView, SpanView};
use crate::value::{ObjectWriter, Value};

const ANY_VALUE: Names = &[
    (1, "string_value"),
    (2, "bool_value"),
    (3, "int_value"),
    (4, "double_value"),
    (5, "array_value"),
    (6, "kvlist_value"),
    (7, "bytes_value"),
];
const VALUES: Names = &[(1, "values")];
const KEY_VALUE: Names = &[(1, "key"), (2, "value")];
const RESOURCE: Names = &[(1, "attributes"), (2, "dropped_attributes_count")];
const SCOPE: Names = &[(1, "name"), (2, "version"), (3, "attributes"), (4, "dropped_attributes_count")];
const LOG_RECORD: Names = &[
    (1, "time_unix_nano"),
    (2, "severity_number"),
    (3, "severity_text"),
    (5, "body"),
    (6, "attributes"),
    (7, "dropped_attributes_count"),
    (8, "flags"),
    (9, "trace_id"),
    (10, "span_id"),
    (11, "observed_time_unix_nano"),
    (12, "event_name"),
];
const SPAN: Names = &[
    (1, "trace_id"),
    (2, "span_id"),
    (3, "trace_state"),
    (4, "parent_span_id"),
    (5, "name"),
    (6, "kind"),
    (7, "start_time_unix_nano"),
    (8, "end_time_unix_nano"),
    (9, "attributes"),
    (10, "dropped_attributes_count"),
    (11, "events"),
    (12, "dropped_events_count"),
    (13, "links"),
    (14, "dropped_links_count"),
    (15, "status"),
    (16, "flags"),
];
const EVENT: Names = &[(1, "time_unix_nano"), (2, "name"), (3, "attributes"), (4, "dropped_attributes_count")];
const LINK: Names = &[
    (1, "trace_id"),
    (2, "span_id"),
    (3, "trace_state"),
    (4, "attributes"),
    (5, "dropped_attributes_count"),
    (6, "flags"),
];
const STATUS: Names = &[(2, "message"), (3, "code")];

/// A signal's three outer messages, which have the same field numbers for logs, spans and metrics.
struct Levels {
    /// The repeated fields, from the request down.
    names: [&'static str; 3],
    request: Names,
    resource: Names,
    scope: Names,
}

const LOGS: Levels = Levels {
    names: ["resource_logs", "scope_logs", "log_records"],
    request: &[(1, "resource_logs")],
    resource: &[(1, "resource"), (2, "scope_logs"), (3, "schema_url")],
    scope: &[(1, "scope"), (2, "log_records"), (3, "schema_url")],
};
const SPANS: Levels = Levels {
    names: ["resource_spans", "scope_spans", "spans"],
    request: &[(1, "resource_spans")],
    resource: &[(1, "resource"), (2, "scope_spans"), (3, "schema_url")],
    scope: &[(1, "scope"), (2, "spans"), (3, "schema_url")],
};
const METRICS: Levels = Levels {
    names: ["resource_metrics", "scope_metrics", "metrics"],
    request: &[(1, "resource_metrics")],
    resource: &[(1, "resource"), (2, "scope_metrics"), (3, "schema_url")],
    scope: &[(1, "scope"), (2, "metrics"), (3, "schema_url")],
};
const METRIC: Names =
    &[(5, "gauge"), (7, "sum"), (9, "histogram"), (10, "exponential_histogram"), (11, "summary")];
const DATA: Names = &[(1, "data_points")];

/// What differs between logs and spans.
trait Records {
    const LEVELS: Levels;

    /// Where records, resources and scopes go through.
    fn inspector(&mut self) -> &mut dyn Inspector;

    /// Decodes one record and puts it into the builder.
    fn record<'a>(
        &mut self,
        bytes: &'a [u8],
        scratch: &mut Scratch<'a>,
        builder: &mut BatchBuilder,
    ) -> Result<(), Fault>;
}

pub(super) fn logs(
    request: &[u8],
    builder: &mut BatchBuilder,
    inspector: &mut dyn Inspector,
) -> Result<Decoded, Malformed> {
    Decoder::new(builder, Logs { inspector }).run(request)
}

pub(super) fn traces(
    request: &[u8],
    builder: &mut BatchBuilder,
    inspector: &mut dyn Inspector,
) -> Result<Decoded, Malformed> {
    Decoder::new(builder, Spans { inspector, events: String::new(), links: String::new() }).run(request)
}

/// Calls `each` for every occurrence of the repeated message `number`, and puts its index into faults.
fn items<'a>(
    bytes: &'a [u8],
    names: Names,
    number: u32,
    mut each: impl FnMut(usize, &'a [u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut index = 0;
    let mut wire = Wire::new(bytes, names);
    while let Some(field) = wire.next()? {
        if field.number == number {
            let item = field.bytes()?;
            each(index, item).map_err(|fault| fault.within_item(&field.name(), index))?;
            index += 1;
        }
    }
    Ok(())
}

struct Decoder<'a, 'b, R> {
    scratch: Scratch<'a>,
    builder: &'b mut BatchBuilder,
    records: R,
    decoded: Decoded,
    place: Place,
}

impl<'a, 'b, R: Records> Decoder<'a, 'b, R> {
    fn new(builder: &'b mut BatchBuilder, records: R) -> Self {
        Self {
            scratch: Scratch::default(),
            builder,
            records,
            decoded: Decoded::default(),
            place: Place { names: R::LEVELS.names, index: [0; 3] },
        }
    }

    fn run(mut self, request: &'a [u8]) -> Result<Decoded, Malformed> {
        items(request, R::LEVELS.request, 1, |index, bytes| {
            self.place.index = [index, 0, 0];
            self.resource(bytes)
        })
        .map_err(|fault| fault.into_malformed(address(request)))?;
        Ok(self.decoded)
    }

    /// `ResourceLogs` or `ResourceSpans`. The resource is read first, for it may stand behind its records.
    fn resource(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let mut fault = None;
        let mut schema_url = "";
        let mut dropped_attributes_count = 0;
        self.scratch.clear();
        let mut wire = Wire::new(bytes, R::LEVELS.resource);
        while let Some(field) = wire.next()? {
            let read = match field.number {
                1 => resource(field.bytes()?, &mut self.scratch, &mut dropped_attributes_count)
                    .map_err(|fault| fault.within("resource")),
                3 => field.text().map(|text| schema_url = text),
                _ => Ok(()),
            };
            defer(&mut fault, read)?;
        }
        let (builder, inspector) = (&mut *self.builder, self.records.inspector());
        self.scratch.with(|attributes, _| {
            inspector.resource(&ResourceView { attributes, dropped_attributes_count, schema_url }, builder);
        });
        let above = fault.map(Fault::refusal);
        items(bytes, R::LEVELS.resource, 2, |index, bytes| {
            self.place.index = [self.place.index[0], index, 0];
            self.scope(bytes, above.as_ref())
        })
    }

    /// `ScopeLogs` or `ScopeSpans`. `above` is what is wrong with the resource: then every record is refused.
    fn scope(&mut self, bytes: &'a [u8], above: Option<&(String, String)>) -> Result<(), Fault> {
        let mut fault = None;
        let mut schema_url = "";
        let mut scope = ScopeView::default();
        self.scratch.clear();
        let mut wire = Wire::new(bytes, R::LEVELS.scope);
        while let Some(field) = wire.next()? {
            let read = match field.number {
                1 => instrumentation_scope(field.bytes()?, &mut self.scratch, &mut scope)
                    .map_err(|fault| fault.within("scope")),
                3 => field.text().map(|text| schema_url = text),
                _ => Ok(()),
            };
            defer(&mut fault, read)?;
        }
        let (builder, inspector) = (&mut *self.builder, self.records.inspector());
        self.scratch.with(|attributes, _| {
            inspector.scope(&ScopeView { attributes, schema_url, ..scope }, builder);
        });
        let fault = fault.map(Fault::refusal);
        items(bytes, R::LEVELS.scope, 2, |index, bytes| {
            if let Some((path, reason)) = above {
                self.decoded.refuse(|| (self.place.path(1, path), reason.clone()));
                return Ok(());
            }
            if let Some((path, reason)) = &fault {
                self.decoded.refuse(|| (self.place.path(2, path), reason.clone()));
                return Ok(());
            }
            self.record(index, bytes)
        })
    }

    #[inline]
    fn record(&mut self, index: usize, bytes: &'a [u8]) -> Result<(), Fault> {
        self.scratch.clear();
        match self.records.record(bytes, &mut self.scratch, self.builder) {
            Ok(()) => self.decoded.accepted += 1,
            Err(fault) if fault.is_whole() => return Err(fault),
            Err(fault) => {
                let (path, reason) = fault.refusal();
                self.place.index[2] = index;
                self.decoded.refuse(|| (self.place.path(3, &path), reason));
            }
        }
        Ok(())
    }
}

fn resource<'a>(bytes: &'a [u8], scratch: &mut Scratch<'a>, dropped: &mut u32) -> Result<(), Fault> {
    let mut wire = Wire::new(bytes, RESOURCE);
    while let Some(field) = wire.next()? {
        match field.number {
            1 => attribute(&field, scratch)?,
            2 => *dropped = field.uint32()?,
            _ => {}
        }
    }
    Ok(())
}

fn instrumentation_scope<'a>(
    bytes: &'a [u8],
    scratch: &mut Scratch<'a>,
    scope: &mut ScopeView<'a>,
) -> Result<(), Fault> {
    let mut wire = Wire::new(bytes, SCOPE);
    while let Some(field) = wire.next()? {
        match field.number {
            1 => scope.name = field.text()?,
            2 => scope.version = field.text()?,
            3 => attribute(&field, scratch)?,
            4 => scope.dropped_attributes_count = field.uint32()?,
            _ => {}
        }
    }
    Ok(())
}

/// The pieces of an embedded message, in order. Nearly always one, which needs no memory.
#[derive(Clone, Debug)]
struct Pieces<'a> {
    first: &'a [u8],
    more: Vec<&'a [u8]>,
}

impl<'a> Pieces<'a> {
    #[inline]
    fn one(first: &'a [u8]) -> Self {
        Self { first, more: Vec::new() }
    }

    #[inline]
    fn add(pieces: &mut Option<Self>, piece: &'a [u8]) {
        match pieces {
            Some(pieces) => pieces.more.push(piece),
            None => *pieces = Some(Pieces::one(piece)),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

/// An `AnyValue` of which arrays and maps are not yet read.
enum Held<'a> {
    Scalar(Value<'a>),
    Array(Pieces<'a>),
    Map(Pieces<'a>),
}

/// The value of an `AnyValue` that is one short string and nothing else, the usual case.
#[inline]
fn short_text<'a>(pieces: &Pieces<'a>) -> Option<&'a str> {
    match pieces.first {
        [0x0a, len, text @ ..] if *len < 0x80 && usize::from(*len) == text.len() && pieces.more.is_empty() => {
            std::str::from_utf8(text).ok()
        }
        _ => None,
    }
}

fn hold<'a>(pieces: &Pieces<'a>) -> Result<Held<'a>, Fault> {
    let mut held = Held::Scalar(Value::Empty);
    for piece in pieces.iter() {
        let mut wire = Wire::new(piece, ANY_VALUE);
        while let Some(field) = wire.next()? {
            let scalar = match field.number {
                1 => Value::Str(field.text()?),
                2 => Value::Bool(field.varint()? != 0),
                3 => Value::Int(field.varint()? as i64),
                4 => Value::Double(f64::from_bits(field.fixed64()?)),
                5 => {
                    match &mut held {
                        Held::Array(pieces) => pieces.more.push(field.bytes()?),
                        _ => held = Held::Array(Pieces::one(field.bytes()?)),
                    }
                    continue;
                }
                6 => {
                    match &mut held {
                        Held::Map(pieces) => pieces.more.push(field.bytes()?),
                        _ => held = Held::Map(Pieces::one(field.bytes()?)),
                    }
                    continue;
                }
                7 => Value::Bytes(field.bytes()?),
                // A reference into a table of strings that only profiles have.
                8 => Value::Empty,
                _ => continue,
            };
            held = Held::Scalar(scalar);
        }
    }
    Ok(held)
}

/// Reads an `AnyValue`; arrays and maps are rendered into the arena.
#[inline]
fn any<'a>(pieces: &Pieces<'a>, arena: &mut Arena) -> Result<Any<'a>, Fault> {
    if let Some(text) = short_text(pieces) {
        return Ok(Any::Plain(Value::Str(text)));
    }
    match hold(pieces)? {
        Held::Scalar(value) => Ok(Any::Plain(value)),
        list => {
            let start = arena.text.len();
            render(list, &mut arena.text, 1, pieces.first)?;
            Ok(Any::Json(start..arena.text.len()))
        }
    }
}

/// Appends a value as typed JSON.
fn render(held: Held<'_>, out: &mut String, depth: usize, at: &[u8]) -> Result<(), Fault> {
    if depth > VALUE_DEPTH_MAX && !matches!(held, Held::Scalar(_)) {
        let reason = format!("arrays and maps lie more than {VALUE_DEPTH_MAX} deep: flatten the value");
        return Err(Fault::refused(address(at), reason));
    }
    match held {
        Held::Scalar(value) => value.write_json(out),
        Held::Array(pieces) => {
            out.push('[');
            let mut first = true;
            for piece in pieces.iter() {
                items(piece, VALUES, 1, |_, item| {
                    if !first {
                        out.push(',');
                    }
                    first = false;
                    render(hold(&Pieces::one(item))?, out, depth + 1, item)
                })?;
            }
            out.push(']');
        }
        Held::Map(pieces) => {
            let mut object = ObjectWriter::new(out);
            for piece in pieces.iter() {
                items(piece, VALUES, 1, |_, item| member(item, &mut object, depth))?;
            }
            object.end();
        }
    }
    Ok(())
}

/// Appends a `KeyValue` as a member.
fn member(bytes: &[u8], object: &mut ObjectWriter<'_>, depth: usize) -> Result<(), Fault> {
    let (key, value) = key_value(bytes)?;
    let out = object.key(key);
    let held = value.map_or(Ok(Held::Scalar(Value::Empty)), |value| hold(&value));
    held.and_then(|held| render(held, out, depth + 1, bytes)).map_err(|fault| fault.within("value"))
}

#[inline]
fn key_value(bytes: &[u8]) -> Result<(&str, Option<Pieces<'_>>), Fault> {
    let mut key = "";
    let mut value = None;
    let mut wire = Wire::new(bytes, KEY_VALUE);
    while let Some(field) = wire.next()? {
        match field.number {
            1 => key = field.text()?,
            2 => Pieces::add(&mut value, field.bytes()?),
            _ => {}
        }
    }
    Ok((key, value))
}

/// Adds the `KeyValue` that is a short key and one short string, small int or bool, each sent once and in this order: the
/// usual case. `false`, and nothing is added, for any other.
#[inline]
fn short_attribute<'a>(bytes: &'a [u8], scratch: &mut Scratch<'a>) -> bool {
    let [0x0a, key_len @ 0..0x80, rest @ ..] = bytes else { return false };
    let Some((key, rest)) = rest.split_at_checked(usize::from(*key_len)) else { return false };
    let [0x12, len @ 0..0x80, any @ ..] = rest else { return false };
    if any.len() != usize::from(*len) {
        return false;
    }
    let value = match any {
        [0x0a, len @ 0..0x80, text @ ..] if usize::from(*len) == text.len() => {
            return scratch.push_text(key, text);
        }
        [0x10, bool @ 0..=1] => Value::Bool(*bool == 1),
        [0x18, low @ 0..0x80] => Value::Int(i64::from(*low)),
        [0x18, low @ 0x80..=0xff, high @ 0..0x80] => Value::Int(i64::from(*low & 0x7f) | i64::from(*high) << 7),
        _ => return false,
    };
    scratch.push_scalar(key, value)
}

/// Adds the `KeyValue` in `field` to the attributes.
#[inline]
fn attribute<'a>(field: &Field<'a>, scratch: &mut Scratch<'a>) -> Result<(), Fault> {
    let index = scratch.len();
    attribute_item(field.bytes()?, scratch).map_err(|fault| fault.within_item(&field.name(), index))
}

#[inline]
fn attribute_item<'a>(bytes: &'a [u8], scratch: &mut Scratch<'a>) -> Result<(), Fault> {
    if short_attribute(bytes, scratch) {
        return Ok(());
    }
    let (key, value) = key_value(bytes)?;
    let Some(value) = value else {
        scratch.push_plain(key, Value::Empty);
        return Ok(());
    };
    match any(&value, &mut scratch.arena).map_err(|fault| fault.within("value"))? {
        Any::Plain(value) => scratch.push_plain(key, value),
        rendered => scratch.push(Text::Request(key), rendered),
    }
    Ok(())
}

fn trace_id(field: &Field<'_>) -> Result<Option<TraceId>, Fault> {
    let bytes = field.bytes()?;
    check_id_len(field, bytes, TraceId::LEN)?;
    Ok(TraceId::from_bytes(bytes))
}

fn span_id(field: &Field<'_>) -> Result<Option<SpanId>, Fault> {
    let bytes = field.bytes()?;
    check_id_len(field, bytes, SpanId::LEN)?;
    Ok(SpanId::from_bytes(bytes))
}

#[inline]
fn check_id_len(field: &Field<'_>, bytes: &[u8], len: usize) -> Result<(), Fault> {
    if bytes.is_empty() || bytes.len() == len {
        return Ok(());
    }
    let reason = format!("{} bytes long, an id has {len}: leave it out when there is none", bytes.len());
    Err(Fault::refused(address(bytes), reason).within(&field.name()))
}

struct Logs<'v> {
    inspector: &'v mut dyn Inspector,
}

impl Records for Logs<'_> {
    const LEVELS: Levels = LOGS;

    fn inspector(&mut self) -> &mut dyn Inspector {
        self.inspector
    }

    fn record<'a>(
        &mut self,
        bytes: &'a [u8],
        scratch: &mut Scratch<'a>,
        builder: &mut BatchBuilder,
    ) -> Result<(), Fault> {
        let mut log = LogView::default();
        let mut body = None;
        let mut wire = Wire::new(bytes, LOG_RECORD);
        while let Some(field) = wire.next()? {
            match field.number {
                1 => log.time_unix_nano = field.fixed64()?,
                2 => log.severity_number = field.int32()?,
                3 => log.severity_text = field.text()?,
                5 => Pieces::add(&mut body, field.bytes()?),
                6 => attribute(&field, scratch)?,
                7 => log.dropped_attributes_count = field.uint32()?,
                8 => log.flags = field.fixed32()?,
                9 => log.trace_id = trace_id(&field)?,
                10 => log.span_id = span_id(&field)?,
                11 => log.observed_time_unix_nano = field.fixed64()?,
                12 => log.event_name = field.text()?,
                _ => {}
            }
        }
        let body = match &body {
            Some(body) => any(body, &mut scratch.arena).map_err(|fault| fault.within("body"))?,
            None => Any::Plain(Value::Empty),
        };
        scratch
            .with(|attributes, arena| {
                let log = LogView { attributes, body: arena.value(&body), ..log };
                self.inspector.log(&log.named_by_attribute(), builder)
            })
            .map_err(|(field, reason)| Fault::refused(address(bytes), reason).within(field))
    }
}

struct Spans<'v> {
    inspector: &'v mut dyn Inspector,
    events: String,
    links: String,
}

impl Records for Spans<'_> {
    const LEVELS: Levels = SPANS;

    fn inspector(&mut self) -> &mut dyn Inspector {
        self.inspector
    }

    fn record<'a>(
        &mut self,
        bytes: &'a [u8],
        scratch: &mut Scratch<'a>,
        builder: &mut BatchBuilder,
    ) -> Result<(), Fault> {
        let mut span = SpanView::new(TraceId([0; 16]), SpanId([0; 8]));
        let (mut own_trace, mut own_span) = (None, None);
        let (mut events, mut links) = (0, 0);
        self.events.clear();
        self.links.clear();
        let mut wire = Wire::new(bytes, SPAN);
        while let Some(field) = wire.next()? {
            match field.number {
                1 => own_trace = trace_id(&field)?,
                2 => own_span = span_id(&field)?,
                3 => span.trace_state = field.text()?,
                4 => span.parent_span_id = span_id(&field)?,
                5 => span.name = field.text()?,
                6 => span.kind = field.int32()?,
                7 => span.start_time_unix_nano = field.fixed64()?,
                8 => span.end_time_unix_nano = field.fixed64()?,
                9 => attribute(&field, scratch)?,
                10 => span.dropped_attributes_count = field.uint32()?,
                11 => {
                    event(field.bytes()?, &mut self.events, &mut scratch.arena.passing)
                        .map_err(|fault| fault.within_item("events", events))?;
                    events += 1;
                }
                12 => span.dropped_events_count = field.uint32()?,
                13 => {
                    link(field.bytes()?, &mut self.links, &mut scratch.arena.passing)
                        .map_err(|fault| fault.within_item("links", links))?;
                    links += 1;
                }
                14 => span.dropped_links_count = field.uint32()?,
                15 => status(field.bytes()?, &mut span).map_err(|fault| fault.within("status"))?,
                16 => span.flags = field.fixed32()?,
                _ => {}
            }
        }
        let missing = |field| Fault::refused(address(bytes), MISSING_ID).within(field);
        span.trace_id = own_trace.ok_or_else(|| missing("trace_id"))?;
        span.span_id = own_span.ok_or_else(|| missing("span_id"))?;
        close(&mut self.events);
        close(&mut self.links);
        scratch
            .with(|attributes, _| {
                let span = SpanView { attributes, events_json: &self.events, links_json: &self.links, ..span };
                self.inspector.span(&span, builder)
            })
            .map_err(|(field, reason)| Fault::refused(address(bytes), reason).within(field))
    }
}

/// Renders the attributes of an event or a link into `out`, which stays empty when there are none.
fn attributes_json(bytes: &[u8], names: Names, number: u32, out: &mut String) -> Result<(), Fault> {
    out.clear();
    let mut count = 0;
    let mut object = ObjectWriter::new(out);
    items(bytes, names, number, |_, item| {
        count += 1;
        member(item, &mut object, 0)
    })?;
    object.end();
    if count == 0 {
        out.clear();
    }
    Ok(())
}

/// `tmp` is for the attributes' text.
fn event(bytes: &[u8], out: &mut String, tmp: &mut String) -> Result<(), Fault> {
    let mut event = Event::default();
    let mut wire = Wire::new(bytes, EVENT);
    while let Some(field) = wire.next()? {
        match field.number {
            1 => event.time_unix_nano = field.fixed64()?,
            2 => event.name = field.text()?,
            4 => event.dropped_attributes_count = field.uint32()?,
            _ => {}
        }
    }
    attributes_json(bytes, EVENT, 3, tmp)?;
    Event { attributes: tmp, ..event }.write(out);
    Ok(())
}

/// `tmp` is for the attributes' text.
fn link(bytes: &[u8], out: &mut String, tmp: &mut String) -> Result<(), Fault> {
    let mut link = Link::default();
    let mut wire = Wire::new(bytes, LINK);
    while let Some(field) = wire.next()? {
        match field.number {
            1 => link.trace_id = trace_id(&field)?,
            2 => link.span_id = span_id(&field)?,
            3 => link.trace_state = field.text()?,
            5 => link.dropped_attributes_count = field.uint32()?,
            6 => link.flags = field.fixed32()?,
            _ => {}
        }
    }
    attributes_json(bytes, LINK, 4, tmp)?;
    Link { attributes: tmp, ..link }.write(out);
    Ok(())
}

fn status<'a>(bytes: &'a [u8], span: &mut SpanView<'a>) -> Result<(), Fault> {
    let mut wire = Wire::new(bytes, STATUS);
    while let Some(field) = wire.next()? {
        match field.number {
            2 => span.status_message = field.text()?,
            3 => span.status_code = field.int32()?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn data_points(request: &[u8]) -> Result<u64, Malformed> {
    let mut count = 0;
    items(request, METRICS.request, 1, |_, resource| {
        items(resource, METRICS.resource, 2, |_, scope| {
            items(scope, METRICS.scope, 2, |_, bytes| {
                count += metric(bytes)?;
                Ok(())
            })
        })
    })
    .map_err(|fault| fault.into_malformed(address(request)))?;
    Ok(count)
}

/// Data points of a `Metric`, which has one kind of data: the last, where a broken sender has more.
fn metric(bytes: &[u8]) -> Result<u64, Fault> {
    let mut kind = 0;
    let mut count = 0;
    let mut wire = Wire::new(bytes, METRIC);
    while let Some(field) = wire.next()? {
        if matches!(field.number, 5 | 7 | 9 | 10 | 11) {
            if field.number != kind {
                count = 0;
            }
            kind = field.number;
            items(field.bytes()?, DATA, 1, |_, _| {
                count += 1;
                Ok(())
            })
            .map_err(|fault| fault.within(&field.name()))?;
        }
    }
    Ok(count)
}
