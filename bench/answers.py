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
