//! Lines of OTLP/JSON, as the Collector's file exporter writes them: one export request, or one `ResourceLogs` or
//! `ResourceSpans`, per line. Lines are not decoded here; their parts are joined into requests.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use threadline_model::jsonl::LineError;
use threadline_model::schema::Table;

/// Parts of requests, by table: each a `ResourceLogs` or `ResourceSpans` with its number of records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// For `logs`.
    pub(crate) logs: Vec<Part>,
    /// For `spans`.
    pub(crate) spans: Vec<Part>,
}

/// A `ResourceLogs` or `ResourceSpans`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// JSON text.
    pub(crate) json: String,
    /// Records in it.
    pub(crate) records: u64,
    /// The line it comes from.
    pub(crate) line: u64,
}

#[derive(Deserialize)]
struct Export<'a> {
    #[serde(borrow, default, rename = "resourceLogs", alias = "resource_logs")]
    logs: Vec<&'a RawValue>,
    #[serde(borrow, default, rename = "resourceSpans", alias = "resource_spans")]
    spans: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default, alias = "scopeLogs", alias = "scope_logs", alias = "scopeSpans", alias = "scope_spans")]
    scopes: Vec<Scope>,
}

#[derive(Deserialize)]
struct Scope {
    #[serde(default, alias = "logRecords", alias = "log_records", alias = "spans")]
    records: Vec<IgnoredAny>,
}

impl Parts {
    /// Adds the parts of a line.
    ///
    /// # Errors
    /// Why it is no OTLP/JSON.
    pub(crate) fn add(&mut self, line: &[u8], number: u64) -> Result<(), LineError> {
        let broken = |error: serde_json::Error| LineError::NotJson(error.to_string());
        let export: Export<'_> = serde_json::from_slice(line).map_err(broken)?;
        if export.logs.is_empty() && export.spans.is_empty() {
            return self.add_bare(line, number);
        }
        for (raws, parts) in [(&export.logs, &mut self.logs), (&export.spans, &mut self.spans)] {
            for raw in raws {
                parts.push(Part { json: raw.get().to_owned(), records: count(raw)?, line: number });
            }
        }
        Ok(())
    }

    fn add_bare(&mut self, line: &[u8], number: u64) -> Result<(), LineError> {
        let raw: &RawValue =
            serde_json::from_slice(line).map_err(|error| LineError::NotJson(error.to_string()))?;
        let has = |name: &str| memchr::memmem::find(line, name.as_bytes()).is_some();
        let parts =
            if has("\"scopeSpans\"") || has("\"scope_spans\"") { &mut self.spans } else { &mut self.logs };
        let records = count(raw)?;
        if records == 0 {
            return Err(LineError::Empty);
        }
        parts.push(Part { json: raw.get().to_owned(), records, line: number });
        Ok(())
    }
}

fn count(raw: &RawValue) -> Result<u64, LineError> {
    let resource: Resource =
        serde_json::from_str(raw.get()).map_err(|error| LineError::NotJson(error.to_string()))?;
    Ok(resource.scopes.iter().map(|scope| scope.records.len() as u64).sum())
}

/// A request of parts.
pub(crate) fn request(table: Table, parts: &[Part]) -> Vec<u8> {
    let name = match table {
        Table::Logs => "resourceLogs",
        Table::Spans => "resourceSpans",
    };
    let mut out = format!("{{\"{name}\":[");
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&part.json);
    }
    out.push_str("]}");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_file_exporter_are_joined() {
        for (line, logs, spans) in [
            (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{}]}]},{"scopeLogs":[]}]}"#, 2, 0),
            (r#"{"resource_spans":[{"scope_spans":[{"spans":[{}]},{"spans":[{},{}]}]}]}"#, 0, 3),
            (r#"{"resource":{},"scopeLogs":[{"logRecords":[{}]}]}"#, 1, 0),
            (r#"{"resource":{},"scopeSpans":[{"spans":[{}]}]}"#, 0, 1),
        ] {
            let mut parts = Parts::default();
            parts.add(line.as_bytes(), 1).unwrap();
            let sum = |parts: &[Part]| parts.iter().map(|part| part.records).sum::<u64>();
            assert_eq!((sum(&parts.logs), sum(&parts.spans)), (logs, spans), "{line}");
        }
        let part = |json: &str| Part { json: json.to_owned(), records: 1, line: 1 };
        assert_eq!(request(Table::Logs, &[part("{}"), part("{}")]), b"{\"resourceLogs\":[{},{}]}");
        assert!(Parts::default().add(b"{\"resourceLogs\":7}", 1).is_err());
        assert!(Parts::default().add(b"{\"resourceMetrics\":[]}", 1).is_err());
    }
}
