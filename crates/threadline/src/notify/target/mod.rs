//! Targets: kinds of services, and how each is told. One file per published format; each turns a notice into a request
//! within the limits of the format, without I/O.

mod alertmanager;
mod email;
mod jsm;
mod pagerduty;
mod servicenow;
mod slack;
mod teams;
mod webhook;
mod webhook4;

use serde_json::{Map, Value, json};
use threadline_detect::incident::Reason;

pub(crate) use self::alertmanager::{BATCH_MAX, Open};
pub(crate) use self::email::{Mail, Mailing, Protection};
pub(crate) use self::jsm::URL as JSM_URL;
pub(crate) use self::pagerduty::URL as PAGERDUTY_URL;
use super::http::Call;
use super::secret::{Hidden, Secret};
use super::{Kind, Notice};

/// A target: a kind of service, where it is, and how we show who we are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// PagerDuty Events API v2.
    PagerDuty { url: String, routing_key: Secret },
    /// Prometheus Alertmanager, API v2.
    Alertmanager { url: String, login: Login, hold_us: i64 },
    /// Receivers of Alertmanager's webhook, version 4.
    Webhook4 { url: Address, login: Login },
    /// Slack, incoming webhook.
    Slack { url: Secret },
    /// Microsoft Teams, Workflows.
    Teams { url: Secret },
    /// Jira Service Management, integration events.
    Jsm { url: String, api_key: Secret },
    /// ServiceNow, Event Management.
    ServiceNow { url: String, login: Login },
    /// E-mail.
    Email(Mailing),
    /// Anything, by the Standard Webhooks specification.
    Webhook { url: Address, secrets: Secret },
}

/// An address that may be a secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Address {
    Open(String),
    Secret(Secret),
}

impl Address {
    pub(crate) fn read(&self) -> Result<String, String> {
        match self {
            Address::Open(url) => Ok(url.clone()),
            Address::Secret(secret) => secret.read(),
        }
    }
}

/// How we show who we are, by HTTP's `Authorization`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Login {
    #[default]
    None,
    Bearer(Secret),
    Basic(String, Secret),
}

impl Login {
    fn hide(&self, hidden: &mut Hidden) {
        match self {
            Login::None => {}
            Login::Bearer(token) => hidden.add(token),
            Login::Basic(user, password) => {
                hidden.add(password);
                password.read().iter().for_each(|password| hidden.text(&basic(user, password)));
            }
        }
    }

    fn apply(&self, call: Call) -> Result<Call, String> {
        Ok(match self {
            Login::None => call,
            Login::Bearer(token) => call.header("authorization", format!("Bearer {}", token.read()?)),
            Login::Basic(user, password) => {
                call.header("authorization", format!("Basic {}", basic(user, &password.read()?)))
            }
        })
    }
}

/// Name and password as HTTP's scheme Basic has them.
pub(super) fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

/// What is told, ready to be put into a format.
#[derive(Clone, Debug)]
pub(crate) struct Telling<'a> {
    pub(crate) notice: &'a Notice,
    /// Rendered templates.
    pub(crate) title: String,
    pub(crate) text: String,
    /// The hub's id.
    pub(crate) hub_id: &'a str,
    /// When it is sent, µs.
    pub(crate) now_us: i64,
    /// What the target was told last of this incident, where that is kept.
    pub(crate) before: Option<&'a Notice>,
}

/// What is sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Http(Call),
    Mail(Box<Mail>),
}

impl Telling<'_> {
    /// The key of the incident at this receiver: the same in everything that is said of it.
    pub(crate) fn key(&self) -> String {
        let Notice { incident, receiver, number, .. } = self.notice;
        match self.notice.kind {
            Kind::Incident => format!("threadline-{}-{incident}-{receiver}", self.hub_id),
            Kind::Test => format!("threadline-{}-test{number}-{receiver}", self.hub_id),
            Kind::Watchdog => format!("threadline-{}-watchdog-{receiver}", self.hub_id),
        }
    }

    /// The key of this one message: the same in all attempts.
    pub(crate) fn message_key(&self) -> String {
        format!("{}-{}", self.key(), self.notice.number)
    }

    fn resolves(&self) -> bool {
        self.notice.reason == Reason::Resolve
    }

    fn service(&self) -> &str {
        self.notice.services.first().map_or(&self.notice.hub, |service| service)
    }

    /// What is known, as members of an object.
    fn details(&self) -> Map<String, Value> {
        let notice = self.notice;
        let mut details = Map::new();
        let mut put = |name: &str, value: Value| {
            let is_empty = match &value {
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !is_empty {
                details.insert(name.to_owned(), value);
            }
        };
        put("incident", json!(notice.incident));
        put("hub", json!(notice.hub));
        put("state", json!(notice.state));
        put("severity", json!(notice.severity));
        put("route", json!(notice.route));
        put("reason", json!(notice.reason.name()));
        put("message", json!(notice.number));
        put("group", json!(notice.group));
        put("rules", json!(notice.rules));
        put("services", json!(notice.services));
        let entities: Vec<Value> =
            notice.entities.iter().map(|(field, value)| json!(format!("{field}={value}"))).collect();
        put("entities", Value::Array(entities));
        put("first_seen", json!(time(notice.first_us)));
        put("last_seen", json!(time(notice.last_us)));
        put("alerts", json!(notice.alerts));
        put("active_alerts", json!(notice.active));
        put("findings", json!(notice.findings));
        put("assignee", json!(notice.assignee));
        put("url", json!(notice.url));
        put("summary", json!(notice.summary));
        details
    }
}

/// RFC 3339.
fn time(us: i64) -> String {
    crate::rows::time_text(us)
}

impl Target {
    /// Name of the kind, as in the settings.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Target::PagerDuty { .. } => "pagerduty",
            Target::Alertmanager { .. } => "alertmanager",
            Target::Webhook4 { .. } => "alertmanager_webhook",
            Target::Slack { .. } => "slack",
            Target::Teams { .. } => "teams",
            Target::Jsm { .. } => "jira_service_management",
            Target::ServiceNow { .. } => "servicenow",
            Target::Email(_) => "email",
            Target::Webhook { .. } => "webhook",
        }
    }

    /// Whether a later update says all that an earlier one says, so that of several that wait only the last is sent.
    /// Not so for the generic webhook, whose consumers may count messages.
    pub(crate) fn merges(&self) -> bool {
        !matches!(self, Target::Webhook { .. })
    }

    /// Messages per minute, and how many at once, unless the settings say otherwise.
    pub(crate) fn rate(&self) -> (u32, u32) {
        match self {
            Target::Slack { .. } => (60, 1),
            Target::Teams { .. } | Target::Email(_) => (60, 5),
            Target::PagerDuty { .. } => (120, 10),
            Target::Jsm { .. } | Target::ServiceNow { .. } => (100, 10),
            Target::Alertmanager { .. } | Target::Webhook4 { .. } | Target::Webhook { .. } => (600, 20),
        }
    }

    /// The request that tells a notice.
    ///
    /// # Errors
    /// A secret cannot be read or is none.
    pub(crate) fn outgoing(&self, told: &Telling<'_>) -> Result<Outgoing, String> {
        Ok(Outgoing::Http(match self {
            Target::PagerDuty { url, routing_key } => pagerduty::call(url, &routing_key.read()?, told),
            Target::Alertmanager { url, login, hold_us } => {
                let open = Open { telling: told.clone(), hold_us: *hold_us };
                login.apply(alertmanager::call(url, std::slice::from_ref(&open)))?
            }
            Target::Webhook4 { url, login } => login.apply(webhook4::call(&url.read()?, told))?,
            Target::Slack { url } => slack::call(&url.read()?, told),
            Target::Teams { url } => teams::call(&url.read()?, told),
            Target::Jsm { url, api_key } => jsm::call(url, &api_key.read()?, told),
            Target::ServiceNow { url, login } => login.apply(servicenow::call(url, told))?,
            Target::Webhook { url, secrets } => webhook::call(&url.read()?, &secrets.read()?, told)?,
            Target::Email(mailing) => return Ok(Outgoing::Mail(Box::new(email::mail(mailing, told)))),
        }))
    }

    /// The request that says again what is open, for targets that forget it otherwise.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub(crate) fn again(&self, told: &[Telling<'_>]) -> Result<Option<Call>, String> {
        let Target::Alertmanager { url, login, hold_us } = self else { return Ok(None) };
        let open: Vec<Open<'_>> =
            told.iter().map(|telling| Open { telling: telling.clone(), hold_us: *hold_us }).collect();
        Ok(Some(login.apply(alertmanager::call(url, &open))?))
    }

    /// The secrets that a request has; what the target says may have them too.
    pub(crate) fn hidden(&self) -> Hidden {
        let mut hidden = Hidden::default();
        let address = |hidden: &mut Hidden, address: &Address| {
            if let Address::Secret(secret) = address {
                hidden.address(secret);
            }
        };
        match self {
            Target::PagerDuty { routing_key: secret, .. } | Target::Jsm { api_key: secret, .. } => {
                hidden.add(secret);
            }
            Target::Slack { url } | Target::Teams { url } => hidden.address(url),
            Target::Alertmanager { login, .. } | Target::ServiceNow { login, .. } => login.hide(&mut hidden),
            Target::Webhook4 { url, login } => {
                address(&mut hidden, url);
                login.hide(&mut hidden);
            }
            Target::Webhook { url, secrets } => {
                address(&mut hidden, url);
                hidden.add(secrets);
            }
            Target::Email(mailing) => mailing.login.iter().for_each(|(_, password)| hidden.add(password)),
        }
        hidden
    }

    /// How often what is open is said again, µs.
    pub(crate) fn again_us(&self) -> Option<i64> {
        match self {
            Target::Alertmanager { hold_us, .. } => Some(hold_us / 5),
            _ => None,
        }
    }

    /// Faults that reading the secrets shows, without sending anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Target::PagerDuty { routing_key: secret, .. }
            | Target::Slack { url: secret }
            | Target::Teams { url: secret }
            | Target::Jsm { api_key: secret, .. } => secret.read().map(drop),
            Target::Alertmanager { login, .. } | Target::ServiceNow { login, .. } => login.check(),
            Target::Webhook4 { url, login } => url.read().and_then(|_| login.check()),
            Target::Webhook { url, secrets } => {
                url.read()?;
                webhook::check(&secrets.read()?)
            }
            Target::Email(mailing) => mailing.check(),
        }
    }
}

impl Login {
    fn check(&self) -> Result<(), String> {
        match self {
            Login::None => Ok(()),
            Login::Bearer(secret) | Login::Basic(_, secret) => secret.read().map(drop),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
