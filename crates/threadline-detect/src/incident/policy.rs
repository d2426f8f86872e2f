//! What is done with alerts: routes, inhibitions, maintenance windows, silences. Settings, not state (but for silences,
//! which people make).

use std::fmt;

use super::Labels;
use super::matcher::{self, Matcher};

/// Depth of the tree of routes at most.
const DEPTH_MAX: usize = 16;
/// Routes at most.
const ROUTES_MAX: usize = 10_000;

/// Who is told when nobody acknowledges.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// After the first message, µs.
    pub after_us: i64,
    /// Receivers.
    pub receivers: Vec<Box<str>>,
}

/// A node of the tree. An alert goes to the deepest route whose matchers, and those of all routes above, it fulfils.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Name; unique in the tree, and what incidents keep.
    pub name: Box<str>,
    /// Which alerts.
    pub matchers: Vec<Matcher>,
    /// After this route, its siblings are asked, too.
    pub goes_on: bool,
    /// Labels by which alerts are one incident.
    pub group_by: Vec<Box<str>>,
    /// How long the first message waits for further alerts, µs.
    pub wait_us: i64,
    /// Time between messages about new alerts, µs.
    pub interval_us: i64,
    /// A message is repeated after that, until somebody acknowledges, µs.
    pub repeat_us: i64,
    /// Nothing new for so long resolves the incident, µs; 0 = never.
    pub auto_resolve_us: i64,
    /// An alert of the same group that comes so soon after the incident was resolved reopens it, µs.
    pub reopen_us: i64,
    /// Receivers.
    pub receivers: Vec<Box<str>>,
    /// Further receivers, while nobody acknowledges.
    pub escalation: Vec<Step>,
    /// Routes below.
    pub routes: Vec<Route>,
}

impl Route {
    /// A route for everything: 30 s, 5 m, 4 h as Alertmanager's; resolved after an hour of nothing new.
    pub fn new(name: &str, receivers: &[&str]) -> Route {
        const MINUTE_US: i64 = 60_000_000;
        Route {
            name: name.into(),
            matchers: Vec::new(),
            goes_on: false,
            group_by: vec!["rule".into(), "service".into()],
            wait_us: MINUTE_US / 2,
            interval_us: 5 * MINUTE_US,
            repeat_us: 240 * MINUTE_US,
            auto_resolve_us: 60 * MINUTE_US,
            reopen_us: 30 * MINUTE_US,
            receivers: receivers.iter().map(|name| Box::from(*name)).collect(),
            escalation: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// The routes that an alert goes to.
    pub(super) fn find<'a>(&'a self, labels: &Labels, found: &mut Vec<&'a Route>) -> bool {
        if !matcher::all(&self.matchers, labels) {
            return false;
        }
        let before = found.len();
        for route in &self.routes {
            if route.find(labels, found) && !route.goes_on {
                break;
            }
        }
        if found.len() == before {
            found.push(self);
        }
        true
    }

    /// The route of a name.
    pub(super) fn named(&self, name: &str) -> Option<&Route> {
        if *self.name == *name {
            return Some(self);
        }
        self.routes.iter().find_map(|route| route.named(name))
    }

    fn check(&self, names: &mut Vec<Box<str>>, depth: usize) -> Result<(), PolicyError> {
        let fault = |what: &str| Err(PolicyError(format!("route `{}` {what}", self.name)));
        if self.name.is_empty() || names.contains(&self.name) {
            return fault("needs a name of its own");
        }
        names.push(self.name.clone());
        if depth > DEPTH_MAX || names.len() > ROUTES_MAX {
            return fault("is one too many: 16 levels and 10,000 routes are the most");
        }
        if self.wait_us < 0
            || self.interval_us < 1
            || self.repeat_us < 1
            || self.auto_resolve_us < 0
            || self.reopen_us < 0
        {
            return fault("has a time that is negative, or an interval of 0");
        }
        if self.escalation.windows(2).any(|steps| matches!(steps, [a, b] if b.after_us <= a.after_us)) {
            return fault("has steps of escalation that do not follow one another");
        }
        self.routes.iter().try_for_each(|route| route.check(names, depth + 1))
    }
}

/// While an alert of `source` is open, those of `target` with the same `equal` labels are muted. An alert that is on both
/// sides mutes none that is, too: neither itself nor others like it.
#[derive(Clone, Debug, PartialEq)]
pub struct Inhibition {
    /// What mutes.
    pub source: Vec<Matcher>,
    /// What is muted.
    pub target: Vec<Matcher>,
    /// Labels that must be equal in both.
    pub equal: Vec<Box<str>>,
}

/// A planned time in which alerts are muted.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// Which alerts.
    pub matchers: Vec<Matcher>,
    /// From, µs.
    pub from_us: i64,
    /// Until, µs; excluded.
    pub until_us: i64,
    /// Repeats after that, µs; 0 = once.
    pub every_us: i64,
}

impl Maintenance {
    pub(super) fn mutes(&self, labels: &Labels, now_us: i64) -> bool {
        let since = now_us.saturating_sub(self.from_us);
        let into = if self.every_us > 0 && since >= 0 { since % self.every_us } else { since };
        let length = self.until_us.saturating_sub(self.from_us);
        (0..length).contains(&into) && matcher::all(&self.matchers, labels)
    }
}

/// What somebody does not want to hear of, for a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// Number; given by the desk.
    pub id: u64,
    /// Which alerts; at least one matcher.
    pub matchers: Vec<Matcher>,
    /// From, µs.
    pub from_us: i64,
    /// Until, µs; excluded. Every silence ends.
    pub until_us: i64,
    /// Who made it.
    pub author: Box<str>,
    /// Why.
    pub comment: Box<str>,
}

impl Silence {
    /// Whether it mutes an alert now.
    pub fn mutes(&self, labels: &Labels, now_us: i64) -> bool {
        (self.from_us..self.until_us).contains(&now_us) && matcher::all(&self.matchers, labels)
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The root; it takes what no other route takes, so it has no matchers.
    pub root: Route,
    /// Inhibitions.
    pub inhibitions: Vec<Inhibition>,
    /// Maintenance windows.
    pub maintenance: Vec<Maintenance>,
    /// Incidents that are not closed, at most; further alerts are counted, and said so.
    pub open_max: usize,
    /// How long closed incidents are kept, µs.
    pub keep_us: i64,
}

/// Why a policy is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError(String);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// One route, nothing muted.
    pub fn new(root: Route) -> Policy {
        let (inhibitions, maintenance) = (Vec::new(), Vec::new());
        Policy { root, inhibitions, maintenance, open_max: 100_000, keep_us: 7 * 86_400_000_000 }
    }

    /// Checks that it makes sense.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        if !self.root.matchers.is_empty() {
            return Err(PolicyError("the root route has matchers: it must take every alert".to_owned()));
        }
        self.root.check(&mut Vec::new(), 1)?;
        if self.inhibitions.iter().any(|rule| rule.source.is_empty() || rule.target.is_empty()) {
            return Err(PolicyError("an inhibition needs matchers of source and target".to_owned()));
        }
        let backwards = |window: &Maintenance| {
            let length = window.until_us.saturating_sub(window.from_us);
            length <= 0 || window.every_us < 0 || (window.every_us > 0 && window.every_us < length)
        };
        if self.maintenance.iter().any(backwards) {
            return Err(PolicyError(
                "a maintenance window must end after it begins, and before it repeats".to_owned(),
            ));
        }
        Ok(())
    }
}
