//! What was sent beside what the hub holds. Whatever is missing is a line of its own, and the end of the run is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::attacks::Attack;
use crate::hub::Hub;
use crate::load::Journey;
use crate::receiver::Receiver;
use crate::{Result, careless, incidents};

/// How long the last records may take until the hub holds them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A line of the table.
#[derive(Debug)]
struct Line {
    what: String,
    sent: u64,
    held: u64,
}

/// What was sent.
pub(crate) struct Sent {
    pub(crate) journeys: Vec<Journey>,
    /// Requests that got no answer, of which nothing can be asked.
    pub(crate) lost: u64,
    /// Requests that were more than is remembered.
    pub(crate) uncounted: u64,
    /// Attacks and how often; `None` where the journeys say how often.
    pub(crate) attacks: Vec<(Attack, Option<u64>)>,
    pub(crate) careless: u64,
    /// Names of the services that ran.
    pub(crate) services: Vec<&'static str>,
}

/// Asks the hub, prints the table.
///
/// # Errors
/// What is missing.
pub(crate) async fn report(hub: &Hub, sent: &Sent, receiver: &Receiver) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (lines, missing) = loop {
        let (lines, missing) = compare(hub, sent).await?;
        if missing.is_empty() || Instant::now() > deadline {
            break (lines, missing);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("\n{:<52}{:>8}{:>8}", "", "sent", "held");
    for Line { what, sent, held } in &lines {
        let mark = if held == sent { "" } else { "  <- differs" };
        println!("{what:<52}{sent:>8}{held:>8}{mark}");
    }
    if sent.uncounted > 0 {
        println!("{} further requests are not counted: there were too many", sent.uncounted);
    }
    let unfound = findings(hub, sent).await?;
    let untold = incidents::check(hub, sent, receiver).await?;
    let lost = (sent.lost > 0).then(|| format!("{} requests got no answer", sent.lost));
    let scores = scores(hub, sent).await;
    let missing: Vec<String> =
        missing.into_iter().chain(unfound).chain(untold).chain(lost).chain(scores?).collect();
    if missing.is_empty() {
        println!("\nNothing is missing.");
        return Ok(());
    }
    let shown = missing.iter().take(20).map(|line| format!("  {line}\n")).collect::<String>();
    Err(format!("{} things are missing:\n{shown}", missing.len()))
}

pub(crate) fn text(row: &Value, key: &str) -> String {
    row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(crate) fn number(row: &Value, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// Lines of the table, and what is missing in words.
async fn compare(hub: &Hub, sent: &Sent) -> Result<(Vec<Line>, Vec<String>)> {
    let mut missing = Vec::new();
    let mut lines = journeys(hub, sent, &mut missing).await?;
    let reasons = "SELECT service, event_name, attr('threadline.reason') AS reason, attr('error.type') AS fault, count(*) AS n \
                   FROM logs WHERE event_name IS NOT NULL GROUP BY 1, 2, 3, 4";
    let rows = hub.sql(reasons).await?;
    for (attack, times) in &sent.attacks {
        let trail = attack.trail();
        let fits = |row: &&Value| {
            text(row, "service") == trail.service
                && text(row, "event_name") == trail.event
                && (text(row, "reason") == trail.reason || text(row, "fault") == trail.reason)
        };
        let held = rows.iter().filter(fits).map(|row| number(row, "n")).sum();
        let seen = sent.journeys.iter().filter(|journey| journey.status == 504).count() as u64;
        let sent = times.unwrap_or(seen);
        let what = format!("{}: {} {}", attack.name(), trail.event, trail.reason);
        if held != sent {
            missing.push(format!("{what}: sent {sent}, held {held}"));
        }
        if sent == 0 {
            missing.push(format!("{what}: nothing came of it"));
        }
        lines.push(Line { what, sent, held });
    }
    let rows = hub.sql("SELECT service, count(*) AS n FROM logs GROUP BY service").await?;
    let held = rows.iter().find(|row| text(row, "service") == careless::NAME).map_or(0, |row| number(row, "n"));
    if held != sent.careless {
        missing.push(format!("records of the careless service: sent {}, held {held}", sent.careless));
    }
    lines.push(Line { what: "records of the careless service".to_owned(), sent: sent.careless, held });
    Ok((lines, missing))
}

/// Conditions that cut a table into pieces whose rows an answer has room for.
async fn slices(hub: &Hub, table: &str) -> Result<Vec<String>> {
    const SEQS: u64 = 50_000;
    let rows = hub.sql(&format!("SELECT max(seq) AS last FROM {table}")).await?;
    let last = rows.first().map_or(0, |row| number(row, "last"));
    let starts = (0..=last / SEQS).map(|piece| piece * SEQS);
    Ok(starts.map(|from| format!("seq >= {from} AND seq < {}", from + SEQS)).collect())
}

/// Every request is found by its trace id, with a record of each service it crossed and a span tree without holes.
async fn journeys(hub: &Hub, sent: &Sent, missing: &mut Vec<String>) -> Result<Vec<Line>> {
    let finished = "SELECT hex(trace_id) AS trace, service, count(*) AS n FROM logs \
                    WHERE event_name = 'request.finished' AND trace_id IS NOT NULL AND @SLICE@ GROUP BY 1, 2";
    let mut records: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for slice in slices(hub, "logs").await? {
        for row in hub.sql(&finished.replace("@SLICE@", &slice)).await? {
            let services = records.entry(text(&row, "trace")).or_default();
            *services.entry(text(&row, "service")).or_default() += number(&row, "n");
        }
    }
    let all = "SELECT hex(trace_id) AS trace, hex(span_id) AS span, hex(parent_span_id) AS parent, service FROM spans \
               WHERE @SLICE@";
    let mut trees: BTreeMap<String, Vec<(String, String, String)>> = BTreeMap::new();
    for slice in slices(hub, "spans").await? {
        for row in hub.sql(&all.replace("@SLICE@", &slice)).await? {
            let span = (text(&row, "span"), text(&row, "parent"), text(&row, "service"));
            trees.entry(text(&row, "trace")).or_default().push(span);
        }
    }
    let mut by_service: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let (mut whole, mut cut_short) = (0, 0);
    for journey in &sent.journeys {
        // Where the edge gave up, what is behind it may not have been asked.
        let patient = journey.status != 504;
        let crossed = if patient { &journey.crossed[..] } else { journey.crossed.get(..1).unwrap_or_default() };
        cut_short += u64::from(!patient);
        let found = records.get(&journey.trace);
        for &service in crossed {
            let count = by_service.entry(service).or_default();
            count[0] += 1;
            if found.and_then(|services| services.get(service)) == Some(&1) {
                count[1] += 1;
            } else {
                missing.push(format!("trace {}: not one request.finished of {service}", journey.trace));
            }
        }
        match trees.get(&journey.trace).map(|spans| holes(spans, crossed)) {
            Some(None) => whole += 1,
            Some(Some(hole)) => missing.push(format!("trace {}: {hole}", journey.trace)),
            None => missing.push(format!("trace {}: no span", journey.trace)),
        }
    }
    let mut lines: Vec<Line> = sent
        .services
        .iter()
        .map(|service| {
            let [sent, held] = by_service.get(*service).copied().unwrap_or_default();
            Line { what: format!("request.finished of {service}"), sent, held }
        })
        .collect();
    let what = match cut_short {
        0 => "requests with a complete span tree".to_owned(),
        n => format!("requests with a complete span tree ({n} cut short)"),
    };
    lines.push(Line { what, sent: sent.journeys.len() as u64, held: whole });
    Ok(lines)
}

/// What a tree of (span, parent, service) lacks.
fn holes(spans: &[(String, String, String)], crossed: &[&str]) -> Option<String> {
    let known: BTreeSet<&str> = spans.iter().map(|(span, _, _)| span.as_str()).collect();
    let roots = spans.iter().filter(|(_, parent, _)| parent.is_empty()).count();
    if roots != 1 {
        return Some(format!("{roots} spans without parent"));
    }
    if let Some((span, parent, service)) =
        spans.iter().find(|(_, parent, _)| !parent.is_empty() && !known.contains(parent.as_str()))
    {
        return Some(format!("span {span} of {service} has the parent {parent}, which is not there"));
    }
    let absent = crossed.iter().find(|name| !spans.iter().any(|(_, _, service)| service == *name));
    absent.map(|name| format!("no span of {name}"))
}

/// How long a finding may come after the record that completed it.
const FOUND_WITHIN: Duration = Duration::from_secs(5);

/// What watching has found: each attack, in time; without attacks nothing that is more than low.
async fn findings(hub: &Hub, sent: &Sent) -> Result<Vec<String>> {
    let all = "SELECT attr('security_rule.name') AS rule, attr('threadline.finding.level') AS level, \
               CAST(arrival_ts AS BIGINT) AS arrival, attr('threadline.finding.log_seqs') AS seqs \
               FROM logs WHERE event_name = 'security.finding' ORDER BY seq";
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        let found = hub.sql(all).await?;
        let is_found = |(attack, _): &(Attack, _)| found.iter().any(|row| text(row, "rule") == attack.rule());
        if sent.attacks.iter().all(is_found) || Instant::now() > deadline {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("\n{:<58}{:>8}{:>8}   after", "found", "level", "times");
    let mut missing = Vec::new();
    let mut others: BTreeMap<(String, String), u64> = BTreeMap::new();
    for row in &found {
        *others.entry((text(row, "rule"), text(row, "level"))).or_default() += 1;
    }
    for (attack, _) in &sent.attacks {
        let rule = attack.rule();
        let Some(first) = found.iter().find(|row| text(row, "rule") == rule) else {
            missing.push(format!("{}: no finding of the rule \"{rule}\"", attack.name()));
            continue;
        };
        let after = after(hub, first).await?;
        let level = text(first, "level");
        let times = others.remove(&(rule.to_owned(), level.clone())).unwrap_or(0);
        println!("{rule:<58}{level:>8}{times:>8}   {:.2} s", after.as_secs_f64());
        if after > FOUND_WITHIN {
            missing.push(format!("{}: found after {:.1} s", attack.name(), after.as_secs_f64()));
        }
    }
    for ((rule, level), times) in others {
        println!("{rule:<58}{level:>8}{times:>8}");
        if sent.attacks.is_empty() && !matches!(level.as_str(), "low" | "informational") {
            missing.push(format!("a finding of nothing: {rule} ({level})"));
        }
    }
    Ok(missing)
}

/// How long after the arrival of its last evidence a finding arrived.
async fn after(hub: &Hub, finding: &Value) -> Result<Duration> {
    let seqs = text(finding, "seqs");
    if seqs.is_empty() || !seqs.bytes().all(|byte| byte.is_ascii_digit() || byte == b',') {
        return Err(format!("a finding without evidence: {finding}"));
    }
    let last = format!("SELECT CAST(max(arrival_ts) AS BIGINT) AS last FROM logs WHERE seq IN ({seqs})");
    let last = hub.sql(&last).await?.first().map_or(0, |row| number(row, "last"));
    Ok(Duration::from_micros(number(finding, "arrival").saturating_sub(last)))
}

/// Scores: high for the fleet, low for the careless service, and for the right reasons.
async fn scores(hub: &Hub, sent: &Sent) -> Result<Vec<String>> {
    let score = hub.score().await?;
    let senders = score.get("senders").and_then(Value::as_array).cloned().unwrap_or_default();
    println!("\n{:<20}{:>8}{:>10}   broken rules", "contract score", "", "records");
    let mut missing = Vec::new();
    let expected = sent.services.iter().copied().chain([careless::NAME]);
    for service in expected {
        let Some(found) = senders.iter().find(|sender| text(sender, "service") == service) else {
            missing.push(format!("no contract score of {service}"));
            continue;
        };
        let points = found.get("score").and_then(Value::as_f64).unwrap_or(0.0);
        let rules = found.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
        let rules: Vec<String> = rules.iter().map(|rule| text(rule, "rule")).collect();
        println!("{service:<20}{points:>8.1}{:>10}   {}", number(found, "records"), rules.join(", "));
        if service == careless::NAME {
            let unseen = careless::BREAKS.iter().filter(|rule| !rules.iter().any(|found| found == *rule));
            missing
                .extend(unseen.map(|rule| format!("{service} breaks {rule}, and its score does not say so")));
            if points > 90.0 {
                missing.push(format!("{service} has a score of {points:.1}, which is too good for it"));
            }
        } else if points < 99.0 {
            missing
                .push(format!("{service} has a contract score of {points:.1}: it breaks {}", rules.join(", ")));
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found() {
        let span =
            |id: &str, parent: &str, service: &str| (id.to_owned(), parent.to_owned(), service.to_owned());
        let whole = vec![span("1", "", "edge"), span("2", "1", "edge"), span("3", "2", "orders")];
        assert_eq!(holes(&whole, &["edge", "orders"]), None);
        assert!(holes(&whole, &["edge", "payment"]).unwrap().contains("payment"));
        assert!(holes(&whole[1..], &["edge"]).unwrap().contains("0 spans"));
        let cut = vec![span("1", "", "edge"), span("3", "2", "orders")];
        assert!(holes(&cut, &["edge"]).unwrap().contains("parent 2"));
    }
}
