//! Alerts that others post to the hub by Alertmanager's API (v2): they become records of the hub, event `threadline.alert`,
//! which the incidents are told of.
//!
//! An alert is known by its labels. Its sender says it again and again, with an end that lies ahead, and then that it has
//! ended, or falls silent until the end is there. There is a record when it begins, when it says something else, every ten
//! minutes while it goes on, and when it ends. What is known lies in the database of the incidents (table
//! `notify_posted`), so that an alert ends also when the hub was down.
//!
//! Whoever may send telemetry may post alerts. No alert of theirs has the labels of a finding: [`SOURCE_LABEL`] is the
//! hub's, and labels that findings are known by are refused. So nobody ends what detection found by posting its end.
//!
//! Secrets in labels and annotations are masked before anything is kept. An alert is known by its labels as they are then.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};
use threadline_detect::incident::{Labels, fingerprint};
use threadline_model::record::Attribute;
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, AppendError, BatchId, Store};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::outbox::OutboxError;
use super::text::{cut, one_line};
use crate::contract::Gatekeeper;
use crate::own;

/// Name of the event.
pub(crate) const EVENT_NAME: &str = "threadline.alert";

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notify_posted");
/// Alerts of a request, and alerts that are known, at most.
const REQUEST_MAX: usize = 1000;
const KNOWN_MAX: usize = 10_000;
/// Label that every posted alert has and no finding, with its value; the hub sets it, whatever was posted.
pub(crate) const SOURCE_LABEL: &str = "threadline_source";
const SOURCE: &str = "alertmanager";
/// Labels that only findings have.
const OF_FINDINGS: [&str; 2] = ["rule", "rule_id"];
/// Labels of an alert, [`SOURCE_LABEL`] among them, and bytes of a value: what an incident keeps of it, and no more.
const LABELS_MAX: usize = 56;
const LABEL_BYTES_MAX: usize = 1024;
/// Its annotations, and bytes of a value.
const ANNOTATIONS_MAX: usize = 64;
const ANNOTATION_BYTES_MAX: usize = 4096;
/// Bytes of a name, and of the URL.
const NAME_BYTES_MAX: usize = 128;
const URL_BYTES_MAX: usize = 2048;
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
    gatekeeper: Gatekeeper,
    environment: Arc<str>,
    /// Whoever changes them has this, through everything that waits for a disk.
    writing: Arc<Mutex<()>>,
    known: Arc<Mutex<BTreeMap<u64, Posted>>>,
}

/// What becomes of an alert.
struct Change {
    posted: Posted,
    over: bool,
    /// There is a record of it.
    is_told: bool,
}

impl PostedAlerts {
    /// Those that the database knows.
    pub(crate) fn open(
        db: Arc<Database>,
        gatekeeper: Gatekeeper,
        environment: &str,
    ) -> Result<PostedAlerts, OutboxError> {
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
        Ok(PostedAlerts {
            db,
            gatekeeper,
            environment: environment.into(),
            writing: Arc::default(),
            known: Arc::new(Mutex::new(known)),
        })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Posted>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Alerts that have not ended.
    pub(crate) fn active(&self, now_us: i64) -> Vec<Posted> {
        self.known().values().filter(|posted| posted.ends_us > now_us).cloned().collect()
    }

    /// Takes the alerts of a request, a JSON array. Those that are right are taken also when others are wrong. Waits for the
    /// disk.
    ///
    /// # Errors
    /// What is wrong with which, or that the hub takes none now; none is taken then.
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
                .and_then(|post| check(post, &self.gatekeeper, now_us))
            {
                Ok(posted) => right.push(posted),
                Err(what) => wrong.push(format!("alert {at}: {what}")),
            }
        }
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes: BTreeMap<u64, Change> = BTreeMap::new();
        {
            let known = self.known();
            let mut fresh = 0;
            for mut posted in right {
                // Of what a request says of one alert, the last holds.
                let earlier = changes.get(&posted.fingerprint);
                let before = known.get(&posted.fingerprint);
                let over = posted.ends_us <= now_us;
                match before {
                    // What ended before we heard of it is of no interest.
                    None if over && earlier.is_none() => continue,
                    None if earlier.is_none() => {
                        if known.len() + fresh >= KNOWN_MAX {
                            wrong.push(format!("there are {KNOWN_MAX} alerts already: end some, or wait"));
                            continue;
                        }
                        fresh += 1;
                    }
                    None => {}
                    Some(before) => posted.starts_us = posted.starts_us.min(before.starts_us),
                }
                let says_more = before.is_none_or(|before| {
                    before.annotations != posted.annotations || now_us - before.recorded_us >= RENEW_US
                });
                let is_told = says_more || over;
                posted.recorded_us =
                    if is_told { now_us } else { before.map_or(0, |before| before.recorded_us) };
                changes.insert(posted.fingerprint, Change { posted, over, is_told });
            }
        }
        // It began and ended in the same request.
        changes.retain(|key, change| !change.over || self.known().contains_key(key));
        self.change(store, changes.into_values().collect(), now_us)?;
        drop(writing);
        if wrong.is_empty() { Ok(()) } else { Err(PostError::Wrong(wrong.join("; "))) }
    }

    /// Ends those whose end has come. Waits for the disk.
    pub(crate) fn sweep(&self, store: &Store, now_us: i64) -> Result<(), PostError> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let over: Vec<Change> = {
            let known = self.known();
            let over = known.values().filter(|posted| posted.ends_us <= now_us).take(REQUEST_MAX);
            over.map(|posted| Change { posted: posted.clone(), over: true, is_told: true }).collect()
        };
        self.change(store, over, now_us)?;
        drop(writing);
        Ok(())
    }

    /// First the records, then the database, then what is known: where one of them fails, it is as if nothing had been said,
    /// but that there may be a record twice.
    fn change(&self, store: &Store, changes: Vec<Change>, now_us: i64) -> Result<(), PostError> {
        let told: Vec<&Posted> =
            changes.iter().filter(|change| change.is_told).map(|change| &change.posted).collect();
        self.record(store, &told, now_us)?;
        self.keep(&changes).map_err(|error| PostError::Busy(error.to_string()))?;
        let mut known = self.known();
        for Change { posted, over, .. } in changes {
            if over {
                known.remove(&posted.fingerprint);
            } else {
                known.insert(posted.fingerprint, posted);
            }
        }
        Ok(())
    }

    fn keep(&self, changes: &[Change]) -> Result<(), OutboxError> {
        if changes.is_empty() {
            return Ok(());
        }
        let txn = self.db.begin_write()?;
        {
            let mut table = txn.open_table(TABLE)?;
            for Change { posted, over, .. } in changes {
                if *over {
                    drop(table.remove(posted.fingerprint)?);
                } else {
                    let bytes = serde_json::to_vec(posted).unwrap_or_default();
                    drop(table.insert(posted.fingerprint, bytes.as_slice())?);
                }
            }
        }
        Ok(txn.commit()?)
    }

    /// Has the store keep what alerts say, in one batch.
    fn record(&self, store: &Store, posted: &[&Posted], now_us: i64) -> Result<(), PostError> {
        if posted.is_empty() {
            return Ok(());
        }
        let told: Vec<Told> = posted.iter().map(|posted| Told::of(posted, now_us)).collect();
        let attributes: Vec<Vec<Attribute<'_>>> = told.iter().map(Told::attributes).collect();
        let records: Vec<own::Record<'_>> = told
            .iter()
            .zip(&attributes)
            .map(|(told, attributes)| own::Record {
                event: EVENT_NAME,
                time_us: now_us,
                severity: told.severity,
                body: &told.body,
                attributes,
            })
            .collect();
        let writer = own::Writer { store, gatekeeper: &self.gatekeeper, environment: &self.environment };
        let batch = writer.batch("threadline.alerts", now_us, &records);
        let Some(batch) = batch.map_err(|error| PostError::Wrong(error.to_string()))? else {
            return Err(PostError::Wrong("nothing is left of it".to_owned()));
        };
        let mut id = format!("{now_us}");
        posted.iter().for_each(|of| id.push_str(&format!("/{:016x}/{}", of.fingerprint, of.ends_us)));
        let id = BatchId(xxh3_128_with_seed(id.as_bytes(), SEED));
        match store.append_wait(Append { table: Table::Logs, id, batch }) {
            Ok(_) => Ok(()),
            Err(AppendError::TooLarge { reason }) => {
                Err(PostError::Wrong(format!("{reason}: send fewer alerts at once")))
            }
            Err(error) => Err(PostError::Busy(error.to_string())),
        }
    }
}

/// What an Alertmanager checks, and bounds; secrets are masked.
fn check(post: Post, gatekeeper: &Gatekeeper, now_us: i64) -> Result<Posted, String> {
    let masked = |mut pairs: BTreeMap<String, String>| {
        pairs.retain(|_, value| !value.is_empty());
        pairs.iter_mut().for_each(|(name, value)| *value = mask(gatekeeper, name, std::mem::take(value)));
        pairs
    };
    let mut labels = masked(post.labels);
    let annotations = masked(post.annotations);
    labels.remove(SOURCE_LABEL);
    if labels.is_empty() {
        return Err("has no label: at least one pair is needed".to_owned());
    }
    if let Some(name) = OF_FINDINGS.into_iter().find(|name| labels.contains_key(*name)) {
        return Err(format!("the label `{name}` is one of the hub's own findings: give it another name"));
    }
    // One label is ours.
    let bounds = [
        ("label", &labels, LABELS_MAX - 1, LABEL_BYTES_MAX),
        ("annotation", &annotations, ANNOTATIONS_MAX, ANNOTATION_BYTES_MAX),
    ];
    for (what, pairs, pairs_max, bytes_max) in bounds {
        if pairs.len() > pairs_max {
            return Err(format!("has {} {what}s: {pairs_max} at most", pairs.len()));
        }
        for (name, value) in pairs {
            if !is_name(name) {
                let name = cut(&one_line(name), 40);
                return Err(format!("the {what} name `{name}` is none: letters, digits and _, no digit first"));
            }
            if name.len() > NAME_BYTES_MAX || value.len() > bytes_max {
                let name = cut(name, 40);
                return Err(format!(
                    "the {what} `{name}` is too long: {NAME_BYTES_MAX} bytes of name and {bytes_max} of value at most"
                ));
            }
        }
    }
    labels.insert(SOURCE_LABEL.to_owned(), SOURCE.to_owned());
    let labels: Labels =
        labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
    let generator_url = gatekeeper.mask(&post.generator_url).into_owned();
    if generator_url.len() > URL_BYTES_MAX {
        return Err(format!("`generatorURL` is too long: {URL_BYTES_MAX} bytes at most"));
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
        annotations,
        starts_us,
        ends_us,
        updated_us: now_us,
        generator_url,
        recorded_us: 0,
    })
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

/// A value with masks in the place of secrets, where its name says that it is one, too.
fn mask(gatekeeper: &Gatekeeper, name: &str, value: String) -> String {
    let value = match gatekeeper.mask(&value) {
        Cow::Borrowed(_) => value,
        Cow::Owned(masked) => masked,
    };
    let pair = format!("{name}={value}");
    match gatekeeper.mask(&pair) {
        Cow::Owned(masked) => masked.get(name.len() + 1..).unwrap_or("[REDACTED]").to_owned(),
        Cow::Borrowed(_) => value,
    }
}

/// What a record says of an alert.
struct Told<'a> {
    posted: &'a Posted,
    status: &'static str,
    severity: i32,
    hash: String,
    starts: String,
    ends: String,
    body: String,
    pairs: Vec<(String, &'a str)>,
}

impl<'a> Told<'a> {
    fn of(posted: &'a Posted, now_us: i64) -> Told<'a> {
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
        let prefixed = |prefix: &str, name: &str| format!("threadline.alert.{prefix}.{name}");
        let labels = posted.labels.iter().map(|(name, value)| (prefixed("label", name), &**value));
        let annotations =
            posted.annotations.iter().map(|(name, value)| (prefixed("annotation", name), value.as_str()));
        let summary =
            ["summary", "description", "message"].into_iter().find_map(|name| posted.annotations.get(name));
        Told {
            posted,
            status: if over { "resolved" } else { "firing" },
            severity,
            hash: format!("{:016x}", posted.fingerprint),
            starts: crate::rows::time_text(posted.starts_us),
            ends: crate::rows::time_text(posted.ends_us),
            body: format!("{}: {}", label("alertname"), summary.map_or("an alert was posted", |text| text)),
            pairs: labels.chain(annotations).collect(),
        }
    }

    fn attributes(&self) -> Vec<Attribute<'_>> {
        let mut attributes = vec![
            ("threadline.alert.fingerprint", Value::Str(&self.hash)),
            ("threadline.alert.status", Value::Str(self.status)),
            ("threadline.alert.starts_at", Value::Str(&self.starts)),
            ("threadline.alert.ends_at", Value::Str(&self.ends)),
        ];
        if !self.posted.generator_url.is_empty() {
            attributes.push(("threadline.alert.generator_url", Value::Str(&self.posted.generator_url)));
        }
        attributes.extend(self.pairs.iter().map(|(name, value)| (name.as_str(), Value::Str(value))));
        attributes
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
        let alerts = PostedAlerts::open(Arc::clone(&db), Gatekeeper::default(), "").unwrap();
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
        let alerts = PostedAlerts::open(db, Gatekeeper::default(), "").unwrap();
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
        let alerts = PostedAlerts::open(db, Gatekeeper::default(), "").unwrap();
        let long = "x".repeat(5000);
        let pairs = |count| (0..count).map(|n| format!(r#""a{n}":"x""#)).collect::<Vec<_>>().join(",");
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
            (format!(r#"[{{"labels":{{"a":"x"}},"annotations":{{"b":"{long}"}}}}]"#), "4096 of value"),
            (format!(r#"[{{"labels":{{"a":"{}"}}}}]"#, "x".repeat(1025)), "1024 of value"),
            (format!(r#"[{{"labels":{{{}}}}}]"#, pairs(56)), "56 labels: 55 at most"),
            (r#"[{"labels":{"a":"x","rule_id":"1"}}]"#.to_owned(), "`rule_id`"),
            (r#"[{"labels":{"a":"x","rule":"1"}}]"#.to_owned(), "`rule`"),
            (r#"[{"labels":{"threadline_source":"x"}}]"#.to_owned(), "no label"),
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

    #[test]
    fn no_posted_alert_has_the_labels_of_a_finding() {
        let finding: Labels = [("rule", "a"), ("severity", "high"), ("service", "shop")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        let post = |labels: &Labels| {
            let labels: BTreeMap<String, String> =
                labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let post = Post {
                labels,
                annotations: BTreeMap::new(),
                starts_at: None,
                ends_at: None,
                generator_url: String::new(),
            };
            check(post, &Gatekeeper::default(), NOW)
        };
        assert!(post(&finding).unwrap_err().contains("`rule`"));
        // An incident has the name of the alert as its rule.
        let mut like: Labels = finding.clone();
        like.remove("rule");
        for source in ["", "detection", SOURCE] {
            like.insert(SOURCE_LABEL.into(), source.into());
            let posted = post(&like).unwrap();
            assert_eq!(&*posted.labels[SOURCE_LABEL], SOURCE);
            let mut with_rule = posted.labels.clone();
            with_rule.insert("rule".into(), "a".into());
            assert_ne!(fingerprint(&with_rule), fingerprint(&finding));
        }
    }

    fn policy_that_masks() -> Gatekeeper {
        Gatekeeper::new(&crate::settings::Settings::default()).unwrap()
    }

    #[test]
    fn secrets_of_an_alert_are_masked_before_anything_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { disk_free_bytes_min: 0, ..Options::default() };
        let store = Store::open(&folder.path().join("data"), options, Env::local()).unwrap();
        let book = folder.path().join("book.redb");
        let db = Arc::new(Database::create(&book).unwrap());
        let alerts = PostedAlerts::open(Arc::clone(&db), policy_that_masks(), "").unwrap();
        let body = r#"[{"labels":{"alertname":"Down","password":"hunter2-of-labels"},
            "annotations":{"summary":"call with Authorization: Bearer hunter2-of-summaries","apikey":"hunter2-of-notes"},
            "generatorURL":"http://u:hunter2-of-urls@prometheus/graph"}]"#;
        alerts.post(&store, body.as_bytes(), NOW).unwrap();
        alerts.post(&store, body.as_bytes(), NOW + MINUTE).unwrap();
        let known = alerts.active(NOW).remove(0);
        assert!(!format!("{known:?}").contains("hunter2"), "{known:?}");
        assert!(known.annotations["summary"].contains("[REDACTED:bearer]"), "{known:?}");
        assert_eq!(count(&store, "event:threadline.alert"), 1, "masked it is the same alert");
        store.close().unwrap();
        drop((alerts, db));
        let mut files = vec![folder.path().to_owned()];
        let mut looked_at = 0;
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{}", path.display());
            looked_at += 1;
        }
        assert!(looked_at > 1);
    }

    #[test]
    fn a_request_is_one_batch_and_a_store_that_takes_nothing_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { disk_free_bytes_min: 0, ..Options::default() };
        let store = Store::open(&folder.path().join("data"), options, Env::local()).unwrap();
        let full = Options { disk_free_bytes_min: u64::MAX, ..Options::default() };
        let busy = Store::open(&folder.path().join("full"), full, Env::local()).unwrap();
        let db = Arc::new(Database::create(folder.path().join("book.redb")).unwrap());
        let alerts = PostedAlerts::open(Arc::clone(&db), Gatekeeper::default(), "").unwrap();
        let end = crate::rows::time_text(NOW - 1);
        let start = crate::rows::time_text(NOW - 2);
        let all: Vec<String> = (0..500).map(|n| format!(r#"{{"labels":{{"n":"{n}"}}}}"#)).collect();
        let firing = format!("[{}]", all.join(","));
        // The last one begins and ends in the same request.
        let last = format!(r#"{{"labels":{{"n":"499"}},"startsAt":"{start}","endsAt":"{end}"}}"#);
        let body = format!("[{},{last}]", all.join(","));
        assert!(matches!(alerts.post(&busy, body.as_bytes(), NOW), Err(PostError::Busy(_))));
        assert_eq!(alerts.active(NOW).len(), 0);
        let before = store.stats().last_seq;
        alerts.post(&store, body.as_bytes(), NOW).unwrap();
        assert_eq!((alerts.active(NOW).len(), store.stats().last_seq - before), (499, 499));
        alerts.post(&store, firing.as_bytes(), NOW + MINUTE).unwrap();
        assert_eq!((alerts.active(NOW).len(), store.stats().last_seq - before), (500, 500));
        assert!(matches!(alerts.sweep(&busy, NOW + 20 * MINUTE), Err(PostError::Busy(_))));
        assert_eq!(alerts.active(NOW).len(), 500);
        alerts.sweep(&store, NOW + 20 * MINUTE).unwrap();
        assert_eq!((alerts.active(NOW).len(), store.stats().last_seq - before), (0, 1000));
        let anew = PostedAlerts::open(db, Gatekeeper::default(), "").unwrap();
        assert_eq!(anew.active(NOW).len(), 0);
        store.close().unwrap();
        busy.close().unwrap();
    }
}
