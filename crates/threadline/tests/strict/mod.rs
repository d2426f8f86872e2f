//! A receiver for tests that takes nothing but what the published formats allow: every field, type and limit is checked.
//! It can be told to fail, and remembers what it was sent.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by tests that each use a part")]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};

/// The secret that webhooks are signed with here.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What it does instead of an answer of success.
#[derive(Clone, Debug)]
pub enum Fail {
    /// Answers this status.
    Status(u16),
    /// Answers this status, and when to come back, seconds.
    RetryAfter(u16, u64),
    /// Reads and says nothing for so long.
    Hang(Duration),
    /// Closes the connection before it answers.
    Reset,
    /// Takes it, then closes the connection before it says so.
    TakeAndReset,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    /// Requests that were taken, in order.
    taken: Vec<Request>,
    /// All that came, with the status that was answered; 0: none.
    all: Vec<(Request, u16)>,
    /// What was wrong with requests.
    faults: Vec<String>,
    plan: VecDeque<Fail>,
    /// Fails by chance: so many of a thousand requests, by a seed.
    chance: Option<(u64, u64)>,
}

/// The receiver.
#[derive(Clone)]
pub struct Strict {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Strict {
    /// Listens on a port of the loopback interface, until the process ends.
    pub fn start() -> Strict {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let strict = Strict { address: listener.local_addr().unwrap(), state: Arc::default() };
        let shared = strict.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        strict
    }

    /// Fails so, in turn, before it succeeds.
    pub fn fail(&self, plan: &[Fail]) {
        self.state.lock().unwrap().plan.extend(plan.iter().cloned());
    }

    /// Fails so many of a thousand requests, in all ways.
    pub fn fail_by_chance(&self, per_mille: u64, seed: u64) {
        self.state.lock().unwrap().chance = Some((per_mille, seed | 1));
    }

    /// Requests that were taken.
    pub fn taken(&self) -> Vec<Request> {
        self.state.lock().unwrap().taken.clone()
    }

    /// All that came, with what was answered.
    pub fn all(&self) -> Vec<(Request, u16)> {
        self.state.lock().unwrap().all.clone()
    }

    /// What was wrong with requests.
    pub fn faults(&self) -> Vec<String> {
        self.state.lock().unwrap().faults.clone()
    }

    fn next_fail(&self) -> Option<Fail> {
        let mut state = self.state.lock().unwrap();
        if let Some(fail) = state.plan.pop_front() {
            return Some(fail);
        }
        let (per_mille, seed) = state.chance.as_mut()?;
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        let seed = *seed;
        let kinds =
            [Fail::Status(500), Fail::Status(503), Fail::RetryAfter(429, 1), Fail::Reset, Fail::TakeAndReset];
        (seed % 1000 < *per_mille).then(|| kinds[(seed / 1000 % 5) as usize].clone())
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read(&mut reader) {
            let fail = self.next_fail();
            let status = match &fail {
                None | Some(Fail::TakeAndReset) => match check(&request) {
                    Ok(status) => {
                        self.state.lock().unwrap().taken.push(request.clone());
                        status
                    }
                    Err(fault) => {
                        self.state.lock().unwrap().faults.push(format!("{}: {fault}", request.path));
                        400
                    }
                },
                Some(Fail::Status(status) | Fail::RetryAfter(status, _)) => *status,
                Some(Fail::Hang(_) | Fail::Reset) => 0,
            };
            // As some do, it says in a failure what it was sent.
            let echo = match status {
                400.. => format!(" to {} with {:?}", request.path, request.headers),
                _ => String::new(),
            };
            self.state.lock().unwrap().all.push((request, status));
            let retry = match &fail {
                Some(Fail::RetryAfter(_, seconds)) => format!("retry-after: {seconds}\r\n"),
                Some(Fail::Hang(time)) => {
                    std::thread::sleep(*time);
                    return;
                }
                Some(Fail::Reset | Fail::TakeAndReset) => return,
                _ => String::new(),
            };
            let body = format!("said {status}{echo}");
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{retry}\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length: usize = request.header("content-length").parse().ok()?;
    let mut body = vec![0; length.min(2 << 20)];
    reader.read_exact(&mut body).ok()?;
    request.body = body;
    Some(request)
}

type Checked = Result<u16, String>;

/// Whether a request is as the format of its path wants it; the status of success.
pub fn check(request: &Request) -> Checked {
    if request.method != "POST" {
        return Err(format!("{} is no POST", request.method));
    }
    if !request.header("content-type").starts_with("application/json") {
        return Err(format!("content type {}", request.header("content-type")));
    }
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    let path = request.path.split('?').next().unwrap_or_default();
    match path {
        "/v2/enqueue" => pagerduty(&body, request.body.len()),
        "/api/v2/alerts" => alertmanager(&body),
        "/webhook4" => webhook4(&body),
        "/slack" => slack(&body),
        "/teams" => teams(&body, request.body.len()),
        "/api/global/em/jsonv2" => servicenow(&body, request),
        "/webhook" => webhook(&body, request),
        path if path.starts_with("/jsm/ops/integration/v2/alerts") => jsm(&body, request, path),
        path => Err(format!("nothing is at {path}")),
    }
}

/// An object with checks that name what is wrong.
struct Of<'a> {
    name: &'a str,
    object: &'a Map<String, Value>,
}

fn of<'a>(name: &'a str, value: &'a Value, keys: &[&str]) -> Result<Of<'a>, String> {
    let object = value.as_object().ok_or(format!("{name} is no object"))?;
    match object.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(format!("{name} has no `{key}`")),
        None => Ok(Of { name, object }),
    }
}

impl<'a> Of<'a> {
    fn get(&self, key: &str) -> Result<&'a Value, String> {
        self.object.get(key).ok_or(format!("{} lacks `{key}`", self.name))
    }

    /// A text of so many characters, and one at least.
    fn text(&self, key: &str, max: usize) -> Result<&'a str, String> {
        let text = self.get(key)?.as_str().ok_or(format!("{}.{key} is no text", self.name))?;
        let length = text.chars().count();
        if length == 0 || length > max {
            return Err(format!("{}.{key} has {length} characters of 1 to {max}", self.name));
        }
        Ok(text)
    }

    fn maybe_text(&self, key: &str, max: usize) -> Result<(), String> {
        if self.object.contains_key(key) { self.text(key, max).map(drop) } else { Ok(()) }
    }

    fn one(&self, key: &str, of: &[&str]) -> Result<&'a str, String> {
        let text = self.text(key, 100)?;
        if of.contains(&text) { Ok(text) } else { Err(format!("{}.{key} is {text}", self.name)) }
    }

    fn time(&self, key: &str) -> Result<jiff::Timestamp, String> {
        let text = self.text(key, 40)?;
        text.parse().map_err(|_| format!("{}.{key} is no time: {text}", self.name))
    }

    fn url(&self, key: &str, max: usize) -> Result<(), String> {
        let text = self.text(key, max)?;
        let uri: http::Uri = text.parse().map_err(|_| format!("{}.{key} is no URL", self.name))?;
        if uri.scheme().is_none() { Err(format!("{}.{key} is no URL", self.name)) } else { Ok(()) }
    }

    fn list(&self, key: &str, max: usize) -> Result<&'a [Value], String> {
        let list = self.get(key)?.as_array().ok_or(format!("{}.{key} is no list", self.name))?;
        if list.len() > max { Err(format!("{}.{key} has {}", self.name, list.len())) } else { Ok(list) }
    }
}

fn pagerduty(body: &Value, bytes: usize) -> Checked {
    if bytes > 512 << 10 {
        return Err(format!("{bytes} bytes"));
    }
    let keys =
        ["routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images"];
    let event = of("event", body, &keys)?;
    if event.text("routing_key", 32)?.len() != 32 {
        return Err("a routing key has 32 characters".to_owned());
    }
    let action = event.one("event_action", &["trigger", "acknowledge", "resolve"])?;
    event.text("dedup_key", 255)?;
    if action != "trigger" {
        return Ok(202);
    }
    let keys = ["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"];
    let payload = of("payload", event.get("payload")?, &keys)?;
    payload.text("summary", 1024)?;
    payload.text("source", 255)?;
    payload.one("severity", &["critical", "error", "warning", "info"])?;
    payload.time("timestamp")?;
    for key in ["component", "group", "class"] {
        payload.maybe_text(key, 255)?;
    }
    payload.get("custom_details")?.as_object().ok_or("custom_details is no object")?;
    if event.object.contains_key("links") {
        for link in event.list("links", 100)? {
            of("link", link, &["href", "text"])?.url("href", 2000)?;
        }
        event.url("client_url", 2000)?;
    }
    Ok(202)
}

fn is_label(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn labels(name: &str, value: &Value, need: bool) -> Result<(), String> {
    let object = value.as_object().ok_or(format!("{name} is no object"))?;
    if need && object.is_empty() {
        return Err(format!("{name} is empty"));
    }
    for (key, value) in object {
        if !is_label(key) {
            return Err(format!("{name}: `{key}` is no name"));
        }
        if value.as_str().is_none_or(str::is_empty) {
            return Err(format!("{name}: `{key}` has no value"));
        }
    }
    Ok(())
}

fn alertmanager(body: &Value) -> Checked {
    let alerts = body.as_array().ok_or("no array of alerts")?;
    if alerts.is_empty() {
        return Err("no alert".to_owned());
    }
    for alert in alerts {
        let alert = of("alert", alert, &["labels", "annotations", "startsAt", "endsAt", "generatorURL"])?;
        labels("labels", alert.get("labels")?, true)?;
        labels("annotations", alert.get("annotations")?, false)?;
        alert.get("labels")?.get("alertname").ok_or("no alertname")?;
        if alert.time("endsAt")? < alert.time("startsAt")? {
            return Err("it ends before it starts".to_owned());
        }
        if alert.object.contains_key("generatorURL") {
            alert.url("generatorURL", 4096)?;
        }
    }
    Ok(200)
}

fn webhook4(body: &Value) -> Checked {
    let keys = [
        "version",
        "groupKey",
        "truncatedAlerts",
        "status",
        "receiver",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "externalURL",
        "alerts",
    ];
    let group = of("group", body, &keys)?;
    group.one("version", &["4"])?;
    group.text("groupKey", 1000)?;
    group.get("truncatedAlerts")?.as_u64().ok_or("truncatedAlerts is no number")?;
    let status = group.one("status", &["firing", "resolved"])?;
    group.text("receiver", 1000)?;
    group.get("groupLabels")?.as_object().ok_or("groupLabels is no object")?;
    labels("commonLabels", group.get("commonLabels")?, true)?;
    labels("commonAnnotations", group.get("commonAnnotations")?, false)?;
    group.get("externalURL")?.as_str().ok_or("externalURL is no text")?;
    let keys = ["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"];
    let alerts = group.list("alerts", 1000)?;
    if alerts.is_empty() {
        return Err("no alerts".to_owned());
    }
    for alert in alerts {
        let alert = of("alert", alert, &keys)?;
        alert.one("status", &[status])?;
        labels("labels", alert.get("labels")?, true)?;
        labels("annotations", alert.get("annotations")?, false)?;
        let (starts, ends) = (alert.time("startsAt")?, alert.time("endsAt")?);
        if (status == "resolved") != (ends >= starts) {
            return Err(format!("{status}, but from {starts} to {ends}"));
        }
        let print = alert.text("fingerprint", 16)?;
        if print.len() != 16 || !print.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("fingerprint {print}"));
        }
    }
    Ok(200)
}

fn slack_text(value: &Value, kind: &str, max: usize) -> Result<(), String> {
    let text = of("text", value, &["type", "text", "emoji", "verbatim"])?;
    text.one("type", &[kind])?;
    let words = text.text("text", max)?;
    if kind == "mrkdwn"
        && (words.contains('<')
            || words.replace("&lt;", "").replace("&gt;", "").replace("&amp;", "").contains('&'))
    {
        return Err("something is not escaped".to_owned());
    }
    Ok(())
}

fn slack(body: &Value) -> Checked {
    let message = of("message", body, &["text", "blocks"])?;
    message.text("text", 40_000)?;
    let blocks = message.list("blocks", 50)?;
    for block in blocks {
        let block = of("block", block, &["type", "text", "fields", "elements"])?;
        match block.one("type", &["header", "section", "actions", "context"])? {
            "header" => slack_text(block.get("text")?, "plain_text", 150)?,
            "actions" => {
                for button in block.list("elements", 25)? {
                    let button = of("button", button, &["type", "text", "url"])?;
                    button.one("type", &["button"])?;
                    slack_text(button.get("text")?, "plain_text", 75)?;
                    button.url("url", 3000)?;
                }
            }
            "context" => {
                for element in block.list("elements", 10)? {
                    slack_text(element, "plain_text", 3000)?;
                }
            }
            _ => {
                if block.object.contains_key("text") {
                    slack_text(block.get("text")?, "mrkdwn", 3000)?;
                } else if block.list("fields", 10)?.is_empty() {
                    return Err("a section without text and fields".to_owned());
                }
                if block.object.contains_key("fields") {
                    for field in block.list("fields", 10)? {
                        slack_text(field, "mrkdwn", 2000)?;
                    }
                }
            }
        }
    }
    Ok(200)
}

fn teams(body: &Value, bytes: usize) -> Checked {
    if bytes > 28_000 {
        return Err(format!("{bytes} bytes"));
    }
    let message = of("message", body, &["type", "attachments"])?;
    message.one("type", &["message"])?;
    let [attachment] = message.list("attachments", 1)? else { return Err("no card".to_owned()) };
    let attachment = of("attachment", attachment, &["contentType", "contentUrl", "content"])?;
    attachment.one("contentType", &["application/vnd.microsoft.card.adaptive"])?;
    if !attachment.get("contentUrl")?.is_null() {
        return Err("contentUrl is not null".to_owned());
    }
    let keys = ["$schema", "type", "version", "msteams", "body", "actions"];
    let card = of("card", attachment.get("content")?, &keys)?;
    card.one("type", &["AdaptiveCard"])?;
    card.one("version", &["1.4"])?;
    for element in card.list("body", 50)? {
        let element = of("element", element, &["type", "text", "weight", "size", "color", "wrap", "facts"])?;
        if element.one("type", &["TextBlock", "FactSet"])? == "TextBlock" {
            let text = element.text("text", 28_000)?;
            if text.replace("\\[", "").contains("[") {
                return Err("a link that is not escaped".to_owned());
            }
        } else {
            for fact in element.list("facts", 20)? {
                let fact = of("fact", fact, &["title", "value"])?;
                fact.text("title", 100)?;
                fact.text("value", 4000)?;
            }
        }
    }
    if card.object.contains_key("actions") {
        for action in card.list("actions", 6)? {
            let action = of("action", action, &["type", "title", "url"])?;
            action.one("type", &["Action.OpenUrl"])?;
            action.url("url", 4096)?;
        }
    }
    Ok(202)
}

fn jsm(body: &Value, request: &Request, path: &str) -> Checked {
    if !request.header("authorization").starts_with("GenieKey ") {
        return Err("no GenieKey".to_owned());
    }
    let rest = path.trim_start_matches("/jsm/ops/integration/v2/alerts");
    if rest.is_empty() {
        let keys = ["message", "alias", "description", "tags", "details", "entity", "source", "priority"];
        let alert = of("alert", body, &keys)?;
        alert.text("message", 130)?;
        alert.text("alias", 512)?;
        alert
            .get("description")?
            .as_str()
            .filter(|text| text.chars().count() <= 15_000)
            .ok_or("description")?;
        for tag in alert.list("tags", 20)? {
            tag.as_str().filter(|tag| tag.chars().count() <= 50).ok_or("a tag is too long")?;
        }
        let details = alert.get("details")?.as_object().ok_or("details are no object")?;
        let mut chars = 0;
        for (name, value) in details {
            chars += name.chars().count() + value.as_str().ok_or("a detail is no text")?.chars().count();
        }
        if chars > 8000 {
            return Err(format!("details of {chars} characters"));
        }
        alert.text("entity", 512)?;
        alert.text("source", 100)?;
        alert.one("priority", &["P1", "P2", "P3", "P4", "P5"])?;
        return Ok(202);
    }
    let (alias, action) = rest.trim_start_matches('/').split_once('/').ok_or("no action after the alias")?;
    if alias.is_empty() || !["acknowledge", "close", "notes"].contains(&action) {
        return Err(format!("`{alias}` and `{action}`"));
    }
    if !request.path.ends_with("?identifierType=alias") {
        return Err("it is an alias".to_owned());
    }
    let note = of("note", body, &["source", "user", "note"])?;
    note.text("source", 100)?;
    note.text("user", 100)?;
    note.text("note", 25_000)?;
    Ok(202)
}

fn servicenow(body: &Value, request: &Request) -> Checked {
    let login = request.header("authorization");
    if !login.starts_with("Basic ") && !login.starts_with("Bearer ") {
        return Err("no login".to_owned());
    }
    let records = of("body", body, &["records"])?.list("records", 1000)?;
    for record in records {
        let keys = [
            "source",
            "event_class",
            "node",
            "type",
            "resource",
            "severity",
            "message_key",
            "description",
            "time_of_event",
            "resolution_state",
            "additional_info",
        ];
        let record = of("record", record, &keys)?;
        for key in ["source", "event_class", "node", "type", "resource"] {
            record.text(key, 100)?;
        }
        let severity = record.one("severity", &["0", "1", "2", "3", "4", "5"])?;
        record.text("message_key", 1024)?;
        record.text("description", 4000)?;
        let time = record.text("time_of_event", 19)?;
        jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", time).map_err(|error| error.to_string())?;
        let state = record.one("resolution_state", &["New", "Closing"])?;
        if (severity == "0") != (state == "Closing") {
            return Err(format!("severity {severity}, {state}"));
        }
        let info: Value = serde_json::from_str(record.text("additional_info", 1 << 20)?)
            .map_err(|error| format!("additional_info: {error}"))?;
        info.as_object().ok_or("additional_info is no object")?;
    }
    Ok(200)
}

fn webhook(body: &Value, request: &Request) -> Checked {
    if request.body.len() >= 20_000 {
        return Err(format!("{} bytes", request.body.len()));
    }
    let event = of("event", body, &["type", "timestamp", "data"])?;
    let kind = event.text("type", 100)?;
    if !kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_') {
        return Err(format!("type {kind}"));
    }
    event.time("timestamp")?;
    event.get("data")?.as_object().ok_or("data is no object")?;
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    if id.is_empty() || id.contains('.') || timestamp.parse::<i64>().is_err() {
        return Err(format!("id `{id}`, timestamp `{timestamp}`"));
    }
    let key = base64::engine::general_purpose::STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let want = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes()));
    if !request.header("webhook-signature").split(' ').any(|signature| signature == want) {
        return Err("no signature is right".to_owned());
    }
    Ok(204)
}
