//! Each format, checked by the strict receiver of the tests, over notices that are as long and as strange as can be.

use proptest::prelude::*;
use threadline_detect::incident::Reason;

use super::*;
use crate::notify::guard::Allow;
use crate::notify::notice::REASONS;
use crate::notify::receiver::Receiver;
use crate::notify::template::{self, Template};
use crate::notify::testing::notice;
use crate::notify::tests::strict;

/// A receiver whose secrets lie in a folder.
pub(crate) fn receiver(name: &str, target: Target) -> Receiver {
    Receiver {
        name: name.to_owned(),
        target,
        title: Template::parse(template::TITLE).unwrap(),
        text: Template::parse(template::TEXT).unwrap(),
        per_minute: Some(10_000),
        timeout: std::time::Duration::from_secs(5),
        dead_after: std::time::Duration::from_secs(3 * 86_400),
        watchdog: None,
        allow: Allow { private: true, networks: Vec::new() },
        ca: None,
    }
}

/// All targets that are reached by HTTP, at a base address.
pub(crate) fn targets(base: &str, folder: &std::path::Path) -> Vec<Target> {
    let secret = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Secret::File(path)
    };
    let login = || Login::Basic("me".to_owned(), secret("password", "p4ss"));
    vec![
        Target::PagerDuty {
            url: format!("{base}/v2/enqueue"),
            routing_key: secret("routing", "0123456789abcdef0123456789abcdef"),
        },
        Target::Alertmanager { url: base.to_owned(), login: Login::None, hold_us: 300_000_000 },
        Target::Webhook4 { url: Address::Open(format!("{base}/webhook4")), login: Login::None },
        Target::Slack { url: secret("slack", &format!("{base}/slack")) },
        Target::Teams { url: secret("teams", &format!("{base}/teams")) },
        Target::Jsm { url: format!("{base}/jsm/ops/integration/v2/alerts"), api_key: secret("jsm", "k3y") },
        Target::ServiceNow { url: base.to_owned(), login: login() },
        Target::Webhook {
            url: Address::Open(format!("{base}/webhook")),
            secrets: secret("webhook", strict::SECRET),
        },
    ]
}

fn check(target: &Target, told: &Telling<'_>) -> Result<(), String> {
    let Outgoing::Http(call) = target.outgoing(told)? else { return Err("no request".to_owned()) };
    let path = call.url.strip_prefix("https://x").unwrap().to_owned();
    let mut headers = vec![("content-type".to_owned(), call.content_type.to_owned())];
    headers.extend(call.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let request = strict::Request { method: "POST".to_owned(), path, headers, body: call.body.into_bytes() };
    strict::check(&request).map(drop).map_err(|fault| format!("{}: {fault}", target.kind()))
}

fn all(notice: &Notice, before: Option<&Notice>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    for target in targets("https://x", folder.path()) {
        let receiver = receiver(&notice.receiver, target);
        let told = receiver.telling(notice, "0123456789abcdef0123456789abcdef", notice.at_us + 5, before);
        check(&receiver.target, &told)?;
    }
    Ok(())
}

#[test]
fn every_reason_in_every_format() {
    for reason in REASONS {
        for (severity, kind) in
            [("critical", Kind::Incident), ("", Kind::Test), ("informational", Kind::Watchdog)]
        {
            let told = Notice { kind, severity: severity.to_owned(), ..notice("oncall", 7, reason, 3) };
            all(&told, None).unwrap();
        }
    }
    let mut bare = notice("r", 1, Reason::Trigger, 1);
    for text in [&mut bare.title, &mut bare.summary, &mut bare.url, &mut bare.severity, &mut bare.assignee] {
        text.clear();
    }
    bare.group.clear();
    (bare.rules, bare.services, bare.entities) = Default::default();
    all(&bare, None).unwrap();
}

#[test]
fn a_worse_severity_ends_the_alert_with_the_labels_of_before() {
    let before = Notice { severity: "medium".to_owned(), ..notice("am", 1, Reason::Trigger, 1) };
    let now = notice("am", 1, Reason::Update, 2);
    let target = Target::Alertmanager { url: "https://x".to_owned(), login: Login::None, hold_us: 300_000_000 };
    let receiver = receiver("am", target);
    let told = receiver.telling(&now, "id", now.at_us, Some(&before));
    let Outgoing::Http(call) = receiver.target.outgoing(&told).unwrap() else { panic!("a request") };
    let alerts: Value = serde_json::from_str(&call.body).unwrap();
    let of = |at: usize| (alerts[at]["labels"]["severity"].as_str(), alerts[at]["endsAt"].as_str());
    assert_eq!(of(0), (Some("medium"), Some(time(now.at_us).as_str())));
    assert_eq!(of(1), (Some("high"), Some(time(now.at_us + 300_000_000).as_str())));
}

/// The key is the same whatever is said of an incident, and another for each receiver, incident and hub.
#[test]
fn keys_are_of_hub_incident_and_receiver() {
    let target = || Target::Slack { url: Secret::Env("X".to_owned()) };
    let key = |hub: &str, name: &str, incident: u64, reason, number| {
        let notice = notice(name, incident, reason, number);
        let receiver = receiver(name, target());
        let told = receiver.telling(&notice, hub, 5, None);
        (told.key(), told.message_key())
    };
    let (first, message) = key("h", "a", 1, Reason::Trigger, 1);
    assert_eq!(key("h", "a", 1, Reason::Trigger, 1), (first.clone(), message.clone()));
    assert_eq!(key("h", "a", 1, Reason::Resolve, 2).0, first);
    assert_ne!(key("h", "a", 1, Reason::Resolve, 2).1, message);
    for other in [
        key("g", "a", 1, Reason::Trigger, 1),
        key("h", "b", 1, Reason::Trigger, 1),
        key("h", "a", 2, Reason::Trigger, 1),
    ] {
        assert_ne!(other.0, first);
    }
}

#[test]
fn webhooks_are_signed_with_every_secret_in_use() {
    use base64::Engine as _;
    use ed25519_dalek::{Signature, SigningKey, Verifier as _};
    let engine = base64::engine::general_purpose::STANDARD;
    let key = SigningKey::from_bytes(&[7; 32]);
    let pair: Vec<u8> = [&[7; 32][..], key.verifying_key().as_bytes()].concat();
    let secrets =
        format!("{}\nwhsk_{}\nwhsk_{}\n", strict::SECRET, engine.encode([7; 32]), engine.encode(&pair));
    let told = notice("hook", 1, Reason::Trigger, 1);
    let receiver = receiver("hook", Target::Slack { url: Secret::Env("X".to_owned()) });
    let call =
        webhook::call("https://x/webhook", &secrets, &receiver.telling(&told, "id", told.at_us, None)).unwrap();
    let header = |name: &str| call.headers.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    let signatures = header("webhook-signature");
    let parts: Vec<&str> = signatures.split(' ').collect();
    assert_eq!(parts.len(), 3);
    let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), call.body);
    for part in &parts[1..] {
        let bytes = engine.decode(part.strip_prefix("v1a,").unwrap()).unwrap();
        key.verifying_key().verify(signed.as_bytes(), &Signature::from_slice(&bytes).unwrap()).unwrap();
    }
    // The example of the specification's libraries.
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let example = format!("{id}.1614265330.{{\"test\": 2432232314}}");
    assert_eq!(
        webhook::sign(strict::SECRET, example.as_bytes()).unwrap(),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
    for wrong in ["", "abc", "whsec_!!", "whsec_c2hvcnQ=", "whsk_c2hvcnQ="] {
        assert!(webhook::check(wrong).is_err(), "{wrong}");
    }
    let foreign = format!("whsk_{}", engine.encode([&[7_u8; 32][..], &[8; 32]].concat()));
    assert!(webhook::check(&foreign).unwrap_err().contains("does not belong"));
}

#[test]
fn mail_is_a_thread_of_messages_with_keys() {
    let mailing = Mailing {
        host: "mail.example".to_owned(),
        port: 587,
        tls: Protection::StartTls,
        ca: None,
        login: None,
        from: "Hub <hub@example.com>".to_owned(),
        to: vec!["a@example.com".to_owned()],
    };
    let receiver = receiver("mail", Target::Email(mailing));
    let mail = |number, title: &str| {
        let told = Notice { title: title.to_owned(), ..notice("mail", 4, Reason::Update, number) };
        match receiver.target.outgoing(&receiver.telling(&told, "id", 5, None)).unwrap() {
            Outgoing::Mail(mail) => *mail,
            Outgoing::Http(_) => panic!("it is mail"),
        }
    };
    let (first, second) = (mail(1, "x"), mail(2, "x\r\nBcc: evil@example.com"));
    assert_eq!((first.id.as_str(), &first.thread), ("<threadline-id-4-mail-1@example.com>", &None));
    assert_eq!(second.thread.as_ref(), Some(&first.id));
    assert!(!second.subject.contains(['\r', '\n']), "no header of theirs");
    assert!(mail(3, &"ä".repeat(5000)).subject.chars().count() <= 200);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,30}",
        "[<>&\\[\\]()*_`!|{}\"\\\\\n\r\t]{0,40}",
        (0_usize..4000).prop_map(|length| "ä€𝄞<".repeat(length / 4)),
        Just(String::new()),
    ]
}

prop_compose! {
    fn any_notice()(
        texts in proptest::collection::vec(text(), 12),
        lists in proptest::collection::vec(proptest::collection::vec(text(), 0..40), 4),
        reason in proptest::sample::select(REASONS.to_vec()),
        severity in proptest::sample::select(vec!["critical", "high", "medium", "low", "informational", "", "page"]),
        number in 1_u32..5,
        times in proptest::collection::vec(0_i64..4_000_000_000_000_000, 3),
    ) -> Notice {
        let pairs = |list: &[String]| -> Vec<(String, String)> {
            list.iter().map(|text| (text.clone(), texts[0].clone())).collect()
        };
        let (first_us, last_us) = (times[0].min(times[1]), times[0].max(times[1]));
        Notice {
            title: texts[1].clone(),
            summary: texts[2].clone(),
            hub: format!("h{}", texts[3]),
            route: format!("r{}", texts[4]),
            state: texts[5].clone(),
            assignee: texts[6].clone(),
            severity: severity.to_owned(),
            group: pairs(&lists[0]).into_iter().collect(),
            rules: lists[1].iter().map(|text| format!("r{text}")).collect(),
            services: lists[2].iter().map(|text| format!("s{text}")).collect(),
            entities: pairs(&lists[3]),
            first_us,
            last_us,
            at_us: last_us + times[2] % 1_000_000,
            ..notice("r", 1, reason, number)
        }
        .capped()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_told_is_within_the_limits(told in any_notice(), before in any_notice()) {
        all(&told, None).map_err(TestCaseError::fail)?;
        let before = Notice { incident: told.incident, receiver: told.receiver.clone(), ..before };
        all(&told, Some(&before)).map_err(TestCaseError::fail)?;
    }
}
