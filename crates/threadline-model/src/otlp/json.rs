//! Export requests in OTLP/JSON: proto3's JSON mapping with OTLP 1.11's changes (hex ids, enums as integers,
//! lowerCamelCase keys only). `null` is the default, unknown members are skipped, a field given twice counts as in
//! protobuf. A value of a wrong type refuses its record; broken syntax makes the request malformed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::fault::Fault;
use super::parts::{Event, Link, close};
use super::reader::{Reader, number_len};
use super::scratch::{Any, Arena, Scratch, Text};
use super::{Decoded, MISSING_ID, Malformed, Place, VALUE_DEPTH_MAX};
use crate::builder::BatchBuilder;
use crate::id::{SpanId, TraceId};
use crate::inspect::Inspector;
use crate::record::{LogView, ResourceView, ScopeView, SpanView};
use crate::value::{ObjectWriter, Value, write_str};

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

/// What differs between logs and spans.
trait Records {
    /// The repeated fields, from the request down.
    const LEVELS: [&'static str; 3];

    /// Where records, resources and scopes go through.
    fn inspector(&mut self) -> &mut dyn Inspector;

    /// Decodes the record that is next and puts it into the builder.
    fn record<'a>(
        &mut self,
        reader: &mut Reader<'a>,
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

/// Reads an object: `each` gets every member that is not `null` and must take its value. The member's name goes
/// into faults.
#[inline]
fn members<'a>(
    reader: &mut Reader<'a>,
    mut each: impl FnMut(&mut Reader<'a>, &[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    reader.object()?;
    let mut first = true;
    while let Some(key) = reader.member(&mut first)? {
        let read = if reader.null()? { Ok(()) } else { each(reader, &key) };
        read.map_err(|fault| fault.within(&String::from_utf8_lossy(&key)))?;
    }
    Ok(())
}

/// Reads an array: `each` must take every element. The index goes into faults.
#[inline]
fn elements<'a>(
    reader: &mut Reader<'a>,
    mut each: impl FnMut(&mut Reader<'a>, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    reader.array()?;
    let mut first = true;
    let mut index = 0;
    while reader.element(&mut first)? {
        each(reader, index).map_err(|fault| fault.at_index(index))?;
        index += 1;
    }
    Ok(())
}

/// Reads a part of which a fault concerns only the records below. The first such fault is kept.
fn attempt<'a>(
    reader: &mut Reader<'a>,
    first: &mut Option<Fault>,
    path: &str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let start = *reader;
    match read(reader) {
        Err(fault) if !fault.is_whole() => {
            first.get_or_insert(fault.within(path));
            *reader = start;
            reader.skip()
        }
        other => other,
    }
}

/// Where the parts of a `ScopeLogs` or `ScopeSpans` stand.
#[derive(Default)]
struct ScopeAt<'a> {
    scope: Vec<Reader<'a>>,
    schema_url: Option<Reader<'a>>,
    records: Vec<Reader<'a>>,
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
            place: Place { names: R::LEVELS, index: [0; 3] },
        }
    }

    fn run(mut self, request: &'a [u8]) -> Result<Decoded, Malformed> {
        let mut reader = Reader::new(request);
        members(&mut reader, |reader, key| {
            if key != R::LEVELS[0].as_bytes() {
                return reader.skip();
            }
            elements(reader, |reader, index| {
                self.place.index = [index, 0, 0];
                self.resource(reader)
            })
        })
        .and_then(|()| reader.end())
        .map_err(|fault| fault.into_malformed(0))?;
        Ok(self.decoded)
    }

    /// `ResourceLogs` or `ResourceSpans`. The records are read last, for the resource and the scope may stand
    /// behind them.
    fn resource(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        let mut fault = None;
        let mut schema_url = Text::default();
        let mut dropped_attributes_count = 0;
        let mut scopes = Vec::new();
        let scratch = &mut self.scratch;
        scratch.clear();
        members(reader, |reader, key| match key {
            b"resource" => attempt(reader, &mut fault, "resource", |reader| {
                resource(reader, scratch, &mut dropped_attributes_count)
            }),
            b"schemaUrl" => attempt(reader, &mut fault, "schemaUrl", |reader| {
                schema_url = reader.string(&mut scratch.arena.text)?;
                Ok(())
            }),
            key if key == R::LEVELS[1].as_bytes() => elements(reader, |reader, _| {
                scopes.push(scope_at(reader, R::LEVELS[2])?);
                Ok(())
            }),
            _ => reader.skip(),
        })?;
        let (builder, inspector) = (&mut *self.builder, self.records.inspector());
        scratch.with(|attributes, arena| {
            let schema_url = arena.text(&schema_url);
            inspector.resource(&ResourceView { attributes, dropped_attributes_count, schema_url }, builder);
        });
        let above = fault.map(Fault::refusal);
        for (index, at) in scopes.into_iter().enumerate() {
            self.place.index = [self.place.index[0], index, 0];
            self.scope(at, above.as_ref()).map_err(|fault| fault.at_index(index).within(R::LEVELS[1]))?;
        }
        Ok(())
    }

    /// `ScopeLogs` or `ScopeSpans`. `above` is what is wrong with the resource: then every record is refused.
    fn scope(&mut self, at: ScopeAt<'a>, above: Option<&(String, String)>) -> Result<(), Fault> {
        let mut fault = None;
        let mut schema_url = Text::default();
        let mut scope = Scope::default();
        let scratch = &mut self.scratch;
        scratch.clear();
        for mut reader in at.scope {
            attempt(&mut reader, &mut fault, "scope", |reader| scope.read(reader, scratch))
                .map_err(|fault| fault.within("scope"))?;
        }
        if let Some(mut reader) = at.schema_url {
            attempt(&mut reader, &mut fault, "schemaUrl", |reader| {
                schema_url = reader.string(&mut scratch.arena.text)?;
                Ok(())
            })?;
        }
        let (builder, inspector) = (&mut *self.builder, self.records.inspector());
        scratch.with(|attributes, arena| {
            let scope = ScopeView {
                name: arena.text(&scope.name),
                version: arena.text(&scope.version),
                attributes,
                dropped_attributes_count: scope.dropped_attributes_count,
                schema_url: arena.text(&schema_url),
            };
            inspector.scope(&scope, builder);
        });
        let fault = fault.map(Fault::refusal);
        for mut reader in at.records {
            elements(&mut reader, |reader, _| {
                if let Some((path, reason)) = above {
                    self.decoded.refuse(|| (self.place.path(1, path), reason.clone()));
                    return reader.skip();
                }
                if let Some((path, reason)) = &fault {
                    self.decoded.refuse(|| (self.place.path(2, path), reason.clone()));
                    return reader.skip();
                }
                self.record(reader)
            })
            .map_err(|fault| fault.within(R::LEVELS[2]))?;
        }
        Ok(())
    }

    fn record(&mut self, reader: &mut Reader<'a>) -> Result<(), Fault> {
        self.scratch.clear();
        let start = *reader;
        match self.records.record(reader, &mut self.scratch, self.builder) {
            Ok(()) => self.decoded.accepted += 1,
            Err(fault) if fault.is_whole() => return Err(fault),
            Err(fault) => {
                let (path, reason) = fault.refusal();
                self.decoded.refuse(|| (self.place.path(3, &path), reason));
                *reader = start;
                reader.skip()?;
            }
        }
        self.place.index[2] += 1;
        Ok(())
    }
}

/// Finds the parts of a `ScopeLogs` or `ScopeSpans`. The records' array is only skipped by its brackets here.
fn scope_at<'a>(reader: &mut Reader<'a>, records: &str) -> Result<ScopeAt<'a>, Fault> {
    let mut at = ScopeAt::default();
    members(reader, |reader, key| match key {
        b"scope" => {
            at.scope.push(*reader);
            reader.skip()
        }
        b"schemaUrl" => {
            at.schema_url = Some(*reader);
            reader.skip()
        }
        key if key == records.as_bytes() => {
            at.records.push(*reader);
            reader.skip_brackets()
        }
        _ => reader.skip(),
    })?;
    Ok(at)
}

fn resource<'a>(reader: &mut Reader<'a>, scratch: &mut Scratch<'a>, dropped: &mut u32) -> Result<(), Fault> {
    members(reader, |reader, key| match key {
        b"attributes" => attributes(reader, scratch),
        b"droppedAttributesCount" => store(dropped, uint32(reader)),
        _ => reader.skip(),
    })
}

#[derive(Default)]
struct Scope<'a> {
    name: Text<'a>,
    version: Text<'a>,
    dropped_attributes_count: u32,
}

impl<'a> Scope<'a> {
    fn read(&mut self, reader: &mut Reader<'a>, scratch: &mut Scratch<'a>) -> Result<(), Fault> {
        members(reader, |reader, key| match key {
            b"name" => store(&mut self.name, reader.string(&mut scratch.arena.text)),
            b"version" => store(&mut self.version, reader.string(&mut scratch.arena.text)),
            b"attributes" => attributes(reader, scratch),
            b"droppedAttributesCount" => store(&mut self.dropped_attributes_count, uint32(reader)),
            _ => reader.skip(),
        })
    }
}

#[inline]
fn store<T>(place: &mut T, value: Result<T, Fault>) -> Result<(), Fault> {
    *place = value?;
    Ok(())
}

/// An integer of any notation JSON has, when it is whole and fits.
fn integer<T: TryFrom<i128>>(at: usize, digits: &[u8], kind: &str) -> Result<T, Fault> {
    exact_integer(digits).and_then(|int| T::try_from(int).ok()).ok_or_else(|| {
        let text = String::from_utf8_lossy(digits.get(..40).unwrap_or(digits)).into_owned();
        Fault::refused(at, format!("{text:?} is no {kind}"))
    })
}

/// The value of a JSON number without a fractional part, such as `12`, `1.20e2`.
fn exact_integer(token: &[u8]) -> Option<i128> {
    if number_len(token)? != token.len() {
        return None;
    }
    let text = std::str::from_utf8(token).ok()?;
    if token.len() <= 20
        && let Ok(int) = text.parse::<i128>()
    {
        return Some(int);
    }
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut value = 0i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let places = i64::try_from(fraction.len()).ok()?;
    let mut exponent = if value == 0 { 0 } else { exponent.parse::<i64>().ok()?.checked_sub(places)? };
    while exponent < 0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
        exponent += 1;
    }
    let scale = 10i128.checked_pow(u32::try_from(exponent).ok()?)?;
    value.checked_mul(scale)?.checked_mul(sign)
}

fn uint64(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    let at = reader.at();
    let digits = reader.number()?;
    if let Some(value) = plain_digits(digits) {
        return Ok(value);
    }
    integer(at, digits, "unsigned 64-bit integer")
}

/// Up to 19 digits and nothing else.
#[inline]
fn plain_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || (digits.len() > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

fn int64(reader: &mut Reader<'_>) -> Result<i64, Fault> {
    let at = reader.at();
    let digits = reader.number()?;
    match plain_digits(digits).map(i64::try_from) {
        Some(Ok(value)) => Ok(value),
        _ => integer(at, digits, "64-bit integer"),
    }
}

fn uint32(reader: &mut Reader<'_>) -> Result<u32, Fault> {
    let at = reader.at();
    integer(at, reader.number()?, "unsigned 32-bit integer")
}

/// An enum: an integer only; OTLP/JSON has no names here.
fn enumeration(reader: &mut Reader<'_>) -> Result<i32, Fault> {
    let at = reader.at();
    integer(at, reader.bare_number("an integer (OTLP/JSON does not take names of enum values)")?, "enum value")
}

fn double(reader: &mut Reader<'_>) -> Result<f64, Fault> {
    let at = reader.at();
    let token = reader.number()?;
    match token {
        b"NaN" => return Ok(f64::NAN),
        b"Infinity" => return Ok(f64::INFINITY),
        b"-Infinity" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    let text = std::str::from_utf8(token).ok().filter(|_| number_len(token) == Some(token.len()));
    text.and_then(|text| text.parse::<f64>().ok())
        .filter(|double| double.is_finite())
        .ok_or_else(|| Fault::refused(at, "no 64-bit float, \"NaN\", \"Infinity\" or \"-Infinity\""))
}

/// Base64 of either alphabet, with padding or without. Appends to `out`.
fn base64(reader: &mut Reader<'_>, tmp: &mut String, out: &mut Vec<u8>) -> Result<(), Fault> {
    let at = reader.at();
    tmp.clear();
    let text = reader.string(tmp)?;
    let text = match &text {
        Text::Request(text) => text.as_bytes(),
        Text::Arena(_) => tmp.as_bytes(),
    };
    let engine = if memchr::memchr2(b'-', b'_', text).is_some() { &BASE64_URL } else { &BASE64 };
    let start = out.len();
    engine.decode_vec(text, out).map_err(|_| {
        out.truncate(start);
        Fault::refused(at, "not valid base64")
    })
}

fn attributes<'a>(reader: &mut Reader<'a>, scratch: &mut Scratch<'a>) -> Result<(), Fault> {
    elements(reader, |reader, _| {
        let mut name = Text::default();
        let mut value = Any::Plain(Value::Empty);
        members(reader, |reader, key| match key {
            b"key" => store(&mut name, reader.string(&mut scratch.arena.text)),
            b"value" => store(&mut value, any(reader, &mut scratch.arena)),
            _ => reader.skip(),
        })?;
        scratch.push(name, value);
        Ok(())
    })
}

/// Reads an `AnyValue`; arrays and maps are rendered into the arena.
fn any<'a>(reader: &mut Reader<'a>, arena: &mut Arena) -> Result<Any<'a>, Fault> {
    let mut value = Any::Plain(Value::Empty);
    members(reader, |reader, key| {
        value = match key {
            b"stringValue" => match reader.string(&mut arena.text)? {
                Text::Request(text) => Any::Plain(Value::Str(text)),
                Text::Arena(range) => Any::Str(range),
            },
            b"boolValue" => Any::Plain(Value::Bool(reader.bool()?)),
            b"intValue" => Any::Plain(Value::Int(int64(reader)?)),
            b"doubleValue" => Any::Plain(Value::Double(double(reader)?)),
            b"bytesValue" => {
                let start = arena.bytes.len();
                base64(reader, &mut arena.passing, &mut arena.bytes)?;
                Any::Bytes(start..arena.bytes.len())
            }
            b"arrayValue" | b"kvlistValue" => {
                let start = arena.text.len();
                render_list(reader, key == b"kvlistValue", &mut arena.text, &mut arena.passing, 1)?;
                Any::Json(start..arena.text.len())
            }
            _ => return reader.skip(),
        };
        Ok(())
    })?;
    Ok(value)
}

/// Appends an `AnyValue` as typed JSON. `tmp` is for one unescaped string.
fn render(reader: &mut Reader<'_>, out: &mut String, tmp: &mut String, depth: usize) -> Result<(), Fault> {
    let start = out.len();
    if reader.null()? {
        out.push_str("null");
        return Ok(());
    }
    members(reader, |reader, key| {
        let known: &[&[u8]] = &[
            b"stringValue",
            b"boolValue",
            b"intValue",
            b"doubleValue",
            b"bytesValue",
            b"arrayValue",
            b"kvlistValue",
        ];
        if !known.contains(&key) {
            return reader.skip();
        }
        out.truncate(start);
        match key {
            b"stringValue" => {
                tmp.clear();
                match reader.string(tmp)? {
                    Text::Request(text) => write_str(out, text),
                    Text::Arena(_) => write_str(out, tmp),
                }
            }
            b"boolValue" => Value::Bool(reader.bool()?).write_json(out),
            b"intValue" => Value::Int(int64(reader)?).write_json(out),
            b"doubleValue" => Value::Double(double(reader)?).write_json(out),
            b"bytesValue" => {
                let mut bytes = Vec::new();
                base64(reader, tmp, &mut bytes)?;
                Value::Bytes(&bytes).write_json(out);
            }
            _ => render_list(reader, key == b"kvlistValue", out, tmp, depth)?,
        }
        Ok(())
    })?;
    if out.len() == start {
        out.push_str("null");
    }
    Ok(())
}

/// Appends an `ArrayValue` or a `KeyValueList` as typed JSON.
fn render_list(
    reader: &mut Reader<'_>,
    map: bool,
    out: &mut String,
    tmp: &mut String,
    depth: usize,
) -> Result<(), Fault> {
    if depth > VALUE_DEPTH_MAX {
        let reason = format!("arrays and maps lie more than {VALUE_DEPTH_MAX} deep: flatten the value");
        return Err(Fault::refused(reader.at(), reason));
    }
    if map {
        let mut object = ObjectWriter::new(out);
        members(reader, |reader, key| match key {
            b"values" => elements(reader, |reader, _| render_member(reader, &mut object, tmp, depth)),
            _ => reader.skip(),
        })?;
        object.end();
        return Ok(());
    }
    out.push('[');
    let mut first = true;
    members(reader, |reader, key| match key {
        b"values" => elements(reader, |reader, _| {
            if !first {
                out.push(',');
            }
            first = false;
            render(reader, out, tmp, depth + 1)
        }),
        _ => reader.skip(),
    })?;
    out.push(']');
    Ok(())
}

/// Appends a `KeyValue` as a member. Its value may stand before its key.
fn render_member(
    reader: &mut Reader<'_>,
    object: &mut ObjectWriter<'_>,
    tmp: &mut String,
    depth: usize,
) -> Result<(), Fault> {
    let mut name = None;
    let mut value: Option<String> = None;
    let mut written = false;
    members(reader, |reader, key| {
        let at = reader.at();
        match key {
            b"key" if name.is_none() => {
                tmp.clear();
                let text = match reader.string(tmp)? {
                    Text::Request(text) => text,
                    Text::Arena(_) => tmp,
                };
                name = Some(text.to_owned());
                Ok(())
            }
            b"value" if value.is_none() && !written => match &name {
                Some(name) => {
                    written = true;
                    render(reader, object.key(name), tmp, depth + 1)
                }
                None => {
                    let mut rendered = String::new();
                    render(reader, &mut rendered, tmp, depth + 1)?;
                    value = Some(rendered);
                    Ok(())
                }
            },
            b"key" | b"value" => Err(Fault::refused(at, "given twice")),
            _ => reader.skip(),
        }
    })?;
    if !written {
        object.key(name.as_deref().unwrap_or_default()).push_str(value.as_deref().unwrap_or("null"));
    }
    Ok(())
}

/// The hex digits of an id, or `None` for no id: empty, or all zeros.
fn hex<'a>(reader: &mut Reader<'a>, len: usize) -> Result<Option<&'a str>, Fault> {
    let at = reader.at();
    let digits = reader.ascii()?;
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() != 2 * len {
        let reason = format!(
            "{} characters long, an id has {} hex digits: leave it out when there is none",
            digits.len(),
            2 * len
        );
        return Err(Fault::refused(at, reason));
    }
    match std::str::from_utf8(digits) {
        Ok(text) if digits.iter().all(u8::is_ascii_hexdigit) => {
            Ok(digits.iter().any(|digit| *digit != b'0').then_some(text))
        }
        _ => Err(Fault::refused(at, "not all hex digits")),
    }
}

fn trace_id(reader: &mut Reader<'_>) -> Result<Option<TraceId>, Fault> {
    Ok(hex(reader, TraceId::LEN)?.and_then(TraceId::from_hex))
}

fn span_id(reader: &mut Reader<'_>) -> Result<Option<SpanId>, Fault> {
    Ok(hex(reader, SpanId::LEN)?.and_then(SpanId::from_hex))
}

struct Logs<'v> {
    inspector: &'v mut dyn Inspector,
}

impl Records for Logs<'_> {
    const LEVELS: [&'static str; 3] = ["resourceLogs", "scopeLogs", "logRecords"];

    fn inspector(&mut self) -> &mut dyn Inspector {
        self.inspector
    }

    fn record<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        scratch: &mut Scratch<'a>,
        builder: &mut BatchBuilder,
    ) -> Result<(), Fault> {
        let at = reader.at();
        let mut log = LogView::default();
        let (mut severity_text, mut event_name) = (Text::default(), Text::default());
        let mut body = Any::Plain(Value::Empty);
        members(reader, |reader, key| match key {
            b"timeUnixNano" => store(&mut log.time_unix_nano, uint64(reader)),
            b"observedTimeUnixNano" => store(&mut log.observed_time_unix_nano, uint64(reader)),
            b"severityNumber" => store(&mut log.severity_number, enumeration(reader)),
            b"severityText" => store(&mut severity_text, reader.string(&mut scratch.arena.text)),
            b"eventName" => store(&mut event_name, reader.string(&mut scratch.arena.text)),
            b"body" => store(&mut body, any(reader, &mut scratch.arena)),
            b"attributes" => attributes(reader, scratch),
            b"droppedAttributesCount" => store(&mut log.dropped_attributes_count, uint32(reader)),
            b"flags" => store(&mut log.flags, uint32(reader)),
            b"traceId" => store(&mut log.trace_id, trace_id(reader)),
            b"spanId" => store(&mut log.span_id, span_id(reader)),
            _ => reader.skip(),
        })?;
        scratch
            .with(|attributes, arena| {
                let log = LogView {
                    severity_text: arena.text(&severity_text),
                    event_name: arena.text(&event_name),
                    body: arena.value(&body),
                    attributes,
                    ..log
                };
                self.inspector.log(&log.named_by_attribute(), builder)
            })
            .map_err(|(field, reason)| Fault::refused(at, reason).within(field))
    }
}

struct Spans<'v> {
    inspector: &'v mut dyn Inspector,
    events: String,
    links: String,
}

impl Records for Spans<'_> {
    const LEVELS: [&'static str; 3] = ["resourceSpans", "scopeSpans", "spans"];

    fn inspector(&mut self) -> &mut dyn Inspector {
        self.inspector
    }

    fn record<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        scratch: &mut Scratch<'a>,
        builder: &mut BatchBuilder,
    ) -> Result<(), Fault> {
        let at = reader.at();
        let mut span = SpanView::new(TraceId([0; 16]), SpanId([0; 8]));
        let (mut own_trace, mut own_span) = (None, None);
        let (mut name, mut trace_state, mut status_message) =
            (Text::default(), Text::default(), Text::default());
        let (events, links) = (&mut self.events, &mut self.links);
        events.clear();
        links.clear();
        members(reader, |reader, key| match key {
            b"traceId" => store(&mut own_trace, trace_id(reader)),
            b"spanId" => store(&mut own_span, span_id(reader)),
            b"parentSpanId" => store(&mut span.parent_span_id, span_id(reader)),
            b"traceState" => store(&mut trace_state, reader.string(&mut scratch.arena.text)),
            b"name" => store(&mut name, reader.string(&mut scratch.arena.text)),
            b"kind" => store(&mut span.kind, enumeration(reader)),
            b"flags" => store(&mut span.flags, uint32(reader)),
            b"startTimeUnixNano" => store(&mut span.start_time_unix_nano, uint64(reader)),
            b"endTimeUnixNano" => store(&mut span.end_time_unix_nano, uint64(reader)),
            b"attributes" => attributes(reader, scratch),
            b"droppedAttributesCount" => store(&mut span.dropped_attributes_count, uint32(reader)),
            b"droppedEventsCount" => store(&mut span.dropped_events_count, uint32(reader)),
            b"droppedLinksCount" => store(&mut span.dropped_links_count, uint32(reader)),
            b"events" => elements(reader, |reader, _| event(reader, events, &mut scratch.arena.passing)),
            b"links" => elements(reader, |reader, _| link(reader, links, &mut scratch.arena.passing)),
            b"status" => members(reader, |reader, key| match key {
                b"message" => store(&mut status_message, reader.string(&mut scratch.arena.text)),
                b"code" => store(&mut span.status_code, enumeration(reader)),
                _ => reader.skip(),
            }),
            _ => reader.skip(),
        })?;
        let missing = |field| Fault::refused(at, MISSING_ID).within(field);
        span.trace_id = own_trace.ok_or_else(|| missing("traceId"))?;
        span.span_id = own_span.ok_or_else(|| missing("spanId"))?;
        close(events);
        close(links);
        scratch
            .with(|attributes, arena| {
                let span = SpanView {
                    name: arena.text(&name),
                    trace_state: arena.text(&trace_state),
                    status_message: arena.text(&status_message),
                    events_json: &self.events,
                    links_json: &self.links,
                    attributes,
                    ..span
                };
                self.inspector.span(&span, builder)
            })
            .map_err(|(field, reason)| Fault::refused(at, reason).within(field))
    }
}

/// A string; borrowed unless it has escapes.
fn text<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, str>, Fault> {
    let mut unescaped = String::new();
    Ok(match reader.string(&mut unescaped)? {
        Text::Request(text) => Cow::Borrowed(text),
        Text::Arena(_) => Cow::Owned(unescaped),
    })
}

/// Renders the attributes of an event or a link into `out`, which stays empty when there are none.
fn attributes_json(reader: &mut Reader<'_>, out: &mut String, tmp: &mut String) -> Result<(), Fault> {
    if !out.is_empty() {
        return Err(Fault::refused(reader.at(), "given twice"));
    }
    let mut count = 0;
    let mut object = ObjectWriter::new(out);
    elements(reader, |reader, _| {
        count += 1;
        render_member(reader, &mut object, tmp, 0)
    })?;
    object.end();
    if count == 0 {
        out.clear();
    }
    Ok(())
}

fn event(reader: &mut Reader<'_>, out: &mut String, tmp: &mut String) -> Result<(), Fault> {
    let mut event = Event::default();
    let mut name = Cow::Borrowed("");
    let mut attributes = String::new();
    members(reader, |reader, key| match key {
        b"timeUnixNano" => store(&mut event.time_unix_nano, uint64(reader)),
        b"name" => store(&mut name, text(reader)),
        b"attributes" => attributes_json(reader, &mut attributes, tmp),
        b"droppedAttributesCount" => store(&mut event.dropped_attributes_count, uint32(reader)),
        _ => reader.skip(),
    })?;
    Event { name: &name, attributes: &attributes, ..event }.write(out);
    Ok(())
}

fn link(reader: &mut Reader<'_>, out: &mut String, tmp: &mut String) -> Result<(), Fault> {
    let mut link = Link::default();
    let mut trace_state = Cow::Borrowed("");
    let mut attributes = String::new();
    members(reader, |reader, key| match key {
        b"traceId" => store(&mut link.trace_id, trace_id(reader)),
        b"spanId" => store(&mut link.span_id, span_id(reader)),
        b"traceState" => store(&mut trace_state, text(reader)),
        b"attributes" => attributes_json(reader, &mut attributes, tmp),
        b"droppedAttributesCount" => store(&mut link.dropped_attributes_count, uint32(reader)),
        b"flags" => store(&mut link.flags, uint32(reader)),
        _ => reader.skip(),
    })?;
    Link { trace_state: &trace_state, attributes: &attributes, ..link }.write(out);
    Ok(())
}

/// Reads an object of which only the array `name` matters.
fn array_in<'a>(
    reader: &mut Reader<'a>,
    name: &str,
    mut each: impl FnMut(&mut Reader<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    members(reader, |reader, key| {
        if key == name.as_bytes() { elements(reader, |reader, _| each(reader)) } else { reader.skip() }
    })
}

pub(super) fn data_points(request: &[u8]) -> Result<u64, Malformed> {
    let mut count = 0;
    let mut reader = Reader::new(request);
    array_in(&mut reader, "resourceMetrics", |reader| {
        array_in(reader, "scopeMetrics", |reader| {
            array_in(reader, "metrics", |reader| {
                count += metric(reader)?;
                Ok(())
            })
        })
    })
    .and_then(|()| reader.end())
    .map_err(|fault| fault.into_malformed(0))?;
    Ok(count)
}

/// Data points of a `Metric`, which has one kind of data: the last, where a broken sender has more.
fn metric(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    let mut count = 0;
    members(reader, |reader, key| match key {
        b"gauge" | b"sum" | b"histogram" | b"exponentialHistogram" | b"summary" => {
            count = 0;
            array_in(reader, "dataPoints", |reader| {
                count += 1;
                reader.skip()
            })
        }
        _ => reader.skip(),
    })?;
    Ok(count)
}
