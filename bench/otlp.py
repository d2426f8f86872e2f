"""Renders a data set as OTLP protobuf, for measuring ingest: requests framed by their length (4 bytes, little-endian).

usage: otlp.py FOLDER      (logs.ndjson -> logs.otlp; spans.ndjson -> spans.otlp)

A request holds 1,000 records grouped by resource (a pod), as a Collector's batches do. The bytes are put together by
hand: a protobuf library would take minutes for millions of records. That they are right is checked by what hubs answer.
"""

import argparse
import multiprocessing
import os
import shutil
import struct

import orjson

import answers
from truth import lines, ranges

RECORDS = 1000
SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


LENGTHS = [varint(number) for number in range(1 << 14)]


def field(tag, payload):
    """A field with a length: text, bytes or a message."""
    size = len(payload)
    return tag + (LENGTHS[size] if size < 1 << 14 else varint(size)) + payload


def value(item):
    """An AnyValue."""
    if isinstance(item, int):
        return b"\x18" + varint(item)
    return field(b"\x0a", item.encode())


def attribute(tag, key, item):
    return field(tag, field(b"\x0a", key.encode()) + field(b"\x12", value(item)))


def resource(record):
    keys = {"service.name": "service", "k8s.pod.name": "pod", "k8s.node.name": "node"}
    return field(b"\x0a", b"".join(attribute(b"\x0a", key, record[name]) for key, name in keys.items() if record.get(name)))


def log_record(record):
    at = struct.pack("<Q", answers.nanoseconds(record["_time"]))
    severity = record["severity"]
    parts = [b"\x09", at, b"\x10", LENGTHS[SEVERITIES[severity]], field(b"\x1a", severity.encode()), field(b"\x2a", value(record["body"]))]
    if record.get("trace_id"):
        parts += [b"\x4a\x10", bytes.fromhex(record["trace_id"]), b"\x52\x08", bytes.fromhex(record["span_id"])]
    # No observed time: the lines have none, and the peers would not store it.
    return b"".join(parts)


def span(record):
    parts = [b"\x0a\x10", bytes.fromhex(record["trace_id"]), b"\x12\x08", bytes.fromhex(record["span_id"])]
    if record["parent_id"]:
        parts += [b"\x22\x08", bytes.fromhex(record["parent_id"])]
    parts += [field(b"\x2a", record["name"].encode()), b"\x30", LENGTHS[record["kind"]],
              b"\x39", struct.pack("<Q", record["start"]), b"\x41", struct.pack("<Q", record["end"])]
    parts += [attribute(b"\x4a", key, item) for key, item in record["attrs"].items()]
    if record["status"]:
        parts.append(field(b"\x7a", b"\x18" + LENGTHS[record["status"]]))
    return b"".join(parts)


KINDS = {"logs": (log_record, field(b"\x0a", field(b"\x0a", b"bench"))),
         "spans": (span, field(b"\x0a", field(b"\x0a", b"opentelemetry-bench") + field(b"\x12", b"1.20.0")))}


def request(records, kind):
    render, scope = KINDS[kind]
    groups = {}
    for record in records:
        group = groups.get(record["pod"])
        if group is None:
            group = groups[record["pod"]] = (resource(record), [scope])
        group[1].append(field(b"\x12", render(record)))
    return b"".join(field(b"\x0a", head + field(b"\x12", b"".join(parts))) for head, parts in groups.values())


def part(arguments):
    source, target, (begin, end), kind = arguments
    with open(target, "wb", buffering=1 << 20) as out:
        waiting = []

        def flush():
            body = request(waiting, kind)
            out.write(struct.pack("<I", len(body)))
            out.write(body)
            waiting.clear()

        for line in lines(source, begin, end):
            waiting.append(orjson.loads(line))
            if len(waiting) == RECORDS:
                flush()
        if waiting:
            flush()


def render(folder, kind):
    """Renders one file unless a newer one is there; its path."""
    source, target = os.path.join(folder, f"{kind}.ndjson"), os.path.join(folder, f"{kind}.otlp")
    if os.path.exists(target) and os.path.getmtime(target) >= os.path.getmtime(source):
        return target
    # As many as cores: parts lie one after the other, and all would end in a request of less than 1,000 records.
    processes = os.cpu_count()
    bounds = ranges(source, processes)
    jobs = [(source, f"{target}.{index}", bound, kind) for index, bound in enumerate(bounds)]
    with multiprocessing.Pool(processes) as pool:
        pool.map(part, jobs, chunksize=1)
    with open(target + ".new", "wb") as whole:
        for job in jobs:
            with open(job[1], "rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
            os.remove(job[1])
    os.replace(target + ".new", target)
    return target


def frames(path):
    """The requests of a file."""
    with open(path, "rb", buffering=1 << 20) as file:
        while head := file.read(4):
            yield file.read(struct.unpack("<I", head)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    folder = parser.parse_args().folder
    for kind in KINDS:
        if os.path.exists(os.path.join(folder, f"{kind}.ndjson")):
            print(render(folder, kind))


if __name__ == "__main__":
    main()
