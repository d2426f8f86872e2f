//! Secrets that must be found, and texts that must be left alone, as data.

use proptest::prelude::*;

use super::*;

const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
const KEY: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq9\n-----END RSA PRIVATE KEY-----";

fn plain(text: &str) -> Option<String> {
    redact(text, false, &|_| false).map(|(text, _)| text)
}

#[test]
fn secrets_are_masked() {
    for (text, want) in [
        (format!("token {JWT} end"), "token [REDACTED:jwt] end"),
        (JWT.to_owned(), "[REDACTED:jwt]"),
        ("t=eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.".to_owned(), "t=[REDACTED:jwt]"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0".to_owned(), "[REDACTED:jwt]"),
        ("Authorization: Bearer abcdef0123456789".to_owned(), "Authorization: Bearer [REDACTED:bearer]"),
        ("authorization: bearer  mF_9.B5f-4.1JqM".to_owned(), "authorization: bearer  [REDACTED:bearer]"),
        (format!("Bearer {JWT}"), "Bearer [REDACTED:jwt]"),
        ("Authorization: Basic dXNlcjpwYXNz".to_owned(), "Authorization: Basic [REDACTED:bearer]"),
        ("paid with 4111111111111111.".to_owned(), "paid with [REDACTED:card]."),
        ("4111 1111 1111 1111".to_owned(), "[REDACTED:card]"),
        ("card=5500-0055-5555-5559,x".to_owned(), "card=[REDACTED:card],x"),
        ("3782 822463 10005 amex".to_owned(), "[REDACTED:card] amex"),
        ("order 4111111111111111 2026".to_owned(), "order [REDACTED:card] 2026"),
        (format!("key:\n{KEY}\nend"), "key:\n[REDACTED:private_key]\nend"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE".to_owned(), "[REDACTED:private_key]"),
        ("postgres://app:s3cr3t@db:5432/x".to_owned(), "postgres://[REDACTED:connection_string]@db:5432/x"),
        ("redis://:p4ss@cache".to_owned(), "redis://[REDACTED:connection_string]@cache"),
        ("amqp://u:p@ss/w@h/v".to_owned(), "amqp://[REDACTED:connection_string]@ss/w@h/v"),
        ("postgres://u:p/w@rd@host/db".to_owned(), "postgres://[REDACTED:connection_string]@host/db"),
        ("a://b;Password=c;d@e".to_owned(), "a://b;Password=[REDACTED:connection_string];d@e"),
        ("a://u[b:c://d@e=f@;g".to_owned(), "a://[REDACTED:connection_string]@;g"),
        ("mongodb://u:p%40@a,b/x?y".to_owned(), "mongodb://[REDACTED:connection_string]@a,b/x?y"),
        (
            "Server=db;User Id=sa;Password=hunter2;Encrypt=true".to_owned(),
            "Server=db;User Id=sa;Password=[REDACTED:connection_string];Encrypt=true",
        ),
        ("password=[REDACTED".to_owned() + "hunter2", "password=[REDACTED:connection_string]"),
        ("Server=db;Pwd = x1;".to_owned(), "Server=db;Pwd = [REDACTED:connection_string];"),
        (
            "AccountName=a;AccountKey=AbC/==;E=1".to_owned(),
            "AccountName=a;AccountKey=[REDACTED:connection_string];E=1",
        ),
    ] {
        assert_eq!(plain(&text).as_deref(), Some(want), "{text}");
        assert_eq!(plain(want), None, "a mask is left alone: {want}");
    }
}

#[test]
fn other_texts_are_left_alone() {
    for text in [
        "",
        "GET /health 200",
        "the bearer of news came early",
        "Basic authentication is off",
        "basic test of musical instruments",
        "https://example.com:8080/a/b?c=d@e",
        "https://example.com/a:b@c",
        "https://user@example.com/",
        "2026-11-25T11:10:04.123456789Z and 1764069004123456789",
        "id 4111111111111112",
        "0000000000000000",
        "a4111111111111111",
        "order-4111111111111111a",
        "550e8400-e29b-41d4-a716-446655440000",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "eyJhbGciOiJub25lIn0",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "-------- section --------",
        "PWD=/root",
        "password=***",
        "password=",
        "postgres://app:***@db/x",
        "don’t “quote” me – please…",
        "a\tb\r\nc",
    ] {
        assert_eq!(plain(text), None, "{text}");
        let bits = verify(text, false, flags(text));
        assert_eq!(bits, 0, "{text}");
    }
}

#[test]
fn json_stays_json() {
    let secret_key = |key: &str| key == "password";
    for (json, want) in [
        (r#"{"card":4111111111111111,"a":1}"#, r#"{"card":"[REDACTED:card]","a":1}"#),
        (r#"[4111111111111111.0]"#, r#"["[REDACTED:card]"]"#),
        (r#"{"card":"4111111111111111"}"#, r#"{"card":"[REDACTED:card]"}"#),
        (r#"{"k":"-----BEGIN PRIVATE KEY-----\nMII\"E","b":2}"#, r#"{"k":"[REDACTED:private_key]","b":2}"#),
        (r#"{"p":"Password=a\\b\"c"}"#, r#"{"p":"Password=[REDACTED:connection_string]\"c"}"#),
        (
            r#"{"password":"x","b":{"password":[1,{"c":"}"}]}}"#,
            r#"{"password":"[REDACTED]","b":{"password":"[REDACTED]"}}"#,
        ),
        (r#"{"t":"{\"password\":\"x\"}"}"#, r#"{"t":"{\"password\":\"x\"}"}"#),
        (
            r#"{"password":null,"x":["Bearer abcdef0123456789"]}"#,
            r#"{"password":null,"x":["Bearer [REDACTED:bearer]"]}"#,
        ),
    ] {
        let got = redact(json, true, &secret_key).map_or_else(|| json.to_owned(), |(text, _)| text);
        assert_eq!(got, want);
        serde_json::from_str::<serde_json::Value>(&got).unwrap();
    }
}

#[test]
fn forged_lines_are_seen() {
    for (text, json, want) in [
        ("a\nb", false, false),
        ("a\r\nb", false, false),
        ("a\rb", false, true),
        ("\u{1b}[31mred", false, true),
        ("a\0b", false, true),
        ("\u{202e}txt.exe", false, true),
        ("\u{2066}x", false, true),
        ("\u{9b}31m", false, true),
        ("\u{7f}", false, true),
        ("é ü – …", false, false),
        (r#"{"a":"\u001b[0m"}"#, true, true),
        (r#"{"a":"\\u001b"}"#, true, false),
        (r#"{"a":"x\r\ny"}"#, true, false),
        (r#"{"a":"x\ry"}"#, true, true),
    ] {
        let bits = verify(text, json, flags(text));
        assert_eq!(bits & Rule::TextControl.bit() != 0, want, "{text:?}");
    }
}

#[test]
fn a_mask_is_a_mask_and_nothing_else() {
    for (text, want) in [
        ("", true),
        ("***", true),
        ("REDACTED", true),
        ("<redacted>", true),
        ("[REDACTED:jwt]", true),
        ("hunter2 REDACTED", false),
        ("REDACTED:hunter2", false),
        ("*a*", false),
    ] {
        assert_eq!(is_masked(text), want, "{text}");
    }
}

fn canary() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        JWT,
        "4111111111111111",
        "5500005555555559",
        "378282246310005",
        KEY,
        "postgres://app:canary-pw-9@db/x",
        "Bearer canary0123456789abcdef",
    ])
}

/// The part of a canary that must be gone.
fn core(canary: &str) -> &str {
    let canary = canary.strip_prefix("Bearer ").unwrap_or(canary);
    if canary.starts_with("postgres") { "canary-pw-9" } else { canary }
}

#[test]
fn hostile_texts_take_time_in_proportion() {
    let json = |inner: &str| format!("[{}1]", format!("{inner},").repeat((1 << 20) / inner.len()));
    for (text, is_json) in [
        ("eyJ".repeat(1 << 19), false),
        ("eyJaaaaa.".repeat(1 << 17), false),
        ("://".repeat(1 << 19), false),
        ("a:b@://".repeat(1 << 17), false),
        ("password=".repeat(1 << 17), false),
        ("password=***;".repeat(1 << 17), false),
        ("pwd=".repeat(1 << 18), false),
        ("-----BEGIN PRIVATE KEY".repeat(1 << 16), false),
        ("-----BEGIN ".repeat(1 << 17), false),
        ("1 ".repeat(1 << 19), false),
        ("Bearer:".repeat(1 << 17), false),
        (json("4111111111111111"), true),
        (json("\"4111111111111111\""), true),
        (json("{\"password\":1}"), true),
    ] {
        let started = std::time::Instant::now();
        let _ = redact(&text, is_json, &|key| key == "password");
        let took = started.elapsed();
        assert!(took.as_secs() < 5, "{took:?} {}", text.get(..20).unwrap());
    }
}

proptest! {
    #[test]
    fn no_canary_is_left(before in "[ -~]{0,40}", canary in canary(), after in "[ -~]{0,40}") {
        let text = format!("{before} {canary} {after}");
        let redacted = plain(&text).unwrap();
        prop_assert!(!redacted.contains(core(canary)), "{}", redacted);
    }

    #[test]
    fn no_canary_is_left_in_json(before in any::<String>(), canary in canary(), after in any::<String>(), deep in 0usize..4) {
        let mut value = serde_json::json!({ "k": format!("{before} {canary} {after}"), "n": 1.5 });
        for _ in 0..deep {
            value = serde_json::json!([value, { "x\"y": "z\\" }]);
        }
        let json = value.to_string();
        let redacted = redact(&json, true, &|_| false).unwrap().0;
        let core = serde_json::to_string(core(canary)).unwrap();
        prop_assert!(!redacted.contains(core.trim_matches('"')), "{}", redacted);
        serde_json::from_str::<serde_json::Value>(&redacted).unwrap();
    }

    #[test]
    fn json_stays_json_whatever_is_in_it(texts in prop::collection::vec("(eyJ|[-]{5}BEGIN PRIVATE KEY|Bearer |://|:|@|password=|4111111111111111|\"|\\\\|\n|a|9|;|é){0,12}", 1..4)) {
        let json = serde_json::json!({ "password": texts, "b": [texts.clone(), 4111111111111111u64] }).to_string();
        let secret = |key: &str| key == "password";
        if let Some((redacted, _)) = redact(&json, true, &secret) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&redacted).is_ok(), "{}\n{}", json, redacted);
        }
    }

    #[test]
    fn the_first_pass_misses_nothing(text in "(eyJ|[-]{5}BEGIN PRIVATE KEY|bearer |basic |://|:|@|pwd=|41111111|[0-9]{3}|;|é|[a-z ]){0,20}") {
        let all = u16::MAX;
        prop_assert_eq!(find(&text, false, flags(&text)), find(&text, false, all));
    }

    #[test]
    fn the_first_pass_sees_every_position(pad in 0usize..100, after in 0usize..100) {
        // A secret goes on after how it begins; a control character need not.
        let needles = [
            ("\u{1b}", scan::CONTROL, 0),
            ("eyJ", scan::JWT, 8),
            ("----", scan::KEY, 8),
            ("://", scan::URL, 8),
            ("BEARER ", scan::HEADER, 8),
            ("pwd=", scan::PASSWORD, 1),
            ("4111111111111", scan::DIGITS, 0),
            ("4111 1111 1111 1111", scan::DIGITS, 0),
            ("3782-822463-10005", scan::DIGITS, 0),
        ];
        for (needle, flag, least) in needles {
            let text = format!("{}{needle}{}", "x".repeat(pad), "x".repeat(after + least));
            prop_assert_eq!(flags(&text) & flag, flag, "{}", text);
        }
    }
}
