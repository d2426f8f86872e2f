"""The peers that package registries provide, each in a process of its own: ClickHouse's engine (chdb) in two schemas,
DuckDB over Parquet; and ripgrep over the raw lines.

As a program it is such a process: `peers.py ENGINE DATA WORK` reads a step per line from standard input
(`ingest logs`, `ingest spans`, a query's name) and answers each with a line of JSON. CPU and memory are the process's
own, reading of the files included: there is no HTTP in between, so its ingest is a floor for a server's.
"""

import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import time

import measure
import queries

# Engine -> title, file or folder name in WORK.
ENGINES = {
    "chdb-token": "chdb, token bloom",
    "chdb-text": "chdb, text index",
    "duckdb": "DuckDB, Parquet",
}

# What ClickStack creates: by service first with a token bloom filter; by time first with inverted text indexes.
LOG_SCHEMAS = {
    "chdb-token": ("(ServiceName, toUnixTimestamp(Timestamp))",
                   "INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1, "
                   "INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 1"),
    "chdb-text": ("(toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp)",
                  "INDEX idx_trace_id TraceId TYPE text(tokenizer = 'array'), "
                  "INDEX idx_lower_body lower(Body) TYPE text(tokenizer = 'splitByNonAlpha')"),
}
LOGS_DDL = """CREATE TABLE otel_logs (
  Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)), TraceId String CODEC(ZSTD(1)), SpanId String CODEC(ZSTD(1)),
  SeverityText LowCardinality(String) CODEC(ZSTD(1)), ServiceName LowCardinality(String) CODEC(ZSTD(1)),
  Pod LowCardinality(String) CODEC(ZSTD(1)), Node LowCardinality(String) CODEC(ZSTD(1)), Body String CODEC(ZSTD(1)), {indexes}
) ENGINE = MergeTree PARTITION BY toDate(Timestamp, 'UTC') ORDER BY {order} SETTINGS index_granularity = 8192"""
SPANS_DDL = """CREATE TABLE otel_traces (
  Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)), TraceId String CODEC(ZSTD(1)), SpanId String CODEC(ZSTD(1)),
  ParentSpanId String CODEC(ZSTD(1)), SpanName LowCardinality(String) CODEC(ZSTD(1)), SpanKind LowCardinality(String) CODEC(ZSTD(1)),
  ServiceName LowCardinality(String) CODEC(ZSTD(1)), ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
  SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), Duration UInt64 CODEC(ZSTD(1)),
  StatusCode LowCardinality(String) CODEC(ZSTD(1)),
  INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1, INDEX idx_duration Duration TYPE minmax GRANULARITY 1
) ENGINE = MergeTree PARTITION BY toDate(Timestamp, 'UTC') ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
SETTINGS index_granularity = 8192"""
# As a server cuts its blocks; one thread writes, two read.
INSERT_SETTINGS = ("SETTINGS date_time_input_format = 'best_effort', max_insert_block_size = 100000, min_insert_block_size_rows = 100000, "
                   "min_insert_block_size_bytes = 0, max_threads = 2, max_insert_threads = 1, input_format_skip_unknown_fields = 1")


class Chdb:
    """ClickHouse's engine, in process."""

    def __init__(self, engine, data, work):
        from chdb import session

        self.engine, self.data = engine, data
        self.session = session.Session(os.path.join(work, engine))
        self.session.query("SELECT 1")

    def text(self, sql):
        return str(self.session.query(sql, "JSONCompactEachRow"))

    def version(self):
        return f"chdb {importlib.metadata.version('chdb')} (ClickHouse {json.loads(self.text('SELECT version()'))[0]})"

    def ingest(self, table):
        if table == "logs":
            order, indexes = LOG_SCHEMAS[self.engine]
            self.session.query(LOGS_DDL.format(order=order, indexes=indexes))
            self.session.query(f"""INSERT INTO otel_logs SELECT _time, trace_id, span_id, severity, service, pod, node, body
              FROM file('{self.data}/logs.ndjson', 'JSONEachRow', '_time DateTime64(9, \\'UTC\\'), service String, pod String, node String,
              severity String, trace_id String, span_id String, body String') {INSERT_SETTINGS}""")
        else:
            self.session.query(SPANS_DDL)
            self.session.query(f"""INSERT INTO otel_traces SELECT fromUnixTimestamp64Nano(start), trace_id, span_id, parent_id, name,
              toString(kind), service, map('service.name', service, 'k8s.pod.name', pod), attrs, end - start, toString(status)
              FROM file('{self.data}/spans.ndjson', 'JSONEachRow', 'trace_id String, span_id String, parent_id String, service String,
              pod String, name String, kind UInt8, start Int64, end Int64, status UInt8, attrs Map(String, String)') {INSERT_SETTINGS}""")

    def settle(self, table):
        name = {"logs": "otel_logs", "spans": "otel_traces"}[table]
        self.session.query(f"OPTIMIZE TABLE {name} FINAL SETTINGS optimize_throw_if_noop = 0, alter_sync = 2")

    def disk_bytes(self, table):
        name = {"logs": "otel_logs", "spans": "otel_traces"}[table]
        return int(json.loads(self.text(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE table = '{name}' AND active"))[0])

    def queries(self, params):
        return queries.clickhouse(params, self.engine == "chdb-text")

    def run(self, sql):
        return self.text(sql)

    @staticmethod
    def rows(reply):
        return [json.loads(line) for line in reply.splitlines()]


class DuckDb:
    """DuckDB over one Parquet file a table, in order of arrival, without an index: the lower reference."""

    def __init__(self, _, data, work):
        import duckdb

        self.data, self.folder = data, os.path.join(work, "duckdb")
        os.makedirs(self.folder, exist_ok=True)
        self.duckdb = duckdb.connect()
        self.duckdb.execute("SET threads = 2; SET TimeZone = 'UTC'")

    @staticmethod
    def version():
        return f"DuckDB {importlib.metadata.version('duckdb')}"

    def path(self, table):
        return os.path.join(self.folder, f"{table}.parquet")

    def ingest(self, table):
        columns = {
            "logs": "_time: 'TIMESTAMP_NS', service: 'VARCHAR', pod: 'VARCHAR', node: 'VARCHAR', severity: 'VARCHAR', "
                    "trace_id: 'VARCHAR', span_id: 'VARCHAR', body: 'VARCHAR'",
            "spans": "trace_id: 'VARCHAR', span_id: 'VARCHAR', parent_id: 'VARCHAR', service: 'VARCHAR', pod: 'VARCHAR', node: 'VARCHAR', "
                     "name: 'VARCHAR', kind: 'UTINYINT', start: 'BIGINT', \"end\": 'BIGINT', status: 'UTINYINT', attrs: 'MAP(VARCHAR, VARCHAR)'",
        }[table]
        self.duckdb.execute(f"""COPY (SELECT * FROM read_json('{self.data}/{table}.ndjson', format = 'newline_delimited',
          columns = {{{columns}}})) TO '{self.path(table)}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)""")

    def settle(self, table):
        """There is nothing left to do."""

    def disk_bytes(self, table):
        return measure.disk_bytes(self.path(table))

    def queries(self, params):
        return queries.duckdb(params, f"'{self.path('logs')}'", f"'{self.path('spans')}'")

    def run(self, sql):
        return self.duckdb.execute(sql).fetchall()

    @staticmethod
    def rows(reply):
        return reply


def own_cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def serve(engine, data, work):
    """The process: steps in, figures out."""
    peer = (DuckDb if engine == "duckdb" else Chdb)(engine, data, work)
    asks = None
    for step in map(str.strip, sys.stdin):
        try:
            if step == "version":
                reply = {"version": peer.version()}
            elif step.startswith("ingest "):
                reply = serve_ingest(peer, step.split()[1])
            else:
                if asks is None:
                    with open(os.path.join(data, "answers.json"), encoding="utf-8") as file:
                        asks = peer.queries(json.load(file)["params"])
                reply = serve_query(peer, step, asks)
        except Exception as error:  # pylint: disable=broad-except  # It is reported in the table, and the run goes on.
            reply = {"failed": f"{type(error).__name__}: {error}"[:500]}
        print("REPLY " + json.dumps(reply), flush=True)
    # chdb's threads do not end by themselves in every version.
    os._exit(0)


def serve_ingest(peer, table):
    wall, cpu = time.perf_counter(), own_cpu_s()
    peer.ingest(table)
    taken_wall, taken_cpu = time.perf_counter() - wall, own_cpu_s() - cpu
    peer.settle(table)
    return {"wall_s": taken_wall, "settled_wall_s": time.perf_counter() - wall, "taken_cpu_s": taken_cpu, "cpu_s": own_cpu_s() - cpu,
            "peak_bytes": measure.memory(os.getpid())["peak"], "disk_bytes": peer.disk_bytes(table)}


def serve_query(peer, name, asks):
    if name not in asks:
        return {"absent": True}
    wall, cpu = time.perf_counter(), own_cpu_s()
    reply = peer.run(asks[name])
    taken_wall, taken_cpu = time.perf_counter() - wall, own_cpu_s() - cpu
    return {"wall_s": taken_wall, "cpu_s": taken_cpu, "answer": queries.read_sql(name, peer.rows(reply)),
            "peak_bytes": measure.memory(os.getpid())["peak"]}


class Peer:
    """Such a process, from the side that measures."""

    def __init__(self, engine, data, work):
        self.engine, self.title, self.work = engine, ENGINES[engine], work
        command = [sys.executable, os.path.abspath(__file__), engine, os.path.abspath(data), os.path.abspath(work)]
        self.log = open(os.path.join(work, f"{engine}.log"), "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def step(self, text):
        try:
            print(text, file=self.process.stdin, flush=True)
            for line in self.process.stdout:
                if line.startswith("REPLY "):
                    return json.loads(line[6:])
        except OSError:
            pass
        return {"failed": f"{self.engine} ended ({self.process.poll()})"}

    def ask(self, name):
        return self.step(name)

    def evict(self):
        measure.evict(os.path.join(self.work, self.engine))

    def stop(self):
        try:
            self.process.stdin.close()
            self.process.wait(60)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.log.close()


class Ripgrep:
    """A new process for each question, over the raw lines."""

    engine, title = "rg", "ripgrep, raw lines"

    def __init__(self, data, params):
        self.data, self.asks = data, queries.ripgrep(params)

    def path(self, name):
        return os.path.join(self.data, "spans.ndjson" if name == "span_trace" else "logs.ndjson")

    def ask(self, name):
        if name not in self.asks:
            return {"absent": True}
        arguments, _ = self.asks[name]
        command = ["rg", "--no-config", "--no-filename", "--no-line-number", *arguments, self.path(name)]
        wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, check=False)
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode > 1:
            return {"failed": done.stderr.decode(errors="replace")[:300]}
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"wall_s": wall, "cpu_s": cpu, "answer": queries.read_ripgrep(name, done.stdout)}

    def evict(self):
        """Its files are also everyone's input, and in the page cache anyway."""

    @staticmethod
    def version():
        """`None` when there is no ripgrep here."""
        try:
            return subprocess.run(["rg", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
        except OSError:
            return None


if __name__ == "__main__":
    serve(*sys.argv[1:])
