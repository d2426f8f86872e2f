//! Tests of the search language: cases as data, and trees that print and parse back.

use proptest::prelude::*;

use super::*;

/// Input, canonical text.
const GOOD: &[(&str, &str)] = &[
    ("", "*"),
    ("  ", "*"),
    ("*", "*"),
    ("-*", "-*"),
    ("token", "token"),
    ("token-expired", "token-expired"),
    ("\"token expired\"", "\"token expired\""),
    (r#""a \"quoted\" C:\temp \\x""#, r#""a \"quoted\" C:\\temp \\x""#),
    ("conn* re*used *tail", "conn* re*used *tail"),
    ("10:30* 10:30", "body:10:30* \"10:30\""),
    ("a b AND c", "a b c"),
    ("a OR b c OR d", "a OR b c OR d"),
    ("(a OR b) c", "(a OR b) c"),
    ("((a))", "a"),
    ("a (b c)", "a b c"),
    ("NOT a", "-a"),
    ("NOT NOT a --b", "a b"),
    ("-(a OR b) -(c d)", "-(a OR b) -(c d)"),
    ("or and not", "or and not"),
    ("\"OR\" field:\"AND\"", "\"OR\" field:\"AND\""),
    ("service:checkout service.name:x service=y", "service:checkout service:x service:y"),
    ("severity>=warn", "severity>=warn"),
    (
        "severity:WARNING severity:error2 severity:17 severity!=info",
        "severity:warn severity:18 severity:17 severity!=info",
    ),
    ("severity:(warn OR >=fatal)", "severity:warn OR severity>=fatal"),
    ("-url.path:/health", "-url.path:\"/health\""),
    ("url.path:/api/v1/", "url.path:\"/api/v1/\""),
    ("url.path:/api/*", "url.path:/api/*"),
    ("url.path:/health OR url.path:/", "url.path:\"/health\" OR url.path:\"/\""),
    ("url.path:/^\\/api\\/\\d+$/", "url.path:/^\\/api\\/\\d+$/"),
    ("url.path:/a b/", "url.path:/a b/"),
    ("http.response.status_code:5*", "http.response.status_code:5*"),
    ("http.response.status_code>=500", "http.response.status_code>=500"),
    ("http.response.status_code:>=500", "http.response.status_code>=500"),
    ("x:(>=1 -5 -1.5 OR \"b c\")", "x>=1 x:\"-5\" x:\"-1.5\" OR x:\"b c\""),
    ("x=1 x!=1.50 x<1e3 x>-7", "x=1 x!=1.5 x<1000.0 x>-7"),
    ("x=abc x!=abc x=\"5\"", "x:abc x!=\"abc\" x:5"),
    (
        "duration>250ms duration<=1.5s duration:1m30s duration>=2h",
        "duration>250ms duration<=1500ms duration=90s duration>=2h",
    ),
    ("client.address:10.1.2.3/8", "client.address:10.0.0.0/8"),
    ("client.address:10.1.2.3", "client.address:10.1.2.3"),
    (
        "client.address:2001:DB8::1/32 client.address:::ffff:1.2.3.4",
        "client.address:2001:db8::/32 client.address:1.2.3.4",
    ),
    ("client.address:\"10.1.2.3\"", "client.address:\"10.1.2.3\""),
    ("event:security.authn.rejected", "event:security.authn.rejected"),
    ("event:security.*", "event:security.*"),
    ("trace:4BF92f3577b34da6a3ce929d0e0e4736", "trace:4bf92f3577b34da6a3ce929d0e0e4736"),
    ("trace:4bf9* span:00f067aa0ba902b7 -parent:*", "trace:4bf9* span:00f067aa0ba902b7 -parent:*"),
    (
        "name:GET kind:SERVER status:error kind:9 status!=ok",
        "name:GET kind:server status:error kind:9 status!=ok",
    ),
    (
        "time>=2023-01-29 time<2023-01-29T10:00:00.500+01:00",
        "time>=2023-01-29T00:00:00Z time<2023-01-29T09:00:00.5Z",
    ),
    ("is:time_absurd", "is:time_absurd"),
    ("is:sender_mismatch", "is:sender_mismatch"),
    ("-is:quarantined", "-is:quarantined"),
    ("contract:violated -contract:quarantined", "contract:violated -contract:quarantined"),
    ("rule:secret.jwt rule:secret.* rule:*", "rule:secret.jwt rule:secret.* rule:*"),
    ("/time?out (a|b)/", "/time?out (a|b)/"),
    ("/a\\/b/", "/a\\/b/"),
    ("~\"part of it\" ~word field:~\"x y\" field:~x", "~\"part of it\" ~\"word\" field:~\"x y\" field:~\"x\""),
    ("body:x body:\"a b\" body:~x body:/x/ body:*", "x \"a b\" ~\"x\" /x/ body:*"),
    ("field:* field:a:b field:http://x/y?z=1", "field:* field:a:b field:\"http://x/y?z=1\""),
    ("http://x std::fmt done! <init> a->b", "\"http://x\" \"std::fmt\" \"done!\" \"<init>\" \"a->b\""),
    (
        "@status:500 @x:1 @\"a b\":c app.kubernetes.io/name:z",
        "@status:500 x:1 @\"a b\":c app.kubernetes.io/name:z",
    ),
    ("größe:groß straße", "größe:groß straße"),
    ("field:\"\"", "field:\"\""),
    ("(a)(b)\"c\"", "a b c"),
];

/// Input, byte offset of the error, a part of its message.
const BAD: &[(&str, usize, &str)] = &[
    ("a \"b", 2, "quote is never closed"),
    ("(a", 0, "never closed"),
    ("(", 0, "never closed"),
    ("a)", 1, "never opened"),
    ("()", 0, "nothing is in these brackets"),
    ("a OR", 2, "must follow OR"),
    ("OR a", 0, "must stand before OR"),
    ("a AND", 2, "must follow AND"),
    ("a AND OR b", 2, "must follow AND"),
    ("a -", 2, "could be excluded"),
    ("NOT", 0, "could be excluded"),
    ("service:", 0, "a value must follow service:"),
    ("service: x", 0, "a value must follow service:"),
    ("service:)", 0, "a value must follow"),
    ("duration>250", 9, "needs a unit"),
    ("duration>250x", 9, "x is no unit of time"),
    ("duration>..s", 9, "is no number"),
    ("x>250ms", 2, "is a duration"),
    ("x>abc", 2, "no number"),
    ("x!=a*", 3, "no wildcard"),
    ("severity:loud", 9, "a severity is trace"),
    ("severity:/x/", 9, "severity_text"),
    ("status:500", 7, "@status"),
    ("kind>server", 5, "cannot be ordered"),
    ("trace:xyz", 6, "32 hex digits"),
    ("span:4bf92f3577b34da6a3ce929d0e0e4736", 5, "16 hex digits"),
    ("time>yesterday", 5, "a time is written"),
    ("time>2023-02-30", 5, "a time is written"),
    ("time>2023-01-29T25:00:00Z", 5, "a time is written"),
    ("client.address:10.0.0.0/33", 15, "at most 32"),
    ("/api/v1", 0, "regular expression ends with"),
    ("/api", 0, "regular expression ends with"),
    ("~", 0, "must follow ~"),
    ("\"\"", 0, "nothing is in these quotes"),
    ("\"a\":b", 0, "needs an @"),
    ("@x", 0, "begins the name"),
    ("x:a(b", 3, "whole value in quotes"),
    ("a || b", 2, "write OR"),
    (":x*", 0, "use a regular expression"),
    ("f:(//x*)", 3, "use a regular expression"),
    ("is:nice", 3, "time_absurd"),
    ("contract:fine", 9, "unchecked"),
    ("rule:nice", 5, "secret.card"),
    ("body>5", 5, "cannot be compared"),
];

#[test]
fn texts_have_one_canonical_form() {
    for (text, want) in GOOD {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), *want, "{text}");
        assert_eq!(parse(want).as_ref(), Ok(&expr), "{text} again");
    }
}

#[test]
fn errors_point_at_the_character() {
    for (text, at, message) in BAD {
        let error = parse(text).expect_err(text);
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert_eq!(error.at, *at, "{text}: {error}");
        assert!(error.at + error.len <= text.len() && text.is_char_boundary(error.at), "{text}");
    }
}

#[test]
fn caps_hold() {
    let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&deep(DEPTH_MAX)).is_ok());
    assert!(parse(&deep(DEPTH_MAX + 1)).unwrap_err().message.contains("deep"));
    assert!(parse(&"-".repeat(10_000)).is_err());
    assert!(parse(&"a ".repeat(NODES_MAX)).is_ok());
    assert!(parse(&"a ".repeat(NODES_MAX + 1)).unwrap_err().message.contains("too many parts"));
    assert!(parse(&"a".repeat(TEXT_BYTES_MAX + 1)).unwrap_err().message.contains("bytes"));
    assert!(parse(&format!("/{}/", "a".repeat(REGEX_BYTES_MAX + 1))).unwrap_err().message.contains("bytes"));
}

fn field_name() -> impl Strategy<Value = Field> {
    prop_oneof![
        Just(Field::Service),
        Just(Field::Event),
        Just(Field::Name),
        Just(Field::ScopeName),
        "[a-z][a-z_.0-9]{0,6}".prop_map(Field::Attribute),
        "\\PC{1,6}".prop_map(Field::Attribute),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge])
}

fn condition() -> impl Strategy<Value = Expr> {
    let is = |field: Field| move |test| Expr::Is(field.clone(), test);
    prop_oneof![
        "\\PC{1,8}".prop_map(Test::Phrase).prop_map(is(Field::Body)),
        "[a-zA-Z\"\\\\ \t\n]{1,8}".prop_map(Test::Phrase).prop_map(is(Field::Body)),
        "[a-z]{1,3}\\*[a-z.:]{0,3}".prop_map(Test::Wildcard).prop_map(is(Field::Body)),
        "\\PC{1,8}".prop_map(Test::Contains).prop_map(is(Field::Body)),
        "[a-z /(|)*]{0,5}[a-z]".prop_map(Test::Regex).prop_map(is(Field::Body)),
        (field_name(), "\\PC{0,8}").prop_map(|(field, text)| Expr::Is(field, Test::Equals(text))),
        (field_name(), "\\PC{0,8}").prop_map(|(field, text)| Expr::Is(field, Test::Differs(text))),
        (field_name(), "\\PC{1,8}").prop_map(|(field, text)| Expr::Is(field, Test::Contains(text))),
        (field_name(), "[a-z/ .]{0,5}[a-z]").prop_map(|(field, text)| Expr::Is(field, Test::Regex(text))),
        (field_name(), "([a-z.][a-z/:.]{0,3})?\\*[a-z:.]{0,3}")
            .prop_map(|(field, text)| Expr::Is(field, Test::Wildcard(text)))
            .prop_filter(
                "all stars is existence",
                |e| !matches!(e, Expr::Is(_, Test::Wildcard(t)) if t == "*")
            ),
        (field_name(), op(), any::<i64>()).prop_map(|(f, op, n)| Expr::Is(f, Test::Number(op, Number::Int(n)))),
        (field_name(), op(), -1e18..1e18f64)
            .prop_map(|(f, op, n)| Expr::Is(f, Test::Number(op, Number::Double(n + 0.5)))),
        field_name().prop_map(|field| Expr::Is(field, Test::Exists)),
        (any::<u32>(), 0..=32u8).prop_map(|(ip, bits)| {
            let network = Network::new(std::net::IpAddr::V4(ip.into()), bits).unwrap();
            Expr::Is(Field::Attribute("client.address".into()), Test::Network(network))
        }),
        (any::<u64>().prop_map(u128::from), 0..=128u8).prop_map(|(ip, bits)| {
            let network = Network::new(std::net::IpAddr::V6(ip.rotate_right(64).into()), bits).unwrap();
            Expr::Is(Field::Attribute("client.address".into()), Test::Network(network))
        }),
        (op(), 0..25i32).prop_map(|(op, n)| Expr::Is(Field::Severity, Test::Severity(op, Level::Number(n)))),
        op().prop_map(|op| Expr::Is(Field::Severity, Test::Severity(op, Level::Name(Severity::Warn)))),
        (op(), any::<i64>()).prop_map(|(op, ns)| Expr::Is(Field::Duration, Test::Duration(op, ns))),
        (op(), any::<i64>()).prop_map(|(op, ns)| Expr::Is(Field::Time, Test::Time(op, ns))),
        any::<u128>().prop_map(|id| Expr::trace(&format!("{id:032x}"))),
        (0..9i32).prop_map(|code| Expr::Is(Field::Kind, Test::Code(Op::Ne, code))),
    ]
}

pub(crate) fn tree() -> impl Strategy<Value = Expr> {
    condition().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::and),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::or),
            inner.prop_map(Expr::negate),
        ]
    })
}

proptest! {
    #[test]
    fn a_tree_prints_as_text_that_parses_to_it(expr in tree()) {
        let text = expr.to_string();
        prop_assert_eq!(parse(&text), Ok(expr), "{}", text);
    }

    #[test]
    fn any_text_parses_or_fails_within_itself(text in "[a-z:\"/()<>=~*@!\\-. \\\\]{0,24}|\\PC{0,24}") {
        match parse(&text) {
            Ok(expr) => prop_assert_eq!(parse(&expr.to_string()), Ok(expr)),
            Err(error) => {
                prop_assert!(error.at + error.len <= text.len(), "{:?}", error);
                prop_assert!(text.is_char_boundary(error.at) && text.is_char_boundary(error.at + error.len));
            }
        }
    }

    #[test]
    fn times_and_durations_round_trip(ns in any::<i64>()) {
        prop_assert_eq!(parse_time(&format_time(ns)), Some(ns));
        prop_assert_eq!(value::parse_duration(&value::format_duration(ns)), Ok(ns));
    }
}
