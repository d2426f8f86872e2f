//! Those who are told of incidents: receivers of signed webhooks (Standard Webhooks), as incident-response systems would be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use crate::Result;

/// Teams and their services.
const TEAMS: [(&str, &[&str]); 4] = [
    ("front", &["edge"]),
    ("shop", &["orders", "catalogue"]),
    ("money", &["payment"]),
    ("growth", &["recommend", "notify"]),
];
/// Receivers: who is woken, two teams that hear of their own, and who hears the rest.
const RECEIVERS: [&str; 4] = ["pager", "front", "shop", "console"];

/// The team of a service.
pub(crate) fn team_of(service: &str) -> &'static str {
    TEAMS.iter().find(|(_, services)| services.contains(&service)).map_or("", |(team, _)| team)
}

/// Who must hear of an incident.
pub(crate) fn receiver_of(severity: &str, team: &str) -> &'static str {
    match (severity, team) {
        ("high" | "critical", _) => "pager",
        (_, "front") => "front",
        (_, "shop") => "shop",
        _ => "console",
    }
}

/// What was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// To which receiver.
    pub(crate) receiver: &'static str,
    /// Of which incident.
    pub(crate) incident: u64,
    /// `incident.trigger`, `incident.resolve`, …
    pub(crate) what: String,
    pub(crate) title: String,
    /// Address of the incident's page.
    pub(crate) url: String,
}

/// The receivers, on one port.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) port: u16,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    /// By receiver and `webhook-id`: what comes again comes under the same.
    told: BTreeMap<(&'static str, String), Told>,
    /// Messages with a bad signature.
    forged: u64,
}

impl Receiver {
    /// Listens; writes the secret that messages are to be signed with.
    pub(crate) async fn start(folder: &Path) -> Result<Receiver> {
        let mut secret = [0; 32];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut secret).map_err(|_| "no random bytes".to_owned())?;
        let path = folder.join("webhook-secret");
        std::fs::write(&path, format!("whsec_{}\n", STANDARD.encode(secret)))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let receiver = Receiver { port, heard: Arc::default() };
        let heard = Arc::clone(&receiver.heard);
        let mut app = Router::new();
        for name in RECEIVERS {
            let (heard, key) = (Arc::clone(&heard), Arc::clone(&key));
            let take = move |headers: HeaderMap, body: Bytes| {
                let status = hear(&heard, name, &key, &headers, &body);
                async move { status }
            };
            app = app.route(&format!("/{name}"), post(take));
        }
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(receiver)
    }

    /// The alerts file of the hub: what is high goes to the pager, the rest to the team that has the service, or to the
    /// console.
    pub(crate) fn write_alerts_file(&self, folder: &Path) -> Result<()> {
        let teams: String =
            TEAMS.iter().map(|(team, services)| format!("  {team}: [{}]\n", services.join(", "))).collect();
        let receivers: String = RECEIVERS
            .iter()
            .map(|name| {
                let url = format!("http://127.0.0.1:{}/{name}", self.port);
                format!(
                    "  - name: {name}
    webhook: {{ url: \"{url}\", secret_file: webhook-secret, allow_plain: true, allow_private: true }}
"
                )
            })
            .collect();
        let text = format!(
            "teams:
{teams}route:
  group_by: [service, client.address, user.id, network.peer.address]
  group_wait: 1s
  group_interval: 10s
  receivers: [console]
  routes:
    - {{ name: pager, matchers: ['severity=~\"high|critical\"'], receivers: [pager] }}
    - {{ name: front, matchers: ['team=\"front\"'], receivers: [front] }}
    - {{ name: shop, matchers: ['team=\"shop\"'], receivers: [shop] }}
receivers:
{receivers}"
        );
        let path = folder.join("alerts.yaml");
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// What it was told, each once.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.heard().told.values().cloned().collect()
    }

    /// Writes what it was told to `notices.ndjson`, a line each.
    pub(crate) fn write_notices(&self, folder: &Path) -> Result<()> {
        let line = |told: Told| {
            let Told { receiver, incident, what, title, url } = told;
            json!({"receiver": receiver, "type": what, "incident": incident, "title": title, "url": url})
                .to_string()
                + "\n"
        };
        let path = folder.join("notices.ndjson");
        let text: String = self.told().into_iter().map(line).collect();
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Messages that somebody else must have written.
    pub(crate) fn forged(&self) -> u64 {
        self.heard().forged
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hear(
    heard: &Mutex<Heard>,
    receiver: &'static str,
    key: &hmac::Key,
    headers: &HeaderMap,
    body: &[u8],
) -> StatusCode {
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let id = text("webhook-id");
    let mut signed = format!("{id}.{}.", text("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(body);
    let is_good = text("webhook-signature")
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .any(|tag| STANDARD.decode(tag).is_ok_and(|tag| hmac::verify(key, &signed, &tag).is_ok()));
    let message: Option<Value> = serde_json::from_slice(body).ok();
    let Some(message) = message.filter(|_| is_good && !id.is_empty()) else {
        heard.forged += 1;
        return StatusCode::UNAUTHORIZED;
    };
    let data = message.get("data").cloned().unwrap_or_default();
    let field =
        |from: &Value, name: &str| from.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let incident = data.get("incident").and_then(Value::as_u64).unwrap_or(0);
    let (title, url) = (field(&data, "title"), field(&data, "url"));
    let told = Told { receiver, incident, what: field(&message, "type"), title, url };
    let place = (receiver, id.to_owned());
    if !heard.told.contains_key(&place) && told.what == "incident.trigger" {
        println!("\r{receiver:>12} is told: {}, {}", told.title, told.url);
    }
    heard.told.insert(place, told);
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_signed_is_heard() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let body = br#"{"type":"incident.trigger","data":{"incident":7}}"#;
        let sign = |text: &[u8]| format!("v1,{}", STANDARD.encode(hmac::sign(&key, text)));
        let good = sign(&[&b"k-1.5."[..], body].concat());
        for (id, signature, want) in [
            ("k-1", good.clone(), 204),
            ("k-1", format!("v1a,xx {good}"), 204),
            ("k-2", good.clone(), 401),
            ("k-1", sign(body), 401),
            ("", sign(&[&b".5."[..], body].concat()), 401),
        ] {
            let heard = Mutex::new(Heard::default());
            let mut headers = HeaderMap::new();
            for (name, value) in
                [("webhook-id", id), ("webhook-timestamp", "5"), ("webhook-signature", &signature)]
            {
                headers.insert(name, value.parse().unwrap());
            }
            assert_eq!(hear(&heard, "pager", &key, &headers, body), want, "{id} {signature}");
            let heard = heard.into_inner().unwrap();
            assert_eq!((heard.told.len(), heard.forged), if want == 204 { (1, 0) } else { (0, 1) });
        }
    }
}
