"""The forms in which answers are compared: every engine's rows are brought into them, outside the measured time.

A count is a number. Everything else is a small object that two equal answers share, whatever their order of rows.
"""

import calendar
import hashlib
import time


def nanoseconds(text, seconds={}):  # pylint: disable=dangerous-default-value
    """Of an RFC 3339 time in UTC with up to nine digits of fraction."""
    second = seconds.get(text[:19])
    if second is None:
        if len(seconds) > 200_000:
            seconds.clear()
        second = seconds[text[:19]] = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    fraction = text[20:].rstrip("Z") if text[19:20] == "." else ""
    return second * 10**9 + int(fraction.ljust(9, "0") or 0)


def minute(seconds):
    """A minute as groups name it."""
    return time.strftime("%Y-%m-%dT%H:%M:00", time.gmtime(seconds))


def digest(items):
    text = "\n".join(sorted("\x1f".join(map(str, item)) for item in items))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rows(found):
    """Rows as (time in ns, body)."""
    found = list(found)
    return {"rows": len(found), "digest": digest(found)}


def groups(found):
    """Groups as (minute, service, figures…)."""
    found = list(found)
    return {"groups": len(found), "digest": digest(found)}


def times(found):
    """The times of the newest rows: of several rows at one time any may be taken."""
    found = list(found)
    return {"rows": len(found), "digest": digest([(at,) for at in found])}


def top(found):
    """(value, count) pairs, the highest first: of several values with one count any may be taken."""
    return {"counts": [count for _, count in found]}


def traces(found):
    """Trace id -> number of spans."""
    return {"traces": len(found), "spans": sum(found.values()), "digest": digest(found.items())}


# Below this many rows a group's percentiles say little, and estimates of them differ.
QUANTILE_ROWS_MIN = 20


def group_name(minute_text, service):
    return f"{minute_text} {service}"


def red(found):
    """Rate, errors, durations: groups of (minute, service, count, errors, estimate of the 95th percentile in ns)."""
    found = list(found)
    estimates = {group_name(row[0], row[1]): row[4] for row in found if row[2] >= QUANTILE_ROWS_MIN}
    return {**groups(row[:4] for row in found), "p95": estimates}


def red_wrong(got, want, bounds):
    """What is wrong with such an answer. An estimate may be a tenth off the bounds, and one group in a hundred more."""
    if {key: got[key] for key in want} != want:
        return f"got {got['groups']} groups {got['digest']}, the lines say {want}"
    if set(got["p95"]) != set(bounds):
        return f"percentiles of {len(got['p95'])} groups, the lines have {len(bounds)}"
    off = [name for name, (low, high) in bounds.items() if not low * 0.9 <= got["p95"][name] <= high * 1.1]
    if len(off) * 100 > len(bounds):
        name = off[0]
        return f"the 95th percentile of {len(off)} of {len(bounds)} groups is off, such as {name}: {got['p95'][name]}, the lines say {bounds[name]}"
    return None
