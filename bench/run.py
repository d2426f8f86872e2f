"""The benchmark: Threadline's real binary over HTTP and the peers, interleaved in one run, every answer checked.

Started by `cargo xtask bench`, which brings the binary and a Python with the packages; `--help` lists the options.
Figures go to results.json in the work folder as they come and at the end as tables to a Markdown file (`report.py`). Ends with 1 when
an answer is wrong or an engine fails.
"""

import argparse
import datetime
import json
import os
import shutil
import statistics
import sys
import time

import generate
import measure
import otlp
import peers
import queries
import report
import stress
import trainticket
import truth
from hub import QUIET_S, Failed, Hub, json_lines

FULL = {"logs": 5_000_000, "rounds": 5, "ingest_rounds": 3, "peers": ["chdb-token", "chdb-text", "duckdb", "rg"], "settings": {}, "quiet_s": QUIET_S}
# Five minutes: less of everything; rows are sealed sooner, and the last merges are not waited for.
QUICK = {"logs": 250_000, "rounds": 3, "ingest_rounds": 1, "peers": ["chdb-token", "duckdb", "rg"], "settings": {"seal_after": "3s"}, "quiet_s": 15}


class Run:
    """Options, folders and what has been found out."""

    def __init__(self, options):
        self.options, self.base = options, dict(QUICK if options.quick else FULL)
        self.base["settings"] = {**self.base["settings"], **dict(text.split("=", 1) for text in options.set)}
        self.logs = options.logs or self.base["logs"]
        self.rounds = options.rounds or self.base["rounds"]
        self.ingest_rounds = options.ingest_rounds or self.base["ingest_rounds"]
        self.peers = options.peers.split(",") if options.peers is not None else list(self.base["peers"])
        self.peers = [peer for peer in self.peers if peer]
        self.part = ""
        self.work = os.path.abspath(options.work)
        os.makedirs(self.work, exist_ok=True)
        self.results = {"machine": measure.machine(), "sets": {}, "quick": options.quick, "wrong": {}}
        if "rg" in self.peers and peers.Ripgrep.version() is None:
            print("ripgrep is not here (apt-get install ripgrep): its column stays empty")
            self.peers.remove("rg")

    def folder(self, *parts, fresh=False):
        path = os.path.join(self.work, *parts)
        if fresh:
            shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path, exist_ok=True)
        return path

    def hub(self, data, **settings):
        log, settings = os.path.join(self.work, "hub.log"), {**self.base["settings"], **settings}
        return Hub(os.path.abspath(self.options.binary), data, log, settings, self.base["quiet_s"])

    def path(self):
        """The figures: a quick run's apart, so that the two do not mix."""
        return os.path.join(self.work, "results-quick.json" if self.options.quick else "results.json")

    def save(self):
        path = self.path()
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.results, file, indent=1)
        os.replace(path + ".new", path)

    def wrong(self, text):
        """Notes what is wrong in the part that is measured now."""
        print("WRONG " + text, flush=True)
        self.results["wrong"].setdefault(self.part, []).append(text)

    def begin(self, part):
        """A part of the page: a set, or one of the others. What an earlier run found wrong in it is void."""
        self.part = part
        self.results["wrong"].pop(part, None)

    def about(self):
        """How a part was measured: parts of one page may come from several runs."""
        version = Hub(os.path.abspath(self.options.binary), "", "").version()
        return {"date": datetime.date.today().isoformat(), "threadline": version + (f" ({self.options.commit})" if self.options.commit else ""),
                "rounds": self.rounds, "ingest_rounds": self.ingest_rounds, "settings": self.base["settings"]}

    def data(self, name, logs=None):
        """A set, made if need be: its folder, manifest and truth."""
        logs = logs or self.logs
        say(f"{name}: the data, {logs:,} logs")
        folder = self.folder("data", f"{name}-{logs}")
        if name in self.options.adopt:
            manifest = trainticket.adopt(self.options.adopt[name], folder)
        elif name == "trainticket":
            manifest = trainticket.generate(self.options.trainticket, folder, logs)
        else:
            manifest = generate.generate(name, folder, logs)
        found = truth.compute(folder)
        return folder, manifest, found


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


# ---- ingest ----

# How the hub is measured: what it is sent, its settings beside those of hub.py. The last is the hub as it comes: every record checked,
# masked, and read by every rule of the pack.
WAYS = {
    "otlp": ("otlp", {}),
    "jsonl": ("jsonl", {}),
    "contract": ("otlp", {"contract": "true"}),
    "shipped": ("otlp", {"contract": "true", "detection": "true"}),
}


def ingest_hub(run, set_folder, manifest, name, work):
    """Logs by one way into an empty hub, then (by OTLP) the spans: figures of each. The data folder stays."""
    found = {}
    way, settings = WAYS[name]
    with run.hub(run.folder(work, fresh=True), **settings) as hub:
        if way == "jsonl" and not hub.takes_json_lines():
            return None
        found["logs"] = ingest_table(hub, set_folder, "logs", way)
        if manifest["spans"]["spans"] and way == "otlp":
            found["spans"] = ingest_table(hub, set_folder, "spans", "otlp")
        wanted = {"logs": manifest["logs"]["records"], "spans": manifest["spans"]["spans"] if "spans" in found else 0}
        rows = {table: figures["rows"] for table, figures in hub.stats()["tables"].items()}
        # What detection finds are records, too.
        if rows != wanted and not (name == "shipped" and all(rows[table] >= wanted[table] for table in wanted)):
            run.wrong(f"ingest by {name}: the hub has {rows}, sent were {wanted}")
    return found


def ingest_table(hub, set_folder, table, way):
    if way == "jsonl":
        path, content_type, bodies = "/v1/jsonl", "application/x-ndjson", json_lines(os.path.join(set_folder, f"{table}.ndjson"))
    else:
        path = "/v1/logs" if table == "logs" else "/v1/traces"
        content_type, bodies = "application/x-protobuf", otlp.frames(otlp.render(set_folder, table))
    measure.reset_peak(hub.pid)
    cpu, wall, client = hub.cpu_s(), time.perf_counter(), time.process_time()
    latencies = sorted(hub.send(path, content_type, bodies))
    taken = {"wall_s": time.perf_counter() - wall, "taken_cpu_s": hub.cpu_s() - cpu, "client_cpu_s": time.process_time() - client}
    settled = hub.settle()
    return {
        **taken, "cpu_s": hub.cpu_s() - cpu, "settled": settled, "settled_wall_s": time.perf_counter() - wall,
        "peak_bytes": measure.memory(hub.pid)["peak"], "disk_bytes": hub.table_bytes(table), "files": hub.stats()["tables"][table]["files"],
        "p50_ms": latencies[len(latencies) // 2] * 1e3, "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
    }


def ingest_peer(set_folder, manifest, engine, work):
    shutil.rmtree(os.path.join(work, engine), ignore_errors=True)
    found = {}
    # A process a table: memory is then the table's own.
    for table in ["logs"] + (["spans"] if manifest["spans"]["spans"] else []):
        with peers.Peer(engine, set_folder, work) as peer:
            found[table] = peer.step(f"ingest {table}")
    return found


def ingest(run, name, set_folder, manifest):
    """All engines in turn, several times. The last round's tables stay for the queries; returns the hub's folder."""
    rounds, kept = {}, None
    for number in range(run.ingest_rounds):
        for way in WAYS:
            say(f"{name}: ingest round {number + 1}, threadline by {way}")
            found = ingest_hub(run, set_folder, manifest, way, f"{name}-hub-{way}")
            if found is None:
                say("  this hub takes no JSON lines over HTTP")
                continue
            folder = os.path.join(run.work, f"{name}-hub-{way}")
            if way == "otlp":
                kept = folder
            else:
                shutil.rmtree(folder, ignore_errors=True)
            rounds.setdefault(f"threadline-{way}", []).append(found)
            say(f"  {found['logs']['cpu_s']:.1f} CPU s, {manifest['logs']['records'] / found['logs']['cpu_s']:,.0f} records per CPU s")
        for engine in run.peers:
            if engine != "rg":
                say(f"{name}: ingest round {number + 1}, {engine}")
                found = ingest_peer(set_folder, manifest, engine, run.folder(f"{name}-peers"))
                for table, figures in found.items():
                    if "failed" in figures:
                        run.wrong(f"{name}: ingest of {table} by {engine}: {figures['failed']}")
                rounds.setdefault(engine, []).append(found)
    run.results["sets"][name]["ingest"] = {engine: medians(found) for engine, found in rounds.items()}
    return kept


def medians(rounds):
    """Figures of several rounds, table by table."""
    merged = {}
    for table in rounds[0]:
        good = [found[table] for found in rounds if "failed" not in found[table]]
        if not good:
            merged[table] = rounds[0][table]
            continue
        merged[table] = {key: all(figures[key] for figures in good) if key == "settled" else statistics.median(figures[key] for figures in good)
                         for key in good[0]}
        merged[table]["runs_cpu_s"] = [round(figures["cpu_s"], 2) for figures in good]
    return merged


# ---- queries ----


class Asked:
    """The hub, asked as the peers are."""

    engine = "threadline"

    def __init__(self, hub, params):
        self.hub, self.ways = hub, queries.hub(params)

    def ask(self, name):
        if name not in self.ways:
            return {"absent": True}
        try:
            wall, cpu, body, way = self.hub.ask(name, self.ways[name])
            last = way[-1] if isinstance(way, list) else way
            return {"wall_s": wall, "cpu_s": cpu, "answer": last.read(body), "note": last.note, "bytes": len(body)}
        except (Failed, KeyError, ValueError, TypeError, IndexError) as error:
            return {"failed": f"{type(error).__name__}: {error}"[:400]}

    def evict(self):
        measure.evict(os.path.join(self.hub.data, "tables"))


def ask_all(run, name, engines, found_truth):
    """A cold round, then the warm ones: each question goes to all engines before the next is asked."""
    figures = {}
    for number in range(run.rounds + 1):
        say(f"{name}: queries, round {number} of {run.rounds}" + (" (cold)" if number == 0 else ""))
        for query in queries.asked(found_truth):
            for engine in engines:
                if number == 0:
                    engine.evict()
                noise = measure.Others()
                reply = engine.ask(query.name)
                if reply.get("absent"):
                    continue
                one = figures.setdefault(query.name, {}).setdefault(engine.engine, {"walls": [], "cpus": [], "others": []})
                note_reply(run, name, query, engine.engine, number, reply, one, found_truth)
                if number and "cpu_s" in reply:
                    one["others"].append(noise.share(reply["cpu_s"]))
    in_a_row(run, name, engines, figures)
    for one in (one for engines_of in figures.values() for one in engines_of.values()):
        if one["walls"]:
            one["wall_ms"], one["cpu_ms"] = statistics.median(one["walls"]), statistics.median(one["cpus"])
            others = [share for share in one.pop("others") if share is not None]
            one["others"] = round(statistics.mean(others), 2) if others else None
    return figures


def in_a_row(run, name, engines, figures):
    """Each engine is asked the same thing several times before the next is: the processor's caches are its own."""
    say(f"{name}: queries, the same one in a row")
    for query, found in figures.items():
        for engine in engines:
            if engine.engine in found and "wrong" not in found[engine.engine]:
                replies = [engine.ask(query) for _ in range(run.rounds + 1)][1:]
                cpus = [reply["cpu_s"] * 1e3 for reply in replies if "cpu_s" in reply]
                if cpus:
                    found[engine.engine]["row_cpu_ms"] = round(statistics.median(cpus), 3)


def note_reply(run, name, query, engine, number, reply, one, found_truth):
    fault = f"failed: {reply['failed']}" if "failed" in reply else queries.wrong(query, engine, reply["answer"], found_truth)
    if fault:
        if "wrong" not in one:
            run.wrong(f"{name}: {query.name} by {engine}: {fault}")
        one["wrong"] = "failed" if "failed" in reply else "wrong"
    if "failed" in reply:
        return
    if reply.get("note"):
        one["note"] = reply["note"]
    if number == 0:
        one["cold_ms"] = round(reply["wall_s"] * 1e3, 3)
        one["cold_cpu_ms"] = round(reply["cpu_s"] * 1e3, 3)
    else:
        one["walls"].append(round(reply["wall_s"] * 1e3, 3))
        one["cpus"].append(round(reply["cpu_s"] * 1e3, 3))


def measure_set(run, name):
    set_folder, manifest, found_truth = run.data(name)
    otlp.render(set_folder, "logs")
    result = run.results["sets"].setdefault(name, {})
    run.begin(name)
    result.update(about=run.about(), peers=run.peers, versions={})
    result["manifest"] = {key: manifest[key] for key in ("logs", "spans")}
    result["shape"] = {key: found_truth["answers"].get(key) for key in ("distinct", "word", "substring", "regex", "network")}
    kept = run.options.keep and os.path.join(run.work, f"{name}-hub-otlp")
    if not (kept and os.path.isdir(kept)):
        kept = ingest(run, name, set_folder, manifest)
        run.save()
    opened = []
    try:
        hub = run.hub(kept)
        opened.append(hub)
        measure.evict(kept)
        result["open_s"], result["open_cpu_s"] = hub.start()
        hub.settle()
        engines = [Asked(hub, found_truth["params"])]
        for engine in run.peers:
            if engine == "rg":
                engines.append(peers.Ripgrep(set_folder, found_truth["params"]))
                result["versions"]["rg"] = peers.Ripgrep.version()
            else:
                peer = peers.Peer(engine, set_folder, run.folder(f"{name}-peers"))
                opened.append(peer)
                result["versions"][engine] = peer.step("version").get("version", "?")
                engines.append(peer)
        measure.reset_peak(hub.pid)
        result["queries"] = ask_all(run, name, engines, found_truth)
        result["query_peak_bytes"] = {"threadline": measure.memory(hub.pid)["peak"]}
        for peer in engines[1:]:
            if peer.engine != "rg":
                result["query_peak_bytes"][peer.engine] = measure.memory(peer.process.pid)["peak"]
    finally:
        for one in opened:
            one.stop()
    run.save()


# ---- growth ----


def grow(run, sizes):
    """What each query of the hub costs over more and more records, and the number of files."""
    run.begin("grow")
    result = run.results["grow"] = {"about": run.about(), "sizes": {}}
    for size in sizes:
        set_folder, manifest, found_truth = run.data("shop", size)
        data = run.folder("grow-hub", fresh=True)
        with run.hub(data) as hub:
            way = "jsonl" if hub.takes_json_lines() else "otlp"
            figures = {"logs": ingest_table(hub, set_folder, "logs", way), "spans": ingest_table(hub, set_folder, "spans", "otlp")}
            say(f"grow: {size:,} are in, {figures['logs']['files']} files")
            found = ask_all(run, f"grow-{size}", [Asked(hub, found_truth["params"])], found_truth)
            tables = hub.stats()["tables"]
        result["sizes"][str(size)] = {
            "queries": {query: engines["threadline"] for query, engines in found.items()}, "ingest": figures, "manifest": manifest,
            "files": {table: tables[table]["files"] for table in tables},
            "peak_bytes": figures["logs"]["peak_bytes"],
        }
        run.save()
    shutil.rmtree(os.path.join(run.work, "grow-hub"), ignore_errors=True)


def options():
    parser = argparse.ArgumentParser(prog="cargo xtask bench", description="Measures Threadline and its peers; writes docs/benchmarks.md.")
    add = parser.add_argument
    add("--binary", required=True, help="the hub's binary (xtask fills this in)")
    add("--work", required=True, help="folder for data sets and tables, some 20 GB in a full run (xtask fills this in)")
    add("--commit", default="", help="what the binary was built from, for the page (xtask fills this in)")
    add("--out", help="the Markdown file (xtask: docs/benchmarks.md in a full run)")
    add("--quick", action="store_true", help="less of everything, in 5 minutes")
    add("--sets", help="data sets, of trainticket, shop, nginx (default: trainticket where its files are, else shop; and nginx)")
    add("--trainticket", help="folder with the real day, logs.ndjson.zst and spans.ndjson.zst (xtask fills this in)")
    add("--adopt", action="append", default=[], metavar="SET=FOLDER", help="take logs.ndjson and spans.ndjson of a set as they are")
    add("--logs", type=int, help="log records of a set")
    add("--rounds", type=int, help="warm rounds of queries")
    add("--ingest-rounds", type=int, help="rounds of ingest")
    add("--peers", help="of chdb-token,chdb-text,duckdb,rg; empty for none")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the hub, such as contract=true")
    add("--keep", action="store_true", help="ask the tables that an earlier run left, without ingest")
    add("--grow", nargs="?", const="1000000,5000000,20000000", metavar="SIZES", help="only: how cost grows with records")
    add("--cold", nargs="?", const=10_000, type=int, metavar="FILES", help="only: opening and asking a hub of many small files")
    add("--load", type=int, metavar="SECONDS", help="only: queries while records come in at half of full speed")
    add("--render", action="store_true", help="only: write the Markdown file anew from the figures of the last runs")
    chosen = parser.parse_args()
    chosen.adopt = dict(text.split("=", 1) for text in chosen.adopt)
    return chosen


def main():
    chosen = options()
    run = Run(chosen)
    path = run.path()
    if os.path.exists(path):
        # What earlier runs of other parts found stays, so that one page holds them all.
        with open(path, encoding="utf-8") as file:
            run.results.update({**json.load(file), "machine": run.results["machine"]})
    begun = time.perf_counter()
    if chosen.render:
        pass
    elif chosen.grow or chosen.cold or chosen.load:
        if chosen.grow:
            grow(run, [int(size) for size in chosen.grow.split(",")])
        if chosen.cold:
            run.begin("cold")
            run.results["cold"] = {"about": run.about(), **stress.cold(run, chosen.cold)}
        if chosen.load:
            run.begin("load")
            run.results["load"] = {"about": run.about(), **stress.load(run, chosen.load)}
    else:
        first = "trainticket" if chosen.trainticket or "trainticket" in chosen.adopt else "shop"
        for name in (chosen.sets or f"{first},nginx").split(","):
            measure_set(run, name)
    run.save()
    page = report.page(run.results)
    if chosen.out:
        with open(chosen.out, "w", encoding="utf-8") as file:
            file.write(page)
        print(f"written: {chosen.out}")
    else:
        print(page)
    say(f"{time.perf_counter() - begun:.0f} s; figures in {path}")
    wrong = [text for texts in run.results["wrong"].values() for text in texts]
    if wrong:
        print("\n".join(["WRONG:"] + wrong))
        sys.exit(1)


if __name__ == "__main__":
    main()
