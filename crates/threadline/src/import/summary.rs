//! What an import did, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Counts of an import, or of a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines, without blank ones.
    pub lines: u64,
    /// Bytes of lines, decompressed.
    pub bytes: u64,
    /// Log records that are kept now.
    pub logs: u64,
    /// Spans that are kept now.
    pub spans: u64,
    /// Of these, kept before. Only an import into a data folder tells.
    pub duplicates: u64,
    /// Records whose time could not be read; they are kept with the time of arrival.
    pub times_unread: u64,
    /// What was not taken, by reason.
    pub rejected: BTreeMap<String, Rejected>,
}

/// Lines or records that were not taken for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub count: u64,
    /// File of the first.
    pub file: String,
    /// Line of the first; the first line of its batch where the hub does not tell.
    pub line: u64,
    /// What was wrong with the first.
    pub example: String,
}

impl Summary {
    /// Counts `count` rejections.
    pub fn reject(&mut self, reason: &str, count: u64, file: &str, line: u64, example: String) {
        let rejected = self.rejected.entry(reason.to_owned()).or_insert_with(|| Rejected {
            count: 0,
            file: file.to_owned(),
            line,
            example,
        });
        rejected.count += count;
    }

    /// Adds another part.
    pub fn merge(&mut self, other: Summary) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.logs += other.logs;
        self.spans += other.spans;
        self.duplicates += other.duplicates;
        self.times_unread += other.times_unread;
        for (reason, theirs) in other.rejected {
            match self.rejected.get_mut(&reason) {
                Some(ours) => {
                    let count = ours.count + theirs.count;
                    if (&theirs.file, theirs.line) < (&ours.file, ours.line) {
                        *ours = theirs;
                    }
                    ours.count = count;
                }
                None => {
                    self.rejected.insert(reason, theirs);
                }
            }
        }
    }

    /// Everything that was not taken.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().map(|rejected| rejected.count).sum()
    }

    /// For people.
    pub fn text(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64().max(1e-9);
        let records = self.logs + self.spans;
        let mut out = format!(
            "{} lines, {} log records and {} spans kept in {seconds:.2} s ({:.1} MB/s, {} records/s)\n",
            grouped(self.lines),
            grouped(self.logs),
            grouped(self.spans),
            self.bytes as f64 / 1e6 / seconds,
            grouped((records as f64 / seconds) as u64),
        );
        if self.duplicates > 0 {
            let _ =
                writeln!(out, "{} of them were kept before and were not added again", grouped(self.duplicates));
        }
        if self.times_unread > 0 {
            let _ = writeln!(
                out,
                "{} times could not be read: kept as an attribute, the time of arrival stands in",
                grouped(self.times_unread)
            );
        }
        for (reason, rejected) in &self.rejected {
            let _ = writeln!(
                out,
                "{} rejected: {reason}; first {}:{}: {}",
                grouped(rejected.count),
                rejected.file,
                rejected.line,
                rejected.example
            );
        }
        out
    }

    /// For machines.
    pub fn json(&self, took: Duration) -> serde_json::Value {
        let rejected: Vec<_> = self
            .rejected
            .iter()
            .map(|(reason, rejected)| {
                serde_json::json!({
                    "reason": reason,
                    "count": rejected.count,
                    "file": rejected.file,
                    "line": rejected.line,
                    "example": rejected.example,
                })
            })
            .collect();
        serde_json::json!({
            "lines": self.lines,
            "bytes": self.bytes,
            "logs": self.logs,
            "spans": self.spans,
            "duplicates": self.duplicates,
            "times_unread": self.times_unread,
            "rejected": rejected,
            "seconds": took.as_secs_f64(),
        })
    }
}

/// A number with thousands apart: `168,642`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_reads_well() {
        let mut summary =
            Summary { lines: 1234, bytes: 3_000_000, logs: 1000, spans: 200, ..Summary::default() };
        let mut other = Summary { lines: 1, ..Summary::default() };
        summary.reject("not JSON", 2, "b.ndjson", 9, "late".to_owned());
        other.reject("not JSON", 1, "b.ndjson", 3, "early".to_owned());
        summary.merge(other);
        let want = "1,235 lines, 1,000 log records and 200 spans kept in 2.00 s (1.5 MB/s, 600 records/s)\n\
                    3 rejected: not JSON; first b.ndjson:3: early\n";
        assert_eq!(summary.text(Duration::from_secs(2)), want);
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
