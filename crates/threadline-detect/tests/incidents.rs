//! Incidents at their public boundary: scenarios read as scripts, and laws over random histories.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use threadline_detect::incident::{
    Alert, Command, Desk, Event, Inhibition, Labels, Maintenance, Matcher, Policy, Reason, Refusal, Route,
    State, Step, What,
};

const MINUTE_US: i64 = 60_000_000;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| (Box::from(*name), Box::from(*value))).collect()
}

fn matchers(texts: &[&str]) -> Vec<Matcher> {
    texts.iter().map(|text| Matcher::parse(text).unwrap()).collect()
}

/// Payments have a team and escalate; everything else goes to operations.
fn policy() -> Policy {
    let pay = Route {
        matchers: matchers(&["service=\"payment\""]),
        group_by: vec!["service".into()],
        escalation: vec![
            Step { after_us: 15 * MINUTE_US, receivers: vec!["lead".into()] },
            Step { after_us: 45 * MINUTE_US, receivers: vec!["head".into()] },
        ],
        auto_resolve_us: 120 * MINUTE_US,
        ..Route::new("pay", &["pay-team"])
    };
    let critical = Route {
        matchers: matchers(&["severity=critical"]),
        goes_on: true,
        ..Route::new("all-critical", &["security"])
    };
    let mut policy = Policy::new(Route { routes: vec![critical, pay], ..Route::new("root", &["ops"]) });
    policy.inhibitions.push(Inhibition {
        source: matchers(&["rule=service_silent"]),
        target: matchers(&["severity=~low|medium"]),
        equal: vec!["service".into()],
    });
    policy.maintenance.push(Maintenance {
        matchers: matchers(&["service=batch"]),
        from_us: 100 * MINUTE_US,
        until_us: 130 * MINUTE_US,
        every_us: 1_440 * MINUTE_US,
    });
    policy
}

/// What came out, a line each: `at who: what`.
fn told(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| match event {
        Event::Message(message) => {
            let at = message.at_us / MINUTE_US;
            Some(format!("{at} {}: {} {}", message.receiver, message.reason.name(), message.incident))
        }
        Event::Transition(_) => None,
    };
    events.iter().filter_map(line).collect()
}

/// Alerts at minutes and commands at minutes, run half-minute by half-minute.
struct Script {
    desk: Desk,
    now_us: i64,
    events: Vec<Event>,
}

impl Script {
    fn new() -> Script {
        Script { desk: Desk::new(policy()).unwrap(), now_us: 0, events: Vec::new() }
    }

    fn until(&mut self, minute: i64) -> &mut Script {
        while self.now_us < minute * MINUTE_US {
            self.now_us += MINUTE_US / 2;
            self.events.extend(self.desk.step(&[], self.now_us));
        }
        self
    }

    fn alert(&mut self, pairs: &[(&str, &str)], over: bool) -> &mut Script {
        self.give(Alert { labels: labels(pairs), at_us: self.now_us, over, announces_end: false })
    }

    fn give(&mut self, alert: Alert) -> &mut Script {
        self.events.extend(self.desk.step(&[alert], self.now_us));
        self
    }

    fn command(&mut self, command: Command) -> &mut Script {
        self.events.extend(self.desk.command("ann", command, self.now_us).unwrap());
        self
    }

    fn told(&self) -> String {
        told(&self.events).join("\n")
    }
}

const PAY: &[(&str, &str)] = &[("rule", "error_burst"), ("service", "payment"), ("severity", "high")];
const CART: &[(&str, &str)] = &[("rule", "error_burst"), ("service", "cart"), ("severity", "medium")];

fn silence(texts: &[&str], minutes: i64) -> Command {
    Command::Silence {
        matchers: matchers(texts),
        from_us: 0,
        until_us: minutes * MINUTE_US,
        comment: "a release".into(),
    }
}

#[test]
fn nobody_acknowledges() {
    let mut script = Script::new();
    script.alert(PAY, false).until(60).alert(PAY, true);
    assert_eq!(
        script.told(),
        "0 pay-team: trigger 1\n15 lead: escalation 1\n45 head: escalation 1\n60 head: resolve 1\n60 lead: resolve 1\n60 pay-team: resolve 1"
    );
    let incident = script.desk.incident(1).unwrap();
    assert_eq!((incident.state, incident.severity()), (State::Resolved, "high"));
    assert_eq!(incident.spent_us(State::Open, script.now_us), 60 * MINUTE_US);
}

#[test]
fn somebody_acknowledges() {
    let mut script = Script::new();
    script.alert(PAY, false).until(5).command(Command::Acknowledge { incident: 1 }).until(300);
    // No escalation, no repetition; two hours of nothing new resolve it.
    assert_eq!(script.told(), "0 pay-team: trigger 1\n5 pay-team: acknowledge 1\n120 pay-team: resolve 1");
    let incident = script.desk.incident(1).unwrap();
    assert_eq!(&*incident.assignee, "ann");
    assert_eq!(incident.spent_us(State::Acknowledged, script.now_us), 115 * MINUTE_US);
}

#[test]
fn a_group_is_one_incident_and_news_wait_for_the_interval() {
    let mut script = Script::new();
    for service in ["a", "b", "c"] {
        let rule = format!("r-{service}");
        script.alert(&[("rule", &rule), ("service", "payment"), ("severity", "low")], false);
    }
    script.until(2).alert(PAY, false).alert(PAY, false).until(20);
    assert_eq!(script.told(), "0 pay-team: trigger 1\n5 pay-team: update 1\n15 lead: escalation 1");
    let incident = script.desk.incident(1).unwrap();
    assert_eq!((incident.alerts.len(), script.desk.incidents().count()), (4, 1));
    assert_eq!(incident.alerts.values().map(|alert| alert.count).max(), Some(2));
}

#[test]
fn critical_goes_to_security_and_on() {
    let mut script = Script::new();
    script.alert(&[("rule", "x"), ("service", "payment"), ("severity", "critical")], false).until(1);
    assert_eq!(script.told(), "0 security: trigger 1\n0 pay-team: trigger 2");
}

#[test]
fn what_is_snoozed_comes_back() {
    let mut script = Script::new();
    script.alert(CART, false).until(1).command(Command::Snooze { incident: 1, until_us: 31 * MINUTE_US });
    script.until(30).alert(CART, false).until(40);
    assert_eq!(script.told(), "0 ops: trigger 1\n31 ops: trigger 1");
}

#[test]
fn silences_mute_and_can_be_tried_before() {
    let mut script = Script::new();
    script.alert(CART, false).alert(PAY, false);
    let preview = script.desk.preview(&matchers(&["service=cart"]));
    assert_eq!((preview.incidents, preview.whole), (vec![(1, 1, 1)], 1));
    script.command(Command::Silence {
        matchers: matchers(&["service=cart"]),
        from_us: 0,
        until_us: 50 * MINUTE_US,
        comment: "a release".into(),
    });
    script.until(52);
    // It is told when the silence ends, and not before.
    assert_eq!(
        script.told(),
        "0 pay-team: trigger 2\n15 lead: escalation 2\n45 head: escalation 2\n50 ops: trigger 1"
    );
    assert_eq!(script.desk.silences().count(), 0);
    for (command, want) in [
        (
            Command::Silence { matchers: vec![], from_us: 0, until_us: 100 * MINUTE_US, comment: "x".into() },
            "matchers",
        ),
        (
            Command::Silence {
                matchers: matchers(&["a=~.*"]),
                from_us: 0,
                until_us: 100 * MINUTE_US,
                comment: "x".into(),
            },
            "everything",
        ),
        (
            Command::Silence { matchers: matchers(&["a=b"]), from_us: 0, until_us: 1, comment: "x".into() },
            "future",
        ),
        (
            Command::Silence {
                matchers: matchers(&["a=b"]),
                from_us: 0,
                until_us: 100 * MINUTE_US,
                comment: " ".into(),
            },
            "why",
        ),
    ] {
        let refusal = script.desk.command("ann", command, script.now_us).unwrap_err();
        assert!(refusal.to_string().contains(want), "{refusal}");
    }
}

#[test]
fn a_silent_service_inhibits_its_lesser_alerts() {
    let mut script = Script::new();
    script.alert(&[("rule", "service_silent"), ("service", "cart"), ("severity", "high")], false);
    script
        .alert(CART, false)
        .alert(&[("rule", "error_burst"), ("service", "shop"), ("severity", "medium")], false)
        .until(5);
    assert_eq!(script.told(), "0 ops: trigger 1\n0 ops: trigger 3");
    script.alert(&[("rule", "service_silent"), ("service", "cart"), ("severity", "high")], true).until(6);
    assert!(script.told().ends_with("5 ops: resolve 1\n5 ops: trigger 2"), "{}", script.told());
}

#[test]
fn maintenance_mutes_every_day() {
    let batch = [("rule", "r"), ("service", "batch"), ("severity", "high")];
    let mut script = Script::new();
    script.until(99).alert(&batch, false).until(100 + 1_440).alert(&batch, false).until(140 + 1_440);
    // The window ends at 130, and a day later again.
    assert_eq!(script.told(), "99 ops: trigger 1\n159 ops: resolve 1\n1570 ops: trigger 2");
}

#[test]
fn what_was_resolved_is_reopened_or_new() {
    let mut script = Script::new();
    script
        .alert(CART, false)
        .until(2)
        .command(Command::Resolve { incident: 1 })
        .until(20)
        .alert(CART, false)
        .until(22);
    assert_eq!(script.told(), "0 ops: trigger 1\n2 ops: resolve 1\n20 ops: trigger 1");
    script.command(Command::Resolve { incident: 1 }).until(60).alert(CART, false).until(61);
    assert!(script.told().ends_with("22 ops: resolve 1\n60 ops: trigger 2"), "{}", script.told());
    let refusal = script.desk.command("ann", Command::Reopen { incident: 1 }, script.now_us).unwrap_err();
    assert!(matches!(refusal, Refusal::Invalid(what) if what.contains("another incident")), "{refusal}");
}

#[test]
fn merged_incidents_go_on_as_one() {
    let mut script = Script::new();
    script.alert(CART, false).alert(PAY, false).until(1);
    script.command(Command::Merge { incident: 1, into: 2 }).alert(CART, false).until(2);
    assert_eq!(script.told(), "0 ops: trigger 1\n0 pay-team: trigger 2\n1 ops: resolve 1");
    let target = script.desk.incident(2).unwrap();
    assert_eq!((target.alerts.len(), target.alerts.values().map(|alert| alert.count).sum::<u64>()), (2, 3));
    for (command, want) in [
        (Command::Acknowledge { incident: 1 }, "incident 1 is merged: it cannot be acknowledged"),
        (Command::Merge { incident: 2, into: 2 }, "into itself"),
        (Command::Resolve { incident: 9 }, "there is no 9"),
        (Command::Snooze { incident: 2, until_us: 0 }, "in the future"),
        (Command::Reopen { incident: 2 }, "incident 2 is open: it cannot be reopened"),
        (Command::Note { incident: 2, text: "".into() }, "a note has"),
    ] {
        assert!(
            script.desk.command("ann", command, script.now_us).unwrap_err().to_string().contains(want),
            "{want}"
        );
    }
}

#[test]
fn nothing_new_closes_no_incident_that_nobody_was_told_of() {
    // The hub was away for longer than `auto_resolve` between the alert and the first message …
    let mut script = Script::new();
    script.alert(CART, false);
    script.now_us = 300 * MINUTE_US;
    script.until(302);
    assert_eq!(script.told(), "300 ops: trigger 1\n301 ops: resolve 1");
    // … or waits longer than `auto_resolve` for the group.
    let slow = Route { wait_us: 90 * MINUTE_US, ..Route::new("root", &["ops"]) };
    let mut script = Script { desk: Desk::new(Policy::new(slow)).unwrap(), now_us: 0, events: Vec::new() };
    script.alert(CART, false).until(95);
    assert_eq!(script.told(), "90 ops: trigger 1\n90 ops: resolve 1");
    // What came and ended within the wait is told, too.
    let mut script = Script::new();
    script.alert(CART, false).alert(CART, true).until(2);
    assert_eq!(script.told(), "0 ops: trigger 1\n1 ops: resolve 1");
    // Of what is muted as a whole, and where nobody is to be told, nobody is.
    let mut script = Script::new();
    script.command(silence(&["service=cart"], 600)).alert(CART, false);
    script.until(70);
    assert_eq!((script.told().as_str(), script.desk.incident(1).unwrap().state), ("", State::Resolved));
    let nobody = Policy::new(Route::new("root", &[]));
    let mut script = Script { desk: Desk::new(nobody).unwrap(), now_us: 0, events: Vec::new() };
    script.alert(CART, false).alert(CART, true).until(1);
    assert_eq!((script.told().as_str(), script.desk.incident(1).unwrap().state), ("", State::Resolved));
}

#[test]
fn time_in_which_nobody_looked_is_no_quiet() {
    let mut script = Script::new();
    script.alert(CART, false).until(10);
    script.desk = Desk::restore(policy(), &script.desk.checkpoint()).unwrap();
    script.now_us = 100 * MINUTE_US;
    script.desk.resume(script.now_us);
    script.until(159);
    assert_eq!(script.told(), "0 ops: trigger 1");
    script.until(161);
    assert!(script.told().ends_with("160 ops: resolve 1"), "{}", script.told());
}

#[test]
fn what_announces_its_end_does_not_end_by_quiet() {
    let alert = |at_us: i64, over: bool| Alert { labels: labels(CART), at_us, over, announces_end: true };
    let mut script = Script::new();
    script.give(alert(0, false)).until(300);
    assert_eq!(script.told(), "0 ops: trigger 1\n240 ops: repeat 1");
    script.give(alert(300 * MINUTE_US, true));
    assert!(script.told().ends_with("300 ops: resolve 1"), "{}", script.told());
    // It ends wherever it is: also in what has its alerts by a merge, and after its group has another incident.
    let mut script = Script::new();
    script.give(alert(0, false)).alert(PAY, false).until(1);
    script.command(Command::Merge { incident: 1, into: 2 }).command(Command::Resolve { incident: 2 });
    script.until(60).give(alert(60 * MINUTE_US, false)).until(61);
    script.command(Command::Reopen { incident: 2 }).give(alert(61 * MINUTE_US, true));
    let active = |id: u64| script.desk.incident(id).unwrap().active().count();
    assert_eq!((active(2), active(3)), (1, 0));
}

#[test]
fn the_audit_trail_says_what_was_done() {
    let mut script = Script::new();
    script.alert(CART, false).command(silence(&["service=cart", "rule!=x"], 5));
    script.command(Command::Snooze { incident: 1, until_us: 9 * MINUTE_US }).until(6);
    let whats = script.events.iter().filter_map(|event| match event {
        Event::Transition(one) => Some((one.at_us / MINUTE_US, &*one.actor, &one.what)),
        Event::Message(_) => None,
    });
    let said: Vec<_> = whats.skip(2).collect();
    let silenced = What::Silenced {
        silence: 1,
        matchers: ["service=\"cart\"", "rule!=\"x\""].map(Box::from).into(),
        from_us: 0,
        until_us: 5 * MINUTE_US,
        comment: "a release".into(),
    };
    let snoozed =
        What::Moved { from: State::Open, to: State::Snoozed, why: "".into(), until_us: Some(9 * MINUTE_US) };
    let want =
        [(0, "ann", &silenced), (0, "ann", &snoozed), (5, "threadline", &What::SilenceEnded { silence: 1 })];
    assert_eq!(said, want);
}

#[test]
fn a_merged_incident_is_kept_as_long_as_that_which_has_its_alerts() {
    let mut script = Script {
        desk: Desk::new(Policy { keep_us: 60 * MINUTE_US, ..policy() }).unwrap(),
        now_us: 0,
        events: Vec::new(),
    };
    let more = [("rule", "other"), ("service", "cart"), ("severity", "medium")];
    script.alert(CART, false).alert(PAY, false).alert(&more, false).until(1);
    script.command(Command::Merge { incident: 1, into: 3 }).command(Command::Merge { incident: 3, into: 2 });
    // It is live for longer than closed ones are kept.
    for minute in 1..5 {
        script.alert(PAY, false).until(minute * 60);
    }
    assert_eq!(script.desk.incidents().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 3]);
    script.alert(CART, false);
    assert_eq!(script.desk.incidents().count(), 3, "its alerts still go there");
    script.command(Command::Resolve { incident: 2 }).until(240 + 59);
    assert_eq!(script.desk.incidents().count(), 3);
    script.until(240 + 62);
    assert_eq!(script.desk.incidents().count(), 0);
}

#[test]
fn what_is_resolved_has_no_active_alerts_and_a_reopened_one_those_that_it_had() {
    let other = [("rule", "other"), ("service", "payment"), ("severity", "low")];
    let mut script = Script::new();
    script.alert(PAY, false).alert(&other, false).alert(&other, true).until(1);
    script.command(Command::Resolve { incident: 1 });
    let active = |script: &Script| script.desk.incident(1).unwrap().active().count();
    assert_eq!(active(&script), 0);
    // By hand: those that had not ended before.
    script.command(Command::Reopen { incident: 1 }).until(2);
    assert_eq!(active(&script), 1);
    // By an alert: that one.
    script.command(Command::Resolve { incident: 1 }).alert(&other, false);
    assert_eq!((script.desk.incident(1).unwrap().state, active(&script)), (State::Open, 1));
    script.alert(&other, true).until(4);
    assert_eq!(script.desk.incident(1).unwrap().state, State::Resolved);
    // All had ended: reopened, it is there all the same.
    script.command(Command::Reopen { incident: 1 }).until(8);
    assert_eq!(script.desk.incident(1).unwrap().state, State::Open);
}

#[test]
fn policies_that_make_no_sense_are_refused() {
    let twice = Route { routes: vec![Route::new("root", &[])], ..Route::new("root", &[]) };
    let narrow = Route { matchers: matchers(&["a=b"]), ..Route::new("root", &[]) };
    let backwards = Route {
        escalation: [2, 1].map(|after_us| Step { after_us, receivers: vec![] }).into(),
        ..Route::new("root", &[])
    };
    for (root, want) in
        [(twice, "a name of its own"), (narrow, "root route has matchers"), (backwards, "do not follow")]
    {
        assert!(Desk::new(Policy::new(root)).unwrap_err().to_string().contains(want), "{want}");
    }
}

#[test]
fn too_many_are_counted_and_said() {
    let mut desk = Desk::new(Policy { open_max: 2, ..policy() }).unwrap();
    let alerts: Vec<Alert> = (0..5)
        .map(|index| Alert {
            labels: labels(&[("rule", &format!("r{index}"))]),
            at_us: 0,
            over: false,
            announces_end: false,
        })
        .collect();
    let events = desk.step(&alerts, 0);
    let said = events
        .iter()
        .filter(|event| matches!(event, Event::Transition(t) if matches!(t.what, What::Overflowed { .. })));
    assert_eq!((desk.incidents().count(), desk.counters().overflowed, said.count()), (2, 3, 2));
    let wide = (0..100).map(|index| (Box::from(format!("l{index}")), Box::from(""))).collect();
    desk.step(&[Alert { labels: wide, at_us: 0, over: false, announces_end: false }], 0);
    assert_eq!(desk.counters().refused, 1);
}

#[derive(Clone, Debug)]
enum Act {
    Alert { rule: u8, service: u8, severity: u8, over: bool },
    Wait { seconds: u16 },
    Do { what: u8, incident: u8, other: u8 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0u8..3, 0u8..4, 0u8..5, prop::bool::weighted(0.3))
            .prop_map(|(rule, service, severity, over)| Act::Alert { rule, service, severity, over }),
        4 => (0u16..4_000).prop_map(|seconds| Act::Wait { seconds }),
        3 => (0u8..9, 0u8..8, 0u8..8).prop_map(|(what, incident, other)| Act::Do { what, incident, other }),
    ];
    prop::collection::vec(act, 1..150)
}

fn act(desk: &mut Desk, now_us: &mut i64, act: &Act) -> Vec<Event> {
    match act {
        Act::Alert { rule, service, severity, over } => {
            let rule = ["error_burst", "service_silent", "scan"][usize::from(*rule)];
            let service = ["payment", "cart", "batch", "shop"][usize::from(*service)];
            let severity = ["informational", "low", "medium", "high", "critical"][usize::from(*severity)];
            let labels = labels(&[("rule", rule), ("service", service), ("severity", severity)]);
            let announces_end = rule == "service_silent";
            desk.step(&[Alert { labels, at_us: *now_us, over: *over, announces_end }], *now_us)
        }
        Act::Wait { seconds } => {
            *now_us += i64::from(*seconds) * 1_000_000;
            desk.step(&[], *now_us)
        }
        Act::Do { what, incident, other } => {
            let (incident, into) = (u64::from(*incident) + 1, u64::from(*other) + 1);
            let until_us = *now_us + i64::from(*other) * 10 * MINUTE_US;
            let command = match what {
                0 => Command::Acknowledge { incident },
                1 => Command::Assign { incident, to: "bob".into() },
                2 => Command::Note { incident, text: "looked".into() },
                3 => Command::Snooze { incident, until_us },
                4 => Command::Resolve { incident },
                5 => Command::Reopen { incident },
                6 => Command::Merge { incident, into },
                7 => Command::Silence {
                    matchers: matchers(&["service=cart"]),
                    from_us: *now_us,
                    until_us,
                    comment: "quiet".into(),
                },
                _ => Command::Unsilence { silence: into },
            };
            let before = desk.clone();
            match desk.command("ann", command, *now_us) {
                Ok(events) => events,
                Err(_) => {
                    assert_eq!(*desk, before, "a refused command changed something");
                    Vec::new()
                }
            }
        }
    }
}

/// What the events alone say, checked as they come.
#[derive(Default)]
struct Ledger {
    number: u64,
    states: BTreeMap<u64, State>,
    /// Per incident and receiver: messages so far, and whether it is open there.
    told: BTreeMap<(u64, Box<str>), (u32, bool)>,
}

impl Ledger {
    fn read(&mut self, event: &Event) {
        match event {
            Event::Transition(transition) => {
                self.number += 1;
                assert_eq!(transition.number, self.number, "numbers have a gap");
                match &transition.what {
                    What::Opened => assert_eq!(self.states.insert(transition.incident, State::Open), None),
                    What::Moved { from, to, .. } => {
                        assert_eq!(self.states.insert(transition.incident, *to), Some(*from), "{transition:?}");
                        assert_ne!(*from, State::Merged, "what is merged stays so");
                    }
                    _ => {}
                }
            }
            Event::Message(message) => {
                let key = (message.incident, message.receiver.clone());
                let (count, open) = self.told.entry(key).or_default();
                *count += 1;
                assert_eq!(message.number, *count, "{message:?}");
                let begins = matches!(message.reason, Reason::Trigger | Reason::Escalation);
                assert!(*open || begins, "{message:?} before its trigger");
                *open = message.reason != Reason::Resolve;
                let state = self.states[&message.incident];
                let fits = match message.reason {
                    Reason::Resolve => !state.is_live(),
                    Reason::Acknowledge => state == State::Acknowledged,
                    Reason::Repeat | Reason::Escalation => state == State::Open,
                    Reason::Trigger | Reason::Update => matches!(state, State::Open | State::Acknowledged),
                };
                assert!(fits, "{message:?} while it is {}", state.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_of_any_history(acts in acts(), cut in any::<prop::sample::Index>()) {
        let mut desk = Desk::new(policy()).unwrap();
        let (mut now_us, mut ledger) = (0, Ledger::default());
        let cut = cut.index(acts.len());
        let mut restored: Option<(Desk, i64)> = None;
        // The desk as somebody keeps it who writes only what has changed.
        let (mut head, mut parts) = (Vec::new(), BTreeMap::new());
        for (index, one) in acts.iter().enumerate() {
            if index == cut {
                restored = Some((Desk::restore(policy(), &desk.checkpoint()).unwrap(), now_us));
            }
            let events = act(&mut desk, &mut now_us, one);
            if let Some((restored, at_us)) = &mut restored {
                prop_assert_eq!(&act(restored, at_us, one), &events, "a restored desk goes on as if nothing had happened");
            }
            let changes = desk.take_changes();
            if changes.head {
                head = desk.head();
            }
            parts.retain(|id, _| !changes.removed.contains(id));
            parts.extend(changes.incidents.iter().map(|id| (*id, desk.incident_bytes(*id).unwrap())));
            let again = Desk::restore_parts(policy(), &head, parts.values()).unwrap();
            prop_assert_eq!(again.checkpoint(), desk.checkpoint(), "what changed was not said");
            prop_assert!(changes.placed.iter().all(|(position, id)| *position == 0 && desk.incident(*id).is_some()));
            events.iter().for_each(|event| ledger.read(event));
            for incident in desk.incidents() {
                prop_assert_eq!(ledger.states.get(&incident.id), Some(&incident.state), "the audit trail is the state");
                let spent: i64 = State::ALL.iter().map(|state| incident.spent_us(*state, now_us)).sum();
                prop_assert_eq!(spent, now_us - incident.opened_us, "the clock of states is the incident's age");
            }
            // No two live incidents of one group.
            let mut keys: Vec<u64> = desk.incidents().filter(|incident| incident.state.is_live()).map(|incident| incident.key).collect();
            keys.sort_unstable();
            prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
        }
        if let Some((restored, _)) = restored {
            prop_assert_eq!(restored.checkpoint(), desk.checkpoint());
        }
        // Whatever happened: when all that announces its end has ended, nothing new comes, and nobody keeps it, all that was
        // told of is resolved.
        let live = desk.incidents().filter(|incident| incident.state.is_live());
        let announced = live.flat_map(|incident| incident.active()).filter(|alert| alert.announces_end);
        let over: Vec<Alert> = announced
            .map(|alert| Alert { labels: alert.labels.clone(), at_us: now_us, over: true, announces_end: true })
            .collect();
        desk.step(&over, now_us).iter().for_each(|event| ledger.read(event));
        for _ in 0..400 {
            now_us += 10 * MINUTE_US;
            desk.step(&[], now_us).iter().for_each(|event| ledger.read(event));
        }
        prop_assert!(ledger.told.values().all(|(_, open)| !open));
    }

    #[test]
    fn nothing_ends_by_itself_before_somebody_was_told(acts in acts(), wait in 0i64..100, away in any::<prop::sample::Index>()) {
        let mut policy = Policy { inhibitions: Vec::new(), maintenance: Vec::new(), ..policy() };
        policy.root.wait_us = wait * MINUTE_US;
        let mut desk = Desk::new(policy.clone()).unwrap();
        let away = away.index(acts.len());
        let mut now_us = 0;
        // By incident: whether somebody was told of it since it was opened last.
        let mut told: BTreeMap<u64, bool> = BTreeMap::new();
        let mut read = |events: &[Event]| {
            for event in events {
                match event {
                    Event::Message(message) => {
                        let known = told.insert(message.incident, true).unwrap_or_default();
                        assert!(known || message.reason == Reason::Trigger, "{message:?} comes first");
                    }
                    Event::Transition(one) => match &one.what {
                        What::Opened => drop(told.insert(one.incident, false)),
                        What::Moved { from: State::Resolved, .. } => drop(told.insert(one.incident, false)),
                        What::Moved { to: State::Resolved, .. } if &*one.actor == "threadline" => {
                            assert!(told[&one.incident], "{one:?}, and nobody was told");
                        }
                        _ => {}
                    },
                }
            }
        };
        for (index, one) in acts.iter().enumerate() {
            if matches!(one, Act::Do { what: 7, .. }) {
                continue;
            }
            read(&act(&mut desk, &mut now_us, one));
            if index == away {
                // Away for longer than anything takes to be resolved.
                desk = Desk::restore(policy.clone(), &desk.checkpoint()).unwrap();
                now_us += 1_000 * MINUTE_US;
                desk.resume(now_us);
                let known: BTreeMap<u64, State> = desk.incidents().map(|one| (one.id, one.state)).collect();
                let events = desk.step(&[], now_us);
                read(&events);
                for event in &events {
                    let Event::Transition(one) = event else { continue };
                    let What::Moved { to: State::Resolved, why, .. } = &one.what else { continue };
                    prop_assert!(&**why != "nothing new came", "{one:?} of {known:?}: downtime is no quiet");
                }
            }
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_silenced(acts in acts()) {
        let mut desk = Desk::new(policy()).unwrap();
        let silence = Command::Silence { matchers: matchers(&["service=~.+"]), from_us: 0, until_us: i64::MAX, comment: "all".into() };
        desk.command("ann", silence, 0).unwrap();
        let mut now_us = 0;
        for one in acts.iter().filter(|one| !matches!(one, Act::Do { what: 8, .. })) {
            let events = act(&mut desk, &mut now_us, one);
            prop_assert!(told(&events).is_empty(), "{:?}", told(&events));
        }
    }
}
