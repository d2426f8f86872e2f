"""Compares our Sigma engine with pySigma and its SQLite backend: the same rules over the same events.

usage: oracle.py HITS [SIGMA EVENTS.ndjson]

HITS is the program `hits` (crates/threadline-detect/examples). SIGMA is a folder of Sigma rules with regression_data,
EVENTS a file of labelled JSON events; without them only what is generated here is compared: every modifier, and every
type of correlation over random events. Every difference must be one that EXPLAINED says (docs/sigma.md, "Where we
differ").
"""

import collections
import json
import pathlib
import random
import re
import sqlite3
import subprocess
import sys
import tempfile

import yaml
from sigma.backends.sqlite import sqliteBackend
from sigma.backends.sqlite.runtime import execute_plan
from sigma.collection import SigmaCollection
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

NUMBERS = {"num"}


def flatten(value, prefix, out):
    """Maps become dotted names, lists one text: a table has one value in a column."""
    if isinstance(value, dict):
        for key, inner in value.items():
            flatten(inner, f"{prefix}.{key}" if prefix else key, out)
    elif isinstance(value, list):
        if value and all(not isinstance(inner, (dict, list)) for inner in value):
            out[prefix] = ", ".join(text(inner) for inner in value)
        else:
            for inner in value:
                found = {}
                flatten(inner, prefix, found)
                for key, item in found.items():
                    out.setdefault(key, item)
    elif value is not None:
        out[prefix] = value


def text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def windows(event):
    """A Windows event as rules see it: system fields and event data side by side."""
    out = {}
    event = event.get("Event", event)
    system = event.get("System", {})
    for key, value in system.items():
        if not isinstance(value, dict):
            flatten(value, key, out)
    provider = system.get("Provider", {}).get("#attributes", {}).get("Name")
    if provider:
        out["Provider_Name"] = provider
    for part in ("EventData", "UserData"):
        flatten(event.get(part) or {}, "", out)
    return {key: value for key, value in out.items() if not key.startswith("#")}


def objects(content):
    """JSON objects that stand one after another."""
    decoder, at = json.JSONDecoder(), 0
    while content[at:].strip():
        at += len(content[at:]) - len(content[at:].lstrip())
        event, at = decoder.raw_decode(content, at)
        yield event


def regex(pattern, value):
    if value is None:
        return None
    try:
        return re.search(pattern, str(value)) is not None
    except re.error:
        return None


def database(fields, events):
    """One row an event. Texts compare without case; numbers are stored as numbers in columns for them."""
    connection = sqlite3.connect(":memory:")
    connection.create_function("REGEXP", 2, regex)
    connection.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 10000)
    names, seen = [], set()
    for field in sorted(fields):
        # Names of columns have no case.
        if field.lower() not in seen:
            seen.add(field.lower())
            names.append(field)
    quote = lambda name: '"' + name.replace('"', '""') + '"'
    kind = lambda name: "NUMERIC" if name in NUMBERS else "TEXT COLLATE NOCASE"
    columns = ", ".join(f"{quote(name)} {kind(name)}" for name in names)
    connection.execute(f"CREATE TABLE logs (event_number INTEGER, fulltext TEXT COLLATE NOCASE, {columns})")
    marks = ", ".join("?" for _ in range(len(names) + 2))
    for number, event in enumerate(events):
        own = {key.lower(): value for key, value in event.items()}
        full = "\n".join(text(value) for value in event.values())
        values = [own.get(name.lower()) for name in names]
        values = [
            value if value is None or name in NUMBERS else text(value) for name, value in zip(names, values)
        ]
        connection.execute(f"INSERT INTO logs VALUES ({marks})", [number, full, *values])
    return connection


def fields_of(detection, out):
    for item in getattr(detection, "detection_items", []):
        fields_of(item, out)
        if getattr(item, "field", None):
            out.add(item.field)
        for value in getattr(item, "value", []):
            if hasattr(value, "field"):
                out.add(value.field)


def reference(rules, events):
    """Hits by pySigma: {event: set of ids}, and the rules that it refuses: {id: why}."""
    fields, converted, refused = set(), [], {}
    backend = sqliteBackend(fulltext_field="fulltext")
    for name, document, *_ in rules:
        identity = str(document.get("id"))
        try:
            rule = SigmaRule.from_dict(document)
            for detection in rule.detection.detections.values():
                fields_of(detection, fields)
            query = " UNION ".join(
                query.replace("SELECT *", "SELECT event_number", 1) for query in backend.convert_rule(rule)
            )
            converted.append((identity, query))
        except (SigmaError, TypeError, ValueError, NotImplementedError) as error:
            refused[identity] = f"{name}: {error}"
    hits = collections.defaultdict(set)
    for chunk in range(0, len(converted), 400):
        part = converted[chunk : chunk + 400]
        connection = database(fields, events)
        for identity, query in part:
            try:
                for (number,) in connection.execute(query):
                    hits[number].add(identity)
            except sqlite3.Error as error:
                refused[identity] = f"SQL: {error}"
        connection.close()
    return hits, refused


def own(program, rules, events, *flags):
    """What our engine says: its lines."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        (place / "rules").mkdir()
        for number, (_, document, *raw) in enumerate(rules):
            documents = raw or (document if isinstance(document, list) else [document])
            content = "\n---\n".join(
                one if isinstance(one, str) else json.dumps(one, ensure_ascii=False, default=str) for one in documents
            )
            (place / "rules" / f"{number:05}.yml").write_text(content)
        (place / "events").write_text("\n".join(json.dumps(event, ensure_ascii=False) for event in events))
        done = subprocess.run(
            [program, place / "rules", place / "events", *flags], capture_output=True, text=True, check=True
        )
    return [json.loads(line) for line in done.stdout.splitlines()]


def other_case(rule, event):
    """Whether the event has a field of the rule in another spelling only."""
    wanted = set()
    for detection in SigmaRule.from_dict(rule).detection.detections.values():
        fields_of(detection, wanted)
    lower = {key.lower() for key in event}
    return any(field not in event and field.lower() in lower for field in wanted)


# Differences that are decisions, not faults: (why, rule, event) -> bool. See docs/sigma.md.
EXPLAINED = [
    ("names of fields have case: SQLite's columns have none", other_case),
    (
        "letters beyond ASCII: SQLite's LIKE and NOCASE fold ASCII only, we fold all",
        lambda rule, event: any(not text(value).isascii() for value in event.values())
        and not json.dumps(rule, default=str, ensure_ascii=False).isascii(),
    ),
]


def compare(title, program, rules, events, extra=None):
    wanted, refused = reference(rules, events)
    found, ours_refused = collections.defaultdict(set), {}
    for line in own(program, rules, events):
        if "refused" in line:
            number = int(pathlib.Path(line["refused"]).stem)
            ours_refused[str(rules[number][1].get("id"))] = line["why"]
        else:
            found[line["event"]] = set(line["hits"])
    by_id = {str(document.get("id")): document for _, document, *_ in rules}
    unexplained, explained, agreed = [], collections.Counter(), 0
    for number, event in enumerate(events):
        agreed += len(wanted[number] & found[number])
        for identity in wanted[number] ^ found[number]:
            if identity in refused or identity in ours_refused:
                continue
            side = "pySigma" if identity in wanted[number] else "we"
            for why, test in EXPLAINED + (extra or []):
                if test(by_id[identity], event):
                    explained[why] += 1
                    break
            else:
                unexplained.append(f"only {side}: {identity} {by_id[identity].get('title')}: event {number}")
    for identity in sorted(refused.keys() ^ ours_refused.keys()):
        side, why = ("we", ours_refused) if identity in ours_refused else ("pySigma", refused)
        if not any(mark in why[identity] for mark in REFUSALS):
            unexplained.append(f"only {side} refuses {identity} {by_id[identity].get('title')}: {why[identity]}")
        else:
            explained["refused by one: " + next(mark for mark in REFUSALS if mark in why[identity])] += 1
    print(
        f"{title}: {len(rules)} rules, {len(events)} events, {agreed} hits agree, {len(refused)} and "
        f"{len(ours_refused)} rules refused, {sum(explained.values())} differences explained, "
        f"{len(unexplained)} not"
    )
    for why, count in explained.items():
        print(f"  explained, {count}: {why}")
    for line in unexplained[:40]:
        print(f"  {line}")
    return len(unexplained)


# Why one side alone may refuse a rule.
REFUSALS = [
    "look-around",  # ours: regular expressions of the regex crate
]


def load(folder):
    rules = []
    for path in sorted(pathlib.Path(folder).rglob("*.yml")):
        if "regression_data" in path.parts:
            continue
        content = path.read_text()
        documents = list(yaml.safe_load_all(content))
        if len(documents) == 1 and "detection" in documents[0]:
            rules.append((path.name, documents[0], content))
    return rules


# What is compared of each modifier: selections, and values of the field `f` (`num` where numbers are meant).
SELECTIONS = [
    {"f": "abc"}, {"f": "a*c"}, {"f": "a?c"}, {"f": "a\\*c"}, {"f": "a\\\\c"}, {"f": "C:\\x\\*"}, {"f": "*"}, {"f": ""},
    {"f": None}, {"f": ["abc", None]}, {"f": 42}, {"f": "42"}, {"f": True}, {"f|contains": "b"}, {"f|contains": ["b", "x"]},
    {"f|contains|all": ["a", "b"]}, {"f|startswith": "ab"}, {"f|endswith": "bc"}, {"f|endswith": "\\cmd.exe"},
    {"f|startswith|cased": "Ab"}, {"f|cased": "ABC"}, {"f|contains|cased": "B"}, {"f|contains": "a*c"}, {"f|contains": "%"},
    {"f|contains": "_"}, {"f|contains": "[x]"}, {"f|contains|cased": "[x]"}, {"f|re": "^a.c$"}, {"f|re": "B"}, {"f|re|i": "ABC"},
    {"f|re|m": "^b$"}, {"f|re|s": "a.b"}, {"f|re|i|s": "A.B"}, {"f|exists": True}, {"f|exists": False}, {"f|neq": "abc"},
    {"f|contains|neq": "b"}, {"f|cidr": "10.0.0.0/8"}, {"f|cidr": "192.168.4.0/22"}, {"f|cidr": "10.1.2.3/32"},
    {"f|windash|contains": " -x"}, {"f|windash|endswith": "-x"}, {"f|base64": "foobar"}, {"f|base64offset|contains": "foobar"},
    {"f|wide|base64offset|contains": "foo"}, {"f|wide|base64": "foo"}, {"f|utf16|base64": "foo"}, {"f|utf16be|base64": "foo"},
    {"f|fieldref": "g"}, {"f|fieldref|startswith": "g"}, {"f|fieldref|endswith": "g"}, {"f|fieldref|contains": "g"},
    {"num|gt": 5}, {"num|gte": 5}, {"num|lt": 5}, {"num|lte": 5}, {"num": 5}, {"num": 5.5}, {"num|gt": 5.25},
    {"f|minute": 30}, {"f|hour": 11}, {"f|day": 29}, {"f|month": 2}, {"f|year": 2024},
    {"f": "abc", "g": "abc"}, [{"f": "abc"}, {"g": "abc"}], ["abc"], ["b", "zz"], {"|all": ["a", "c"]}, ["a*c"], {"|re": "a.c"},
]  # fmt: skip
CONDITIONS = ["s", "not s", "s or t", "s and not t", "not (s or t)", "1 of s*", "all of them", "1 of them"]
VALUES = [
    "abc", "ABC", "Abc", "abcd", "xabc", "a*c", "axc", "a\\c", "C:\\x\\y", "c:\\X\\", "C:\\cmd.exe", "", None, 42, "42", True,
    False, "true", "b", "x_y%z", "[x]", "a\nb\nc", "a\nb", "10.1.2.3", "10.1.2.30", "192.168.7.255", "192.168.8.0", "cmd -x",
    "cmd /x", "cmd \u2013x", "a-x", "Zm9vYmFy", "xZm9vYmFyx", "Zvb2Jhc", "mb29iYX", "ZgBvAG8A", "YAbwBv", "//5mAG8AbwA=",
    "AGYAbwBv", "2024-02-29T11:30:00", "2024-03-01 10:31:00", "gee", "geex", "xgee", "xgeex", 5, 6, 5.5,
]  # fmt: skip


def generated_rules():
    rules = []
    for number, selection in enumerate(SELECTIONS):
        for at, condition in enumerate(CONDITIONS):
            detection = {"s": selection, "t": {"h": "on"}, "condition": condition}
            identity = f"00000000-0000-4000-8000-{number:06}{at:06}"
            title = json.dumps(selection) + " / " + condition
            rules.append(
                (title, {"title": title, "id": identity, "logsource": {"category": "c"}, "detection": detection})
            )
    return rules


def generated_events():
    events = []
    for value in VALUES:
        for on in ("on", "off"):
            event = {"f": value, "g": "gee", "h": on}
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                event["num"] = value
            events.append({key: item for key, item in event.items() if item is not None})
            events.append({"g": "abc", "h": on})
    return events


GENERATED = [
    (
        "small numbers as times: SQLite takes them for Julian days, we for seconds since 1970",
        lambda rule, event: any(part in json.dumps(rule["detection"]) for part in TIME_PARTS) and "num" in event,
    ),
]
TIME_PARTS = ["|minute", "|hour", "|day", "|month", "|year"]

BASES = [
    {"title": letter, "id": None, "name": letter, "logsource": {"category": "c"},
     "detection": {"s": {"e": letter}, "condition": "s"}}
    for letter in "abc"
]  # fmt: skip
# What is computed can fall again when a hit is added.
MOVING = {"value_sum", "value_avg", "value_median", "value_percentile"}
CORRELATIONS = [
    {"type": "event_count", "rules": ["a"], "group-by": ["g"], "timespan": "10s", "condition": {"gte": 3}},
    {"type": "event_count", "rules": ["a", "b"], "timespan": "7s", "condition": {"gt": 3}},
    {"type": "event_count", "rules": ["a"], "group-by": ["g"], "timespan": "10s", "condition": {"lt": 3}},
    {"type": "event_count", "rules": ["a"], "group-by": ["g"], "timespan": "10s", "condition": {"eq": 2}},
    {"type": "event_count", "rules": ["a"], "group-by": ["g", "v"], "timespan": "1m", "condition": {"gte": 2}},
    {"type": "value_count", "rules": ["a"], "group-by": ["g"], "timespan": "20s", "condition": {"gte": 3, "field": "v"}},
    {"type": "value_count", "rules": ["a", "c"], "timespan": "9s", "condition": {"lte": 2, "field": "v"}},
    {"type": "value_sum", "rules": ["a"], "group-by": ["g"], "timespan": "20s", "condition": {"gt": 9, "field": "v"}},
    {"type": "value_avg", "rules": ["a"], "group-by": ["g"], "timespan": "20s", "condition": {"gte": 3.5, "field": "v"}},
    {"type": "value_median", "rules": ["b"], "timespan": "20s", "condition": {"gte": 3, "field": "v"}},
    {"type": "value_percentile", "rules": ["b"], "group-by": ["g"], "timespan": "30s",
     "condition": {"gte": 4, "field": "v", "percentile": 90}},
    {"type": "temporal", "rules": ["a", "b"], "group-by": ["g"], "timespan": "6s"},
    {"type": "temporal", "rules": ["a", "b", "c"], "timespan": "5s", "condition": {"gte": 2}},
    {"type": "temporal_ordered", "rules": ["a", "b"], "group-by": ["g"], "timespan": "8s"},
    {"type": "temporal_ordered", "rules": ["a", "b", "c"], "timespan": "12s"},
    {"type": "temporal_ordered", "rules": ["a", "b", "c"], "timespan": "6s", "condition": {"gte": 2}},
    {"type": "temporal", "rules": ["a", "b", "c"], "timespan": "6s", "condition": "a and (b or c)"},
    {"type": "temporal", "rules": ["a", "b"], "group-by": ["g"], "timespan": "6s", "condition": "a and not b"},
    {"type": "temporal", "rules": ["a", "b", "c"], "timespan": "9s", "condition": "a and b and not c"},
]  # fmt: skip


def correlations(program, rounds=12):
    """Every correlation over random events: the same windows at the same anchors."""
    failures = windows_found = explained = 0
    for seed in range(rounds):
        random.seed(seed)
        now, events = 0, []
        for _ in range(120):
            now += random.randint(0, 5)
            event = {"e": random.choice("abcz"), "g": random.choice(["x", "X", "y"]), "v": random.randint(0, 6)}
            if random.random() < 0.1:
                del event["g"]
            events.append({"timestamp": now, **event})
        # What the last windows wait for.
        events.append({"timestamp": now + 1000, "e": "z", "g": "x", "v": 0})
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE logs (timestamp REAL, e TEXT COLLATE NOCASE, g TEXT COLLATE NOCASE, v NUMERIC)")
        rows = [(event["timestamp"], event["e"], event.get("g"), event["v"]) for event in events]
        connection.executemany("INSERT INTO logs VALUES (?, ?, ?, ?)", rows)
        for number, correlation in enumerate(CORRELATIONS):
            documents = [
                *({key: value for key, value in base.items() if value is not None} for base in BASES),
                {"title": f"t{number}", "name": f"t{number}", "correlation": correlation},
            ]
            backend = sqliteBackend(timestamp_format="unix")
            converted = backend.convert(SigmaCollection.from_dicts(documents), output_format="zircolite")
            converted = json.loads(converted) if isinstance(converted, str) else converted
            plan = next(rule["correlation_plan"] for rule in converted if rule.get("correlation"))
            alerts, _ = execute_plan(connection, plan)
            wanted = sorted({(float(a["window_end"]), group(a["group_keys"], correlation)) for a in alerts})
            mine = {**documents[-1], "id": f"t{number}", "threadline": {"every": True}}
            documents = [{**base, "id": base["name"]} for base in documents[:-1]] + [mine]
            found = set()
            for line in own(program, [("correlation", documents)], events, "--correlate"):
                if line.get("rule") == f"t{number}":
                    names = correlation.get("group-by", [])
                    found.add((line["time"], group(dict(zip(names, line["group"])), correlation)))
            if correlation["type"] in MOVING:
                # Judged at each hit: one more of the same moment can take back what another alone made.
                often = collections.Counter(event["timestamp"] for event in events)
                early = {one for one in found - set(wanted) if often[one[0]] > 1}
                explained += len(early)
                found -= early
            windows_found += len(wanted)
            if wanted != sorted(found):
                failures += 1
                print(f"  seed {seed}, {correlation}\n    only pySigma {sorted(set(wanted) - found)[:5]}")
                print(f"    only we {sorted(found - set(wanted))[:5]}")
    print(
        f"correlations: {len(CORRELATIONS)} over {rounds} streams, {windows_found} windows, "
        f"{explained} differences explained, {failures} not"
    )
    return failures


def group(keys, correlation):
    keys = keys if isinstance(keys, dict) else dict(zip(correlation.get("group-by", []), keys))
    return tuple(text(keys[name]).lower() for name in correlation.get("group-by", []))


def main():
    program = sys.argv[1]
    failures = compare("generated", program, generated_rules(), generated_events(), GENERATED)
    failures += correlations(program)
    if len(sys.argv) > 3:
        rules = load(sys.argv[2])
        events = [
            windows(event)
            for path in sorted(pathlib.Path(sys.argv[2], "regression_data").rglob("*.json"))
            for event in objects(path.read_text())
        ]
        failures += compare("regression events", program, rules, events)
        events = []
        for line in open(sys.argv[3], encoding="utf-8"):
            event = {}
            flatten(json.loads(line)["event"], "", event)
            events.append(event)
        failures += compare("audit events", program, rules, events)
    else:
        print("rules and events of others are not there: only what is generated was compared")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
