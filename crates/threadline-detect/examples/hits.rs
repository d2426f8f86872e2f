//! Prints which rules match which events: `hits RULES EVENTS`, for the comparison with another implementation
//! (`xtask/sigma/oracle.py`).
//!
//! `RULES` is a folder of YAML files, `EVENTS` a file of JSON objects, one a line. A line of output is a JSON object:
//! `{"refused":FILE,"why":…}`, `{"event":N,"hits":[ID,…]}` or, with `--correlate`, `{"rule":ID,"time":SECONDS,
//! "group":[…]}` for each finding of a correlation; an event's time is then its member `timestamp`, in seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use threadline_detect::engine::{Engine, Limits};
use threadline_detect::matcher::Scratch;
use threadline_detect::rules::{Options, RuleSet, SourceFile};
use threadline_detect::sigma::extension::{TestRecord, TestValue};
use threadline_detect::testing::{BASE_US, batch, run_records};
use threadline_model::schema::Table;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let correlate = arguments.iter().any(|word| word == "--correlate");
    let paths: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let [rules, events] = paths.as_slice() else {
        return Err("usage: hits RULES EVENTS [--correlate]".into());
    };
    let mut files = Vec::new();
    read_folder(Path::new(rules), &mut files)?;
    files.sort();
    let sources: Vec<SourceFile<'_>> = files.iter().map(|(name, text)| SourceFile { name, text }).collect();
    let (rules, problems) = RuleSet::compile(&sources, &Options { any_log_source: true, ..Options::default() });
    for problem in problems {
        println!("{}", json!({ "refused": problem.file, "why": problem.what }));
    }
    let mut records = Vec::new();
    for line in std::fs::read_to_string(events)?.lines() {
        records.push(record(&serde_json::from_str(line)?, correlate));
    }
    if correlate { correlations(rules, records) } else { hits(&rules, &records) }
}

fn hits(rules: &RuleSet, records: &[TestRecord]) -> Result<(), Failure> {
    let mut scratch = Scratch::default();
    for (number, part) in records.chunks(1000).enumerate() {
        let refs: Vec<&TestRecord> = part.iter().collect();
        let batch = batch(Table::Logs, &refs, BASE_US, 1)?;
        rules.matcher().scan(&batch, Table::Logs, &mut scratch, |row, hits| {
            let ids: Vec<&str> =
                hits.iter().filter_map(|hit| rules.rule_of_hit(*hit)).map(|meta| meta.id.as_str()).collect();
            println!("{}", json!({ "event": number * 1000 + row.row, "hits": ids }));
        });
    }
    Ok(())
}

fn correlations(rules: RuleSet, records: Vec<TestRecord>) -> Result<(), Failure> {
    let mut engine = Engine::new(Arc::new(rules), Limits::default());
    for finding in run_records(&mut engine, &records, 1)? {
        let seconds = (finding.time_us - BASE_US) as f64 / 1e6;
        let group: Vec<&str> = finding.entities.iter().map(|entity| entity.value.as_str()).collect();
        println!("{}", json!({ "rule": finding.rule_id.as_ref(), "time": seconds, "group": group }));
    }
    Ok(())
}

fn record(event: &Value, timed: bool) -> TestRecord {
    let members = event.as_object().into_iter().flatten();
    let at = event.get("timestamp").and_then(Value::as_f64).filter(|_| timed).unwrap_or(0.0);
    let fields = members
        .filter(|(key, _)| !timed || *key != "timestamp")
        .map(|(key, value)| (key.clone(), convert(value)));
    TestRecord { at_us: (at * 1e6) as i64, span: false, fields: fields.collect() }
}

fn convert(value: &Value) -> TestValue {
    match value {
        Value::Null => TestValue::Null,
        Value::Bool(value) => TestValue::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(int) => TestValue::Int(int),
            None => TestValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => TestValue::Text(text.clone()),
        Value::Array(values) => TestValue::List(values.iter().map(convert).collect()),
        Value::Object(members) => {
            TestValue::Map(members.iter().map(|(key, value)| (key.clone(), convert(value))).collect())
        }
    }
}

fn read_folder(folder: &Path, out: &mut Vec<(String, String)>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "regression_data") {
                read_folder(&path, out)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            out.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}
