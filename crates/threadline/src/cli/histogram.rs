//! `threadline search --histogram`: counts over time as bars.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::args::{Format, OutputArgs, Screen};
use super::failure::Failure;
use super::output::{Paint, csv, for_stdout, printable};
use super::search::found_code;
use super::source::{Pairs, Source, decode};
use crate::import::summary::grouped;

/// Columns of the longest bar.
const BAR_COLUMNS: u64 = 50;
/// Eighths of a column.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Counts of one bucket: its start, its total, and the counts by value.
type Bucket = (i64, u64, BTreeMap<String, u64>);

pub(super) fn show(source: &Source, pairs: Pairs<'_>, output: OutputArgs) -> Result<ExitCode, Failure> {
    let document = source.document("/api/v1/histogram", pairs)?;
    let answer: Value = decode(&document)?;
    let buckets = buckets(&answer);
    let total: u64 = buckets.iter().map(|bucket| bucket.1).sum();
    let zone = if output.utc { TimeZone::UTC } else { TimeZone::system() };
    let text = match output.output {
        Format::Json | Format::Ndjson => format!("{}\n", for_stdout(document.trim_end())),
        Format::Csv => for_stdout(&to_csv(&buckets)).into_owned(),
        Format::Table => to_bars(&buckets, &zone, Screen::detect()),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(found_code(total, output))
}

/// Turns series over buckets into buckets over series.
fn buckets(answer: &Value) -> Vec<Bucket> {
    let number = |name: &str| answer.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (start, interval) = (number("start_us"), number("interval_us"));
    let mut out: Vec<Bucket> = Vec::new();
    for series in answer.get("series").and_then(Value::as_array).into_iter().flatten() {
        let other = series.get("other").and_then(Value::as_bool).unwrap_or(false);
        let value = series.get("value").and_then(Value::as_str).unwrap_or(if other { "(other)" } else { "" });
        for (at, count) in series.get("counts").and_then(Value::as_array).into_iter().flatten().enumerate() {
            if out.len() <= at {
                let time = start.saturating_add(interval.saturating_mul(at as i64));
                out.push((time, 0, BTreeMap::new()));
            }
            let count = count.as_u64().unwrap_or(0);
            if let Some(bucket) = out.get_mut(at).filter(|_| count > 0) {
                bucket.1 += count;
                *bucket.2.entry(value.to_owned()).or_default() += count;
            }
        }
    }
    out
}

fn time(us: i64, zone: &TimeZone) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => us.to_string(),
    }
}

fn to_csv(buckets: &[Bucket]) -> String {
    let mut out = "time,value,count\n".to_owned();
    for (us, _, values) in buckets {
        let time = Timestamp::from_microsecond(*us).map_or_else(|_| us.to_string(), |time| time.to_string());
        for (value, count) in values {
            out.push_str(&format!("{time},{},{count}\n", csv(value)));
        }
    }
    out
}

fn to_bars(buckets: &[Bucket], zone: &TimeZone, screen: Screen) -> String {
    let most = buckets.iter().map(|bucket| bucket.1).max().unwrap_or(0).max(1);
    let digits = grouped(most).len();
    let columns = screen
        .width
        .map_or(BAR_COLUMNS, |width| (width.saturating_sub(23 + digits) as u64).clamp(1, BAR_COLUMNS));
    let mut out = String::new();
    for (us, total, values) in buckets {
        let eighths = u128::from(*total) * u128::from(columns) * 8 / u128::from(most);
        let whole = "█".repeat((eighths / 8) as usize);
        let part = EIGHTHS.get((eighths % 8) as usize).copied().unwrap_or_default();
        let bar = Paint::Cyan.on(screen, &format!("{whole}{part}"));
        let by: Vec<String> = values
            .iter()
            .filter(|(value, _)| !value.is_empty())
            .map(|(value, count)| format!("{} {}", printable(value), grouped(*count)))
            .collect();
        let line = format!("{}  {:>digits$}  {bar}  {}", time(*us, zone), grouped(*total), by.join("  "));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_become_bars() {
        let answer = serde_json::json!({
            "start_us": 1_674_981_720_000_000i64, "interval_us": 60_000_000,
            "series": [{"value": "a", "counts": [8, 0, 4000]}, {"other": true, "counts": [0, 0, 1]}],
        });
        let buckets = buckets(&answer);
        let screen = Screen { width: Some(32), colour: false };
        assert_eq!(
            to_bars(&buckets, &TimeZone::UTC, screen),
            "2023-01-29 08:42:00      8    a 8\n2023-01-29 08:43:00      0\n\
             2023-01-29 08:44:00  4,001  ████  (other) 1  a 4,000\n"
        );
        assert_eq!(
            to_csv(&buckets),
            "time,value,count\n2023-01-29T08:42:00Z,a,8\n2023-01-29T08:44:00Z,(other),1\n\
             2023-01-29T08:44:00Z,a,4000\n"
        );
    }
}
