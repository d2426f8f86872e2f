//! The query string of a request, checked against what its operation takes.

use axum::extract::Query;
use http::Uri;
use threadline_model::schema::Table;
use threadline_query::lang::{self, Expr};
use threadline_query::search::TimeRange;
use threadline_store::Scope;

use super::operations::{Kind, Operation};
use super::problem::Problem;
use crate::when;

/// Bytes of a query string.
const QUERY_BYTES_MAX: usize = 32 << 10;

/// Named texts of a request, all known to its operation, each at most once unless it says otherwise.
pub(crate) struct Params {
    operation: &'static Operation,
    pairs: Vec<(String, String)>,
    now_us: i64,
}

impl Params {
    /// From the query string of a URI.
    pub(crate) fn of(operation: &'static Operation, uri: &Uri, now_us: i64) -> Result<Params, Problem> {
        if uri.query().is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
            return Err(Problem::parameter("query", format!("at most {QUERY_BYTES_MAX} bytes are taken")));
        }
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::parameter("query", error.to_string()))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            let known = operation.parameters.iter().any(|p| p.name == name && !p.in_path);
            if !known {
                let names: Vec<&str> =
                    operation.parameters.iter().filter(|p| !p.in_path).map(|p| p.name).collect();
                let takes = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Problem::parameter(
                    name,
                    format!("there is no such parameter; taken are: {takes}"),
                ));
            }
            let several = operation.parameters.iter().any(|p| p.name == name && matches!(p.kind, Kind::Texts));
            if !several && pairs.iter().take(at).any(|(earlier, _)| earlier == name) {
                return Err(Problem::parameter(name, "is given twice"));
            }
        }
        Ok(Params { operation, pairs, now_us })
    }

    /// What was asked, for records.
    pub(crate) fn shown(&self) -> std::borrow::Cow<'_, str> {
        let pairs: Vec<String> = self.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(" ").into()
    }

    /// A text; `None` when absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(self.operation.parameters.iter().any(|p| p.name == name), "{name}");
        let (_, value) = self.pairs.iter().find(|(key, _)| key == name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// All texts of a name that may be given several times.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A text that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Problem> {
        self.text(name).ok_or_else(|| Problem::parameter(name, "is missing"))
    }

    /// An integer within the bounds that its operation declares; its default when absent.
    pub(crate) fn integer(&self, name: &str) -> Result<usize, Problem> {
        let declared = self.operation.parameters.iter().find(|p| p.name == name).map(|p| p.kind);
        let Some(Kind::Integer { min, max, default }) = declared else {
            return Err(Problem::internal(format!("{name} is not declared as an integer")));
        };
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse::<usize>().ok().filter(|n| (min..=max).contains(n));
        number.ok_or_else(|| Problem::parameter(name, format!("must be an integer from {min} to {max}")))
    }

    /// A signed sequence number.
    pub(crate) fn sequence(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse::<i64>().ok().filter(|n| *n >= 0);
        number.map(Some).ok_or_else(|| Problem::parameter(name, "must be a sequence number, 0 or more"))
    }

    /// Whether a flag is set.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(Problem::parameter(name, "must be 1 or 0")),
        }
    }

    /// The records that are asked for: those in quarantine, too, when the parameter `quarantined` says so.
    pub(crate) fn scope(&self) -> Result<Scope, Problem> {
        Ok(if self.flag("quarantined")? { Scope::All } else { Scope::Regular })
    }

    /// One of the words that its operation declares; the first when absent.
    pub(crate) fn choice(&self, name: &str) -> Result<Option<&'static str>, Problem> {
        let declared = self.operation.parameters.iter().find(|p| p.name == name).map(|p| p.kind);
        let Some(Kind::Choice(words)) = declared else {
            return Err(Problem::internal(format!("{name} is not declared as a choice")));
        };
        let Some(text) = self.text(name) else { return Ok(None) };
        let word = words.iter().find(|word| **word == text);
        word.map(|word| Some(*word))
            .ok_or_else(|| Problem::parameter(name, format!("must be one of {}", words.join(", "))))
    }

    /// The table; logs when absent.
    pub(crate) fn table(&self) -> Result<Table, Problem> {
        Ok(self.choice("table")?.and_then(Table::parse).unwrap_or(Table::Logs))
    }

    /// The search; everything when absent.
    pub(crate) fn search(&self) -> Result<Expr, Problem> {
        parse_search("q", self.text("q").unwrap_or_default())
    }

    /// A duration in ns.
    pub(crate) fn duration_ns(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let duration = when::parse_duration(text).map_err(|reason| Problem::parameter(name, reason))?;
        Ok(Some(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The range of `from`, `to` and `since`.
    pub(crate) fn range(&self) -> Result<TimeRange, Problem> {
        range(self.text("from"), self.text("to"), self.text("since"), self.now_us)
    }
}

/// Parses a search.
pub(crate) fn parse_search(name: &str, text: &str) -> Result<Expr, Problem> {
    lang::parse(text).map_err(|error| Problem::search(name, &error))
}

/// A range of event times from what a client says.
pub(crate) fn range(
    from: Option<&str>,
    to: Option<&str>,
    since: Option<&str>,
    now_us: i64,
) -> Result<TimeRange, Problem> {
    let time = |name, text: Option<&str>| {
        text.map(|text| when::parse_time(text, now_us).map_err(|reason| Problem::parameter(name, reason)))
            .transpose()
    };
    let (mut from_us, to_us) = (time("from", from)?, time("to", to)?);
    if let Some(since) = since {
        if from_us.is_some() {
            return Err(Problem::parameter("since", "is the same as from=now-…: give one of them"));
        }
        let since = when::parse_duration(since).map_err(|reason| Problem::parameter("since", reason))?;
        from_us = Some(now_us.saturating_sub(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)));
    }
    if from_us.zip(to_us).is_some_and(|(from, to)| from > to) {
        return Err(Problem::parameter("to", "is before from"));
    }
    Ok(TimeRange { from_us, to_us })
}
