//! The grammar: cases, among them those of the W3C's public test suite at level 2, and properties.

use std::collections::HashMap;

use opentelemetry::baggage::{Baggage, BaggageMetadata};
use opentelemetry::trace::SpanId;
use proptest::prelude::*;

use super::*;

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-01";

/// What goes on to the next service from a server that got these headers: its own span replaces the caller's.
fn through(headers: &[(&str, &str)]) -> (String, Option<String>) {
    let mut incoming = HeaderMap::new();
    for (name, value) in headers {
        // As a server's HTTP parser does.
        let value = value.trim_matches([' ', '\t']);
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        incoming.append(name, HeaderValue::from_str(value).unwrap());
    }
    let context = extract(&incoming);
    let parent = context.span().span_context().clone();
    let trace_id = if parent.is_valid() { parent.trace_id() } else { 0x99_u128.into() };
    let own = SpanContext::new(
        trace_id,
        SpanId::from_bytes([7; 8]),
        parent.trace_flags(),
        false,
        parent.trace_state().clone(),
    );
    let mut outgoing = HeaderMap::new();
    inject(&context.with_remote_span_context(own), &mut outgoing);
    assert_eq!(outgoing.get_all(TRACEPARENT).iter().count(), 1);
    let text = |name| outgoing.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
    (text(TRACEPARENT).unwrap(), text(TRACESTATE))
}

fn continued(headers: &[(&str, &str)]) -> bool {
    let (parent, _) = through(headers);
    let parent = TraceParent::parse(&parent).unwrap();
    assert_eq!(parent.span_id(), SpanId::from_bytes([7; 8]), "a hop has a parent id of its own");
    parent.trace_id().to_string() == TRACE
}

#[test]
fn traceparent_is_read_strictly() {
    let id = "1234567890123456";
    let cases: &[(&str, bool)] = &[
        (PARENT, true),
        (&format!("{PARENT}."), false),
        (&format!("{PARENT}-what-the-future-will-be-like"), false),
        (&format!("cc-{TRACE}-{id}-01"), true),
        (&format!("cc-{TRACE}-{id}-01-what-the-future-will-be-like"), true),
        (&format!("cc-{TRACE}-{id}-01.what-the-future-will-be-like"), false),
        (&format!("cc-{TRACE}-{id}-0"), false),
        (&format!("ff-{TRACE}-{id}-01"), false),
        (&format!(".0-{TRACE}-{id}-01"), false),
        (&format!("0.-{TRACE}-{id}-01"), false),
        (&format!("000-{TRACE}-{id}-01"), false),
        (&format!("0000-{TRACE}-{id}-01"), false),
        (&format!("0-{TRACE}-{id}-01"), false),
        (&format!("00-00000000000000000000000000000000-{id}-01"), false),
        (&format!("00-.2345678901234567890123456789012-{id}-01"), false),
        (&format!("00-1234567890123456789012345678901.-{id}-01"), false),
        (&format!("00-{TRACE}3-{id}-01"), false),
        (&format!("00-1234567890123456789012345678901-{id}-01"), false),
        (&format!("00-{TRACE}-0000000000000000-01"), false),
        (&format!("00-{TRACE}-.234567890123456-01"), false),
        (&format!("00-{TRACE}-123456789012345.-01"), false),
        (&format!("00-{TRACE}-12345678901234567-01"), false),
        (&format!("00-{TRACE}-123456789012345-01"), false),
        (&format!("00-{TRACE}-{id}-.0"), false),
        (&format!("00-{TRACE}-{id}-0."), false),
        (&format!("00-{TRACE}-{id}-001"), false),
        (&format!("00-{TRACE}-{id}-1"), false),
        (&format!("00-{}-{id}-01", "ABCDEFABCDEFABCDEFABCDEFABCDEFAB"), false),
        (&format!(" {PARENT}"), true),
        (&format!("\t{PARENT}"), true),
        (&format!("{PARENT} "), true),
        (&format!("\t {PARENT} \t"), true),
        ("", false),
    ];
    for (value, good) in cases {
        assert_eq!(continued(&[("traceparent", value)]), *good, "{value:?}");
        assert_eq!(TraceParent::parse(value).is_some(), *good, "{value:?}");
    }
    for (name, good) in [
        ("TraceParent", true),
        ("TrAcEpArEnT", true),
        ("TRACEPARENT", true),
        ("trace-parent", false),
        ("trace.parent", false),
    ] {
        assert_eq!(continued(&[(name, PARENT)]), good, "{name}");
    }
    let other = format!("00-{TRACE}-1234567890123457-01");
    assert!(!continued(&[("traceparent", PARENT), ("traceparent", &other)]));
    assert!(!continued(&[("traceparent", PARENT), ("traceparent", PARENT)]));
    assert!(!continued(&[]));
}

#[test]
fn flags_are_handed_on_as_level_2_has_them() {
    for (flags, expected) in
        [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00"), ("08", "00")]
    {
        let (parent, _) = through(&[("traceparent", &format!("00-{TRACE}-1234567890123456-{flags}"))]);
        assert!(parent.ends_with(&format!("-{expected}")), "{flags} became {parent}");
    }
    // A trace that is not sampled has a span without flags here: its random flag is known all the same.
    let mut incoming = HeaderMap::new();
    for (flags, expected) in [("00", "00"), ("02", "02"), ("03", "02"), ("01", "00")] {
        let value = format!("00-{TRACE}-1234567890123456-{flags}");
        incoming.insert(TRACEPARENT, HeaderValue::from_str(&value).unwrap());
        let dropped = SpanContext::new(
            u128::from_str_radix(TRACE, 16).unwrap().into(),
            SpanId::from_bytes([7; 8]),
            TraceFlags::default(),
            false,
            TraceState::default(),
        );
        let parent = traceparent(&extract(&incoming).with_remote_span_context(dropped)).unwrap();
        assert!(parent.ends_with(&format!("-{expected}")), "{flags} became {parent}");
    }
    // A trace that begins here has a random id, and says so.
    assert!(through(&[]).0.ends_with("-02"));
    assert!(through(&[("traceparent", "nonsense")]).0.ends_with("-02"));
}

#[test]
fn tracestate_is_one_list_or_none() {
    let z = |count| "z".repeat(count);
    let all_keys = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let all_values: String =
        (0x20..=0x7e_u8).map(char::from).filter(|char| !matches!(char, ',' | '=')).collect();
    let numbered = |range: std::ops::RangeInclusive<u32>| {
        let members: Vec<String> = range.map(|n| format!("bar{n:02}={n:02}")).collect();
        members.join(",")
    };
    let everything = format!("{all_keys}={all_values}");
    let with_vendor = format!("{all_keys}@a-z0-9_-*/={all_values}");
    let (most, rest, one_more) = (numbered(1..=30), "bar31=31,bar32=32", "bar31=31,bar32=32,bar33=33");
    let whole = format!("{most},{rest}");
    let long_value = format!("foo={}", z(256));
    let longest = format!("foo=1,{}=1", z(256));
    let vendors = format!("foo=1,{}@{}=1", "t".repeat(241), "v".repeat(14));
    let tenant = format!("foo=1,{}@v=1", "t".repeat(242));
    let vendor = format!("foo=1,t@{}=1", "v".repeat(15));
    let cases: &[(&[&str], Option<&str>)] = &[
        (&["foo=1,bar=2"], Some("foo=1,bar=2")),
        (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], Some("foo=1,bar=2,rojo=1,congo=2,baz=3")),
        (&[""], None),
        (&["foo=1", ""], Some("foo=1")),
        (&["", "foo=1"], Some("foo=1")),
        (&["foo=1 \t , \t bar=2, \t baz=3"], Some("foo=1,bar=2,baz=3")),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], Some("foo=1,bar=2,baz=3")),
        (&["foo=1, ,bar=2,"], Some("foo=1,bar=2")),
        (&["\t foo=1 \t"], Some("foo=1")),
        // One entry per key: the first is the latest.
        (&["foo=1,foo=1"], Some("foo=1")),
        (&["foo=1,foo=2"], Some("foo=1")),
        (&["foo=1", "foo=1"], Some("foo=1")),
        (&["foo=1", "bar=3,foo=2"], Some("foo=1,bar=3")),
        (&["foo@@x=1", "foo@@x=2"], Some("foo@@x=1")),
        (&["foo=1,foo=,bar=3"], None),
        (&[&vec!["foo=1"; 32].join(",")], Some("foo=1")),
        (&[&vec!["foo=1"; 33].join(",")], None),
        (&[&everything], Some(&everything)),
        (&[&with_vendor], Some(&with_vendor)),
        (&["foo =1"], None),
        (&["FOO=1"], None),
        (&["foo.bar=1"], None),
        (&["1foo=1"], Some("1foo=1")),
        // Level 2 takes the at sign as a character like others.
        (&["foo@=1,bar=2"], Some("foo@=1,bar=2")),
        (&["foo@@bar=1,bar=2"], Some("foo@@bar=1,bar=2")),
        (&["foo@bar@baz=1,bar=2"], Some("foo@bar@baz=1,bar=2")),
        (&["@foo=1,bar=2"], None),
        (&[&most, rest], Some(&whole)),
        (&[&most, one_more], None),
        (&["foo=1", &format!("{}=1", z(256))], Some(&longest)),
        (&["foo=1", &format!("{}=1", z(257))], None),
        (&["foo=1", &format!("{}@{}=1", "t".repeat(241), "v".repeat(14))], Some(&vendors)),
        (&["foo=1", &format!("{}@v=1", "t".repeat(242))], Some(&tenant)),
        (&["foo=1", &format!("t@{}=1", "v".repeat(15))], Some(&vendor)),
        (&["foo=bar=baz"], None),
        (&["foo=,bar=3"], None),
        (&["foo"], None),
        (&[&long_value], Some(&long_value)),
        (&[&format!("foo={}", z(257))], None),
    ];
    for (fields, expected) in cases {
        let mut headers = vec![("traceparent", PARENT)];
        headers.extend(fields.iter().map(|field| ("TraceState", *field)));
        let (parent, state) = through(&headers);
        assert!(parent.contains(TRACE), "{fields:?}: a bad tracestate is no bad traceparent");
        assert_eq!(state.as_deref(), *expected, "{fields:?}");
    }
    // Without a valid traceparent it means nothing.
    assert_eq!(through(&[("tracestate", "foo=1")]).1, None);
    assert_eq!(through(&[("traceparent", "nonsense"), ("tracestate", "foo=1")]).1, None);
    assert_eq!(through(&[("traceparent", PARENT), ("trace-state", "foo=1")]).1, None);
}

#[test]
fn other_carriers_are_read_alike() {
    let mut carrier = HashMap::new();
    let members = [("traceparent", PARENT), ("tracestate", "foo@@x=1"), ("baggage", "user=a%20b;meta")];
    for (name, value) in members {
        carrier.insert(name.to_owned(), value.to_owned());
    }
    let context = Propagator.extract(&carrier);
    assert_eq!(context.span().span_context().trace_id().to_string(), TRACE);
    assert_eq!(context.baggage().get("user").map(ToString::to_string).as_deref(), Some("a b"));
    let mut out = HashMap::new();
    Propagator.inject_context(&context, &mut out);
    assert_eq!(out.get("traceparent").map(String::as_str), Some(PARENT));
    assert_eq!(out.get("tracestate").map(String::as_str), Some("foo@@x=1"));
    assert_eq!(out.get("baggage").map(String::as_str), Some("user=a%20b;meta"));
    assert_eq!(Propagator.fields().collect::<Vec<_>>(), ["traceparent", "tracestate", "baggage"]);
}

#[test]
fn baggage_members_are_judged_alone() {
    let cases: &[(&[&str], &[(&str, &str)])] = &[
        (&["a=1,b=2"], &[("a", "1"), ("b", "2")]),
        (&["a=1", "b=2"], &[("a", "1"), ("b", "2")]),
        (&[" a \t=\t 1 ;p=q; r"], &[("a", "1")]),
        (&["a=%C3%A4%2C%25"], &[("a", "ä,%")]),
        (&["a=%ff"], &[("a", "\u{fffd}")]),
        (&["a=%zz"], &[("a", "%zz")]),
        (&["a=", "b"], &[("a", "")]),
        (&["a b=1,c=2"], &[("c", "2")]),
        (&["a=x\"y,c=2"], &[("c", "2")]),
        (&["a=1;p q,c=2"], &[("c", "2")]),
        (&[""], &[]),
    ];
    for (fields, expected) in cases {
        let baggage = baggage::parse(fields);
        let mut found: Vec<(String, String)> =
            baggage.iter().map(|(key, (value, _))| (key.to_string(), value.to_string())).collect();
        found.sort();
        let expected: Vec<(String, String)> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(found, expected, "{fields:?}");
    }
}

#[test]
fn baggage_keeps_within_its_limits() {
    let many: Vec<String> = (0..100).map(|n| format!("k{n}={n}")).collect();
    assert_eq!(baggage::parse(&[&many.join(",")]).len(), BAGGAGE_MEMBERS_MAX);
    let long = format!("a={},b=1", "x".repeat(BAGGAGE_BYTES_MAX));
    assert_eq!(baggage::parse(&[&long]).len(), 0);
    let exact = format!("a={}", "x".repeat(BAGGAGE_BYTES_MAX - 2));
    assert_eq!(baggage::parse(&[&exact]).len(), 1);
    let mut wide = Baggage::new();
    wide.insert("a", "ä".repeat(3000));
    wide.insert("b", "1");
    assert_eq!(baggage::format(&wide).as_deref(), Some("b=1"), "what is too long encoded is left out alone");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(parent in "\\PC{0,70}", state in "\\PC{0,80}", bag in "\\PC{0,80}") {
        let _ = read(&Context::new(), &[&parent], &[&state], &[&bag]);
    }

    #[test]
    fn valid_parents_come_back(trace in 1u128.., span in 1u64.., flags in 0u8..4, version in 0u8..255) {
        let text = format!("{version:02x}-{trace:032x}-{span:016x}-{flags:02x}");
        let parent = TraceParent::parse(&text).unwrap();
        prop_assert_eq!(parent.to_string(), format!("00-{trace:032x}-{span:016x}-{flags:02x}"));
    }

    #[test]
    fn one_wrong_byte_is_noticed(at in 0usize..55, byte in 0x20u8..0x7f) {
        let mut text = PARENT.as_bytes().to_vec();
        let hex = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let dash = [2, 35, 52].contains(&at);
        // A space at an end is trimmed, and the rest is too short.
        text[at] = byte;
        let text = String::from_utf8(text).unwrap();
        let good = if dash { byte == b'-' } else { hex };
        let version = &text[..2];
        prop_assert_eq!(TraceParent::parse(&text).is_some(), good && version != "ff", "{}", text);
    }

    #[test]
    fn lists_of_the_grammar_come_back(
        members in prop::collection::btree_map("[a-z0-9][a-z0-9_*/@-]{0,20}", "[!-+.-<>-~ -+]{0,20}[!-+.-<>-~]", 0..=32)
    ) {
        let text: Vec<String> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let text = text.join(",");
        let (_, state) = through(&[("traceparent", PARENT), ("tracestate", &text)]);
        // A leading space belongs to the value, at the very start of the header it cannot: keys come first.
        prop_assert_eq!(state.unwrap_or_default(), text);
    }

    #[test]
    fn baggage_comes_back(
        members in prop::collection::btree_map("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}", "\\PC{0,12}", 0..=20)
    ) {
        let mut baggage = Baggage::new();
        for (key, value) in &members {
            baggage.insert_with_metadata(key.clone(), value.clone(), BaggageMetadata::from("p=1"));
        }
        let text = baggage::format(&baggage).unwrap_or_default();
        let again = baggage::parse(&[&text]);
        prop_assert_eq!(again.len(), members.len());
        for (key, value) in &members {
            prop_assert_eq!(again.get(key).map(ToString::to_string), Some(value.clone()));
        }
    }
}
