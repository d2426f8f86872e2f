//! The alerts file (docs/alerts.md): routes, teams, inhibitions, maintenance windows. What stands under `receivers` is
//! delivery's; only the names are looked at here, so that no route leads to a receiver that is not there.

use std::collections::BTreeSet;
use std::path::Path;

use threadline_detect::incident::{Inhibition, Maintenance, Matcher, Policy, Route, Step};
use threadline_model::yaml::{self, Fault, Kind, Node};

/// Routes inside one another at most.
const DEPTH_MAX: usize = 16;
/// Entries of any list at most.
const LIST_MAX: usize = 10_000;

/// What the file says.
#[derive(Clone, Debug)]
pub(crate) struct Alerts {
    pub(crate) policy: Policy,
    pub(crate) teams: Teams,
    /// The section `receivers`, for delivery; `None` where there is none.
    pub(crate) receivers: Option<Node>,
}

/// Which team has a service: patterns in their order, with `*` at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Teams(Vec<(String, String)>);

impl Teams {
    /// The team of a service.
    pub(crate) fn of(&self, service: &str) -> Option<&str> {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => service.starts_with(beginning),
            None => service == pattern,
        };
        self.0.iter().find(|(pattern, _)| fits(pattern)).map(|(_, team)| team.as_str())
    }
}

impl Default for Alerts {
    /// Without a file: one incident per rule and service, and nobody is told.
    fn default() -> Alerts {
        Alerts { policy: Policy::new(Route::new("root", &[])), teams: Teams::default(), receivers: None }
    }
}

type Result<T> = std::result::Result<T, Fault>;

fn fault<T>(node: &Node, what: impl Into<String>) -> Result<T> {
    Err(Fault::new(node.line, what))
}

impl Alerts {
    /// Reads a file.
    ///
    /// # Errors
    /// `file:line: what is wrong and what to do`.
    pub(crate) fn read(path: &Path) -> std::result::Result<Alerts, String> {
        let (name, text) = crate::files::read_text(path)?;
        Alerts::parse(&text).map_err(|Fault { line, what, .. }| format!("{name}:{line}: {what}"))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub(crate) fn parse(text: &str) -> Result<Alerts> {
        let documents = yaml::read(text)?;
        let Some(root) = documents.first() else { return Ok(Alerts::default()) };
        if let Some(second) = documents.get(1) {
            return fault(second, "a second document begins here: an alerts file is one");
        }
        root.only(
            "the alerts file",
            &["route", "teams", "inhibit_rules", "maintenance", "keep_incidents", "receivers"],
        )?;
        let receivers = root.get("receivers").filter(|node| !node.is_null());
        let known = receivers.map(names).transpose()?.unwrap_or_default();
        let mut policy = Alerts::default().policy;
        if let Some(node) = root.get("route").filter(|node| !node.is_null()) {
            policy.root = route(node, None, &known, 1)?;
        }
        for node in list(root.get("inhibit_rules"), "inhibit_rules")? {
            node.only("an inhibit rule", &["source_matchers", "target_matchers", "equal"])?;
            policy.inhibitions.push(Inhibition {
                source: need_matchers(node, "source_matchers")?,
                target: need_matchers(node, "target_matchers")?,
                equal: texts(node.get("equal"), "equal")?,
            });
        }
        for node in list(root.get("maintenance"), "maintenance")? {
            node.only("a maintenance window", &["matchers", "from", "until", "every"])?;
            policy.maintenance.push(Maintenance {
                matchers: need_matchers(node, "matchers")?,
                from_us: time(node, "from")?,
                until_us: time(node, "until")?,
                every_us: duration(node, "every")?.unwrap_or(0),
            });
        }
        if let Some(keep_us) = duration(root, "keep_incidents")? {
            policy.keep_us = keep_us;
        }
        let mut teams = Vec::new();
        if let Some(node) = root.get("teams").filter(|node| !node.is_null()) {
            let Kind::Map(members) = &node.kind else {
                return fault(
                    node,
                    "`teams` must be a mapping of team to services: `payments: [checkout, pay-*]`",
                );
            };
            for (team, services) in members {
                let services = texts(Some(services), "services of a team")?;
                teams.extend(services.into_iter().map(|service| (service.into(), team.clone())));
            }
        }
        // Whatever the state machine wants beside: names once, windows that end after they begin.
        policy.check().or_else(|error| fault(root, error.to_string()))?;
        Ok(Alerts { policy, teams: Teams(teams), receivers: receivers.cloned() })
    }
}

fn list<'a>(node: Option<&'a Node>, what: &str) -> Result<&'a [Node]> {
    match node {
        None => Ok(&[]),
        Some(node) if node.is_null() => Ok(&[]),
        Some(Node { kind: Kind::List(elements), .. }) if elements.len() <= LIST_MAX => Ok(elements),
        Some(node) => fault(node, format!("`{what}` must be a list of at most {LIST_MAX} entries")),
    }
}

fn texts(node: Option<&Node>, what: &str) -> Result<Vec<Box<str>>> {
    list(node, what)?.iter().map(|node| node.need_text(what).map(Box::from)).collect()
}

fn names(receivers: &Node) -> Result<BTreeSet<Box<str>>> {
    let mut known = BTreeSet::new();
    for node in list(Some(receivers), "receivers")? {
        let Some(name) = node.get("name") else { return fault(node, "a receiver needs a `name`") };
        if !known.insert(name.need_text("name")?.into()) {
            return fault(name, "another receiver has this name: give each its own");
        }
    }
    Ok(known)
}

fn matchers(node: &Node, what: &str) -> Result<Vec<Matcher>> {
    let read =
        |node: &Node| Matcher::parse(node.need_text(what)?).or_else(|error| fault(node, error.to_string()));
    list(Some(node), what)?.iter().map(read).collect()
}

fn need_matchers(node: &Node, key: &str) -> Result<Vec<Matcher>> {
    match node.get(key).map(|node| matchers(node, key)).transpose()? {
        Some(matchers) if !matchers.is_empty() => Ok(matchers),
        _ => fault(node, format!("needs `{key}`: a list such as ['severity=\"low\"']")),
    }
}

fn duration(node: &Node, key: &str) -> Result<Option<i64>> {
    let Some(node) = node.get(key).filter(|node| !node.is_null()) else { return Ok(None) };
    let text = node.need_text(key)?;
    // `0` needs no unit.
    let parsed = if text == "0" { Ok(std::time::Duration::ZERO) } else { crate::when::parse_duration(text) };
    let us = parsed.or_else(|reason| fault(node, format!("`{key}`: {reason}")))?.as_micros();
    i64::try_from(us).map(Some).or_else(|_| fault(node, format!("`{key}` is longer than can be")))
}

fn time(node: &Node, key: &str) -> Result<i64> {
    let Some(at) = node.get(key) else {
        return fault(node, format!("a maintenance window needs `{key}`: a time"));
    };
    let text = at.need_text(key)?;
    // A time that is relative would move with each reading.
    if text.contains("now") || text.starts_with('-') {
        return fault(at, format!("`{key}` must be a time such as 2026-01-02T03:00:00Z"));
    }
    crate::when::parse_time(text, 0).or_else(|reason| fault(at, format!("`{key}`: {reason}")))
}

/// A receiver that is named, if it is there.
fn receivers(node: &Node, key: &str, known: &BTreeSet<Box<str>>) -> Result<Option<Vec<Box<str>>>> {
    let Some(node) = node.get(key) else { return Ok(None) };
    let named = texts(Some(node), key)?;
    match named.iter().find(|name| !known.contains(*name)) {
        Some(name) => fault(node, format!("there is no receiver `{name}`: define it under `receivers`")),
        None => Ok(Some(named)),
    }
}

fn route(node: &Node, above: Option<&Route>, known: &BTreeSet<Box<str>>, depth: usize) -> Result<Route> {
    node.only(
        "a route",
        &[
            "name",
            "matchers",
            "continue",
            "group_by",
            "group_wait",
            "group_interval",
            "repeat_interval",
            "auto_resolve",
            "reopen_within",
            "receivers",
            "escalation",
            "routes",
        ],
    )?;
    if depth > DEPTH_MAX {
        return fault(node, format!("routes are nested more than {DEPTH_MAX} deep: flatten them"));
    }
    let name = match (node.get("name"), above) {
        (Some(name), _) => name.need_text("name")?,
        (None, None) => "root",
        (None, Some(_)) => return fault(node, "a route below the first needs a `name` of its own"),
    };
    // What a route does not say is as in the route above.
    let mut own = Route { name: name.into(), ..above.cloned().unwrap_or_else(|| Route::new("root", &[])) };
    own.routes = Vec::new();
    own.goes_on = node.get("continue").map(|node| node.need_bool("continue")).transpose()?.unwrap_or(false);
    own.matchers = match node.get("matchers") {
        Some(node) => matchers(node, "matchers")?,
        None => Vec::new(),
    };
    if above.is_none() && !own.matchers.is_empty() {
        return fault(node, "the first route takes every alert: it has no `matchers`");
    }
    if let Some(names) = node.get("group_by") {
        own.group_by = texts(Some(names), "group_by")?;
    }
    for (key, us) in [
        ("group_wait", &mut own.wait_us),
        ("group_interval", &mut own.interval_us),
        ("repeat_interval", &mut own.repeat_us),
        ("auto_resolve", &mut own.auto_resolve_us),
        ("reopen_within", &mut own.reopen_us),
    ] {
        if let Some(given) = duration(node, key)? {
            *us = given;
        }
    }
    if let Some(named) = receivers(node, "receivers", known)? {
        own.receivers = named;
    }
    if let Some(steps) = node.get("escalation") {
        own.escalation = Vec::new();
        for step in list(Some(steps), "escalation")? {
            step.only("a step of escalation", &["after", "receivers"])?;
            let Some(after_us) = duration(step, "after")? else {
                return fault(step, "a step of escalation needs `after`: how long nobody has acknowledged");
            };
            let receivers = receivers(step, "receivers", known)?.unwrap_or_default();
            own.escalation.push(Step { after_us, receivers });
        }
    }
    for below in list(node.get("routes"), "routes")? {
        let below = route(below, Some(&own), known, depth + 1)?;
        own.routes.push(below);
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_is_read() {
        let docs = include_str!("../../../../docs/alerts.md");
        let example = docs.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let alerts = Alerts::parse(example).unwrap_or_else(|fault| panic!("{fault:?}"));
        assert_eq!(alerts.teams.of("payment-gateway"), Some("payments"));
        assert_eq!(alerts.teams.of("cart"), Some("shop"));
        assert_eq!(alerts.teams.of("carts"), None);
        let payments = &alerts.policy.root.routes[1];
        assert_eq!(&*payments.name, "payments");
        assert_eq!(payments.escalation.len(), 2);
        // What it does not say is as in the route above.
        assert_eq!(payments.interval_us, alerts.policy.root.interval_us);
        assert_eq!((alerts.policy.inhibitions.len(), alerts.policy.maintenance.len()), (1, 1));
        assert!(alerts.receivers.is_some());
    }

    #[test]
    fn faults_say_where_and_what() {
        for (text, line, want) in [
            ("rout: {}\n", 1, "has no key `rout`"),
            ("route:\n  matchers: ['a=b']\n", 2, "takes every alert"),
            ("route:\n  receivers: [ops]\n", 2, "no receiver `ops`"),
            ("route:\n  group_wait: soon\n", 2, "is no duration"),
            ("route:\n  routes:\n  - matchers: ['a=b']\n", 3, "needs a `name`"),
            ("route:\n  routes:\n  - name: a\n    matchers: [b]\n", 4, "needs one of ="),
            ("receivers:\n- name: a\n- name: a\n", 3, "has this name"),
            ("inhibit_rules:\n- target_matchers: ['a=b']\n", 2, "needs `source_matchers`"),
            ("maintenance:\n- matchers: ['a=b']\n  from: now\n", 3, "must be a time"),
            ("teams: [a]\n", 1, "mapping of team"),
            ("route:\n  escalation:\n  - receivers: []\n", 3, "needs `after`"),
            ("route:\n  repeat_interval: 0s\n", 1, "interval of 0"),
        ] {
            let fault = Alerts::parse(text).unwrap_err();
            assert!(fault.what.contains(want), "{text:?}: {}", fault.what);
            assert_eq!(fault.line, line, "{text:?}: {}", fault.what);
        }
        assert_eq!(Alerts::parse("").unwrap().policy, Alerts::default().policy);
    }
}
