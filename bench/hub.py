"""The real binary as a process of its own on loopback: starting, asking, sending, waiting until it has settled."""

import http.client
import os
import signal
import socket
import subprocess
import threading
import time

import orjson

import measure
import queries

# Settled: nothing in memory, and for this long neither CPU beyond this share of a core nor a change of the files. The hub
# looks every 10 seconds for files to merge, of hours that have not grown for 30: who waits for less leaves that out.
QUIET_S = 45
QUIET_CPU_SHARE = 0.03
SETTLE_S_MAX = 900
RETRIES_MAX = 600
# An operation or parameter that is not known, too many buckets, too much memory.
NOT_THIS_WAY = (400, 404, 405, 422)
JSON_LINES_BYTES = 2 << 20


class Failed(Exception):
    """The hub did not answer as it should; the text says how."""

    def __init__(self, text, status=None):
        super().__init__(text)
        self.status = status


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Connection:
    """One keep-alive connection."""

    def __init__(self, port):
        self.port, self.http = port, None

    def request(self, method, path, body=None, headers=None):
        """Status, body and headers. A connection that the hub closed while it was idle is opened again, once."""
        for last in (False, True):
            fresh = self.http is None
            if fresh:
                self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
                self.http.connect()
                self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.http.request(method, path, body, headers or {})
                reply = self.http.getresponse()
                return reply.status, reply.read(), reply.headers
            except (http.client.HTTPException, OSError):
                self.close()
                if fresh or last:
                    raise
        raise AssertionError

    def close(self):
        if self.http:
            self.http.close()
        self.http = None


class Hub:
    """A running hub. Use it as a context: leaving it ends the process."""

    def __init__(self, binary, data, log, settings=None, quiet_s=QUIET_S):
        self.binary, self.data, self.log, self.settings, self.quiet_s = binary, data, log, settings or {}, quiet_s
        self.process = self.api = self.otlp_port = self.open_figures = None
        self.taken = {}  # Query -> position of the way to ask that this hub knows.

    def __enter__(self):
        self.open_figures = self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, wait_s=300):
        """Starts it; returns the seconds until it was healthy and the CPU seconds it took."""
        ports = {name: free_port() for name in ("OTLP_GRPC", "OTLP_HTTP", "API")}
        environment = {key: text for key, text in os.environ.items() if not key.startswith("THREADLINE_")}
        environment.update({f"THREADLINE_{name}_ADDRESS": f"127.0.0.1:{port}" for name, port in ports.items()})
        environment.update({f"THREADLINE_{name.upper()}": str(text) for name, text in self.settings.items()})
        environment["THREADLINE_DATA_DIR"] = self.data
        # Answers are compared with those of peers: no record is to come from the asking.
        environment.setdefault("THREADLINE_AUDIT_QUERIES", "false")
        environment.setdefault("THREADLINE_DETECTION", "false")
        environment.setdefault("THREADLINE_RECORD_LIFECYCLE", "false")
        # And with the raw lines: nothing is to be masked. `--set contract=true` measures what checking and masking take.
        if "THREADLINE_CONTRACT" not in environment:
            environment["THREADLINE_CONTRACT"] = "false"
            environment.setdefault("THREADLINE_REDACT", "false")
        begun = time.perf_counter()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        self.api, self.otlp_port = Connection(ports["API"]), ports["OTLP_HTTP"]
        while True:
            if self.process.poll() is not None or time.perf_counter() - begun > wait_s:
                self.stop()
                raise Failed(f"the hub did not become healthy; its log is {self.log}")
            try:
                if self.api.request("GET", "/healthz")[0] == 200:
                    return time.perf_counter() - begun, self.cpu_s()
            except OSError:
                pass
            time.sleep(0.005)

    def stop(self):
        if self.api:
            self.api.close()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(120)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def pid(self):
        return self.process.pid

    def cpu_s(self):
        return measure.cpu_s(self.pid)

    def get(self, path):
        status, body, _ = self.api.request("GET", path)
        if status != 200:
            raise Failed(f"{path[:200]}: {status} {body[:300].decode(errors='replace')}", status)
        return body

    def stats(self):
        return orjson.loads(self.get("/api/v1/stats"))

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=False).stdout.strip()

    # ---- asking ----

    def ask(self, name, ways):
        """Asks in the best way that the hub knows. Wall and CPU seconds of that alone, the body, and the way taken."""
        while True:
            way = ways[self.taken.setdefault(name, 0)]
            cpu, wall = self.cpu_s(), time.perf_counter()
            try:
                body = self._chain(way)
            except Failed as error:
                # Not known, or not for this much: the next way, if there is one.
                if error.status not in NOT_THIS_WAY or self.taken[name] + 1 == len(ways):
                    raise
                self.taken[name] += 1
                continue
            return time.perf_counter() - wall, self.cpu_s() - cpu, body, way

    def _chain(self, way):
        if not isinstance(way, list):
            return self.get(queries.target(way))
        body, traces = b"", ()
        for step in way:
            body = self.get(queries.target(step, traces))
            if step.read is None:
                traces = [trace["trace_id"] for trace in orjson.loads(body)["traces"]]
        return body

    # ---- sending ----

    def takes_json_lines(self):
        status, _, _ = Connection(self.otlp_port).request("POST", "/v1/jsonl", b"", {"content-type": "application/x-ndjson"})
        return status not in (404, 405)

    def send(self, path, content_type, bodies, connections=2, pace=None, sent=None):
        """Sends all bodies over some connections; the latencies. `pace(body)` waits before one, `sent(body)` comes after."""
        lock, latencies, failures = threading.Lock(), [], []

        def work():
            connection = Connection(self.otlp_port)
            while not failures:
                with lock:
                    body = next(bodies, None)
                    if body is not None and pace:
                        pace(body)
                if body is None:
                    break
                begun = time.perf_counter()
                try:
                    self._send_one(connection, path, content_type, body)
                except (Failed, OSError, http.client.HTTPException) as error:
                    failures.append(f"{path}: {error}")
                    break
                latencies.append(time.perf_counter() - begun)
                if sent:
                    sent(body)
            connection.close()

        threads = [threading.Thread(target=work) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise Failed(failures[0])
        return latencies

    @staticmethod
    def _send_one(connection, path, content_type, body):
        for _ in range(RETRIES_MAX):
            status, said, headers = connection.request("POST", path, body, {"content-type": content_type})
            if status == 200:
                return
            if status not in (429, 502, 503, 504):
                raise Failed(f"{status} {said[:300].decode(errors='replace')}")
            time.sleep(min(float(headers.get("retry-after") or 1), 1))
        raise Failed("the hub did not take a request for too long")

    # ---- settling ----

    def settle(self, patience_s=SETTLE_S_MAX):
        """Waits until sealing, indexing and compaction have nothing left to do; whether that came to be."""
        begun = quiet_since = time.perf_counter()
        before = None
        while time.perf_counter() - begun < patience_s:
            stats, cpu, now = self.stats(), self.cpu_s(), time.perf_counter()
            tables = stats["tables"].values()
            files = [(table["files"], table["sealed_bytes"]) for table in tables]
            waiting = any(table["memory_rows"] or table.get("draft_files") for table in tables)
            if before is None or waiting or files != before[0] or (cpu - before[1]) / (now - before[2]) > QUIET_CPU_SHARE:
                quiet_since = now
            if now - quiet_since >= self.quiet_s:
                return True
            before = (files, cpu, now)
            time.sleep(1)
        return False

    def table_bytes(self, table):
        return measure.disk_bytes(os.path.join(self.data, "tables", "default", table))


def json_lines(path, size=JSON_LINES_BYTES):
    """A file in blocks that end at a line's end."""
    with open(path, "rb", buffering=0) as file:
        rest = b""
        while block := file.read(size):
            cut = block.rfind(b"\n") + 1
            if not cut:
                rest += block
                continue
            yield rest + block[:cut]
            rest = block[cut:]
        if rest:
            yield rest
