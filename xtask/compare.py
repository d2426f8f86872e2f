"""Compares a hub's answers with plain Python over the NDJSON that it imported, question by question.

usage: compare.py API_URL LOGS SPANS     (files as `{time_unix_nano, service, severity, …, body}` and
                                          `{trace_id, …, start_time_unix_nano, end_time_unix_nano}`, plain or .zst)

Prints a line per group of questions and ends with 1 when any answer differs. Semantics are docs/search.md's: a phrase
is found without case, beginning and ending at term boundaries; `~"…"` and `/…/` are found with case. A time that is
absurd is kept beside the record, which then stands at the time when it arrived. JSON web tokens, which the data has, are
masked (docs/contract.md).
"""

import collections
import io
import json
import random
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

MINUTE_NS = 60 * 10**9
DAY_NS = 1440 * MINUTE_NS
ABSURD_BEFORE_NS = 946_684_800 * 10**9  # 2000-01-01
TERM = "0-9A-Za-z_\\x80-\\U0010ffff"
WORD = re.compile(r"[A-Za-z_]{4,}")
JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
TRACES = 100
PAGE = 5000  # rows, so that paging is asked too

# Beside what is picked from the data.
SUBSTRINGS = ["toresListRes", "orderId", "Exception", ":: ", "=", "status=40", "-service", "[", "null", "%"]
PHRASES = ["order", "not found", "travel service", "token expired", "get station", "insert into", "failed", "user", "no route", "success"]
REGEXES = [
    r"Id[:=] ?c[0-9a-f]{7}-9[0-9a-f]{3}-",
    r"^[0-9:.]+ (ERROR|WARN)",
    r"(?i)exception|timeout",
    r"status=[45][0-9][0-9]",
    r"[0-9]{4,} ms",
    r"\[[A-Za-z]+\]\[[A-Za-z ]+\]",
    r"[A-Z][a-z]+Service",
    r"u-[0-9]+$",
    r"[^ -~]",
    r"(GET|POST) /[a-z]+/v?[0-9]*",
]


class Hub:
    """The API under test."""

    def __init__(self, url):
        self.url = url

    def get(self, path, **query):
        query = {key: value for key, value in query.items() if value is not None}
        target = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(target, timeout=120) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{target}: {error.code} {error.read().decode(errors='replace')}") from error

    def lines(self, path, **query):
        return [json.loads(line) for line in self.get(path, **query).splitlines() if line]

    def rows(self, table, search):
        """All rows, page by page."""
        rows, cursor = [], None
        while True:
            page = self.lines("search", table=table, q=search, limit=PAGE, cursors=1, cursor=cursor)
            rows += page
            if len(page) < PAGE:
                return rows
            cursor = page[-1]["cursor"]

    def histogram(self, table, search="", **query):
        return json.loads(self.get("histogram", table=table, q=search, **query))

    def count(self, table, search):
        return self.histogram(table, search)["total"]

    def sql(self, text):
        return self.lines("sql", q=text)


class Report:
    def __init__(self):
        self.group, self.asked, self.wrong, self.all_asked, self.all_wrong = "", 0, 0, 0, 0

    def begin(self, group):
        self.end()
        self.group = group

    def same(self, question, hub, truth):
        self.asked += 1
        if hub != truth:
            self.wrong += 1
            print(f"  differs: {question}: {difference(hub, truth)}")

    def end(self):
        if self.asked:
            print(f"{self.group:<44}{self.asked:>6} questions {self.wrong:>4} differ", flush=True)
        self.all_asked += self.asked
        self.all_wrong += self.wrong
        self.asked = self.wrong = 0


def difference(hub, truth):
    if isinstance(hub, collections.Counter) and isinstance(truth, collections.Counter):
        only_hub, only_truth = hub - truth, truth - hub
        return f"only the hub has {dict(only_hub.most_common(3))}, only the data has {dict(only_truth.most_common(3))}"
    return f"the hub says {str(hub)[:300]}, the data say {str(truth)[:300]}"


def load(path):
    if path.endswith(".zst"):
        import zstandard

        stream = zstandard.ZstdDecompressor().stream_reader(open(path, "rb"))
        return [json.loads(line) for line in io.TextIOWrapper(stream, encoding="utf-8")]
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def absurd(nanos):
    return nanos < ABSURD_BEFORE_NS or nanos > time.time_ns() + DAY_NS


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def totals(report, hub, table, records):
    report.begin(f"{table}: totals")
    report.same("all", hub.count(table, ""), len(records))
    report.same("all, by SQL", hub.sql(f"SELECT count(*) AS n FROM {table}"), [{"n": len(records)}])


def groups(report, hub, table, records, field, searched):
    """Counts per value of a field: by histogram, by SQL, and by a search each."""
    report.begin(f"{table}: counts per {field}")
    truth = collections.Counter(record[field] for record in records)
    answer = hub.histogram(table, by=searched, series=1000)
    series = collections.Counter({one["value"]: sum(one["counts"]) for one in answer["series"]})
    # `severity` groups by OpenTelemetry's level, whatever the case in which a sender names it.
    levels = collections.Counter({value.lower() if searched == "severity" else value: n for value, n in truth.items()})
    report.same("histogram", series, levels)
    column = {"severity": "severity_text"}.get(searched, searched)
    rows = hub.sql(f"SELECT {column} AS value, count(*) AS n FROM {table} GROUP BY 1")
    report.same("SQL", collections.Counter({row["value"]: row["n"] for row in rows}), truth)
    for value, count in truth.items():
        report.same(value, hub.count(table, f"{searched}:{quoted(value)}"), count)


def minutes(report, hub, table, times):
    report.begin(f"{table}: counts per minute")
    good = [nanos for nanos in times if not absurd(nanos)]
    truth = collections.Counter(nanos // MINUTE_NS for nanos in good)
    first, last = min(truth), max(truth)
    for start in range(first, last + 1, 720):
        end = min(start + 720, last + 1)
        answer = hub.histogram(table, interval="1m", **{"from": iso(start), "to": iso(end)})
        counts = collections.Counter()
        for series in answer["series"]:
            for at, count in enumerate(series["counts"]):
                if count:
                    counts[answer["start_us"] // 60_000_000 + at] += count
        for minute in range(start, end):
            report.same(iso(minute), counts[minute], truth[minute])
    rows = hub.sql(
        f"SELECT date_trunc('minute', ts) AS minute, count(*) AS n FROM {table} "
        "WHERE sent_time_unix_nano IS NULL GROUP BY 1"
    )
    by_sql = collections.Counter({row["minute"][:16]: row["n"] for row in rows})
    report.same("SQL", by_sql, collections.Counter({iso(minute)[:16]: count for minute, count in truth.items()}))
    report.begin(f"{table}: absurd times")
    kept = hub.sql(f"SELECT sent_time_unix_nano AS sent, count(*) AS n FROM {table} WHERE sent_time_unix_nano IS NOT NULL GROUP BY 1")
    sent = collections.Counter(nanos for nanos in times if absurd(nanos))
    report.same("as sent", collections.Counter({int(row["sent"]): row["n"] for row in kept}), sent)


def iso(minute):
    return time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(minute * 60))


def texts(report, hub, logs, chance):
    bodies = [(log["body"], log["body"].lower()) for log in logs]
    picked = [chance.choice(bodies)[0] for _ in range(400)]
    report.begin("logs: substrings")
    for text in SUBSTRINGS + pick(picked, chance, lambda body, at: body[at : at + chance.randint(4, 12)]):
        report.same(f"~{quoted(text)}", hub.count("logs", f"~{quoted(text)}"), sum(text in body for body, _ in bodies))
    report.begin("logs: words and phrases")
    words = [chance.choice(WORD.findall(body)) for body in picked if WORD.search(body)]
    phrases = [match.group(0) for body in picked for match in [re.search(r"[A-Za-z]{3,}[ :=.]+[A-Za-z]{3,}[ :=.]+[A-Za-z]{2,}", body)] if match]
    for text in dict.fromkeys(PHRASES + distinct(words)[:10] + distinct(phrases)[:10]):
        rule = re.compile(f"(?<![{TERM}]){re.escape(text.lower())}(?![{TERM}])")
        truth = sum(text.lower() in lower and rule.search(lower) is not None for _, lower in bodies)
        report.same(quoted(text), hub.count("logs", quoted(text)), truth)
    report.begin("logs: regular expressions")
    for text in REGEXES:
        rule = re.compile(text)
        truth = sum(rule.search(body) is not None for body, _ in bodies)
        report.same(f"/{text}/", hub.count("logs", "/" + text.replace("/", "\\/") + "/"), truth)


def combined(report, hub, logs, chance):
    report.begin("logs: conditions together, rows too")
    services = sorted({log["service"] for log in logs})
    words = distinct([WORD.findall(log["body"])[-1] for log in chance.sample(logs, 50) if WORD.search(log["body"])])[:6]
    for word in words:
        service = chance.choice(services)
        rule = re.compile(f"(?<![{TERM}]){re.escape(word.lower())}(?![{TERM}])")
        for search, holds in [
            (f"service:{service} {quoted(word)}", lambda log, found: log["service"] == service and found),
            (f"service:{service} -{quoted(word)}", lambda log, found: log["service"] == service and not found),
            (f"severity>=warn ({quoted(word)} OR service:{service})",
             lambda log, found: log["severity"] != "INFO" and (found or log["service"] == service)),
        ]:
            truth = collections.Counter(
                key_of_log(log) for log in logs if holds(log, rule.search(log["body"].lower()) is not None)
            )
            report.same(f"{search}, count", hub.count("logs", search), sum(truth.values()))
            if sum(truth.values()) <= 20000:
                rows = collections.Counter(key_of_log_row(row) for row in hub.rows("logs", search))
                report.same(f"{search}, rows", rows, truth)


def traces(report, hub, logs, spans, chance):
    ids = chance.sample(sorted({span["trace_id"] for span in spans}), TRACES)
    wanted = set(ids)
    truth_logs, truth_spans = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    for log in logs:
        if log["trace_id"] in wanted:
            truth_logs[log["trace_id"]][key_of_log(log)] += 1
    for span in spans:
        if span["trace_id"] in wanted:
            truth_spans[span["trace_id"]][key_of_span(span)] += 1
    report.begin(f"all records of {TRACES} traces")
    for trace in ids:
        rows = collections.Counter(key_of_log_row(row) for row in hub.rows("logs", f"trace:{trace}"))
        report.same(f"logs of {trace}", rows, truth_logs[trace])
        rows = collections.Counter(key_of_span_row(row) for row in hub.rows("spans", f"trace:{trace}"))
        report.same(f"spans of {trace}", rows, truth_spans[trace])


def key_of_log(log):
    nanos = int(log["time_unix_nano"])
    return (nanos, log["service"], log["severity"], log["trace_id"], log["span_id"], log["pod"], log["body"])


def key_of_log_row(row):
    nanos = int(row.get("sent_time_unix_nano", row["time_unix_nano"]))
    pod = row["resource"].get("k8s.pod.name")
    return (nanos, row["service"], row["severity"], row.get("trace_id"), row.get("span_id"), pod, row["body"])


def key_of_span(span):
    start, end = int(span["start_time_unix_nano"]), int(span["end_time_unix_nano"])
    parent = span["parent_span_id"] or None
    return (start, end - start, span["service"], span["name"], span["trace_id"], span["span_id"], parent, span["pod"])


def key_of_span_row(row):
    start = int(row.get("sent_time_unix_nano", row["time_unix_nano"]))
    pod = row["resource"].get("k8s.pod.name")
    return (start, row["duration_ns"], row["service"], row["name"], row["trace_id"], row["span_id"],
            row.get("parent_span_id"), pod)


def durations(report, hub, spans):
    report.begin("spans: operations and durations")
    truth = collections.defaultdict(lambda: [0, 0, 0])
    for span in spans:
        duration = int(span["end_time_unix_nano"]) - int(span["start_time_unix_nano"])
        entry = truth[span["service"], span["name"]]
        entry[0] += 1
        entry[1] += duration
        entry[2] = max(entry[2], duration)
    rows = hub.sql(
        "SELECT service, name, count(*) AS n, sum(duration_ns) AS total, max(duration_ns) AS most FROM spans GROUP BY 1, 2"
    )
    answers = {(row["service"], row["name"]): [row["n"], row["total"], row["most"]] for row in rows}
    report.same("operations", sorted(answers), sorted(truth))
    for operation, numbers in truth.items():
        report.same(operation, answers.get(operation), numbers)
    for text, bound in [("1ms", 10**6), ("10ms", 10**7), ("250ms", 25 * 10**7), ("1s", 10**9), ("5s", 5 * 10**9)]:
        longer = sum(int(s["end_time_unix_nano"]) - int(s["start_time_unix_nano"]) > bound for s in spans)
        report.same(f"duration>{text}", hub.count("spans", f"duration>{text}"), longer)


def pick(bodies, chance, cut):
    """Ten distinct pieces that would be read back as they are."""
    pieces = (cut(body, chance.randrange(len(body))) for body in bodies if body)
    return distinct(piece for piece in pieces if len(piece.strip()) > 2 and piece.isprintable())[:10]


def distinct(items):
    return [item for item in dict.fromkeys(items) if item]


def main(url, logs_path, spans_path):
    hub, report, chance = Hub(url), Report(), random.Random(7)
    logs, spans = load(logs_path), load(spans_path)
    for log in logs:
        log["body"] = JWT.sub("[REDACTED:jwt]", log["body"])
    print(f"{len(logs)} logs ({len(logs) - len({json.dumps(log, sort_keys=True) for log in logs})} of them repeat an earlier one), "
          f"{len(spans)} spans")
    totals(report, hub, "logs", logs)
    totals(report, hub, "spans", spans)
    groups(report, hub, "logs", logs, "service", "service")
    groups(report, hub, "logs", logs, "severity", "severity")
    groups(report, hub, "spans", spans, "service", "service")
    groups(report, hub, "spans", spans, "name", "name")
    minutes(report, hub, "logs", [int(log["time_unix_nano"]) for log in logs])
    minutes(report, hub, "spans", [int(span["start_time_unix_nano"]) for span in spans])
    texts(report, hub, logs, chance)
    combined(report, hub, logs, chance)
    durations(report, hub, spans)
    traces(report, hub, logs, spans, chance)
    report.end()
    print(f"{report.all_asked} questions, {report.all_wrong} answers differ")
    sys.exit(1 if report.all_wrong else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
