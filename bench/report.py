"""Turns results.json into the Markdown page. Shows what was measured and nothing else; missing figures are `–`."""

import queries
from peers import ENGINES

MIB = 1 << 20
COLUMNS = {"threadline": "Threadline", **ENGINES, "rg": "ripgrep, raw lines"}
SETS = {
    "trainticket": "A real day of a train ticket system of 40-odd services, repeated with new ids. Very regular text.",
    "shop": "A generated shop: SQL, JSON, stack traces, ids, addresses; requests over several services.",
    "nginx": "Generated access logs: random paths, addresses, referrers and user agents. Little repeats.",
}


def ms(value):
    """Three digits are what the noise leaves."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def mib(value):
    return f"{value / MIB:,.0f}"


def table(head, rows):
    """Text to the left, figures to the right."""
    lines = ["| " + " | ".join(head) + " |", "|-" + "|-:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def page(results):
    parts = ["# Benchmarks", INTRODUCTION]
    if results.get("quick"):
        parts.append("**This was a quick run: small sets, few rounds. Fixed costs stand out, and the last merges are not waited for; do not compare it with a full one.**")
    parts += ["## Machine", machine(results)]
    for name, result in results["sets"].items():
        if "queries" in result:
            parts += [f"## {name}", f"{SETS[name]} {described(result)}", measured(result["about"], result["versions"]), ingest(name, result), asked(name, result)]
    for name, render in (("grow", grow), ("cold", cold), ("load", load)):
        if results.get(name):
            parts += [TITLES[name], measured(results[name]["about"]), render(results[name])]
    wrong = [text for texts in results["wrong"].values() for text in texts]
    if wrong:
        parts += ["## Wrong or failed", "\n".join(f"- {text}" for text in wrong)]
    parts += ["## How to reproduce", REPRODUCE]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
Written by `cargo xtask bench` ([bench/](../bench/README.md)). Threadline's real binary is asked over HTTP on loopback, replies read
whole; the peers run in process, without HTTP, each in a process of its own. All engines are asked each question in turn, round by
round, so that what else the machine does meets all of them. Every answer is checked against brute force over the raw lines; one that
differs is marked, and makes the run fail.

**CPU is the figure to compare** (user and system, of the process that answers); the clock depends on what else runs. Differences below
1.5x may be noise."""

REPRODUCE = """\
```sh
cargo xtask bench              # everything above down to the tables per set; needs 25 GB of disk
cargo xtask bench --quick      # small sets, 5 minutes, another page
cargo xtask bench --grow       # how cost grows
cargo xtask bench --cold       # 10,000 files
cargo xtask bench --load 120   # half of full speed for two minutes
```

The peers come from PyPI, pinned in `bench/requirements.txt`; ripgrep is the system's."""


def machine(results):
    about = results["machine"]
    return f"{about['cores']} cores of {about['cpu']}, {about['memory_gib']} GiB, {about['kernel']}."


def measured(about, versions=()):
    """When and with what a part was measured."""
    text = f"Measured {about['date']} with {about['threadline']}"
    peers = [versions[engine] for engine in ("chdb-token", "duckdb", "rg") if engine in versions]
    text += f", {', '.join(peers)}" if peers else ""
    if versions:
        text += f"; medians of {about['rounds']} warm rounds of queries and {about['ingest_rounds']} of ingest"
    return text + (f"; settings {about['settings']}." if about["settings"] else ".")


def described(result):
    logs, spans, shape = result["manifest"]["logs"], result["manifest"]["spans"], result["shape"]
    text = (f"{logs['records']:,} logs, {logs['bytes'] / 1e6:,.0f} MB as JSON lines ({logs['bytes'] / logs['records']:.0f} bytes a record), "
            f"{shape['distinct']:,} traces.")
    if spans["spans"]:
        text += f" {spans['spans']:,} spans."
    hits = ", ".join(f"{label} {shape[key]:,}" for key, label in
                     (("substring", "substring"), ("regex", "regular expression"), ("word", "frequent word"), ("network", "network")) if shape.get(key))
    return f"{text} Hits: {hits}."


def ingest(name, result):
    found = result.get("ingest")
    if not found:
        return ""
    blocks = []
    titles = {"threadline-jsonl": "Threadline, JSON lines", "threadline-otlp": "Threadline, OTLP", "threadline-contract": "OTLP, contract and masks on",
              "threadline-shipped": "OTLP, contract, masks and detection on", **ENGINES}
    for kind in ("logs", "spans"):
        count = result["manifest"][kind]["records" if kind == "logs" else "spans"]
        engines = [engine for engine in titles if kind in found.get(engine, {}) and "failed" not in found[engine][kind]]
        if not engines or not count:
            continue
        figures = {engine: found[engine][kind] for engine in engines}
        rows = [
            ["records per CPU second"] + [f"{count / figures[engine]['cpu_s']:,.0f}" for engine in engines],
            ["CPU s, settled"] + [f"{figures[engine]['cpu_s']:.1f}" for engine in engines],
            ["CPU s until the last reply"] + [f"{figures[engine]['taken_cpu_s']:.1f}" for engine in engines],
            ["wall s until the last reply"] + [f"{figures[engine]['wall_s']:.1f}" for engine in engines],
            ["peak memory, MiB"] + [mib(figures[engine]["peak_bytes"]) for engine in engines],
            ["disk, MB"] + [f"{figures[engine]['disk_bytes'] / 1e6:,.1f}" for engine in engines],
            ["bytes a record"] + [f"{figures[engine]['disk_bytes'] / count:.1f}" for engine in engines],
            ["request, ms, p50 / p99"] + [f"{ms(figures[engine]['p50_ms'])} / {ms(figures[engine]['p99_ms'])}" if "p50_ms" in figures[engine] else "–"
                                          for engine in engines],
        ]
        if not all(figures[engine].get("settled", True) for engine in engines):
            rows.append(["had settled"] + ["yes" if figures[engine].get("settled", True) else "**no**" for engine in engines])
        blocks.append(f"### {name}: ingest of {kind}\n\n" + table(["", *(titles[engine] for engine in engines)], rows))
    note = ("CPU is counted until sealing, indexing and compaction have come to rest; for chdb until `OPTIMIZE FINAL` is done. Threadline "
            "syncs each batch before it replies, over two connections; the peers read the file themselves, in large blocks.")
    if "threadline-contract" in found:
        note += (" Peers check, mask and detect nothing: the first columns are the hub without all that, the others what it costs; "
                 "with detection the hub has settled when it has read every record.")
    return "\n\n".join([*blocks, note])


def asked(name, result):
    """Wall / CPU / cold wall of each engine, and CPU beside the best peer's."""
    engines = ["threadline"] + result["peers"]
    head = ["query", *(COLUMNS[engine] for engine in engines)] + (["CPU : best peer"] if len(engines) > 1 else [])
    rows, notes, repeated = [], [], []
    for query in queries.QUERIES:
        found = result["queries"].get(query.name)
        if not found:
            continue
        repeated.append([query.title, *(ms(found.get(engine, {}).get("row_cpu_ms")) for engine in engines)])
        cells = []
        for engine in engines:
            one = found.get(engine)
            cell = "–"
            if one and "wall_ms" in one:
                cell = f"{ms(one['wall_ms'])} / {ms(one['cpu_ms'])} / {ms(one.get('cold_ms'))}"
            if one and one.get("wrong"):
                cell = ("" if cell == "–" else cell + " ") + f"**{one['wrong']}**"
            cells.append(cell)
        ours = found.get("threadline", {})
        if ours.get("note"):
            notes.append(f"{query.title} ({ours['note']})")
        if len(engines) > 1:
            best = min((one["cpu_ms"] for engine, one in found.items() if engine != "threadline" and "cpu_ms" in one and not one.get("wrong")), default=None)
            cells.append(f"{ours['cpu_ms'] / best:.2f}" if best and "cpu_ms" in ours else "–")
        rows.append([query.title, *cells])
    text = f"### {name}: queries\n\nMilliseconds: wall / CPU / wall of the first, cold run. The last column is Threadline's CPU to the lowest of the others', ripgrep included.\n\n" + table(head, rows)
    if any("row_cpu_ms" in one for found in result["queries"].values() for one in found.values()):
        text += ("\n\nThe same, CPU ms, when an engine is asked the same thing several times in a row: what the others do to the processor's caches in "
                 "between is left out. So one measures a system by itself.\n\n" + table(["query", *(COLUMNS[engine] for engine in engines)], repeated))
    peaks = ", ".join(f"{COLUMNS[engine]} {mib(peak)}" for engine, peak in result["query_peak_bytes"].items())
    text += f"\n\nPeak memory while asking, MiB: {peaks}. The hub opened in {result['open_s']:.2f} s with {result['open_cpu_s']:.2f} CPU s."
    shares = [one["others"] for found in result["queries"].values() for one in found.values() if one.get("others") is not None]
    if shares:
        text += f" Meanwhile others used {sum(shares) / len(shares) * 100:.0f} % of the machine."
    if notes:
        text += f"\n\nThreadline was asked another way than by an operation of its own for: {'; '.join(notes)}."
    return text


TITLES = {"grow": "## How cost grows", "cold": "## Many small files", "load": "## Under load"}


def grow(results):
    found = results["sizes"]
    sizes = list(found)
    head = ["CPU ms, warm (cold)", *(f"{int(size):,} logs" for size in sizes)]
    rows = []
    for query in queries.QUERIES:
        figures = [found[size]["queries"].get(query.name) for size in sizes]
        if any(figures):
            rows.append([query.title, *(f"{ms(one['cpu_ms'])} ({ms(one.get('cold_cpu_ms'))})" if one and "cpu_ms" in one else "–" for one in figures)])
    rows += [
        ["files of logs / of spans", *(f"{found[size]['files']['logs']:,} / {found[size]['files']['spans']:,}" for size in sizes)],
        ["disk of logs, MB", *(f"{found[size]['ingest']['logs']['disk_bytes'] / 1e6:,.0f}" for size in sizes)],
        ["records per CPU second at ingest", *(f"{int(size) / found[size]['ingest']['logs']['cpu_s']:,.0f}" for size in sizes)],
        ["peak memory at ingest, MiB", *(mib(found[size]["peak_bytes"]) for size in sizes)],
    ]
    return "The set `shop` in three sizes, Threadline only.\n\n" + table(head, rows)


def cold(found):
    opens = found["opens"]
    middle = sorted(opens, key=lambda one: one["wall_s"])[len(opens) // 2]
    text = (f"{found['rows']:,} logs in small batches over {found['hours']:,} hours of event time: {found['files']:,} files, "
            f"{found['disk_bytes'] / 1e6:,.0f} MB. With an empty page cache the hub opens in **{middle['wall_s']:.2f} s** with {middle['cpu_s']:.2f} CPU s "
            f"and then holds {mib(middle['rss_bytes'])} MiB. Making them took {found['made_cpu_s']:.0f} CPU s"
            + (".\n\n" if found["settled"] else "; compaction had not come to rest.\n\n"))
    rows = [[name, ms(one["cold_ms"]), ms(one["cold_cpu_ms"]), ms(one["warm_ms"]), ms(one["warm_cpu_ms"]), one["rows"]]
            for name, one in found["queries"].items()]
    return text + table(["first query of its kind after opening, then warm", "cold, wall ms", "cold, CPU ms", "warm, wall ms", "warm, CPU ms", "rows"], rows)


def load(found):
    memory = found["memory"]
    rows = [[name, one["count"], ms(one["p50_ms"]), ms(one["p99_ms"])] for name, one in found["queries"].items()]
    rows.append(["from reply to visible", found["visible"]["count"], ms(found["visible"]["p50_ms"]), ms(found["visible"]["p99_ms"])])
    rows.append(["a request of 1,000 records", found["records"] // 1000, ms(found["send_p50_ms"]), ms(found["send_p99_ms"])])
    threads = ", ".join(f"{name} {share * 100:.0f} %" for name, share in found["threads_share"].items())
    return (f"Full speed, sender and hub on the same machine, is {found['full_records_s']:,.0f} records/s. For {found['seconds']:.0f} s half of it was sent "
            f"({found['records_s']:,.0f} records/s, {found['records']:,} in all), while two kinds of queries ran, about five of each a second.\n\n"
            + table(["wall, ms", "count", "p50", "p99"], rows)
            + f"\n\nCPU of the hub: {found['cpu_share'] * 100:.0f} % of a core; by thread: {threads}. Memory: {mib(memory['first_third_bytes'])} MiB in the first "
            f"third, {mib(memory['last_third_bytes'])} in the last, {mib(memory['peak_bytes'])} at most. {found['files_at_end']:,} files at the end; "
            f"{found['files_after']:,} when compaction had come to rest, {found['settle_s']:.0f} s and {found['settle_cpu_s']:.1f} CPU s later"
            + ("." if found["settled"] else ", where it was not done yet.") + series(found.get("series", [])))


def series(found):
    """Some ten looks at memory and files over the run."""
    shown = found[:: max(1, len(found) // 10)]
    if len(shown) < 2:
        return ""
    rows = [["memory, MiB", *(mib(one["memory_bytes"]) for one in shown)], ["files", *(f"{one['files']:,}" for one in shown)],
            ["of them to be merged", *(one["draft_files"] for one in shown)]]
    return "\n\n" + table(["after minutes", *(f"{one['s'] / 60:.0f}" for one in shown)], rows)
