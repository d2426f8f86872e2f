//! Traces, lists of traces and services as text.
//!
//! A trace reads from top to bottom: what happened (outcome, time, likely cause), where the time went (services),
//! the waterfall with logs at their place, clocks, gaps. Text from senders never reaches the terminal raw: control
//! characters are replaced.

use std::fmt::Write as _;

use super::{LatencyWire, LogWire, ServicesWire, SpanWire, TimeWire, TraceWire, TracesWire};

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderOptions {
    /// Columns of the terminal.
    pub width: usize,
    /// With ANSI colours.
    pub colour: bool,
    /// With logs at their place.
    pub logs: bool,
    /// With ids, instances and attributes of every span, and whole log bodies.
    pub verbose: bool,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { width: 120, colour: false, logs: true, verbose: false }
    }
}

/// Narrowest and widest drawing.
const WIDTH: (usize, usize) = (80, 240);
/// Lines of an item beside the waterfall, at most, unless verbose.
const LIST_MAX: usize = 8;
/// Lines of a cause's message, at most.
const CAUSE_LINES_MAX: usize = 3;
/// Levels that are indented; deeper ones show their depth as a number.
const DEPTH_MAX: usize = 24;

#[derive(Clone, Copy)]
enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Yellow,
    Cyan,
    Path,
}

struct Page {
    out: String,
    colour: bool,
    width: usize,
}

impl Page {
    fn new(options: &RenderOptions) -> Page {
        Page { out: String::new(), colour: options.colour, width: options.width.clamp(WIDTH.0, WIDTH.1) }
    }

    fn put(&mut self, style: Style, text: &str) {
        let code = match style {
            Style::Plain => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "1;31",
            Style::Yellow => "33",
            Style::Cyan => "36",
            Style::Path => "1;35",
        };
        if !self.colour || code.is_empty() || text.is_empty() {
            self.out.push_str(text);
        } else {
            let _ = write!(self.out, "\u{1b}[{code}m{text}\u{1b}[0m");
        }
    }

    fn line(&mut self, style: Style, text: &str) {
        self.put(style, text);
        self.end();
    }

    fn end(&mut self) {
        let kept = self.out.trim_end_matches(' ').len();
        self.out.truncate(kept);
        self.out.push('\n');
    }

    fn head(&mut self, text: &str) {
        self.out.push('\n');
        self.line(Style::Bold, text);
    }
}

/// One line without control characters. Bytes that move the cursor or colour the text stay out of the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_bidi(c) { ' ' } else { c }).collect()
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
}

/// Cut to `width` characters, with `…` where something is missing, and filled up.
fn fit(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let fill = width.saturating_sub(text.chars().count());
    text + &" ".repeat(fill)
}

fn cut(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return text;
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Lines of at most `width` characters, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in clean(text).split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if !line.is_empty() && line.chars().count() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

fn right(text: &str, width: usize) -> String {
    let fill = width.saturating_sub(text.chars().count());
    " ".repeat(fill) + text
}

/// A duration in three digits or so.
pub(super) fn duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let scaled = |unit: f64, name: &str| {
        let value = ns as f64 / unit;
        let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        format!("{sign}{value:.digits$} {name}")
    };
    match ns {
        0..1_000 => format!("{sign}{ns} ns"),
        1_000..999_500 => scaled(1e3, "µs"),
        999_500..999_500_000 => scaled(1e6, "ms"),
        999_500_000..120_000_000_000 => scaled(1e9, "s"),
        120_000_000_000..7_200_000_000_000 => scaled(60e9, "min"),
        _ => scaled(3600e9, "h"),
    }
}

fn percent(part: i64, whole: i64) -> String {
    if whole <= 0 {
        return String::new();
    }
    format!("{:.0} %", part as f64 * 100.0 / whole as f64)
}

fn count(count: usize, one: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{count} {one}{many}")
}

fn service_name(service: &str) -> &str {
    if service.is_empty() { "(no service)" } else { service }
}

/// `2023-01-29 08:42:57.302` of an RFC 3339 time.
fn clock(time: &TimeWire) -> String {
    let text = time.rfc3339.replace('T', " ");
    let text = text.trim_end_matches('Z');
    text.get(..23).unwrap_or(text).to_owned()
}

/// Draws a trace.
pub fn render_trace(trace: &TraceWire, options: &RenderOptions) -> String {
    let mut page = Page::new(options);
    if trace.spans.is_empty() && trace.logs.is_empty() {
        page.line(Style::Plain, &format!("trace {}: no span and no log found", clean(&trace.trace_id)));
        return page.out;
    }
    header(&mut page, trace);
    causes(&mut page, trace, options);
    services(&mut page, trace);
    Waterfall::new(trace, &page, options).draw(&mut page);
    beside(&mut page, trace, options);
    skews(&mut page, trace);
    gaps(&mut page, trace, options);
    page.out
}

fn header(page: &mut Page, trace: &TraceWire) {
    page.put(Style::Bold, &format!("trace {}", clean(&trace.trace_id)));
    let root = trace.main_root.and_then(|root| trace.spans.get(root));
    if let Some(root) = root.filter(|_| !trace.from_logs_only) {
        let _ = write!(page.out, "  {} · {}", clean(service_name(&root.service)), clean(span_title(root)));
    }
    page.end();
    if let Some(start) = &trace.start {
        let _ = write!(page.out, "{} UTC  ", clock(start));
    }
    page.put(Style::Bold, &duration(trace.duration_ns));
    let services = trace.services.iter().filter(|part| !part.service.is_empty()).count();
    let parts = [count(trace.span_count, "span"), count(trace.logs.len(), "log"), count(services, "service")]
        .join(", ");
    let error_logs: usize = trace.services.iter().map(|part| part.error_logs).sum();
    let (style, outcome) = if trace.error_span_count + error_logs == 0 {
        (Style::Dim, "no errors".to_owned())
    } else {
        let failed = [count(trace.error_span_count, "failed span"), count(error_logs, "error log")].join(", ");
        (Style::Red, format!("✗ {failed}"))
    };
    let _ = write!(page.out, "  {parts}");
    // Time and duration take less than 40 columns.
    if 40 + parts.chars().count() + outcome.chars().count() > page.width {
        page.end();
    } else {
        page.out.push_str("  ");
    }
    page.line(style, &outcome);
    if trace.from_logs_only {
        page.line(
            Style::Yellow,
            "No span was received for this trace: the path below is rebuilt from its logs alone.",
        );
    }
}

fn causes(page: &mut Page, trace: &TraceWire, options: &RenderOptions) {
    let max = if options.verbose { usize::MAX } else { 3 };
    for (at, cause) in trace.causes.iter().take(max).enumerate() {
        let label = if at == 0 { "likely cause" } else { "also failed" };
        page.put(Style::Red, &format!("{label:>12} "));
        let place = format!("{} · {}", service_name(&cause.service), cause.operation);
        page.put(Style::Bold, &cut(place.trim_end_matches(" · "), page.width.saturating_sub(26)));
        let _ = write!(page.out, "  {}", offset(trace, &cause.time));
        page.end();
        // A log's own line drops what its layout repeats.
        let log =
            cause.log.and_then(|log| trace.logs.get(log)).filter(|log| log.body.starts_with(&cause.message));
        let message = log.map_or(cause.message.as_str(), shorten);
        let first_line = message.trim_start().lines().next().unwrap_or_default();
        for line in wrap(first_line, page.width.saturating_sub(13)).into_iter().take(CAUSE_LINES_MAX) {
            page.line(Style::Plain, &format!("{:13}{line}", ""));
        }
    }
    let more = trace.causes.len().saturating_sub(max);
    if more > 0 {
        page.line(Style::Dim, &format!("{:13}and {more} more", ""));
    }
}

/// `+12.3 ms` after the trace's start.
fn offset(trace: &TraceWire, time: &TimeWire) -> String {
    let start = trace.start.as_ref().map_or(0, TimeWire::ns);
    format!("+{}", duration(time.ns().saturating_sub(start)))
}

fn services(page: &mut Page, trace: &TraceWire) {
    let title =
        if trace.from_logs_only { "Services, by first log" } else { "Where the time went (critical path)" };
    page.head(title);
    let name_width = {
        let max = page.width.saturating_sub(68).clamp(12, 36);
        widest(trace.services.iter().map(|part| service_name(&part.service)), 12, max)
    };
    let shown: Vec<_> = trace
        .services
        .iter()
        .enumerate()
        .filter(|(at, part)| *at < LIST_MAX || part.error_spans + part.error_logs > 0)
        .map(|(_, part)| part)
        .collect();
    for part in &shown {
        let _ = write!(page.out, "  {} ", fit(service_name(&part.service), name_width));
        if trace.from_logs_only {
            let seen = part.first.as_ref().zip(part.last.as_ref());
            let text = seen.map(|(first, last)| format!("{} … {}", offset(trace, first), offset(trace, last)));
            let _ = write!(page.out, "{}", fit(&text.unwrap_or_default(), 26));
        } else {
            page.put(Style::Path, &fit(&gauge(part.critical_ns, trace.duration_ns, 12), 12));
            let on_path = part.critical_ns > 0;
            let time = if on_path { duration(part.critical_ns) } else { "–".to_owned() };
            let share = if on_path { percent(part.critical_ns, trace.duration_ns) } else { String::new() };
            let _ = write!(page.out, " {} {}  ", right(&time, 8), right(&share, 5));
            page.put(Style::Dim, &fit(&count(part.spans, "span"), 10));
        }
        page.put(Style::Dim, &fit(&count(part.logs, "log"), 9));
        if part.error_spans > 0 {
            page.put(Style::Red, &format!("✗ {}", count(part.error_spans, "failed span")));
        } else if part.error_logs > 0 {
            page.put(Style::Red, &format!("✗ {}", count(part.error_logs, "error log")));
        }
        page.end();
    }
    let hidden = trace.services.len() - shown.len();
    if hidden > 0 {
        page.line(Style::Dim, &format!("  and {} more", count(hidden, "service")));
    }
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>, min: usize, max: usize) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0).clamp(min, max)
}

/// A bar of eighths.
fn gauge(part: i64, whole: i64, width: usize) -> String {
    if whole <= 0 || part <= 0 {
        return String::new();
    }
    let eighths = (part as f64 / whole as f64 * width as f64 * 8.0).round() as usize;
    let (full, rest) = ((eighths / 8).min(width), eighths % 8);
    let mut bar = "█".repeat(full);
    if full < width
        && let Some(last) = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(rest)
    {
        bar.push_str(last);
    }
    if bar.is_empty() { "▏".to_owned() } else { bar }
}

fn span_title(span: &SpanWire) -> &str {
    match (span.presence.as_str(), span.name.is_empty()) {
        ("missing", _) => "span not received",
        ("from_logs", _) => "known from logs only",
        (_, true) => "(no name)",
        _ => &span.name,
    }
}

/// The tree with a bar per span.
struct Waterfall<'a> {
    trace: &'a TraceWire,
    options: RenderOptions,
    title_width: usize,
    bar_width: usize,
    from_ns: i64,
    to_ns: i64,
}

/// Columns of duration and start beside the bar.
const TIMES_WIDTH: usize = 20;

impl<'a> Waterfall<'a> {
    fn new(trace: &'a TraceWire, page: &Page, options: &RenderOptions) -> Self {
        let left = page.width.saturating_sub(TIMES_WIDTH + 4);
        let title_width = (left * 11 / 20).max(24);
        let bar_width = left.saturating_sub(title_width).max(8);
        let from_ns = trace.start.as_ref().map_or(0, TimeWire::ns);
        let to_ns = trace.end.as_ref().map_or(0, TimeWire::ns);
        Self { trace, options: *options, title_width, bar_width, from_ns, to_ns }
    }

    fn draw(&self, page: &mut Page) {
        page.head("Request");
        page.put(Style::Dim, &self.legend());
        page.end();
        let mut service = "";
        for (at, span) in self.trace.spans.iter().enumerate() {
            // The service is told where it changes: at the entry into it.
            let parent = span.parent.and_then(|parent| self.trace.spans.get(parent));
            let entry = parent.is_none_or(|parent| parent.service != span.service) || service != span.service;
            service = &span.service;
            self.span(page, at, span, entry);
            if self.options.verbose {
                self.details(page, span);
            }
            if self.options.logs {
                for log in span.logs.iter().filter_map(|&log| self.trace.logs.get(log)) {
                    self.log(page, span, log);
                }
            }
        }
    }

    fn legend(&self) -> String {
        if self.trace.from_logs_only {
            return "  from a span's first to its last log".to_owned();
        }
        let mut text = String::from("  █ critical path  ░ beside it");
        let any = |wanted: &dyn Fn(&SpanWire) -> bool| self.trace.spans.iter().any(wanted);
        if any(&|span| span.error.is_some()) {
            text.push_str("  ✗ failed");
        }
        if any(&|span| span.detached) {
            text.push_str("  ~ not waited for");
        }
        if any(&|span| span.presence != "received") {
            text.push_str("  ? not received");
        }
        text
    }

    fn indent(&self, depth: usize) -> String {
        if depth <= DEPTH_MAX {
            return "  ".repeat(depth);
        }
        format!("{}[{depth}] ", "  ".repeat(DEPTH_MAX))
    }

    fn span(&self, page: &mut Page, at: usize, span: &SpanWire, entry: bool) {
        let (mark, style) = match (span.error.is_some(), span.presence.as_str(), span.detached) {
            (true, _, _) => ("✗ ", Style::Red),
            (_, "missing" | "from_logs", _) => ("? ", Style::Yellow),
            (_, _, true) => ("~ ", Style::Dim),
            _ => ("  ", Style::Plain),
        };
        page.put(style, mark);
        let indent = self.indent(span.depth);
        let room = self.title_width.saturating_sub(indent.chars().count());
        page.out.push_str(&cut(&indent, self.title_width));
        let service = if entry { service_name(&span.service) } else { "" };
        let service = cut(service, room.saturating_sub(8).min(28));
        page.put(Style::Cyan, &service);
        let gap = usize::from(!service.is_empty());
        page.out.push_str(&" ".repeat(gap));
        let title = fit(span_title(span), room.saturating_sub(service.chars().count() + gap));
        page.put(if span.presence == "received" { style } else { Style::Yellow }, &title);
        page.out.push(' ');
        self.bar(page, at, span, style);
        let _ = write!(page.out, " {}", right(&duration(span.duration_ns), 9));
        page.put(Style::Dim, &right(&offset(self.trace, &span.start), 11));
        page.end();
        for note in &span.notes {
            page.line(Style::Yellow, &format!("  {indent}  ! {}", clean(note)));
        }
    }

    /// Cells of the bar in which the span runs; solid where the request waited for the span itself.
    fn bar(&self, page: &mut Page, at: usize, span: &SpanWire, style: Style) {
        let (start, length) = self.cells(span.start.ns(), span.duration_ns);
        let mut solid = vec![false; self.bar_width];
        for segment in self.trace.critical_path.iter().filter(|_| span.critical_ns > 0) {
            if segment.span == at {
                let (start, length) = self.cells(segment.start.ns(), segment.duration_ns);
                solid.iter_mut().skip(start).take(length).for_each(|cell| *cell = true);
            }
        }
        let mut cell = 0;
        while cell < self.bar_width {
            let on = solid.get(cell).copied().unwrap_or(false);
            let inside = cell >= start && cell < start + length;
            let run = solid
                .iter()
                .enumerate()
                .skip(cell)
                .take_while(|(c, s)| **s == on && (*c >= start && *c < start + length) == inside)
                .count()
                .max(1);
            match (inside, on) {
                (false, _) => page.out.push_str(&" ".repeat(run)),
                (true, true) => {
                    let style = if matches!(style, Style::Red) { Style::Red } else { Style::Path };
                    page.put(style, &"█".repeat(run));
                }
                (true, false) => {
                    page.put(if matches!(style, Style::Plain) { Style::Dim } else { style }, &"░".repeat(run))
                }
            }
            cell += run;
        }
    }

    /// First cell and number of cells, at least one, within the bar.
    fn cells(&self, start_ns: i64, duration_ns: i64) -> (usize, usize) {
        let whole = self.to_ns.saturating_sub(self.from_ns).max(1) as f64;
        let cell = |ns: i64| ns.saturating_sub(self.from_ns) as f64 / whole * self.bar_width as f64;
        let last = self.bar_width.saturating_sub(1);
        let first = (cell(start_ns).floor().max(0.0) as usize).min(last);
        let end = (cell(start_ns.saturating_add(duration_ns)).ceil().max(0.0) as usize).min(self.bar_width);
        (first, end.saturating_sub(first).max(1))
    }

    fn log(&self, page: &mut Page, span: &SpanWire, log: &LogWire) {
        page.out.push_str("  ");
        let indent = self.indent(span.depth + 1);
        page.out.push_str(&indent);
        let time = if log.time_unknown { "+?".to_owned() } else { offset(self.trace, &log.time) };
        page.put(Style::Dim, &format!("· {time} "));
        let used = indent.chars().count() + time.chars().count() + 5;
        log_text(page, log, used, self.options.verbose);
    }

    fn details(&self, page: &mut Page, span: &SpanWire) {
        let indent = format!("  {}    ", self.indent(span.depth));
        let mut line = format!("span {} {}", clean(&span.span_id), span.kind);
        if !span.instance.is_empty() {
            let _ = write!(line, " on {}", clean(&span.instance));
        }
        let _ = write!(line, ", self {}", duration(span.self_ns));
        if span.raw_start != span.start {
            let _ = write!(line, ", sent as {}", clock(&span.raw_start));
        }
        if !span.status_message.is_empty() {
            let _ = write!(line, ", status {}: {}", span.status, clean(&span.status_message));
        }
        page.line(Style::Dim, &format!("{indent}{line}"));
        if let Some(attributes) = &span.attributes {
            for (key, raw) in threadline_model::value::members(attributes.0.get()) {
                page.line(Style::Dim, &format!("{indent}{} = {}", clean(&key), clean(&raw.display())));
            }
        }
        for event in &span.events {
            let attributes = event.attributes.as_ref().map_or("", |attributes| attributes.0.get());
            let time = offset(self.trace, &event.time);
            page.line(Style::Dim, &format!("{indent}{time} {} {}", clean(&event.name), clean(attributes)));
        }
        for link in &span.links {
            page.line(
                Style::Dim,
                &format!("{indent}linked to {} {}", clean(&link.trace_id), clean(&link.span_id)),
            );
        }
    }
}

/// Severity and body of a log, to the end of the line; `used` columns are taken.
fn log_text(page: &mut Page, log: &LogWire, used: usize, whole: bool) {
    let (severity, style) = match log.severity_number {
        17..=24 => ("ERROR", Style::Red),
        13..=16 => ("WARN", Style::Yellow),
        9..=12 => ("INFO", Style::Dim),
        1..=8 => ("DEBUG", Style::Dim),
        _ => ("", Style::Dim),
    };
    let severity = if log.severity_text.is_empty() { severity } else { &log.severity_text };
    let severity = cut(severity, 8);
    page.put(style, &severity);
    let mut text = String::new();
    if !log.event_name.is_empty() {
        let _ = write!(text, "[{}] ", log.event_name);
    }
    text.push_str(shorten(log));
    let room = page.width.saturating_sub(used + severity.chars().count());
    let text = if whole { clean(&text) } else { cut(&text, room.max(20)) };
    let style = if log.severity_number >= 17 { Style::Red } else { Style::Plain };
    page.out.push(' ');
    page.put(style, text.trim_start());
    page.end();
}

/// The body without what the line tells already: many layouts repeat the ids in front of the message.
fn shorten(log: &LogWire) -> &str {
    let body = log.body.trim();
    let Some(id) = log.span_id.as_deref().filter(|id| !id.is_empty()) else { return body };
    match body.split_once(id) {
        Some((before, after)) if before.len() < 160 && !after.trim().is_empty() => {
            after.trim_start_matches([' ', ']', ')', ',', ';', ':', '-'])
        }
        _ => body,
    }
}

fn beside(page: &mut Page, trace: &TraceWire, options: &RenderOptions) {
    if !options.logs {
        return;
    }
    let logs: Vec<&LogWire> = trace.logs.iter().filter(|log| log.span.is_none()).collect();
    if logs.is_empty() {
        return;
    }
    page.head("Logs beside the tree (no span of theirs was running)");
    let width = widest(logs.iter().map(|log| service_name(&log.service)), 8, 28);
    for log in logs {
        let time = if log.time_unknown { "+?".to_owned() } else { offset(trace, &log.time) };
        page.put(Style::Dim, &format!("  {} ", right(&time, 10)));
        page.put(Style::Cyan, &fit(service_name(&log.service), width));
        page.out.push(' ');
        log_text(page, log, width + 15, options.verbose);
    }
}

fn skews(page: &mut Page, trace: &TraceWire) {
    if trace.skews.is_empty() {
        return;
    }
    page.head("Clocks that differ (times above are adjusted)");
    for skew in &trace.skews {
        let who = |service: &str, instance: &str| {
            let service = service_name(service).to_owned();
            match instance {
                "" => service,
                // Most instances' names begin with their service's.
                _ if instance.starts_with(&service) => instance.to_owned(),
                _ => format!("{service} ({instance})"),
            }
        };
        let child = who(&skew.child_service, &skew.child_instance);
        let parent = who(&skew.parent_service, &skew.parent_instance);
        let direction = if skew.offset_ns > 0 { "behind" } else { "ahead of" };
        let size = duration(skew.offset_ns.saturating_abs());
        let text = match (skew.offset_ns, skew.offset_min_ns, skew.offset_max_ns) {
            (0, None, None) => {
                format!("{child} and {parent} do not agree, and no offset fits all calls: not adjusted")
            }
            (_, None, None) => {
                format!("{child} runs about {size} {direction} {parent}; no offset fits all calls")
            }
            (_, min, max) => {
                let bound = |ns: Option<i64>| ns.map_or("?".to_owned(), duration);
                format!(
                    "{child} runs about {size} {direction} {parent} (offset {} to {})",
                    bound(min),
                    bound(max)
                )
            }
        };
        let calls = format!(
            "; of {}, {} began too early, {} ended too late",
            count(skew.calls, "call"),
            skew.early,
            skew.late
        );
        for (at, line) in wrap(&(text + &calls), page.width.saturating_sub(4)).into_iter().enumerate() {
            page.line(Style::Yellow, &format!("{}{line}", if at == 0 { "  " } else { "    " }));
        }
    }
}

fn gaps(page: &mut Page, trace: &TraceWire, options: &RenderOptions) {
    let gaps = &trace.gaps;
    let max = if options.verbose { usize::MAX } else { LIST_MAX };
    let list = |items: &[String]| {
        let mut text =
            items.iter().take(max).map(|item| clean(service_name(item))).collect::<Vec<_>>().join(", ");
        if items.len() > max {
            let _ = write!(text, " and {} more", items.len() - max);
        }
        text
    };
    let mut lines = Vec::new();
    for (items, what) in [
        (&gaps.missing_parents, "parent spans not received (lost, or their sender sends nothing here)"),
        (&gaps.missing_logged, "spans named by logs but not received"),
        (&gaps.services_without_spans, "services that logged but sent no span"),
        (&gaps.services_without_logs, "services without a log in this trace"),
    ] {
        if !items.is_empty() && !(trace.from_logs_only && !std::ptr::eq(items, &gaps.services_without_logs)) {
            lines.push(format!("{what}: {}", list(items)));
        }
    }
    for (number, what) in [
        (gaps.truncated.len(), "spans that look truncated, marked ! above"),
        (gaps.copies, "identical copies of spans, dropped"),
        (gaps.duplicate_ids, "spans with the id of another span"),
        (gaps.cycles, "circles of parents, cut"),
        (gaps.logs_without_time, "logs without a sane time, shown at the start of their span as +?"),
        (gaps.spans_left_out, "spans beyond the cap, left out"),
        (gaps.logs_left_out, "logs beyond the cap, left out"),
    ] {
        if number > 0 {
            lines.push(format!("{what}: {number}"));
        }
    }
    if !lines.is_empty() {
        page.head("Gaps");
    }
    for line in lines {
        for (at, line) in wrap(&line, page.width.saturating_sub(4)).into_iter().enumerate() {
            page.line(Style::Yellow, &format!("{}{line}", if at == 0 { "  " } else { "    " }));
        }
    }
}

/// Draws a list of traces.
pub fn render_traces(traces: &TracesWire, options: &RenderOptions) -> String {
    let mut page = Page::new(options);
    if traces.traces.is_empty() {
        page.line(Style::Plain, "no trace found");
        return page.out;
    }
    let root_width = page.width.saturating_sub(32 + 2 + 23 + 2 + 9 + 2 + 6 + 6 + 9 + 8).max(20);
    let head = format!(
        "{:32}  {:23}  {:>9}  {} {:>5} {:>5} {:>8}  {}",
        "trace",
        "start (UTC)",
        "duration",
        fit("root", root_width),
        "spans",
        "logs",
        "services",
        "errors"
    );
    page.line(Style::Bold, &head);
    for trace in &traces.traces {
        let failed = trace.error_spans + trace.error_logs;
        let _ = write!(page.out, "{}  {}  ", fit(&trace.trace_id, 32), fit(&clock(&trace.start), 23));
        let _ = write!(page.out, "{}  ", right(&duration(trace.duration_ns), 9));
        let lost = if trace.root_found { "" } else { "? " };
        let root = format!("{lost}{} · {}", service_name(&trace.root_service), trace.root_operation);
        page.put(if failed > 0 { Style::Red } else { Style::Plain }, &fit(&root, root_width));
        let _ = write!(page.out, " {:>5} {:>5} {:>8}  ", trace.spans, trace.logs, trace.services.len());
        if failed > 0 {
            page.put(Style::Red, &format!("✗ {failed}"));
        }
        page.end();
    }
    page.out
}

/// Draws services and their calls.
pub fn render_services(services: &ServicesWire, options: &RenderOptions) -> String {
    let mut page = Page::new(options);
    if services.services.is_empty() {
        page.line(Style::Plain, "no service found");
        return page.out;
    }
    if let Some((from, to)) = services.from.as_ref().zip(services.to.as_ref()) {
        page.line(Style::Dim, &format!("{} to {} UTC", clock(from), clock(to)));
    }
    let name_width = widest(services.services.iter().map(|node| service_name(&node.service)), 8, 36);
    let head = format!(
        "{}  {:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>10}",
        fit("service", name_width),
        "requests",
        "rate",
        "errors",
        "p50",
        "p95",
        "p99",
        "logs",
        "error logs"
    );
    page.line(Style::Bold, &head);
    for node in &services.services {
        page.put(Style::Cyan, &fit(service_name(&node.service), name_width));
        let _ = write!(page.out, "  {:>9} {:>9} ", node.requests.count, format!("{:.2}/s", node.rate));
        errors(&mut page, node.requests.errors, 8);
        quantiles(&mut page, node.requests.latency.as_ref());
        let _ = write!(page.out, " {:>9} ", node.logs);
        errors(&mut page, node.error_logs, 10);
        page.end();
    }
    if !services.edges.is_empty() {
        page.out.push('\n');
        let pairs: Vec<String> = services
            .edges
            .iter()
            .map(|edge| format!("{} → {}", service_name(&edge.caller), service_name(&edge.callee)))
            .collect();
        let width = widest(pairs.iter().map(String::as_str), 8, 64);
        let head = format!(
            "{}  {:>9} {:>8} {:>9} {:>9} {:>9}",
            fit("call", width),
            "calls",
            "errors",
            "p50",
            "p95",
            "p99"
        );
        page.line(Style::Bold, &head);
        for (edge, pair) in services.edges.iter().zip(&pairs) {
            let _ = write!(page.out, "{}  {:>9} ", fit(pair, width), edge.requests.count);
            errors(&mut page, edge.requests.errors, 8);
            quantiles(&mut page, edge.requests.latency.as_ref());
            page.end();
        }
    }
    for note in &services.notes {
        page.line(Style::Yellow, &format!("! {}", clean(note)));
    }
    page.out
}

fn errors(page: &mut Page, errors: u64, width: usize) {
    let text = right(&errors.to_string(), width);
    page.put(if errors > 0 { Style::Red } else { Style::Dim }, &text);
}

fn quantiles(page: &mut Page, latency: Option<&LatencyWire>) {
    let values = latency.map(|latency| [latency.p50_ns, latency.p95_ns, latency.p99_ns].map(duration));
    for value in values.unwrap_or_default() {
        let _ = write!(page.out, " {}", right(&value, 9));
    }
}
