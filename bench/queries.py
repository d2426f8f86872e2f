"""What is asked, of every engine, as data. A line here is all that changes when an engine learns a better way.

Parameters come from answers.json (`truth.py`). Readers bring replies into the forms of `answers.py`. A query that a
data set has no parameter or answer for is left out, and so is one that an engine cannot answer.
"""

import json
import re
import urllib.parse
from dataclasses import dataclass

import orjson

import answers


@dataclass
class Query:
    """One line of the tables."""

    name: str
    title: str
    table: str
    needs: str  # The answer of answers.json that it is checked against.


QUERIES = [
    Query("count", "count of all records", "logs", "count"),
    Query("needle", "phrase in 10 records, rows", "logs", "needle"),
    Query("absent", "word that is nowhere, count", "logs", "absent"),
    Query("trace", "all logs of one trace, rows", "logs", "trace"),
    Query("substring", "substring inside a token, count", "logs", "substring"),
    Query("regex", "regular expression without a whole token, count", "logs", "regex"),
    Query("address", "IP address in the text, rows", "logs", "address"),
    Query("network", "/24 network in the text, count", "logs", "network"),
    Query("minutes", "count by service and minute", "logs", "minutes"),
    Query("top_pods", "top 10 pods by errors", "logs", "top_pods"),
    Query("newest", "newest 100 errors of a service, rows", "logs", "newest"),
    Query("word", "frequent word, count", "logs", "word"),
    Query("distinct", "distinct traces", "logs", "distinct"),
    Query("span_trace", "one trace by id, its spans", "spans", "trace_spans"),
    Query("rebuilt_trace", "one trace rebuilt: tree, critical path, logs", "spans", "trace_spans"),
    Query("slow_traces", "newest 20 traces with a slow span of a service, whole", "spans", "slow_traces"),
    Query("red", "rate, errors, duration by service and minute", "spans", "red"),
]


def asked(truth):
    """The queries that a set has answers for."""
    return [query for query in QUERIES if truth["answers"].get(query.needs) is not None]


def wrong(query, engine, got, truth):
    """What is wrong with an answer; `None` when it is right."""
    key = query.needs
    if query.name == "slow_traces" and engine != "threadline":
        key = "slow_traces_by_span"
    want = truth["answers"][key]
    if query.name == "red":
        return answers.red_wrong(got, want, truth["answers"]["red_p95"])
    return None if got == want else f"got {json.dumps(got)}, the lines say {json.dumps(want)}"


# ---- Threadline ----


@dataclass
class Ask:
    """A request to the hub: how to ask, and how to read the reply."""

    path: str
    params: dict
    read: object
    # A note for the table, when this is not how one would want to ask.
    note: str = ""


def lines(body):
    return [orjson.loads(line) for line in body.splitlines() if line]


def hub_count(body):
    return orjson.loads(body)["count"]


def hub_sql_count(body):
    return lines(body)[0]["n"]


def hub_rows(body):
    return answers.rows((int(row["time_unix_nano"]), row["body"]) for row in lines(body))


def hub_times(body):
    return answers.times(int(row["time_unix_nano"]) for row in lines(body))


def hub_histogram(body):
    reply = orjson.loads(body)
    if reply["interval_us"] != 60_000_000:
        raise ValueError("the histogram's buckets are no minutes")
    start = reply["start_us"] // 1_000_000
    return answers.groups(
        (answers.minute(start + 60 * index), series["value"], count)
        for series in reply["series"] for index, count in enumerate(series["counts"]) if count)


def hub_sql_minutes(body):
    return answers.groups((row["m"][:19], row["service"], row["n"]) for row in lines(body))


def hub_values(body):
    return answers.top([(value["value"], value["rows"]) for value in orjson.loads(body)["values"]])


def hub_span_rows(body):
    return len(lines(body))


def hub_rebuilt(body):
    return orjson.loads(body)["span_count"]


def hub_traces(body):
    spans = {}
    for row in lines(body):
        spans[row["trace_id"]] = spans.get(row["trace_id"], 0) + 1
    return answers.traces(spans)


def hub_red(body):
    reply = orjson.loads(body)
    start, step = reply["start_us"] // 1_000_000, reply["interval_us"] // 1_000_000
    return answers.red(
        (answers.minute(start + step * bucket), one["service"], count, errors, p95)
        for one in reply["services"]
        for bucket, count, errors, p95 in zip(one["bucket"], one["count"], one["errors"], one["p95_ns"]))


def hub_sql_red(body):
    return answers.red((row["m"][:19], row["service"], row["n"], row["errors"], row["p95"]) for row in lines(body))


def count_asks(search):
    """The count of a search: by its own operation, else by SQL."""
    condition = " WHERE matches('" + search.replace("'", "''") + "')" if search else ""
    return [Ask("/api/v1/count", {"table": "logs", "q": search}, hub_count),
            Ask("/api/v1/sql", {"q": f"SELECT count(*) AS n FROM logs{condition}"}, hub_sql_count, "SQL")]


def rows_asks(search, limit=10_000, read=hub_rows, table="logs"):
    return [Ask("/api/v1/search", {"table": table, "q": search, "limit": limit}, read)]


MINUTE = "date_bin(INTERVAL '1 minute', ts) AS m"


def hub(params):
    """Query -> ways to ask, the best first: the first one that the hub knows is taken. A list of lists is a chain:
    `{traces}` in a later request stands for the trace ids of the reply before."""
    p = params
    asks = {
        "count": count_asks(""),
        "needle": rows_asks(f'"{p["needle"]}"'),
        "absent": count_asks(p["absent"]),
        "trace": rows_asks(f'trace:{p["trace_id"]}'),
        "substring": count_asks(f'~"{p["substring"]}"'),
        "regex": count_asks("/" + p["regex"].replace("/", "\\/") + "/"),
        "minutes": [Ask("/api/v1/histogram", {"table": "logs", "by": "service", "interval": "1m", "series": 1000}, hub_histogram),
                    Ask("/api/v1/sql", {"q": f"SELECT {MINUTE}, service, count(*) AS n FROM logs GROUP BY 1, 2"}, hub_sql_minutes, "SQL")],
        "top_pods": [Ask("/api/v1/fields/k8s.pod.name/values", {"table": "logs", "q": "severity:error", "limit": 10}, hub_values)],
        "newest": rows_asks(f'service:{p["service"]} severity:error', 100, hub_times),
        "word": count_asks(p["word"]),
        "distinct": [Ask("/api/v1/fields/trace/distinct", {"table": "logs"}, hub_count),
                     Ask("/api/v1/sql", {"q": "SELECT count(DISTINCT trace_id) AS n FROM logs"}, hub_sql_count, "SQL")],
    }
    if p.get("address"):
        asks["address"] = rows_asks(f'"{p["address"]}"')
        asks["network"] = count_asks(f'{p["network_prefix"]}0/24')
    if p.get("span_trace_id"):
        asks["span_trace"] = rows_asks(f'trace:{p["span_trace_id"]}', 10_000, hub_span_rows, "spans")
        asks["rebuilt_trace"] = [Ask(f'/api/v1/traces/{p["span_trace_id"]}', {}, hub_rebuilt)]
        search = f'service:{p["trace_service"]} duration>{p["trace_min_ns"]}ns'
        asks["slow_traces"] = [[Ask("/api/v1/traces", {"q": search, "limit": 20}, None),
                                Ask("/api/v1/search", {"table": "spans", "q": "{traces}", "limit": 100_000}, hub_traces)]]
        asks["red"] = [
            Ask("/api/v1/red", {"interval": "1m"}, hub_red),
            Ask("/api/v1/sql", {"q": f"SELECT {MINUTE}, service, count(*) AS n, sum(CASE WHEN status_code = 2 THEN 1 ELSE 0 END) AS errors, "
                                     "approx_percentile_cont(duration_ns, 0.5) AS p50, approx_percentile_cont(duration_ns, 0.95) AS p95, "
                                     "approx_percentile_cont(duration_ns, 0.99) AS p99 FROM spans GROUP BY 1, 2"}, hub_sql_red, "SQL")]
    return asks


def target(ask, traces=()):
    """Path and query of a request."""
    params = {key: str(value).replace("{traces}", "trace:(" + " OR ".join(traces) + ")") if value == "{traces}" else value
              for key, value in ask.params.items()}
    return ask.path + ("?" + urllib.parse.urlencode(params) if params else "")


# ---- ClickHouse's engine ----

CLICKHOUSE_SETTINGS = " SETTINGS use_query_condition_cache = 0, max_threads = 2"


def address_regex(p):
    return "(^|[^0-9A-Za-z_.])" + re.escape(p["address"]) + "([^0-9A-Za-z_.]|$)"


def network_regex(p):
    return "(^|[^0-9.])" + re.escape(p["network_prefix"]) + "[0-9]{1,3}([^0-9.]|$)"


def literal(text):
    """Of ClickHouse's SQL, where a backslash escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def clickhouse(p, text_index):
    columns = "toUnixTimestamp64Nano(Timestamp) AS ns, Body, ServiceName, Pod, Node, SeverityText, TraceId, SpanId"

    def has(text):
        if text_index:
            return f"hasAllTokens(lower(Body), {literal(text.lower())})"
        tokens = [word for word in re.split(r"[^0-9A-Za-z]+", text) if word]
        return " AND ".join(f"hasToken(Body, '{word}')" for word in tokens)

    asks = {
        "count": "SELECT count() FROM otel_logs",
        "needle": f"SELECT {columns} FROM otel_logs WHERE {has(p['needle'])} AND Body LIKE '%{p['needle']}%'",
        "absent": f"SELECT count() FROM otel_logs WHERE {has(p['absent'])}",
        "trace": f"SELECT {columns} FROM otel_logs WHERE TraceId = '{p['trace_id']}' ORDER BY Timestamp",
        "substring": f"SELECT count() FROM otel_logs WHERE Body LIKE '%{p['substring']}%'",
        "regex": f"SELECT count() FROM otel_logs WHERE match(Body, {literal(p['regex'])})",
        "minutes": "SELECT toStartOfMinute(Timestamp) m, ServiceName, count() FROM otel_logs GROUP BY m, ServiceName",
        "top_pods": "SELECT Pod, count() n FROM otel_logs WHERE SeverityText = 'ERROR' GROUP BY Pod ORDER BY n DESC LIMIT 10",
        "newest": f"SELECT {columns} FROM otel_logs WHERE ServiceName = '{p['service']}' AND SeverityText = 'ERROR' "
                  "ORDER BY Timestamp DESC LIMIT 100",
        "word": f"SELECT count() FROM otel_logs WHERE {has(p['word'])}",
        "distinct": "SELECT uniqExact(TraceId) FROM otel_logs WHERE TraceId != ''",
    }
    if p.get("address"):
        asks["address"] = (f"SELECT {columns} FROM otel_logs WHERE {has(p['address'])} AND Body LIKE '%{p['address']}%' "
                           f"AND match(Body, {literal(address_regex(p))})")
        asks["network"] = (f"SELECT count() FROM otel_logs WHERE {has(p['network_prefix'])} AND Body LIKE '%{p['network_prefix']}%' "
                           f"AND match(Body, {literal(network_regex(p))})")
    if p.get("span_trace_id"):
        spans = ("toUnixTimestamp64Nano(Timestamp) AS ns, TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, "
                 "ResourceAttributes, SpanAttributes, Duration, StatusCode")
        asks["span_trace"] = f"SELECT {spans} FROM otel_traces WHERE TraceId = '{p['span_trace_id']}'"
        asks["slow_traces"] = (f"SELECT {spans} FROM otel_traces WHERE TraceId IN (SELECT TraceId FROM otel_traces WHERE "
                               f"ServiceName = '{p['trace_service']}' AND Duration > {p['trace_min_ns']} GROUP BY TraceId "
                               "ORDER BY max(Timestamp) DESC, TraceId LIMIT 20)")
        asks["red"] = ("SELECT toStartOfMinute(Timestamp) m, ServiceName, count(), countIf(StatusCode = '2'), "
                       "quantiles(0.5, 0.95, 0.99)(Duration) FROM otel_traces GROUP BY ServiceName, m")
    return {name: sql + CLICKHOUSE_SETTINGS for name, sql in asks.items()}


# ---- DuckDB over Parquet ----


def duckdb(p, logs, spans):
    columns = "epoch_ns(_time) AS ns, body, service, pod, node, severity, trace_id, span_id"
    quote = lambda text: "'" + text.replace("'", "''") + "'"  # noqa: E731
    asks = {
        "count": f"SELECT count(*) FROM {logs}",
        "needle": f"SELECT {columns} FROM {logs} WHERE contains(body, {quote(p['needle'])})",
        "absent": f"SELECT count(*) FROM {logs} WHERE contains(body, {quote(p['absent'])})",
        "trace": f"SELECT {columns} FROM {logs} WHERE trace_id = '{p['trace_id']}' ORDER BY _time",
        "substring": f"SELECT count(*) FROM {logs} WHERE contains(body, {quote(p['substring'])})",
        "regex": f"SELECT count(*) FROM {logs} WHERE regexp_matches(body, {quote(p['regex'])})",
        "minutes": f"SELECT time_bucket(INTERVAL 1 MINUTE, _time) m, service, count(*) FROM {logs} GROUP BY ALL",
        "top_pods": f"SELECT pod, count(*) n FROM {logs} WHERE severity = 'ERROR' GROUP BY pod ORDER BY n DESC LIMIT 10",
        "newest": f"SELECT {columns} FROM {logs} WHERE service = '{p['service']}' AND severity = 'ERROR' ORDER BY _time DESC LIMIT 100",
        "word": f"SELECT count(*) FROM {logs} WHERE contains(body, '{p['word']}') AND regexp_matches(body, '\\b{p['word']}\\b')",
        "distinct": f"SELECT count(DISTINCT trace_id) FROM {logs}",
    }
    if p.get("address"):
        asks["address"] = (f"SELECT {columns} FROM {logs} WHERE contains(body, '{p['address']}') "
                           f"AND regexp_matches(body, {quote(address_regex(p))})")
        asks["network"] = (f"SELECT count(*) FROM {logs} WHERE contains(body, '{p['network_prefix']}') "
                           f"AND regexp_matches(body, {quote(network_regex(p))})")
    if p.get("span_trace_id"):
        columns = 'start AS ns, trace_id, span_id, parent_id, name, kind, service, pod, node, attrs, "end" - start, status'
        asks["span_trace"] = f"SELECT {columns} FROM {spans} WHERE trace_id = '{p['span_trace_id']}'"
        asks["slow_traces"] = (f"SELECT {columns} FROM {spans} WHERE trace_id IN (SELECT trace_id FROM {spans} WHERE "
                               f"service = '{p['trace_service']}' AND \"end\" - start > {p['trace_min_ns']} GROUP BY trace_id "
                               "ORDER BY max(start) DESC, trace_id LIMIT 20)")
        asks["red"] = ("SELECT time_bucket(INTERVAL 1 MINUTE, make_timestamp_ns(start)) m, service, count(*), "
                       "count(*) FILTER (status = 2), approx_quantile(\"end\" - start, [0.5, 0.95, 0.99]) "
                       f"FROM {spans} GROUP BY ALL")
    return asks


# ---- replies of both SQL engines, as lists of rows ----


def sql_number(found):
    return int(found[0][0])


def sql_groups(found):
    return answers.groups((str(row[0]).replace(" ", "T")[:19], row[1], *(int(n) for n in row[2:])) for row in found)


def sql_traces(found):
    spans = {}
    for row in found:
        spans[row[1]] = spans.get(row[1], 0) + 1
    return answers.traces(spans)


SQL_READERS = {
    "needle": lambda found: answers.rows((int(row[0]), row[1]) for row in found),
    "trace": lambda found: answers.rows((int(row[0]), row[1]) for row in found),
    "address": lambda found: answers.rows((int(row[0]), row[1]) for row in found),
    "minutes": sql_groups,
    "top_pods": lambda found: answers.top([(row[0], int(row[1])) for row in found]),
    "newest": lambda found: answers.times(int(row[0]) for row in found),
    "span_trace": len,
    "slow_traces": sql_traces,
    "red": lambda found: answers.red((str(row[0]).replace(" ", "T")[:19], row[1], int(row[2]), int(row[3]), float(row[4][1])) for row in found),
}


def read_sql(name, found):
    return SQL_READERS.get(name, sql_number)(found)


# ---- ripgrep over the raw lines: what a newcomer would do ----


def ripgrep(p):
    """Arguments, and whether lines come back (else their number)."""
    asks = {
        "count": (["-c", ""], False),
        "needle": (["-F", p["needle"]], True),
        "absent": (["-c", "-F", p["absent"]], False),
        "trace": (["-F", f'"trace_id":"{p["trace_id"]}"'], True),
        "substring": (["-c", "-F", p["substring"]], False),
        "regex": (["-c", p["regex"]], False),
        "word": (["-c", "-w", "-F", p["word"]], False),
    }
    if p.get("address"):
        asks["address"] = (["-w", "-F", p["address"]], True)
        asks["network"] = (["-c", r"(^|[^0-9.])" + re.escape(p["network_prefix"]) + r"[0-9]{1,3}([^0-9.]|$)"], False)
    if p.get("span_trace_id"):
        asks["span_trace"] = (["-F", f'"trace_id":"{p["span_trace_id"]}"'], True)
    return asks


def read_ripgrep(name, output):
    if name == "span_trace":
        return len(output.splitlines())
    if ripgrep_rows(name):
        return answers.rows((answers.nanoseconds(row["_time"]), row["body"]) for row in lines(output))
    return int(output or 0)


def ripgrep_rows(name):
    return name in ("needle", "trace", "address")
