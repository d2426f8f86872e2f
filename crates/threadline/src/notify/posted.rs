//! Alerts that others post to the hub by Alertmanager's API (v2): they become records of the hub, event `threadline.alert`,
//! which the incidents are told of.
//!
//! An alert is known by its labels. Its sender says it again and again, with an end that lies ahead, and then that it has
//! ended, or falls silent until the end is there. There is a record when it begins, when it says something else, every ten
//! minutes while it goes on, and when it ends. What is known lies in the database of the incidents (table
//! `notify_posted`), so that an alert ends also when the hub was down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};
use threadline_detect::incident::{Labels, fingerprint};
use threadline_model::record::{Attribute, LogView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, AppendError, BatchId, Store};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::outbox::OutboxError;
use super::record::batch_of;
use super::text::{cut, one_line};

/// Name of the event.
pub(crate) const EVENT_NAME: &str = "threadline.alert";

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notify_posted");
/// Alerts of a request, and alerts that are known, at most.
const REQUEST_MAX: usize = 1000;
const KNOWN_MAX: usize = 10_000;
/// Labels and annotations of an alert, bytes of a name, and of a value.
const PAIRS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 4096;
/// An alert that does not say when it ends does so after this time, as at an Alertmanager (`resolve_timeout`).
const RESOLVE_TIMEOUT_US: i64 = 300_000_000;
/// While an alert goes on there is a record this often.
const RENEW_US: i64 = 600_000_000;
/// Keeps ids of these records apart from others.
const SEED: u64 = 0x706f_7374_6564_616c;

/// An alert as it is posted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Post {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    starts_at: Option<String>,
    #[serde(default)]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: String,
}

/// An alert that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Posted {
    pub(crate) fingerprint: u64,
    pub(crate) labels: Labels,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) starts_us: i64,
    pub(crate) ends_us: i64,
    pub(crate) updated_us: i64,
    pub(crate) generator_url: String,
    /// When there was a record last, µs.
    recorded_us: i64,
}

/// Why alerts were not taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PostError {
    /// What is wrong with them.
    Wrong(String),
    /// The hub cannot keep them now.
    Busy(String),
}

/// The alerts that are known. Clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct PostedAlerts {
    db: Arc<Database>,
    known: Arc<Mutex<BTreeMap<u64, Posted>>>,
}

impl PostedAlerts {
    /// Those that the database knows.
    pub(crate) fn open(db: Arc<Database>) -> Result<PostedAlerts, OutboxError> {
        let mut known = BTreeMap::new();
        let txn = db.begin_write()?;
        for entry in txn.open_table(TABLE)?.iter()? {
            let (key, bytes) = entry?;
            match serde_json::from_slice(bytes.value()) {
                Ok(posted) => drop(known.insert(key.value(), posted)),
                Err(error) => tracing::error!(%error, "an alert that was posted is forgotten"),
            }
        }
        txn.commit()?;
        Ok(PostedAlerts { db, known: Arc::new(Mutex::new(known)) })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Posted>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Alerts that have not ended.
    pub(crate) fn active(&self, now_us: i64) -> Vec<Posted> {
        self.known().values().filter(|posted| posted.ends_us > now_us).cloned().collect()
    }

    /// Takes the alerts of a request, a JSON array. Those that are right are taken also when others are wrong.
    ///
    /// # Errors
    /// What is wrong with which, or that the hub takes none now.
    pub(crate) fn post(&self, store: &Store, body: &[u8], now_us: i64) -> Result<(), PostError> {
        let posts: Vec<serde_json::Value> = serde_json::from_slice(body)
            .map_err(|error| PostError::Wrong(format!("the body is no array of alerts: {error}")))?;
        if posts.len() > REQUEST_MAX {
            let what = format!("{} alerts in one request: {REQUEST_MAX} at most", posts.len());
            return Err(PostError::Wrong(what));
        }
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        for (at, post) in posts.into_iter().enumerate() {
            match serde_json::from_value(post)
                .map_err(|error| error.to_string())
                .and_then(|post| check(post, now_us))
            {
                Ok(posted) => right.push(posted),
                Err(what) => wrong.push(format!("alert {at}: {what}")),
            }
        }
        let mut known = self.known();
        let mut changed = Vec::new();
        for mut posted in right {
            let before = known.get(&posted.fingerprint);
            let over = posted.ends_us <= now_us;
            match before {
                // What ended before we heard of it is of no interest.
                None if over => continue,
                None if known.len() >= KNOWN_MAX => {
                    wrong.push(format!("there are {KNOWN_MAX} alerts already: end some, or wait"));
                    continue;
                }
                None => {}
                Some(before) => posted.starts_us = posted.starts_us.min(before.starts_us),
            }
            let says_more = before.is_none_or(|before| {
                before.annotations != posted.annotations || now_us - before.recorded_us >= RENEW_US
            });
            posted.recorded_us = before.map_or(0, |before| before.recorded_us);
            if says_more || over {
                record(store, &posted, now_us)?;
                posted.recorded_us = now_us;
            }
            if over {
                known.remove(&posted.fingerprint);
            } else {
                known.insert(posted.fingerprint, posted.clone());
            }
            changed.push((posted.fingerprint, (!over).then_some(posted)));
        }
        drop(known);
        self.keep(&changed).map_err(|error| PostError::Busy(error.to_string()))?;
        if wrong.is_empty() { Ok(()) } else { Err(PostError::Wrong(wrong.join("; "))) }
    }

    /// Ends those whose end has come.
    pub(crate) fn sweep(&self, store: &Store, now_us: i64) -> Result<(), PostError> {
        let mut known = self.known();
        let over: Vec<Posted> = known.values().filter(|posted| posted.ends_us <= now_us).cloned().collect();
        let mut changed = Vec::new();
        for posted in over {
            record(store, &posted, now_us)?;
            known.remove(&posted.fingerprint);
            changed.push((posted.fingerprint, None));
        }
        drop(known);
        self.keep(&changed).map_err(|error| PostError::Busy(error.to_string()))
    }

    fn keep(&self, changed: &[(u64, Option<Posted>)]) -> Result<(), OutboxError> {
        if changed.is_empty() {
            return Ok(());
        }
        let txn = self.db.begin_write()?;
        {
            let mut table = txn.open_table(TABLE)?;
            for (key, posted) in changed {
                match posted {
                    None => drop(table.remove(*key)?),
                    Some(posted) => {
                        drop(table.insert(*key, serde_json::to_vec(posted).unwrap_or_default().as_slice())?)
                    }
                }
            }
        }
        Ok(txn.commit()?)
    }
}

/// What an Alertmanager checks, and bounds.
fn check(post: Post, now_us: i64) -> Result<Posted, String> {
    let labels: Labels = post
        .labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
        .collect();
    if labels.is_empty() {
        return Err("has no label: at least one pair is needed".to_owned());
    }
    for (what, pairs) in [("label", &post.labels), ("annotation", &post.annotations)] {
        if pairs.len() > PAIRS_MAX {
            return Err(format!("has {} {what}s: {PAIRS_MAX} at most", pairs.len()));
        }
        for (name, value) in pairs {
            if !is_name(name) {
                let name = cut(&one_line(name), 40);
                return Err(format!("the {what} name `{name}` is none: letters, digits and _, no digit first"));
            }
            if name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
                return Err(format!(
                    "a {what} is too long: {NAME_BYTES_MAX} bytes of name and {VALUE_BYTES_MAX} of value at most"
                ));
            }
        }
    }
    if !post.generator_url.is_empty() && post.generator_url.parse::<http::Uri>().is_err() {
        return Err("`generatorURL` is no URI".to_owned());
    }
    let us = |name: &str, time: Option<&str>| -> Result<Option<i64>, String> {
        let Some(time) = time.filter(|time| !time.is_empty()) else { return Ok(None) };
        let parsed: Result<jiff::Timestamp, _> = time.parse();
        let us = parsed.map_err(|_| format!("`{name}` is no RFC 3339 time"))?.as_microsecond();
        // Go writes "no time" as the year 1.
        Ok((us > 0).then_some(us))
    };
    let (starts, ends) = (us("startsAt", post.starts_at.as_deref())?, us("endsAt", post.ends_at.as_deref())?);
    let ends_us = ends.unwrap_or(now_us.saturating_add(RESOLVE_TIMEOUT_US));
    let starts_us = starts.unwrap_or_else(|| now_us.min(ends_us));
    if ends_us < starts_us {
        return Err("it ends before it starts: `endsAt` must not be before `startsAt`".to_owned());
    }
    Ok(Posted {
        fingerprint: fingerprint(&labels),
        labels,
        annotations: post.annotations.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        starts_us,
        ends_us,
        updated_us: now_us,
        generator_url: post.generator_url,
        recorded_us: 0,
    })
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

/// Has the store keep what an alert says.
fn record(store: &Store, posted: &Posted, now_us: i64) -> Result<(), PostError> {
    let over = posted.ends_us <= now_us;
    let label = |name: &str| posted.labels.get(name).map_or("", |value| value);
    let severity = match label("severity") {
        _ if over => 9,
        "critical" | "page" => 21,
        "high" | "error" => 17,
        "medium" | "warning" => 13,
        "low" => 10,
        _ => 9,
    };
    let (starts, ends) = (crate::rows::time_text(posted.starts_us), crate::rows::time_text(posted.ends_us));
    let prefixed = |prefix: &str, name: &str| format!("threadline.alert.{prefix}.{name}");
    let labels = posted.labels.iter().map(|(name, value)| (prefixed("label", name), &**value));
    let annotations =
        posted.annotations.iter().map(|(name, value)| (prefixed("annotation", name), value.as_str()));
    let pairs: Vec<(String, &str)> = labels.chain(annotations).collect();
    let hash = format!("{:016x}", posted.fingerprint);
    let mut attributes: Vec<Attribute<'_>> = vec![
        ("threadline.alert.fingerprint", Value::Str(&hash)),
        ("threadline.alert.status", Value::Str(if over { "resolved" } else { "firing" })),
        ("threadline.alert.starts_at", Value::Str(&starts)),
        ("threadline.alert.ends_at", Value::Str(&ends)),
    ];
    if !posted.generator_url.is_empty() {
        attributes.push(("threadline.alert.generator_url", Value::Str(&posted.generator_url)));
    }
    attributes.extend(pairs.iter().map(|(name, value)| (name.as_str(), Value::Str(value))));
    let summary =
        ["summary", "description", "message"].into_iter().find_map(|name| posted.annotations.get(name));
    let body = format!("{}: {}", label("alertname"), summary.map_or("an alert was posted", |text| text));
    let nanos = |us: i64| u64::try_from(us).unwrap_or(0).saturating_mul(1000);
    let log = LogView {
        time_unix_nano: nanos(now_us),
        observed_time_unix_nano: nanos(now_us),
        severity_number: severity,
        severity_text: crate::rows::severity_name(i64::from(severity)).unwrap_or_default(),
        event_name: EVENT_NAME,
        body: Value::Str(&body),
        attributes: &attributes,
        ..LogView::default()
    };
    let batch = batch_of(store, "threadline.alerts", now_us, &log);
    let Some(batch) = batch.map_err(|error| PostError::Wrong(error.to_string()))? else {
        return Err(PostError::Wrong("nothing is left of it".to_owned()));
    };
    let id = format!("{hash}/{}/{}/{over}", posted.starts_us, now_us);
    let id = BatchId(xxh3_128_with_seed(id.as_bytes(), SEED));
    match store.append_wait(Append { table: Table::Logs, id, batch }) {
        Ok(_) => Ok(()),
        Err(AppendError::TooLarge { reason }) => Err(PostError::Wrong(reason)),
        Err(error) => Err(PostError::Busy(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use threadline_query::lang;
    use threadline_query::search::TimeRange;
    use threadline_store::{Env, Options};

    use super::*;

    const NOW: i64 = 1_790_000_000_000_000;
    const MINUTE: i64 = 60_000_000;

    fn count(store: &Store, query: &str) -> u64 {
        let guard = threadline_query::Guard::default();
        let query = lang::parse(query).unwrap();
        threadline_query::counts::count(&store.snapshot(), Table::Logs, &query, TimeRange::default(), &guard)
            .unwrap()
    }

    #[test]
    fn alerts_are_records_when_they_begin_change_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { disk_free_bytes_min: 0, ..Options::default() };
        let store = Store::open(&folder.path().join("data"), options, Env::local()).unwrap();
        let db = Arc::new(Database::create(folder.path().join("book.redb")).unwrap());
        let alerts = PostedAlerts::open(Arc::clone(&db)).unwrap();
        let post = |text: &str, ends: &str, at: i64| {
            let body = format!(
                r#"[{{"labels":{{"alertname":"Down","service":"cart","empty":""}},"annotations":{{"summary":"{text}"}}{ends}}}]"#
            );
            alerts.post(&store, body.as_bytes(), at).unwrap();
        };
        let firing =
            || count(&store, "event:threadline.alert threadline.alert.status:firing service:threadline");
        let resolved = || count(&store, "event:threadline.alert threadline.alert.status:resolved");
        post("cart is down", "", NOW);
        post("cart is down", "", NOW + MINUTE);
        assert_eq!((firing(), alerts.active(NOW + MINUTE).len()), (1, 1), "the same again is no news");
        post("cart is down still", "", NOW + 2 * MINUTE);
        assert_eq!(firing(), 2, "it says something else");
        for minute in 3..=12 {
            post("cart is down still", "", NOW + minute * MINUTE);
        }
        assert_eq!(firing(), 3, "ten minutes later");
        alerts.sweep(&store, NOW + 13 * MINUTE).unwrap();
        assert_eq!(resolved(), 0);
        // The hub is started anew; nobody has said anything since.
        drop(alerts);
        let alerts = PostedAlerts::open(db).unwrap();
        assert_eq!(alerts.active(NOW + 13 * MINUTE).len(), 1);
        alerts.sweep(&store, NOW + 18 * MINUTE).unwrap();
        alerts.sweep(&store, NOW + 19 * MINUTE).unwrap();
        assert_eq!((resolved(), alerts.active(0).len()), (1, 0));
        // It begins again and is ended by its sender.
        let post = |ends: &str, at: i64| {
            let body = format!(r#"[{{"labels":{{"alertname":"Down"}}{ends}}}]"#);
            alerts.post(&store, body.as_bytes(), at).unwrap();
        };
        post("", NOW + 20 * MINUTE);
        let end = format!(r#","endsAt":"{}""#, crate::rows::time_text(NOW + 21 * MINUTE));
        let start = format!(r#","startsAt":"{}""#, crate::rows::time_text(NOW));
        post(&format!("{end}{start}"), NOW + 22 * MINUTE);
        post(&format!("{end}{start}"), NOW + 23 * MINUTE);
        assert_eq!((firing(), resolved()), (4, 2));
        assert_eq!(count(&store, "threadline.alert.label.alertname:Down"), 6);
        store.close().unwrap();
    }

    #[test]
    fn what_an_alertmanager_refuses_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { disk_free_bytes_min: 0, ..Options::default() };
        let store = Store::open(&folder.path().join("data"), options, Env::local()).unwrap();
        let db = Arc::new(Database::create(folder.path().join("book.redb")).unwrap());
        let alerts = PostedAlerts::open(db).unwrap();
        let long = "x".repeat(5000);
        for (body, want) in [
            ("{}".to_owned(), "no array"),
            ("[{}]".to_owned(), "labels"),
            (r#"[{"labels":{}}]"#.to_owned(), "no label"),
            (r#"[{"labels":{"a":""}}]"#.to_owned(), "no label"),
            (r#"[{"labels":{"1a":"x"}}]"#.to_owned(), "`1a`"),
            (r#"[{"labels":{"a-b":"x"}}]"#.to_owned(), "`a-b`"),
            (r#"[{"labels":{"a":1}}]"#.to_owned(), "string"),
            (r#"[{"labels":{"a":"x"},"annotations":{"b c":"x"}}]"#.to_owned(), "annotation name"),
            (format!(r#"[{{"labels":{{"a":"{long}"}}}}]"#), "too long"),
            (r#"[{"labels":{"a":"x"},"generatorURL":"not a url"}]"#.to_owned(), "no URI"),
            (r#"[{"labels":{"a":"x"},"startsAt":"yesterday"}]"#.to_owned(), "alert 0"),
            (
                r#"[{"labels":{"a":"x"},"startsAt":"2026-09-22T00:00:00Z","endsAt":"2026-09-21T00:00:00Z"}]"#
                    .to_owned(),
                "ends before",
            ),
            (r#"[{"labels":{"ok":"x"}},{"labels":{}}]"#.to_owned(), "alert 1"),
        ] {
            let Err(PostError::Wrong(what)) = alerts.post(&store, body.as_bytes(), NOW) else {
                panic!("{body} is taken")
            };
            assert!(what.contains(want), "{body}: {what}");
        }
        assert_eq!(alerts.active(NOW).len(), 1, "the one that was right");
        let many = format!("[{}]", vec![r#"{"labels":{"a":"x"}}"#; 1001].join(","));
        assert!(matches!(alerts.post(&store, many.as_bytes(), NOW), Err(PostError::Wrong(_))));
        store.close().unwrap();
    }
}
