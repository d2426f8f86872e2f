//! W3C Trace Context Level 2 and Baggage: what of a request's headers continues a trace, and what goes on to the next service.
//!
//! Vocabulary:
//! - *carried*: `tracestate` members that OpenTelemetry's own type refuses though Level 2 allows their keys. They go on in the
//!   context, so that no vendor's entry is lost on the way;
//! - *random flag*: says that a trace id's last seven bytes are random. It is handed on as it came, and set for traces begun here.
//!
//! The headers are judged as a whole: two `traceparent` fields are none, several `tracestate` and `baggage` fields are one list.
//! Nothing here trusts or distrusts a caller: that is the server layer's edge mode.

mod baggage;
mod traceparent;
mod tracestate;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceState};

pub(crate) use baggage::decode as percent_decode;
pub use baggage::{BYTES_MAX as BAGGAGE_BYTES_MAX, MEMBERS_MAX as BAGGAGE_MEMBERS_MAX};
pub use traceparent::TraceParent;
pub use tracestate::MEMBERS_MAX as TRACESTATE_MEMBERS_MAX;

/// Header of the caller's trace and span.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Header of what vendors add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Header of an application's own values.
pub const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

static FIELDS: std::sync::LazyLock<[String; 3]> =
    std::sync::LazyLock::new(|| ["traceparent".to_owned(), "tracestate".to_owned(), "baggage".to_owned()]);

/// `tracestate` as it came, where OpenTelemetry's type does not take it.
#[derive(Clone, Debug)]
struct Carried(String);

/// Marks a context whose trace was begun by somebody else: its random flag is theirs. OpenTelemetry's spans lose it where a trace is
/// not sampled, so it is kept here.
#[derive(Clone, Copy, Debug)]
struct Continued {
    random: bool,
}

/// The propagator: Trace Context Level 2 and Baggage in one, for OpenTelemetry's global and for other carriers than HTTP.
///
/// [`extract`] and [`inject`] do the same on HTTP headers, without copies.
#[derive(Clone, Copy, Debug, Default)]
pub struct Propagator;

impl TextMapPropagator for Propagator {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        let outgoing = Outgoing::of(context);
        if let Some(value) = outgoing.traceparent {
            injector.set("traceparent", value);
        }
        if let Some(value) = outgoing.tracestate {
            injector.set("tracestate", value);
        }
        if let Some(value) = outgoing.baggage {
            injector.set("baggage", value);
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let all = |name: &str| {
            extractor.get_all(name).unwrap_or_else(|| extractor.get(name).into_iter().collect::<Vec<_>>())
        };
        read(context, &all("traceparent"), &all("tracestate"), &all("baggage"))
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(FIELDS.as_slice())
    }
}

/// The context that a request's headers give: the caller's span as remote parent, if they name one, and its baggage.
pub fn extract(headers: &HeaderMap) -> Context {
    // What is not ASCII is in no grammar; an empty text makes the field as invalid as it was.
    let all = |name: &HeaderName| -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\u{7f}")).collect()
    };
    read(&Context::new(), &all(&TRACEPARENT), &all(&TRACESTATE), &all(&BAGGAGE))
}

/// Writes a context into a request's headers, replacing what these said before.
pub fn inject(context: &Context, headers: &mut HeaderMap) {
    let outgoing = Outgoing::of(context);
    for (name, value) in
        [(TRACEPARENT, outgoing.traceparent), (TRACESTATE, outgoing.tracestate), (BAGGAGE, outgoing.baggage)]
    {
        match value.and_then(|value| HeaderValue::try_from(value).ok()) {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

fn read(context: &Context, parents: &[&str], states: &[&str], bags: &[&str]) -> Context {
    let mut context = context.clone();
    if !bags.is_empty() {
        context = context.with_baggage(baggage::parse(bags));
    }
    let [parent] = parents else { return context };
    let Some(parent) = TraceParent::parse(parent) else { return context };
    let members = tracestate::parse(states).unwrap_or_default();
    let state = TraceState::from_key_value(members.iter().copied());
    let carried = state.is_err().then(|| Carried(tracestate::join(&members)));
    let span = SpanContext::new(
        parent.trace_id(),
        parent.span_id(),
        TraceFlags::new(parent.flags()),
        true,
        state.unwrap_or_default(),
    );
    context = context.with_value(Continued { random: parent.is_random() }).with_remote_span_context(span);
    match carried {
        Some(carried) => context.with_value(carried),
        None => context,
    }
}

/// The `traceparent` that [`inject`] writes; `None` where nothing records.
pub fn traceparent(context: &Context) -> Option<String> {
    Outgoing::parent(context).map(|parent| parent.to_string())
}

/// The headers of a context; `None` where there is nothing to say.
struct Outgoing {
    traceparent: Option<String>,
    tracestate: Option<String>,
    baggage: Option<String>,
}

impl Outgoing {
    fn parent(context: &Context) -> Option<TraceParent> {
        let parent = TraceParent::of(context.span().span_context())?;
        let random = context.get::<Continued>().is_none_or(|continued| continued.random);
        Some(parent.with_random(random))
    }

    fn of(context: &Context) -> Outgoing {
        let baggage = baggage::format(context.baggage());
        let Some(parent) = Outgoing::parent(context) else {
            return Outgoing { traceparent: None, tracestate: None, baggage };
        };
        let span = context.span();
        let own = span.span_context().trace_state().header();
        let carried = context.get::<Carried>().map_or("", |carried| carried.0.as_str());
        let tracestate = match (own.as_str(), carried) {
            ("", "") => None,
            ("", one) | (one, "") => Some(one.to_owned()),
            (own, carried) => Some(format!("{own},{carried}")),
        };
        Outgoing { traceparent: Some(parent.to_string()), tracestate, baggage }
    }
}

#[cfg(test)]
mod tests;
