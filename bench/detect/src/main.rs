//! How fast the rule engine is: `bench-detect RULES [EVENTS.ndjson]`.
//!
//! Three ways over the same rules and events, one core each: ours; the crate `rsigma-eval`, as it comes, told the log
//! source, and with its index over texts; and evaluating every test of every rule. Events are rows of a batch for us
//! (attributes as JSON text, which is read inside the measured time) and parsed JSON values for the others.
//! What is found is compared, too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use rsigma_eval::{Engine, JsonEvent};
use rsigma_parser::{LogSource, SigmaCollection, parse_sigma_yaml};
use serde_json::{Map, Value, json};
use threadline_detect::engine::Limits;
use threadline_detect::matcher::Scratch;
use threadline_detect::pipeline::builtin;
use threadline_detect::rules::{Options, RuleSet, SourceFile};
use threadline_detect::sigma::extension::{TestRecord, TestValue};
use threadline_detect::testing::{BASE_US, batch};
use threadline_model::schema::Table;

type Failure = Box<dyn std::error::Error>;

const EVENTS: usize = 20_000;
const BATCH: usize = 2_000;
/// How long each way runs, at least.
const RUN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        return Err("usage: bench-detect RULES: a folder of Sigma rules with regression_data".into());
    };
    let mut files = Vec::new();
    read(Path::new(folder), &|path| !path.contains("regression_data") && path.ends_with(".yml"), &mut files)?;
    let mut tests = Vec::new();
    read(Path::new(folder), &|path| path.contains("regression_data") && path.ends_with(".json"), &mut tests)?;

    let any = load(&files, Options { any_log_source: true, ..Options::default() });
    let routed = load(&files, Options { pipelines: builtin()?, any_log_source: false });
    let (peer, collections) = load_peer(&files)?;

    let processes = process_events(&tests)?;
    println!("\n{} process_creation events of regression_data, {} of them different", EVENTS, processes.len());
    let repeated: Vec<Map<String, Value>> = processes.iter().cycle().take(EVENTS).cloned().collect();
    let varied: Vec<Map<String, Value>> =
        repeated.iter().enumerate().map(|(n, event)| vary(event, n)).collect();
    let source = ("windows", "process_creation");
    measure("process_creation, replicated", &any, &routed, &peer, &collections, &repeated, &repeated, source)?;
    measure(
        "process_creation, each command line different",
        &any,
        &routed,
        &peer,
        &collections,
        &varied,
        &varied,
        source,
    )?;
    let (ours, theirs) = requests();
    measure("request records", &any, &routed, &peer, &collections, &ours, &theirs, ("", "webserver"))?;
    state()
}

/// A million groups of a correlation: how fast they come to be, and what they take.
fn state() -> Result<(), Failure> {
    const GROUPS: usize = 1_000_000;
    let text = "title: a\nname: a\nlogsource: { product: threadline }\ndetection: { s: { event_name: x }, condition: s }\n---\n\
                title: t\ncorrelation: { type: event_count, rules: a, group-by: user.id, timespan: 1h, condition: { gte: 5 } }\n";
    let (rules, problems) = RuleSet::compile(
        &[SourceFile { name: "state", text }],
        &Options { any_log_source: true, ..Options::default() },
    );
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem.into());
    }
    let mut engine = threadline_detect::engine::Engine::new(std::sync::Arc::new(rules), Limits::default());
    let before = resident_bytes();
    let mut seconds = 0.0;
    for part in 0..GROUPS / 10_000 {
        let record = |n: usize| TestRecord {
            at_us: (part * 10_000 + n) as i64 * 1000,
            span: false,
            fields: vec![
                ("event_name".to_owned(), TestValue::Text("x".to_owned())),
                ("user.id".to_owned(), TestValue::Text(format!("user-{:08x}@example.org", part * 10_000 + n))),
            ],
        };
        let records: Vec<TestRecord> = (0..10_000).map(record).collect();
        let refs: Vec<&TestRecord> = records.iter().collect();
        let batch = batch(Table::Logs, &refs, BASE_US, (part * 10_000) as i64 + 1)?;
        let began = Instant::now();
        engine.step(&batch, Table::Logs);
        seconds += began.elapsed().as_secs_f64();
    }
    let (groups, bytes) = engine.state_size();
    let began = Instant::now();
    let checkpoint = engine.checkpoint();
    println!(
        "\n{groups} groups of a correlation: {} MB counted, {} MB resident, {:.0} records/s; checkpoint of {} MB in {:.2} s",
        bytes >> 20,
        resident_bytes().saturating_sub(before) >> 20,
        GROUPS as f64 / seconds,
        checkpoint.len() >> 20,
        began.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// Bytes of memory that the process has, where the system says so.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn load(files: &[(String, String)], options: Options) -> RuleSet {
    let sources: Vec<SourceFile<'_>> = files.iter().map(|(name, text)| SourceFile { name, text }).collect();
    let name = if options.any_log_source { "whatever their log source" } else { "by log source" };
    let started = Instant::now();
    let (rules, problems) = RuleSet::compile(&sources, &options);
    let seconds = started.elapsed().as_secs_f64();
    let (atoms, refused) = (rules.matcher().atoms(), problems.len());
    println!("ours, {name}: {} rules, {refused} refused, {atoms} tests, loaded in {seconds:.3} s", rules.len());
    rules
}

fn load_peer(files: &[(String, String)]) -> Result<(Engine, Vec<SigmaCollection>), Failure> {
    let started = Instant::now();
    let mut engine = Engine::new();
    let mut collections = Vec::new();
    let mut refused = 0;
    for (_, text) in files {
        match parse_sigma_yaml(text) {
            Ok(collection) => collections.push(collection),
            Err(_) => refused += 1,
        }
    }
    let rules = collections.iter().flat_map(|collection| collection.rules.iter());
    refused += engine.add_rules(rules).len();
    let seconds = started.elapsed().as_secs_f64();
    println!("rsigma-eval: {} rules, {refused} refused, loaded in {seconds:.3} s", engine.rule_count());
    Ok((engine, collections))
}

fn peer_with_texts(collections: &[SigmaCollection]) -> Engine {
    let mut engine = Engine::new();
    engine.add_rules(collections.iter().flat_map(|collection| collection.rules.iter()));
    engine.set_cross_rule_ac(true);
    engine
}

#[allow(clippy::too_many_arguments)]
fn measure(
    title: &str,
    any: &RuleSet,
    routed: &RuleSet,
    peer: &Engine,
    collections: &[SigmaCollection],
    ours: &[Map<String, Value>],
    theirs: &[Map<String, Value>],
    (product, category): (&str, &str),
) -> Result<(), Failure> {
    println!("\n{title}");
    let plain = batches(ours, &[])?;
    let named = batches(ours, &[("sigma.product", product), ("sigma.category", category)])?;
    let events: Vec<Value> = theirs.iter().cloned().map(Value::Object).collect();
    let source = LogSource {
        product: Some(product.to_owned()).filter(|name| !name.is_empty()),
        category: Some(category.to_owned()),
        ..LogSource::default()
    };
    let scan = |rules: &RuleSet, batches: &[RecordBatch]| {
        let mut scratch = Scratch::default();
        let mut hits = 0;
        rate(ours.len(), || {
            hits = 0;
            for batch in batches {
                rules.matcher().scan(batch, Table::Logs, &mut scratch, |_, found| hits += found.len());
            }
        })
        .map(|rate| (rate, hits))
    };
    let report = |name: &str, (rate, hits): (f64, usize)| {
        println!("  {name:<44} {rate:>12.0} events/s   {hits:>7} hits")
    };
    report("ours, every rule asked", scan(any, &plain)?);
    report("ours, by log source", scan(routed, &named)?);
    let mut hits = 0;
    let peer_rate = rate(events.len(), || {
        hits = events.iter().map(|event| peer.evaluate(&JsonEvent::borrow(event)).len()).sum();
    })?;
    report("rsigma-eval 0.23, every rule asked", (peer_rate, hits));
    let peer_rate = rate(events.len(), || {
        hits = events
            .iter()
            .map(|event| peer.evaluate_with_logsource(&JsonEvent::borrow(event), &source).len())
            .sum();
    })?;
    report("rsigma-eval 0.23, told the log source", (peer_rate, hits));
    let texts = peer_with_texts(collections);
    let peer_rate = rate(events.len(), || {
        hits = events
            .iter()
            .map(|event| texts.evaluate_with_logsource(&JsonEvent::borrow(event), &source).len())
            .sum();
    })?;
    report("rsigma-eval 0.23, with its index over texts, too", (peer_rate, hits));
    let few =
        plain.first().ok_or("no events")?.slice(0, 20.min(plain.first().map_or(0, RecordBatch::num_rows)));
    let plain_rate = rate(few.num_rows(), || {
        hits = (0..few.num_rows()).map(|row| any.matcher().match_plainly(&few, Table::Logs, row).len()).sum();
    })?;
    report("every test of every rule", (plain_rate, hits));
    differences(any, peer, &plain, &events);
    Ok(())
}

/// Whether both find the same, where both take the rule.
fn differences(any: &RuleSet, peer: &Engine, batches: &[RecordBatch], events: &[Value]) {
    let mut scratch = Scratch::default();
    let (mut same, mut other) = (0, BTreeSet::new());
    let known: BTreeSet<String> = any.metas().map(|(meta, _)| meta.id.clone()).collect();
    let mut events = events.iter();
    for batch in batches {
        any.matcher().scan(batch, Table::Logs, &mut scratch, |_, hits| {
            let Some(event) = events.next() else { return };
            let ours: BTreeSet<String> =
                hits.iter().filter_map(|hit| any.rule_of_hit(*hit)).map(|meta| meta.id.clone()).collect();
            let theirs: BTreeSet<String> = peer
                .evaluate(&JsonEvent::borrow(event))
                .into_iter()
                .filter_map(|result| result.header.rule_id)
                .filter(|id| known.contains(id))
                .collect();
            same += ours.intersection(&theirs).count();
            other.extend(ours.symmetric_difference(&theirs).cloned());
        });
    }
    println!("  found by both: {same} hits; rules on which they differ: {other:?}");
}

fn rate(events: usize, mut run: impl FnMut()) -> Result<f64, Failure> {
    let started = Instant::now();
    let mut best = f64::MAX;
    while started.elapsed() < RUN {
        let began = Instant::now();
        run();
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(events as f64 / best)
}

fn batches(events: &[Map<String, Value>], also: &[(&str, &str)]) -> Result<Vec<RecordBatch>, Failure> {
    let also: Vec<(String, TestValue)> = also
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| ((*key).to_owned(), TestValue::Text((*value).to_owned())))
        .collect();
    let record = |event: &Map<String, Value>| {
        let mut fields: Vec<(String, TestValue)> =
            event.iter().map(|(key, value)| (key.clone(), convert(value))).collect();
        fields.extend(also.iter().cloned());
        TestRecord { at_us: 0, span: false, fields }
    };
    let records: Vec<TestRecord> = events.iter().map(record).collect();
    let mut out = Vec::new();
    for (number, part) in records.chunks(BATCH).enumerate() {
        let refs: Vec<&TestRecord> = part.iter().collect();
        out.push(batch(Table::Logs, &refs, BASE_US, (number * BATCH) as i64 + 1)?);
    }
    Ok(out)
}

fn convert(value: &Value) -> TestValue {
    match value {
        Value::Null => TestValue::Null,
        Value::Bool(value) => TestValue::Bool(*value),
        Value::Number(number) => {
            number.as_i64().map_or(TestValue::Double(number.as_f64().unwrap_or(0.0)), TestValue::Int)
        }
        Value::String(text) => TestValue::Text(text.clone()),
        other => TestValue::Text(other.to_string()),
    }
}

/// Process creations among the regression events: system fields and event data side by side.
fn process_events(files: &[(String, String)]) -> Result<Vec<Map<String, Value>>, Failure> {
    let mut out = Vec::new();
    for (_, text) in files {
        // Objects stand one after another.
        for event in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let event = event?;
            let event = event.get("Event").unwrap_or(&event);
            let mut fields = Map::new();
            for part in ["System", "EventData"] {
                for (key, value) in event.get(part).and_then(Value::as_object).into_iter().flatten() {
                    if !value.is_object() && !value.is_null() {
                        fields.insert(key.clone(), value.clone());
                    }
                }
            }
            if fields.contains_key("CommandLine") && fields.contains_key("Image") {
                out.push(fields);
            }
        }
    }
    if out.is_empty() { Err("no process creations in regression_data".into()) } else { Ok(out) }
}

fn vary(event: &Map<String, Value>, number: usize) -> Map<String, Value> {
    let mut event = event.clone();
    for key in ["CommandLine", "ParentCommandLine"] {
        if let Some(Value::String(text)) = event.get_mut(key) {
            text.push_str(&format!(" --run {number:x}"));
        }
    }
    event.insert("ProcessGuid".to_owned(), json!(format!("5aa13a44-0130-68fd-4e35-{number:012x}")));
    event.insert("ProcessId".to_owned(), json!(1000 + number % 50_000));
    event
}

/// Requests of a shop as our records, and the same by the names that Sigma's web rules use.
fn requests() -> (Vec<Map<String, Value>>, Vec<Map<String, Value>>) {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let agents = [
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
        "okhttp/4.12.0",
        "python-requests/2.32.3",
    ];
    let routes = [
        "/api/v1/orders/{id}",
        "/api/v1/carts/{id}/items",
        "/api/v1/products",
        "/login",
        "/api/v1/users/{id}/addresses",
    ];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..EVENTS {
        let route = routes[random(5) as usize];
        let path = route.replace("{id}", &format!("{:x}", random(1 << 40)));
        let query = if random(3) == 0 {
            format!("page={}&sort=price&token={:x}", random(50), random(1 << 50))
        } else {
            String::new()
        };
        let method = ["GET", "GET", "GET", "POST", "PUT"][random(5) as usize];
        let status = [200, 200, 200, 200, 201, 204, 304, 400, 401, 404, 500][random(11) as usize];
        let client = format!("10.{}.{}.{}", random(4), random(200), random(250));
        let agent = agents[random(4) as usize];
        let user = format!("user-{}", random(5000));
        let duration = random(900) as f64 / 1000.0;
        let service = ["gateway", "orders", "carts", "users"][random(4) as usize];
        let outcome = if status < 400 { "success" } else { "failure" };
        let mut own = json!({
            "service.name": service,
            "event_name": "request.finished", "severity_number": 9, "body": format!("{method} {route} {status}"),
            "http.request.method": method, "http.route": route, "url.path": path, "http.response.status_code": status,
            "client.address": client, "user_agent.original": agent, "user.id": user,
            "threadline.outcome": outcome, "threadline.duration_s": duration,
            "threadline.request.id": format!("{number:032x}"),
        });
        let uri = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let mut other = json!({
            "cs-method": method, "c-uri": uri, "cs-uri-stem": path, "sc-status": status, "c-ip": client,
            "cs-user-agent": agent, "c-useragent": agent, "cs-username": user, "duration": duration, "message": format!("{method} {route} {status}"),
        });
        if !query.is_empty() {
            own["url.query"] = json!(query);
            other["cs-uri-query"] = json!(query);
        }
        ours.extend(own.as_object().cloned());
        theirs.extend(other.as_object().cloned());
    }
    (ours, theirs)
}

fn read(folder: &Path, takes: &dyn Fn(&str) -> bool, out: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read(&path, takes, out)?;
        } else if takes(&path.to_string_lossy()) {
            out.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}
