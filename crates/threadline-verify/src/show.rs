//! What was to be shown, row by row, and whether it was.

use std::path::{Path, PathBuf};

use threadline_contract::registry::{Level, Registry, Use};
use threadline_model::id::{SpanId, TraceId};

use crate::sample::Sample;
use crate::sink::{Attributes, Kept, Log};

/// The caller's span, in every request.
const CALLER: [u8; 8] = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];
/// Findings that are told; the rest are counted.
const FINDINGS_MAX: usize = 10;

/// A request that a sample is sent.
pub(crate) struct Request {
    pub(crate) path: &'static str,
    /// The status that it must be answered with.
    status: u16,
    trace: u8,
}

/// One that succeeds, one that is refused, one for what is not there, one that fails.
pub(crate) const REQUESTS: [Request; 4] = [
    Request { path: "/orders/7", status: 200, trace: 1 },
    Request { path: "/refused", status: 401, trace: 2 },
    Request { path: "/nope", status: 404, trace: 3 },
    Request { path: "/broken", status: 500, trace: 4 },
];

impl Request {
    fn trace_id(&self) -> TraceId {
        let mut id = [0x4b; 16];
        id[15] = self.trace;
        TraceId(id)
    }

    pub(crate) fn traceparent(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("00-{}-{}-01", hex(&self.trace_id().0), hex(&CALLER))
    }
}

/// One thing that was to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What.
    pub what: String,
    /// What shows it, or what is missing.
    pub detail: String,
    /// Whether it was shown.
    pub shown: bool,
}

/// All that was to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the order of what a request does.
    pub rows: Vec<Row>,
    /// Where the files are that were run, and `output.log`; none where it was a temporary folder and nothing is missing.
    pub folder: Option<PathBuf>,
}

impl Report {
    /// Whether everything was shown.
    pub fn is_whole(&self) -> bool {
        self.rows.iter().all(|row| row.shown)
    }
}

pub(crate) fn report(
    sample: Sample,
    registry: &Registry,
    statuses: &[Result<u16, String>],
    kept: &Kept,
    folder: &Path,
) -> Report {
    let mut rows: Vec<Row> =
        REQUESTS.iter().zip(statuses).map(|(request, status)| answered(request, status, kept)).collect();
    rows.push(plain_log(kept));
    rows.push(spans(kept));
    let mut events = vec!["request.finished", "security.authn.rejected"];
    if sample.has_middleware() {
        events.extend(["security.endpoint.unknown", "service.started", "service.stopping"]);
    }
    rows.extend(events.into_iter().map(|name| event(registry, name, kept)));
    rows.push(resource(registry, kept));
    if sample.has_middleware() {
        rows.push(sequence(kept));
    }
    rows.push(verdict(kept));
    Report { rows, folder: Some(folder.to_owned()) }
}

pub(crate) fn row(what: impl Into<String>, found: Result<String, String>) -> Row {
    let shown = found.is_ok();
    Row { what: what.into(), detail: found.unwrap_or_else(|missing| missing), shown }
}

/// A request was answered, and left its record in the caller's trace.
fn answered(request: &Request, status: &Result<u16, String>, kept: &Kept) -> Row {
    let what = format!("GET {} leaves request.finished in its caller's trace", request.path);
    let wanted = request.status.to_string();
    let found = match status {
        Err(error) => Err(format!("no answer: {error}")),
        Ok(status) if *status != request.status => Err(format!("answered {status}, not {wanted}")),
        Ok(_) => {
            let of_trace = |log: &&Log| log.trace == Some(request.trace_id());
            let finished: Vec<&Log> =
                kept.logs.iter().filter(|log| log.event == "request.finished").filter(of_trace).collect();
            let key = "http.response.status_code";
            match finished.as_slice() {
                [log] if log.attributes.get(key) == Some(&wanted) => Ok(format!("{wanted}, one record")),
                [log] => Err(format!("its {key} is {:?}, not {wanted}", log.attributes.get(key))),
                [] => {
                    let elsewhere = kept.logs.iter().filter(|log| log.event == "request.finished").count();
                    Err(format!("no record; request.finished in other traces or in none: {elsewhere}"))
                }
                several => Err(format!("{} records of one request", several.len())),
            }
        }
    };
    row(what, found)
}

/// What is logged without an event's name is of the trace, too.
fn plain_log(kept: &Kept) -> Row {
    let trace = Some(REQUESTS[0].trace_id());
    let lines: Vec<&Log> = kept.logs.iter().filter(|log| log.body.contains("was read")).collect();
    let found = match lines.as_slice() {
        [] => Err("the line did not come".to_owned()),
        lines if lines.iter().all(|log| log.trace == trace) => Ok("its trace id".to_owned()),
        _ => Err("it came without the trace id of its request".to_owned()),
    };
    row("an ordinary log line of a request has its trace id", found)
}

fn spans(kept: &Kept) -> Row {
    let continued = REQUESTS.iter().filter(|request| {
        let is_its = |span: &&crate::sink::Span| span.trace == request.trace_id();
        kept.spans.iter().filter(is_its).any(|span| span.parent == Some(SpanId(CALLER)))
    });
    let (continued, all) = (continued.count(), REQUESTS.len());
    let found = format!("{continued} of {all} requests");
    row("each request's span continues the caller's", if continued == all { Ok(found) } else { Err(found) })
}

/// An event came, and each record of it has what is required.
pub(crate) fn event(registry: &Registry, name: &str, kept: &Kept) -> Row {
    let records: Vec<&Log> = kept.logs.iter().filter(|log| log.event == name).collect();
    let uses = registry.events.get(name).map_or(&[][..], |event| &event.uses);
    let missing = lacking(uses, records.iter().map(|log| &log.attributes));
    let required = uses.iter().filter(|used| used.level == Level::Required).count();
    let found = match (records.len(), missing) {
        (0, _) => Err("no such record came".to_owned()),
        (count, None) => Ok(format!("{count} records, each with its {required} required attributes")),
        (_, Some(missing)) => Err(missing),
    };
    row(name, found)
}

pub(crate) fn resource(registry: &Registry, kept: &Kept) -> Row {
    let missing = lacking(&registry.resource, kept.logs.iter().map(|log| &*log.resource));
    let required = registry.resource.iter().filter(|used| used.level == Level::Required).count();
    let found = match missing {
        _ if kept.logs.is_empty() => Err("no record came".to_owned()),
        None => Ok(format!("{required} required attributes")),
        Some(missing) => Err(missing),
    };
    row("every record's resource names its service", found)
}

/// Which required attributes are missing.
fn lacking<'a>(uses: &[Use], records: impl Iterator<Item = &'a Attributes> + Clone) -> Option<String> {
    let required = uses.iter().filter(|used| used.level == Level::Required);
    let lacks =
        |used: &&Use| records.clone().any(|attributes| attributes.get(&used.key).is_none_or(String::is_empty));
    let missing: Vec<&str> = required.filter(lacks).map(|used| used.key.as_str()).collect();
    (!missing.is_empty()).then(|| format!("without {}", missing.join(", ")))
}

fn sequence(kept: &Kept) -> Row {
    let with = kept.logs.iter().filter(|log| log.attributes.contains_key("threadline.sequence")).count();
    let found = format!("{with} of {} log records", kept.logs.len());
    row(
        "records are numbered, so that losses show",
        if with == kept.logs.len() { Ok(found) } else { Err(found) },
    )
}

/// What the contract itself says of all that came.
pub(crate) fn verdict(kept: &Kept) -> Row {
    let records = kept.logs.len() + kept.spans.len();
    let mut told: Vec<String> = kept.findings.iter().map(ToString::to_string).collect();
    told.extend(kept.refused.iter().cloned());
    let count = told.len();
    told.sort();
    told.dedup();
    let more = told.len().saturating_sub(FINDINGS_MAX);
    told.truncate(FINDINGS_MAX);
    let found = match count {
        0 if records > 0 => Ok(format!("{records} log records and spans")),
        0 => Err("nothing came".to_owned()),
        _ => Err(format!("{count} findings: {}{}", told.join("; "), if more > 0 { "; and more" } else { "" })),
    };
    row("the contract finds nothing wrong", found)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use threadline_contract::registry::{base_layers, load};

    use super::*;

    fn finished(request: &Request, without: &str) -> Log {
        let status = request.status.to_string();
        let attributes = [
            ("threadline.outcome", "success"),
            ("http.request.method", "GET"),
            ("client.address", "127.0.0.1"),
            ("url.path", request.path),
            ("http.response.status_code", &status),
            ("threadline.duration_s", "0.1"),
            ("threadline.sequence", "1"),
        ];
        let kept = attributes.iter().filter(|(key, _)| *key != without);
        Log {
            event: "request.finished".to_owned(),
            body: String::new(),
            trace: Some(request.trace_id()),
            attributes: kept.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            resource: Arc::default(),
        }
    }

    fn shown(kept: &Kept) -> Vec<(String, bool, String)> {
        let registry = load(&base_layers()).unwrap();
        let statuses = REQUESTS.iter().map(|request| Ok(request.status)).collect::<Vec<_>>();
        let report = report(Sample::Python, &registry, &statuses, kept, Path::new("/x"));
        report.rows.into_iter().map(|row| (row.what, row.shown, row.detail)).collect()
    }

    #[test]
    fn nothing_shows_nothing() {
        let rows = shown(&Kept::default());
        assert_eq!(rows.len(), 14);
        let numbered = |row: &&(String, bool, String)| row.0.starts_with("records are numbered");
        assert!(rows.iter().filter(|row| !numbered(row)).all(|(_, shown, _)| !shown), "{rows:#?}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let row = |kept: &Kept, what: &str| {
            let rows = shown(kept);
            rows.into_iter().find(|row| row.0.starts_with(what)).unwrap()
        };
        let whole = Kept { logs: REQUESTS.iter().map(|it| finished(it, "")).collect(), ..Kept::default() };
        assert!(row(&whole, "GET /orders/7").1);
        assert!(row(&whole, "request.finished").1, "{:?}", row(&whole, "request.finished"));
        let mut less = whole.clone();
        less.logs.push(finished(&REQUESTS[0], "url.path"));
        less.logs[1].attributes.insert("http.response.status_code".to_owned(), "200".to_owned());
        less.logs[2].trace = None;
        less.logs[3].attributes.remove("threadline.sequence");
        for (what, detail) in [
            ("GET /orders/7", "2 records of one request"),
            ("GET /refused", "status_code is Some(\"200\"), not 401"),
            ("GET /nope", "no record; request.finished in other traces or in none: 5"),
            ("request.finished", "without url.path"),
            ("records are numbered", "4 of 5"),
            ("every record's resource", "service.name"),
            ("each request's span", "0 of 4"),
        ] {
            let (_, shown, said) = row(&less, what);
            assert!(!shown && said.contains(detail), "{what}: {said}");
        }
    }
}
