//! An incident as a Markdown report, for tickets and post-mortems. What records hold stands in it as text, never as markup.

use std::fmt::Write as _;

use super::evidence::{Query, Report};

/// Entries of the timeline, and characters of one.
const ENTRIES_MAX: usize = 500;
const TEXT_CHARS_MAX: usize = 500;

/// The report.
pub(crate) fn markdown(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) {
    let of = &report.summary;
    let line = |out: &mut String, text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(out, format!("# Incident {}: {}\n", of.id, plain(&of.title)));
    let nobody = |text: &str| if text.is_empty() { "–".to_owned() } else { plain(text) };
    line(out, "| | |\n| --- | --- |".to_owned());
    for (name, value) in [
        ("State", format!("{} since {}", of.state, of.since)),
        ("Severity", nobody(&of.severity)),
        ("Assignee", nobody(&of.assignee)),
        ("Team", nobody(&of.team)),
        ("Services", nobody(&of.services.join(", "))),
        ("Rules", nobody(&of.rules.join(", "))),
        ("First seen", of.first_seen.clone()),
        ("Last seen", of.last_seen.clone()),
        ("Opened", of.opened.clone()),
        ("Findings", format!("{} in {} alerts, {} of them active", of.findings, of.alerts, of.active)),
        ("Route", plain(&of.route)),
    ] {
        line(out, format!("| {name} | {value} |"));
    }
    if !report.clock.is_empty() {
        let spent: Vec<String> =
            report.clock.iter().map(|spent| format!("{} {}", spent.state, duration(spent.seconds))).collect();
        line(out, format!("| Time per state | {} |", spent.join(", ")));
    }
    line(out, "\n## Blast radius\n".to_owned());
    let blast = &report.blast_radius;
    let more = if blast.cut { " A bound was hit: there may be more." } else { "" };
    line(out, format!("{} of {} traces, {} spans.{more}\n", blast.traces_read, blast.traces, blast.spans));
    if !blast.services.is_empty() {
        line(
            out,
            "| Service | Hops | Operation | Spans | Errors |\n| --- | ---: | --- | ---: | ---: |".to_owned(),
        );
        for service in &blast.services {
            let hops = service.hops.map_or_else(|| "–".to_owned(), |hops| hops.to_string());
            for operation in &service.operations {
                let (name, operation_name) = (plain(&service.reached.name), plain(&operation.name));
                let (spans, errors) = (operation.spans, operation.errors);
                line(out, format!("| {name} | {hops} | {operation_name} | {spans} | {errors} |"));
            }
        }
    }
    if !blast.calls.is_empty() {
        line(out, "\n| Caller | Callee | Calls | Errors |\n| --- | --- | ---: | ---: |".to_owned());
        for call in &blast.calls {
            let (caller, callee) = (plain(&call.caller), plain(&call.callee));
            line(out, format!("| {caller} | {callee} | {} | {} |", call.calls, call.errors));
        }
    }
    if !report.entities.is_empty() {
        line(out, "\n## Entities\n".to_owned());
        line(out, "| What | Value | Findings | First seen | Last seen | Search |\n| --- | --- | ---: | --- | --- | --- |".to_owned());
        for entity in &report.entities {
            let (field, value) = (plain(&entity.field), plain(&entity.value));
            let (first, last) = (&entity.first_seen, &entity.last_seen);
            let query = search(&entity.query);
            line(out, format!("| {field} | {value} | {} | {first} | {last} | {query} |", entity.findings));
        }
        if report.entities_cut {
            line(out, "\nA bound was hit: there may be more.".to_owned());
        }
    }
    line(out, "\n## Timeline\n".to_owned());
    for item in report.timeline.iter().take(ENTRIES_MAX) {
        let level = item.finding.as_ref().map(|finding| format!("**{}** ", plain(&finding.level)));
        line(out, format!("- {} {}{}", item.time, level.unwrap_or_default(), plain(&item.text)));
        for query in &item.queries {
            line(out, format!("  - {}: {}", query.table, search(query)));
        }
    }
    let left_out = report.timeline.len().saturating_sub(ENTRIES_MAX) as u64 + report.timeline_left_out;
    if left_out > 0 {
        line(out, format!("\n{left_out} further entries are left out."));
    }
    if !report.notes.is_empty() {
        line(out, "\n## Notes\n".to_owned());
        for note in &report.notes {
            line(out, format!("- {} {}: {}", note.time, plain(&note.author), plain(&note.text)));
        }
    }
    let _ = write!(out, "\nWritten by Threadline at {}.\n", report.generated);
}

fn duration(seconds: i64) -> String {
    threadline_query::lang::format_duration(seconds.saturating_mul(1_000_000_000))
}

/// Text that Markdown shows as it is, on one line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    for c in chars.by_ref().take(TEXT_CHARS_MAX) {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '(' | ')' | '#' | '+' | '!' | '|'
            | '~' | '&' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// A search as code: fenced by more backticks than it has, and with no bar that would end a table's cell.
fn search(query: &Query) -> String {
    let text: String = query.query.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if longest > 0 { " " } else { "" };
    format!("{fence}{space}{}{space}{fence}", text.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_records_hold_is_no_markup() {
        assert_eq!(plain("a<b>\n# [x](y) `c` | d"), "a\\<b\\> \\# \\[x\\]\\(y\\) \\`c\\` \\| d");
        assert_eq!(plain(&"x".repeat(600)).chars().count(), TEXT_CHARS_MAX + 1);
        let query = |text: &str| search(&Query { table: "logs", query: text.to_owned() });
        assert_eq!(query("seq=1"), "`seq=1`");
        assert_eq!(query("a:\"`x`|y\""), "`` a:\"`x`\\|y\" ``");
    }
}
