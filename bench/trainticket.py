"""Makes the data set `trainticket` out of a real day: logs and spans of a train ticket system of 40-odd services.

usage: trainticket.py DAY FOLDER [--logs N]

DAY has logs.ndjson.zst and spans.ndjson.zst as `cargo xtask demo` takes them. The day becomes as many copies as needed,
ten hours apart. Trace ids, span ids and rare UUIDs (in fewer than 20 traces) are made anew in each, in the fields and in
the text, so that cardinality grows as in life; the clock at the beginning of a line moves along. Texts are cut at 2,048
bytes: a few of 16 KiB would be half of all bytes. Shapes are those of `generate.py`; the same input gives the same bytes.
"""

import argparse
import collections
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess

import orjson

from generate import NEEDLE, NEEDLES, START_S, join, part_path, read_manifest, rfc3339, write_manifest

PARAMS = {
    "absent": "zyxgrommet", "substring": "toresListRes", "regex": "Id[:=] ?c[0-9a-f]{7}-9[0-9a-f]{3}-", "word": "taiyuan",
    "service": "ts-food-service", "trace_logs": 40, "trace_service": "ts-travel-service", "trace_min_ns": 300_000_000,
}
FIRST_NS = 1674981600 * 10**9  # 2023-01-29 08:40 UTC; records before it carry absurd times.
STEP_NS = 10 * 3600 * 10**9
SPAN_COPIES_SHARE = 0.2  # The first copies have spans, 321 k each.
BODY_MAX = 2048
COMMON = 20
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
IDS = re.compile(rf"{UUID}|(?<![0-9a-f-])(?:[0-9a-f]{{32}}|[0-9a-f]{{16}})(?![0-9a-f-])")
CLOCK = re.compile(r"^(\d\d):(\d\d):(\d\d)\.(\d{3})")
DAY_MS = 86_400_000


def records(path):
    process = subprocess.Popen(["zstd", "-dcq", path], stdout=subprocess.PIPE)
    for line in process.stdout:
        yield orjson.loads(line)
    if process.wait():
        raise SystemExit(f"{path}: zstd could not read it")


class Ids:
    """Every id of the day has a slot; a copy makes each anew once."""

    def __init__(self):
        self.slots, self.common = {}, set()

    def slot(self, name):
        return self.slots.setdefault(name, len(self.slots))

    def renewed(self, copy):
        key, names = b"copy%d" % copy, []
        for name in self.slots:
            if name in self.common:
                names.append(name)
                continue
            digits = hashlib.blake2b(name.encode(), digest_size=16, key=key).hexdigest()
            if len(name) == 36:
                digits = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
            names.append(digits[:len(name)])
        return names


def escaped(text):
    """Text as it stands in JSON and in a format."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("%", "%%")


def load_logs(day, ids):
    """Logs of the day: (time from its start, format of the line, slots of its ids, its clock beside its time in ms)."""
    seen, found, traces = set(), [], collections.defaultdict(set)
    for record in records(os.path.join(day, "logs.ndjson.zst")):
        at, body = int(record["time_unix_nano"]) - FIRST_NS, record["body"].rstrip("\r\n")[:BODY_MAX]
        key = hash((at, record["pod"], body))
        if at < 0 or key in seen:
            continue
        seen.add(key)
        trace = record["trace_id"]
        clock_ms, clock = None, CLOCK.match(body)
        if clock:
            hour, minute, second, milli = map(int, clock.groups())
            clock_ms = ((hour * 60 + minute) * 60 + second) * 1000 + milli - (at // 10**6) % DAY_MS
            body = body[12:]
        parts, slots, end = [], [ids.slot(trace), ids.slot(record["span_id"])], 0
        for match in IDS.finditer(body):
            parts.append(escaped(body[end:match.start()]))
            slots.append(ids.slot(match.group()))
            if len(match.group()) == 36:
                traces[match.group()].add(trace)
            end = match.end()
        parts.append(escaped(body[end:]))
        form = (f'{{"_time":"%s","service":"{record["service"]}","pod":"{record["pod"]}","node":"{record["node"]}",'
                f'"severity":"{record["severity"]}","trace_id":"%s","span_id":"%s","body":"%s' + "%s".join(parts) + '"}\n')
        found.append((at, form, slots, clock_ms))
    found.sort(key=lambda log: log[0])
    ids.common.update(name for name, of in traces.items() if len(of) >= COMMON)
    return found


def load_spans(day, ids):
    found, seen = [], set()
    for record in records(os.path.join(day, "spans.ndjson.zst")):
        key = (record["trace_id"], record["span_id"])
        if key in seen:
            continue
        seen.add(key)
        parent = record["parent_span_id"]
        found.append((int(record["end_time_unix_nano"]) - FIRST_NS, int(record["start_time_unix_nano"]) - FIRST_NS, ids.slot(record["trace_id"]),
                      ids.slot(record["span_id"]), ids.slot(parent) if parent else None, record["service"], record["pod"], record["name"]))
    found.sort(key=lambda span: (span[0], span[3]))
    return found


def kind_and_attributes(name, chance):
    """The day's spans have neither: both are derived from the operation's name, and failures from the id."""
    attributes, words = {"thread.id": chance % 61 + 20}, name.split(" ", 1)
    status = 200 if chance % 97 else 500
    if name.startswith("/"):
        return 2, {**attributes, "http.request.method": "GET" if chance & 3 else "POST", "http.route": name, "http.response.status_code": status}
    if words[0] == "HTTP" and len(words) > 1:
        return 3, {**attributes, "http.request.method": words[1], "http.response.status_code": status, "server.port": 8080}
    if words[0] in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        return 3, {**attributes, "db.system.name": "mysql", "db.operation.name": words[0], "db.collection.name": words[1] if len(words) > 1 else ""}
    return 1, {**attributes, "code.function.name": name}


# What a copy is made of; the processes of the pool inherit it.
DAY = {}


def copy_part(arguments):
    folder, copy, count, needles, with_spans = arguments
    names, offset, made = DAY["ids"].renewed(copy), START_S * 10**9 + copy * STEP_NS, 0
    with open(part_path(folder, "logs", copy), "w", encoding="utf-8", buffering=1 << 20) as file:
        for index, (at, form, slots, clock_ms) in enumerate(DAY["logs"][:count]):
            at += offset
            values = [names[slot] for slot in slots]
            clock = "" if clock_ms is None else clock_text(clock_ms + at // 10**6)
            line = form % (rfc3339(at), values[0], values[1], clock, *values[2:])
            file.write(f'{line[:-3]} {NEEDLE}"}}\n' if index in needles else line)
    if with_spans:
        with open(part_path(folder, "spans", copy), "wb", buffering=1 << 20) as file:
            for end, start, trace, span, parent, service, pod, name in DAY["spans"]:
                kind, attributes = kind_and_attributes(name, int(names[span][:6], 16))
                failed = attributes.get("http.response.status_code") == 500
                file.write(orjson.dumps({
                    "trace_id": names[trace], "span_id": names[span], "parent_id": "" if parent is None else names[parent], "service": service,
                    "pod": pod, "name": name, "kind": kind, "start": start + offset, "end": end + offset, "status": 2 if failed else 0,
                    "attrs": attributes}) + b"\n")
                made += 1
    return count, made


def clock_text(milliseconds):
    seconds, milli = divmod(milliseconds % DAY_MS, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milli:03}"


def generate(day, folder, logs):
    """Makes the set, unless the folder has it already; returns its manifest."""
    wanted = {"set": "trainticket", "logs_wanted": logs, "version": 1}
    path = os.path.join(folder, "manifest.json")
    if os.path.exists(path) and all(read_manifest(path).get(key) == value for key, value in wanted.items()):
        return read_manifest(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    ids = Ids()
    DAY.update(ids=ids, logs=load_logs(day, ids), spans=load_spans(day, ids))
    size = len(DAY["logs"])
    copies = -(-logs // size)
    places, jobs = random.Random(7731).sample(range(logs), NEEDLES), []
    for copy in range(copies):
        first = copy * size
        count = min(size, logs - first)
        needles = {place - first for place in places if first <= place < first + count}
        jobs.append((folder, copy, count, needles, copy < max(1, copies * SPAN_COPIES_SHARE)))
    with multiprocessing.get_context("fork").Pool() as pool:
        made = pool.map(copy_part, jobs, chunksize=1)
    DAY.clear()
    manifest = {**wanted, "needle": NEEDLE, "params": PARAMS,
                "logs": {"records": sum(part[0] for part in made), "bytes": join(folder, "logs", copies), "copies": copies},
                "spans": {"spans": sum(part[1] for part in made), "ndjson_bytes": join(folder, "spans", copies)}}
    write_manifest(path, manifest)
    return manifest


def adopt(source, folder):
    """A set of this kind that some other tool has made: its lines are linked, not copied."""
    path = os.path.join(folder, "manifest.json")
    if os.path.exists(path):
        return read_manifest(path)
    given = read_manifest(os.path.join(source, "manifest.json"))
    for name in ("logs.ndjson", "spans.ndjson"):
        if not os.path.lexists(os.path.join(folder, name)):
            os.symlink(os.path.abspath(os.path.join(source, name)), os.path.join(folder, name))
    manifest = {"set": "trainticket", "needle": given["needle"], "params": PARAMS, "logs": given["logs"], "spans": given["spans"]}
    write_manifest(path, manifest)
    return manifest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("day")
    parser.add_argument("folder")
    parser.add_argument("--logs", type=int, default=5_000_000)
    chosen = parser.parse_args()
    print(json.dumps(generate(chosen.day, chosen.folder, chosen.logs), indent=1))


if __name__ == "__main__":
    main()
