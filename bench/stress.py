"""What the tables of `run.py` do not show: a hub opening and asking many small files, and a hub under load.

Both make their own records, with times and trace ids that are put into rendered requests by replacing placeholders:
rendering anew would take more CPU than the hub.
"""

import os
import random
import statistics
import struct
import threading
import time

import orjson

import generate
import measure
import otlp
import queries

# Placeholders of a fixed length that occur nowhere else in a request.
TIME = b"\xf5TLTIME\xf5"
TRACE = b"\xf6TRACE8\xf6"


def rendered(records):
    """A request of log records whose times and halves of trace ids are placeholders."""
    trace = TRACE.hex()
    for record in records:
        if record.get("trace_id"):
            record["trace_id"] = trace + record["trace_id"][16:]
    body = otlp.request(records, "logs")
    # All records have one time, which the placeholder stands for.
    return body.replace(struct.pack("<Q", FIXED_NS), TIME)


FIXED_TEXT, FIXED_NS = "2001-09-09T01:46:40.123456789Z", 1_000_000_000_123_456_789


def filled(body, at_ns, number):
    """The request, at this time and with trace ids of its own."""
    return body.replace(TIME, struct.pack("<Q", at_ns)).replace(TRACE, trace_half(number))


def trace_half(number):
    """Eight bytes that look random and differ for every request."""
    return (number * 0x9E3779B97F4A7C15 + 0x1234567 & (1 << 64) - 1 | 1).to_bytes(8, "big")


def templates(run, requests, size):
    """Requests made from the shop's lines."""
    folder, _, _ = run.data("shop", 250_000)
    found, waiting = [], []
    with open(os.path.join(folder, "logs.ndjson"), "rb") as file:
        for line in file:
            record = orjson.loads(line)
            record["_time"] = FIXED_TEXT
            waiting.append(record)
            if len(waiting) == size:
                found.append((rendered(waiting), waiting[-1]["trace_id"][16:], waiting))
                waiting = []
                if len(found) == requests:
                    return found
    return found


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else None


# ---- many small files ----


def cold(run, hours):
    """A small batch for each of many hours of event time; then opening and asking."""
    bodies = templates(run, 200, 20)
    data = run.folder("cold-hub", fresh=True)
    start_ns = (generate.START_S - 400 * 86400) * 10**9
    order = list(range(hours))
    # In no order, as from many senders; an hour's records stay together.
    random.Random(7731).shuffle(order)
    needle_at = order[len(order) // 2]

    def requests():
        for number, hour in enumerate(order):
            body, _, _ = bodies[number % len(bodies)]
            at = start_ns + hour * 3600 * 10**9 + 1_000_000 * number
            yield filled(body, at, number)
        # One more record with the phrase to find.
        record = {"_time": FIXED_TEXT, "service": "payment", "pod": "payment-x", "node": "n", "severity": "ERROR", "body": generate.NEEDLE}
        yield filled(rendered([record]), start_ns + needle_at * 3600 * 10**9, 0)

    with run.hub(data) as hub:
        begun = time.perf_counter()
        hub.send("/v1/logs", "application/x-protobuf", requests())
        settled = hub.settle()
        # Filter packs of up to 512 files come one a round of maintenance; fewer than 128 files stay without.
        packs = os.path.join(data, "tables/default/logs/_filters")
        for _ in range(180):
            if os.path.isdir(packs) and len(os.listdir(packs)) * 512 + 128 > hours:
                break
            time.sleep(1)
        made_s, made_cpu_s = time.perf_counter() - begun, hub.cpu_s()
        stats = hub.stats()
    middle = len(order) // 2
    trace = trace_half(middle).hex() + bodies[middle % len(bodies)][1]
    service = bodies[0][2][0]["service"]
    asks = {
        "needle": queries.rows_asks(f'"{generate.NEEDLE}"'),
        "trace": queries.rows_asks(f"trace:{trace}"),
        "newest 100": queries.rows_asks("", 100, queries.hub_times),
        "newest 100 of a service": queries.rows_asks(f"service:{service}", 100, queries.hub_times),
    }
    result = {"hours": hours, "files": stats["tables"]["logs"]["files"], "rows": stats["tables"]["logs"]["rows"], "settled": settled,
              "made_s": made_s, "made_cpu_s": made_cpu_s, "disk_bytes": measure.disk_bytes(os.path.join(data, "tables")), "opens": [], "queries": {}}
    for _ in range(run.rounds):
        measure.evict(data)
        with run.hub(data) as hub:
            open_s, open_cpu_s = hub.open_figures
            result["opens"].append({"wall_s": open_s, "cpu_s": open_cpu_s, "rss_bytes": measure.memory(hub.pid)["now"]})
            for name, ways in asks.items():
                one = result["queries"].setdefault(name, {"cold_ms": [], "cold_cpu_ms": [], "warm_ms": [], "warm_cpu_ms": [], "rows": 0})
                for again in range(1 + 5):
                    wall, cpu, body, _ = hub.ask(name, ways)
                    kind = "warm" if again else "cold"
                    one[f"{kind}_ms"].append(wall * 1e3)
                    one[f"{kind}_cpu_ms"].append(cpu * 1e3)
                one["rows"] = len(queries.lines(body))
            result["rss_after_bytes"] = measure.memory(hub.pid)["now"]
    wanted = {"needle": 1, "newest 100": 100, "newest 100 of a service": 100}
    for name, rows in wanted.items():
        if result["queries"][name]["rows"] != rows:
            run.wrong(f"cold: {name} gave {result['queries'][name]['rows']} rows, not {rows}")
    if not result["queries"]["trace"]["rows"]:
        run.wrong("cold: the trace was not found")
    for one in result["queries"].values():
        one.update({key: statistics.median(values) for key, values in one.items() if isinstance(values, list)})
    return result


# ---- under load ----


class Threads:
    """CPU of a process by the names of its threads, from /proc; ended threads fall out."""

    def __init__(self, pid):
        self.pid = pid

    def cpu_s(self):
        found = {}
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            folder = f"/proc/{self.pid}/task/{thread}"
            try:
                with open(f"{folder}/comm", encoding="utf-8") as file:
                    name = file.read().strip().rstrip("0123456789-")
                with open(f"{folder}/schedstat", encoding="ascii") as file:
                    found[name] = found.get(name, 0) + int(file.read().split()[0]) / 1e9
            except (OSError, IndexError):
                pass
        return found


def load(run, seconds):
    """Full speed for a while; then half of it with queries, looks at memory, and the time from reply to visible."""
    size = 1000
    made = templates(run, 250, size)
    bodies, halves = [one[0] for one in made], [one[1] for one in made]
    data = run.folder("load-hub", fresh=True)
    with run.hub(data) as hub:
        number = iter(range(1 << 40))
        full = full_speed(hub, bodies, number, size, min(20, max(5, seconds // 6)))
        hub.settle(120)
        gap_s = 2 * size / full  # Between two requests, at half of full speed.
        state = State(hub, halves, len(bodies))
        watchers = [threading.Thread(target=watch, args=(state,)) for watch in (watch_queries, watch_visible, watch_memory)]
        threads_before, cpu, begun = Threads(hub.pid).cpu_s(), hub.cpu_s(), time.perf_counter()
        for watcher in watchers:
            watcher.start()
        sent = 0

        def requests():
            nonlocal sent
            while time.perf_counter() - begun < seconds:
                due = begun + sent * gap_s
                delay = due - time.perf_counter()
                if delay > 0:
                    time.sleep(delay)
                index = next(number)
                sent += 1
                yield Numbered(filled(bodies[index % len(bodies)], time.time_ns(), index), index)

        latencies = sorted(hub.send("/v1/logs", "application/x-protobuf", requests(), sent=state.sent))
        took = time.perf_counter() - begun
        state.over = True
        for watcher in watchers:
            watcher.join()
        cpu, threads = hub.cpu_s() - cpu, Threads(hub.pid).cpu_s()
        stats = hub.stats()
        settle_begun, settle_cpu = time.perf_counter(), hub.cpu_s()
        # What is left of an hour that is not over may wait for more.
        settled = hub.settle(180)
        after = hub.stats()
        if state.failures:
            run.wrong(f"load: {state.failures[0]} ({len(state.failures)} in all)")
        memory = state.memory
        third = max(1, len(memory) // 3)
        return {
            "seconds": took, "full_records_s": full, "records_s": sent * size / took, "records": sent * size, "cpu_share": cpu / took,
            "send_p50_ms": percentile(latencies, 0.5) * 1e3, "send_p99_ms": percentile(latencies, 0.99) * 1e3,
            "queries": {name: {"count": len(found), "p50_ms": percentile(sorted(found), 0.5), "p99_ms": percentile(sorted(found), 0.99),
                               "max_ms": max(found, default=None)} for name, found in state.latencies.items()},
            "visible": {"count": len(state.visible), "p50_ms": percentile(sorted(state.visible), 0.5), "p99_ms": percentile(sorted(state.visible), 0.99)},
            "memory": {"first_third_bytes": statistics.mean(memory[:third]), "last_third_bytes": statistics.mean(memory[-third:]), "peak_bytes": max(memory)},
            "threads_share": {name: (value - threads_before.get(name, 0)) / took for name, value in sorted(threads.items(), key=lambda item: -item[1])
                              if (value - threads_before.get(name, 0)) / took > 0.002},
            "series": state.series, "files_at_end": stats["tables"]["logs"]["files"], "files_after": after["tables"]["logs"]["files"],
            "settled": settled, "settle_s": time.perf_counter() - settle_begun, "settle_cpu_s": hub.cpu_s() - settle_cpu,
            "compactions": after["compactions"], "seals": after["seals"],
        }


class Numbered(bytes):
    """A request that knows its number."""

    def __new__(cls, body, number):
        made = super().__new__(cls, body)
        made.number = number
        return made


def full_speed(hub, bodies, number, size, seconds):
    """Records a second, by the clock, while as much is sent as the hub takes."""
    begun, sent = time.perf_counter(), 0

    def requests():
        nonlocal sent
        while time.perf_counter() - begun < seconds:
            index = next(number)
            sent += 1
            yield filled(bodies[index % len(bodies)], time.time_ns(), index)

    hub.send("/v1/logs", "application/x-protobuf", requests())
    return sent * size / (time.perf_counter() - begun)


class State:
    """What the threads that watch share."""

    def __init__(self, hub, halves, bodies):
        self.hub, self.halves, self.bodies = hub, halves, bodies
        self.over, self.last = False, None
        self.latencies = {"newest 100 errors of a service": [], "one trace, rows": []}
        self.visible, self.memory, self.failures = [], [], []
        self.series = []  # A look at memory and files every minute.

    def sent(self, body):
        self.last = (body.number, time.perf_counter())

    def trace(self, number):
        return trace_half(number).hex() + self.halves[number % self.bodies]

    def rows(self, connection, search, limit):
        ask = queries.rows_asks(search, limit)[0]
        begun = time.perf_counter()
        status, body, _ = connection.request("GET", queries.target(ask))
        if status != 200:
            self.failures.append(f"{search}: {status} {body[:200].decode(errors='replace')}")
        return (time.perf_counter() - begun) * 1e3, body


def watch_queries(state):
    """Both queries in turn, some ten a second."""
    connection = type(state.hub.api)(state.hub.api.port)
    rnd = random.Random(1)
    while not state.over:
        took, _ = state.rows(connection, "service:payment severity:error", 100)
        state.latencies["newest 100 errors of a service"].append(took)
        time.sleep(0.1)
        if state.last:
            # Any of those so far, so that files are asked too.
            took, body = state.rows(connection, f"trace:{state.trace(rnd.randrange(state.last[0] + 1))}", 1000)
            state.latencies["one trace, rows"].append(took)
            if not body:
                state.failures.append("a trace that was acknowledged is not there")
        time.sleep(0.1)


def watch_visible(state):
    """From the reply to a request until a query has its last record."""
    connection = type(state.hub.api)(state.hub.api.port)
    seen = None
    while not state.over:
        last = state.last
        if last is None or last is seen:
            time.sleep(0.002)
            continue
        seen = last
        for _ in range(1000):
            _, body = state.rows(connection, f"trace:{state.trace(last[0])}", 1)
            if body:
                break
        else:
            state.failures.append("a record was not visible after 1,000 queries")
        state.visible.append((time.perf_counter() - last[1]) * 1e3)
        time.sleep(0.5)


def watch_memory(state):
    connection = type(state.hub.api)(state.hub.api.port)
    begun = time.perf_counter()
    while not state.over:
        now = measure.memory(state.hub.pid)["now"]
        state.memory.append(now)
        at = time.perf_counter() - begun
        if at >= 60 * (len(state.series) + 1):
            logs = orjson.loads(connection.request("GET", "/api/v1/stats")[1])["tables"]["logs"]
            state.series.append({"s": at, "memory_bytes": now, "files": logs["files"], "draft_files": logs["draft_files"]})
        time.sleep(0.5)
