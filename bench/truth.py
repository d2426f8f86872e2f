"""The right answers, by brute force over the raw lines: plain Python that shares nothing with generator or engines.

usage: truth.py FOLDER

Reads logs.ndjson, spans.ndjson and manifest.json, picks the parameters that depend on the data (a trace, an address, a
network), and writes answers.json: `{"params": …, "answers": …}`. The forms of answers are those of `answers.py`.
"""

import argparse
import array
import collections
import hashlib
import heapq
import json
import multiprocessing
import os
import re

import orjson

import answers

ADDRESS = re.compile(r"(?<![0-9.])([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.)([0-9]{1,3})(?![0-9.])")
NEWEST = 100
TRACES = 20


def ranges(path, parts):
    """Byte ranges that begin and end at line ends."""
    size, bounds = os.path.getsize(path), [0]
    with open(path, "rb") as file:
        for part in range(1, parts):
            file.seek(size * part // parts)
            file.readline()
            bounds.append(file.tell())
    return list(zip(bounds, bounds[1:] + [size]))


def lines(path, begin, end):
    with open(path, "rb", buffering=1 << 20) as file:
        file.seek(begin)
        while begin < end:
            line = file.readline()
            begin += len(line)
            yield line


def logs_part(arguments):
    """What one part of the log lines says."""
    path, (begin, end), params = arguments
    regex = re.compile(params["regex"])
    # Term boundaries of the search language; without case, as it searches words.
    word = re.compile(rf"(?<![0-9A-Za-z_\x80-\U0010ffff]){re.escape(params['word'])}(?![0-9A-Za-z_\x80-\U0010ffff])", re.IGNORECASE)
    plain_word = params["word"].lower()
    counts, minutes, pods = collections.Counter(), collections.Counter(), collections.Counter()
    traces, hosts, nets, needle, newest = collections.Counter(), collections.Counter(), collections.Counter(), [], []
    for line in lines(path, begin, end):
        record = orjson.loads(line)
        body, time_text = record["body"], record["_time"]
        counts["count"] += 1
        if params["needle"] in body:
            needle.append((answers.nanoseconds(time_text), body))
        counts["absent"] += params["absent"] in body
        counts["substring"] += params["substring"] in body
        counts["regex"] += regex.search(body) is not None
        if plain_word in body.lower():
            counts["word"] += word.search(body) is not None
        minutes[time_text[:16], record["service"]] += 1
        if record["severity"] == "ERROR":
            pods[record["pod"]] += 1
            if record["service"] == params["service"]:
                newest.append(answers.nanoseconds(time_text))
                if len(newest) > 4 * NEWEST:
                    newest = heapq.nlargest(NEWEST, newest)
        trace = record.get("trace_id")
        if trace:
            traces[trace] += 1
        if body.count(".") >= 3:
            found = {(net, net + host) for net, host in ADDRESS.findall(body)}
            hosts.update({address for _, address in found})
            nets.update({net for net, _ in found})
    return counts, minutes, pods, traces, hosts, nets, needle, heapq.nlargest(NEWEST, newest)


def picked_logs_part(arguments):
    """Rows of what was picked from the data."""
    path, (begin, end), params = arguments
    host = params["address"] and re.compile(rf"(?<![0-9A-Za-z_.]){re.escape(params['address'])}(?![0-9A-Za-z_.])")
    trace, address = [], []
    for line in lines(path, begin, end):
        is_trace = params["trace_id"].encode() in line
        if is_trace or (host and params["address"].encode() in line):
            record = orjson.loads(line)
            row = (answers.nanoseconds(record["_time"]), record["body"])
            if record.get("trace_id") == params["trace_id"]:
                trace.append(row)
            if host and host.search(record["body"]):
                address.append(row)
    return trace, address


def summed(parts, index):
    total = collections.Counter()
    for part in parts:
        total.update(part[index])
    return total


def nearest(counter, wanted):
    """The key whose count is nearest to the wanted one. Of several one by its hash: the smallest of all ids would be
    easy to find by the bounds of files."""
    least = min((abs(count - wanted) for count in counter.values()), default=None)
    return min((key for key, count in counter.items() if abs(count - wanted) == least),
               key=lambda key: hashlib.sha256(key.encode()).digest(), default=None)


def logs_truth(pool, folder, params, parts):
    path = os.path.join(folder, "logs.ndjson")
    bounds = ranges(path, parts)
    found = pool.map(logs_part, [(path, bound, params) for bound in bounds], chunksize=1)
    counts, minutes, pods, traces, hosts, nets = (summed(found, index) for index in range(6))
    address, net = nearest(hosts, 10), nearest(nets, 400)
    params.update(trace_id=nearest(traces, params["trace_logs"]), address=address, network=net and net + "0/24", network_prefix=net)
    picked = pool.map(picked_logs_part, [(path, bound, params) for bound in bounds], chunksize=1)
    truth = {
        "count": counts["count"], "absent": counts["absent"], "substring": counts["substring"], "regex": counts["regex"],
        "word": counts["word"], "needle": answers.rows([row for part in found for row in part[6]]),
        "trace": answers.rows([row for part in picked for row in part[0]]),
        "minutes": answers.groups([(minute + ":00", service, n) for (minute, service), n in minutes.items()]),
        "top_pods": answers.top(pods.most_common(10)), "pods": dict(pods),
        "newest": answers.times(heapq.nlargest(NEWEST, [at for part in found for at in part[7]])), "distinct": len(traces),
    }
    if address:
        truth["address"] = answers.rows([row for part in picked for row in part[1]])
        truth["network"] = nets[net]
    return truth


def spans_part(arguments):
    """What one part of the spans says."""
    path, (begin, end), params = arguments
    per_trace, starts, minutes, fitting, durations = collections.Counter(), {}, {}, {}, {}
    for line in lines(path, begin, end):
        span = orjson.loads(line)
        trace, start, took = span["trace_id"], span["start"], span["end"] - span["start"]
        per_trace[trace] += 1
        starts[trace] = min(start, starts.get(trace, start))
        key = (start // 60_000_000_000, span["service"])
        group = minutes.setdefault(key, [0, 0])
        group[0] += 1
        group[1] += span["status"] == 2
        durations.setdefault(key, array.array("q")).append(took)
        if span["service"] == params["trace_service"] and took > params["trace_min_ns"]:
            fitting[trace] = max(start, fitting.get(trace, start))
    return per_trace, starts, minutes, fitting, durations


def merge(into, part, choose):
    for key, value in part.items():
        into[key] = choose(into[key], value) if key in into else value


def spans_truth(pool, folder, params, parts):
    path = os.path.join(folder, "spans.ndjson")
    found = pool.map(spans_part, [(path, bound, params) for bound in ranges(path, parts)], chunksize=1)
    per_trace, starts, minutes, fitting, durations = summed(found, 0), {}, {}, {}, {}
    for part in found:
        merge(starts, part[1], min)
        merge(minutes, part[2], lambda a, b: [a[0] + b[0], a[1] + b[1]])
        merge(fitting, part[3], max)
        merge(durations, part[4], lambda a, b: a + b)
    params["span_trace_id"] = nearest(per_trace, 100)
    # Newest by the start of the whole trace, as a hub lists them, and by the newest span that fits, as one asks in SQL.
    by_start = sorted(fitting, key=lambda trace: (-starts[trace], trace))[:TRACES]
    by_span = sorted(fitting, key=lambda trace: (-fitting[trace], trace))[:TRACES]
    return {
        "spans": sum(per_trace.values()), "trace_spans": per_trace[params["span_trace_id"]],
        "slow_traces": answers.traces({trace: per_trace[trace] for trace in by_start}),
        "slow_traces_by_span": answers.traces({trace: per_trace[trace] for trace in by_span}),
        "red": answers.groups([(answers.minute(minute * 60), service, *group) for (minute, service), group in minutes.items()]),
        "red_p95": {answers.group_name(answers.minute(minute * 60), service): p95_bounds(sorted(took))
                    for (minute, service), took in durations.items() if len(took) >= answers.QUANTILE_ROWS_MIN},
    }


def p95_bounds(took):
    """What an estimate of the 95th percentile may be: from the 90th to the 99th."""
    return [took[int(len(took) * 0.9)], took[min(len(took) - 1, int(len(took) * 0.99) + 1)]]


def compute(folder, force=False):
    """Writes answers.json, unless it is newer than the manifest; returns it."""
    path, manifest_path = os.path.join(folder, "answers.json"), os.path.join(folder, "manifest.json")
    if not force and os.path.exists(path) and os.path.getmtime(path) >= os.path.getmtime(manifest_path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    with open(manifest_path, encoding="utf-8") as file:
        manifest = json.load(file)
    params = {**manifest["params"], "needle": manifest["needle"]}
    processes = os.cpu_count()
    with multiprocessing.Pool(processes) as pool:
        truth = logs_truth(pool, folder, params, processes * 4)
        if manifest["spans"]["spans"]:
            truth.update(spans_truth(pool, folder, params, processes * 2))
    result = {"params": params, "answers": truth}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    result = compute(parser.parse_args().folder, force=True)
    shown = {key: value for key, value in result["answers"].items() if key not in ("pods", "red_p95")}
    print(json.dumps({"params": result["params"], "answers": shown}, indent=1))


if __name__ == "__main__":
    main()
