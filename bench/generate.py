"""Makes data sets out of nothing: `shop` (a fleet of services with traces) and `nginx` (access logs).

usage: generate.py shop|nginx FOLDER [--logs N] [--seed N]

FOLDER gets logs.ndjson (in time order), for `shop` spans.ndjson too (in end-time order within an hour), and
manifest.json. The same arguments give the same bytes. An hour of event time is one part, made from a seed of its own,
so that all cores work; a part is sorted and the parts follow each other.

A log is `{_time, service, pod, node, severity, trace_id, span_id, body}`, the ids left out where there are none; a span
is `{trace_id, span_id, parent_id, service, pod, node, name, kind, start, end, status, attrs}`, times in ns.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import time

NEEDLE = "ledger checksum mismatch on voucher QX7731"
NEEDLES = 10
START_S = 1767571200  # 2026-01-05 00:00 UTC
LOGS_AN_HOUR = 26_000
SPAN_HOURS_SHARE = 0.4  # The first hours have spans.

NODES = [f"10.20.{rack}.{host}" for rack in (1, 2, 3) for host in (11, 12, 13)]


def pods(service, count):
    """Names as a cluster gives them: from the service's own seed, so that they are the same everywhere."""
    rnd = random.Random(service)
    replica = "".join(rnd.choices("bcdfghjklmnpqrstvwxz2456789", k=10))
    ends = ["".join(rnd.choices("bcdfghjklmnpqrstvwxz2456789", k=5)) for _ in range(count)]
    return [(f"{service}-{replica}-{end}", rnd.choice(NODES)) for end in ends]


# ---- shop ----

FIRST = "anna ben carla david elif finn greta hugo ines jonas kira leo mara nils olga paul rita sven tara uwe vera yusuf zoe".split()
LAST = "adler bauer costa dietz ebert falk graf hansen imhof jung keller lang meier nowak otto pohl roth sauer thiel ulrich vogt weber zimmer".split()
CITIES = "hamburg lisboa krakow porto leipzig utrecht aarhus malmo gent bilbao torino brno graz lyon nantes cork".split()
THINGS = "lamp chair kettle scarf novel backpack teapot blanket jacket bicycle guitar ladder printer monitor headset tent".split()
COLOURS = "amber azure coral ivory jade khaki lemon mauve ochre pearl ruby teal umber violet".split()
CARRIERS = "northpost swiftparcel alpinefreight bluevan cargohub".split()

# Each becomes lines of a service; `%(name)s` are values of the request, `ms`, `n`, `hex` and `id` of the line. Texts
# stand as in JSON, so `\\"` is a quote and `\\n` a line's end.
LINES = {
    "gateway": [
        ("INFO", '%(ip)s - %(user)s \\"%(verb)s %(path)s HTTP/2\\" %(status)s %(n)s %(ms)sms ua=\\"ShopApp/%(minor)s.%(patch)s (%(device)s)\\" request_id=%(id)s'),
        ("INFO", "route matched cluster=%(city)s-%(lane)s upstream=10.42.%(o3)s.%(o4)s:8080 retries=0 trace=%(trace)s"),
    ],
    "auth": [
        ("INFO", "token accepted subject=%(user)s session=%(session)s scopes=[cart:write, orders:read] expires_in=%(n)ss"),
        ("DEBUG", "jwks cache hit kid=%(hex)s age=%(ms)sms issuer=https://id.%(city)s.shop.example/realms/main"),
    ],
    "catalogue": [
        ("INFO", "SELECT p.sku, p.title, p.price_cents, s.amount FROM products p JOIN stock s ON s.sku = p.sku WHERE p.sku = '%(sku)s' AND p.locale = 'de_%(lane)s' LIMIT 20 -- rows=%(n)s time=%(ms)sms"),
        ("INFO", 'product page rendered {\\"sku\\":\\"%(sku)s\\",\\"title\\":\\"%(colour)s %(thing)s\\",\\"price\\":%(n)s.95,\\"currency\\":\\"EUR\\",\\"stock\\":{\\"warehouse\\":\\"%(city)s-%(lane)s\\",\\"amount\\":%(small)s},\\"variants\\":[\\"%(hex)s\\",\\"%(id)s\\"]}'),
    ],
    "search": [
        ("INFO", "query \\\"%(colour)s %(thing)s\\\" took %(ms)s ms, %(n)s hits of %(big)s, page 1, user %(user)s, experiment ranker-%(lane)s/%(hex)s"),
    ],
    "recommend": [
        ("INFO", "model als-%(minor)s.%(patch)s scored %(n)s candidates for %(user)s in %(ms)s ms; best [%(sku)s, SKU-%(big)s, SKU-%(n)s]"),
    ],
    "cart": [
        ("INFO", "cart %(cart)s: added %(small)s x %(sku)s for %(user)s, now %(n)s.95 EUR"),
        ("DEBUG", "redis GET cart:%(cart)s -> %(n)s bytes in %(ms)sms (node redis-%(lane)s, slot %(big)s)"),
    ],
    "pricing": [
        ("INFO", "loadPriceListResult[listId=%(id)s, rows=%(n)s, currency=EUR, tier=%(colour)s, validUntil=2026-0%(lane)s-28T00:00:00Z]"),
    ],
    "inventory": [
        ("INFO", "reserved %(small)s of %(sku)s in warehouse %(city)s-%(lane)s for orderId=%(order)s (left %(n)s)"),
        ("INFO", "UPDATE stock SET amount = amount - %(small)s, touched_at = now() WHERE sku = '%(sku)s' AND warehouse_id = %(n)s AND amount >= %(small)s -- rows=1 time=%(ms)sms"),
    ],
    "checkout": [
        ("INFO", "order placed orderId=%(order)s customer=%(user)s items=%(small)s total=%(n)s.95 EUR ship_to=%(city)s"),
        ("INFO", "saga %(id)s step reserve->pay orderId=%(order)s took %(ms)sms"),
    ],
    "payment": [
        ("INFO", "POST https://api.paywall.example/v2/charges idempotency-key=%(id)s amount=%(n)s95 currency=EUR -> 201 in %(ms)sms charge=ch_%(hex)s"),
        ("INFO", "authorised card ****%(card)s brand=visa country=DE risk=%(small)s orderId=%(order)s from %(ip)s"),
    ],
    "fraud": [
        ("INFO", "score %(small)s for %(user)s: ip=%(ip)s asn=%(big)s velocity=%(n)s device=%(hex)s rules=[new_device, night]"),
    ],
    "shipping": [
        ("INFO", "quote carrier=%(carrier)s parcel=%(id)s weight=%(n)sg zone=%(lane)s price=%(small)s.90 EUR"),
        ("INFO", 'label created {\\"parcel\\":\\"%(id)s\\",\\"carrier\\":\\"%(carrier)s\\",\\"tracking\\":\\"%(hex)s%(hex)s\\",\\"to\\":{\\"name\\":\\"%(first)s %(last)s\\",\\"city\\":\\"%(city)s\\",\\"zip\\":\\"%(big)s\\"}}'),
    ],
    "email": [
        ("INFO", "queued template=order-confirmation to=%(first)s.%(last)s@mail.%(city)s.example message-id=<%(id)s@shop.example> size=%(big)s"),
    ],
    "billing": [
        ("INFO", "invoice RE-2026-%(big)s written to /var/lib/billing/2026/%(lane)s/%(order)s.pdf (%(n)s kB, %(ms)s ms)"),
    ],
    "profile": [
        ("INFO", "profile of %(user)s read from replica-%(lane)s in %(ms)sms fields=[name, address, consent] etag=%(hex)s"),
    ],
    "ledger": [
        ("INFO", "booked %(n)s.95 EUR debit=1400 credit=8400 voucher=%(big)s orderId=%(order)s batch=%(id)s"),
    ],
}
TROUBLE = {
    "payment": [
        ("WARN", "provider slow: attempt %(small)s of 5 after %(ms)s ms, backing off 200ms, orderId=%(order)s"),
        ("ERROR", "java.net.SocketTimeoutException: Read timed out after %(ms)s ms\\n\\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:288)\\n\\tat java.base/sun.nio.ch.NioSocketImpl.implRead(NioSocketImpl.java:314)\\n\\tat okhttp3.internal.connection.RealCall.execute(RealCall.kt:%(small)s)\\n\\tat example.shop.payment.PaywallClient.charge(PaywallClient.java:%(n)s)\\n\\tat example.shop.payment.ChargeService.lambda$charge$%(small)s(ChargeService.java:%(n)s)\\n\\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:1136)\\n\\tat java.base/java.lang.Thread.run(Thread.java:842)\\nCaused by: example.shop.payment.ProviderException: gateway said 504 for charge ch_%(hex)s"),
    ],
    "inventory": [
        ("WARN", "low stock: %(sku)s in warehouse %(city)s-%(lane)s has %(small)s left"),
        ("ERROR", "deadlock detected: process %(n)s waits for ShareLock on transaction %(big)s; blocked by process %(ms)s. statement: UPDATE stock SET amount = amount - %(small)s WHERE sku = '%(sku)s'"),
    ],
    "auth": [("WARN", "token expired subject=%(user)s session=%(session)s age=%(big)ss ip=%(ip)s")],
    "cart": [
        ("ERROR", "panic recovered: runtime error: index out of range [%(small)s] with length %(small)s\\ngoroutine %(big)s [running]:\\nexample.com/shop/cart.(*Store).Merge(0xc000%(hex)s, {0xc001%(hex)s, 0x%(small)s})\\n\\t/src/cart/store.go:%(n)s +0x1d4\\nexample.com/shop/cart.(*Server).Add(...)\\n\\t/src/cart/server.go:%(n)s"),
    ],
    "search": [("WARN", "shard %(small)s of index products-v%(lane)s did not answer in %(ms)s ms, partial result for %(user)s")],
    "gateway": [("ERROR", "upstream connect error or disconnect/reset before headers. reset reason: connection timeout, upstream=10.42.%(o3)s.%(o4)s:8080 path=%(path)s client=%(ip)s")],
}

# A request: verb, path, weight, and the calls: (depth, service, operation, ms of its own).
FLOWS = [
    ("GET", "/api/products/%(sku)s", 40, [
        (0, "gateway", "GET /api/products/{sku}", 2), (1, "catalogue", "Products/Read", 4), (2, "catalogue", "SELECT products", 3),
        (2, "pricing", "Prices/Quote", 2), (1, "recommend", "Models/Score", 9)]),
    ("GET", "/api/search?q=%(colour)s+%(thing)s&page=1", 30, [
        (0, "gateway", "GET /api/search", 2), (1, "search", "Search/Query", 18), (2, "catalogue", "Products/Batch", 5),
        (3, "catalogue", "SELECT products", 4)]),
    ("POST", "/api/carts/%(cart)s/items", 16, [
        (0, "gateway", "POST /api/carts/{id}/items", 2), (1, "auth", "Tokens/Verify", 1), (1, "cart", "Cart/Add", 3),
        (2, "inventory", "Stock/Check", 2), (3, "inventory", "SELECT stock", 1), (2, "pricing", "Prices/Quote", 2)]),
    ("POST", "/api/orders", 8, [
        (0, "gateway", "POST /api/orders", 3), (1, "auth", "Tokens/Verify", 1), (1, "checkout", "Orders/Place", 9),
        (2, "cart", "Cart/Read", 2), (2, "inventory", "Stock/Reserve", 5), (3, "inventory", "UPDATE stock", 3),
        (2, "fraud", "Risk/Score", 14), (2, "payment", "Charges/Create", 40), (3, "payment", "HTTP POST", 160),
        (2, "ledger", "Ledger/Book", 3), (2, "shipping", "Parcels/Quote", 8), (2, "billing", "Invoices/Write", 12),
        (2, "email", "Mail/Queue", 2)]),
    ("GET", "/api/users/%(user)s", 6, [
        (0, "gateway", "GET /api/users/{id}", 2), (1, "auth", "Tokens/Verify", 1), (1, "profile", "Profiles/Read", 3)]),
]
DEVICES = ["iPhone15,3", "Pixel 8", "SM-S918B", "iPad13,4", "Redmi Note 12", "web"]
SEVERE = {"ERROR", "WARN"}


def shop_request_values(rnd):
    """What the lines of one request have in common."""
    bits = rnd.getrandbits
    order, cart = "%032x" % bits(128), "%032x" % bits(128)
    person = bits(20)
    return {
        "trace": "%032x" % bits(128), "user": "u-%d" % (person % 240_000), "session": "%024x" % bits(96),
        "ip": "%d.%d.%d.%d" % (bits(7) + 32, person & 255, person >> 8 & 255, person >> 12 & 255),
        "sku": "SKU-%05d" % int(30_000 * rnd.random() ** 2), "order": uuid(order), "cart": uuid(cart),
        "first": FIRST[person % len(FIRST)], "last": LAST[person % len(LAST)], "city": CITIES[bits(4)],
        "thing": THINGS[bits(4)], "colour": COLOURS[person % len(COLOURS)], "carrier": CARRIERS[person % len(CARRIERS)],
        "device": DEVICES[person % len(DEVICES)], "lane": bits(3) + 1, "minor": bits(3), "patch": bits(4),
        "o3": bits(4), "o4": bits(8), "card": "%04d" % (person % 10_000), "status": 200,
    }


def uuid(digits):
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def shop_part(arguments):
    """An hour of the shop: sorted lines of logs and of spans."""
    folder, seed, hour, count, with_spans, needles = arguments
    rnd = random.Random(seed * 1_000_003 + hour)
    where = {service: pods(service, 3) for service in LINES}
    weights = [flow[2] for flow in FLOWS]
    start_ns, logs, spans = (START_S + hour * 3600) * 10**9, [], []
    slow_hour = hour % 9 == 5  # The payment provider is slow then.
    while len(logs) < count:
        # Arrivals over the whole hour: the position in it follows from what is made.
        at = start_ns + int((len(logs) + rnd.random() * 40) / (count + 40) * 3595e9)
        verb, path, _, calls = rnd.choices(FLOWS, weights)[0]
        values = shop_request_values(rnd)
        values.update(verb=verb, path=path % values)
        failed = rnd.random() < (0.06 if slow_hour else 0.008)
        shop_walk(rnd, at, calls, values, where, failed, slow_hour, logs, spans if with_spans else None)
    logs.sort()
    del logs[count:]
    for index in needles:
        at, line = logs[index]
        logs[index] = (at, f'{line[:-3]} {NEEDLE}"}}\n')
    write_part(folder, "logs", hour, (line for _, line in logs))
    spans.sort()
    write_part(folder, "spans", hour, (line for _, line in spans))
    return len(logs), len(spans)


def shop_walk(rnd, at, calls, values, where, failed, slow_hour, logs, spans):
    """Lines and spans of one request. The call that fails is the last one that can; its callers fail with it."""
    fails = max((index for index, call in enumerate(calls) if call[1] in TROUBLE), default=0) if failed else -1
    fails_depth = calls[fails][0] if failed else -1
    stack, bits = [], rnd.getrandbits
    done = []
    for index, (depth, service, operation, own_ms) in enumerate(calls):
        del stack[depth:]
        pod, node = where[service][bits(8) % 3]
        span_id = "%016x" % (bits(64) | 1)
        spent = int(own_ms * 1e6 * (0.4 + rnd.expovariate(1.6)))
        if slow_hour and service == "payment":
            spent *= 6
        bad = failed and (index == fails or (index < fails and depth < fails_depth and depth == len(stack)
                                             and ancestor(calls, index, fails)))
        parent = stack[-1] if stack else ""
        stack.append(span_id)
        began, at = at, at + spent
        lines = TROUBLE[service] if failed and index == fails else LINES[service]
        for severity, template in lines:
            values["ms"] = spent // 1_000_000
            values["n"] = bits(9) + 1
            values["small"] = bits(3) + 1
            values["big"] = bits(16) + 10_000
            values["hex"] = "%08x" % bits(32)
            values["id"] = uuid("%032x" % bits(128))
            when = began + int(spent * rnd.random())
            logs.append((when, f'{{"_time":"{rfc3339(when)}","service":"{service}","pod":"{pod}","node":"{node}",'
                               f'"severity":"{severity}","trace_id":"{values["trace"]}","span_id":"{span_id}",'
                               f'"body":"{template % values}"}}\n'))
        if spans is not None:
            done.append((depth, began, span_id, parent, service, pod, node, operation, bad))
    if spans is not None:
        shop_spans(at, done, values, spans)


def ancestor(calls, index, of):
    """Whether call `index` is above call `of` in the tree."""
    depth = calls[index][0]
    return all(calls[between][0] > depth for between in range(index + 1, of + 1))


def shop_spans(end, done, values, spans):
    """A call ends when the next one at its depth or above begins; the last ones when the request does."""
    ends, last = [0] * len(done), {}
    for index in range(len(done) - 1, -1, -1):
        depth = done[index][0]
        ends[index] = min((began for other, began in last.items() if other <= depth), default=None) or end
        for deeper in [other for other in last if other >= depth]:
            del last[deeper]
        last[depth] = done[index][1]
    for (depth, began, span_id, parent, service, pod, node, operation, bad), ended in zip(done, ends):
        verb = operation.split(" ", 1)
        if operation.startswith(("GET ", "POST ")):
            kind = 2
            attrs = (f'"http.request.method":"{verb[0]}","http.route":"{verb[1]}","url.path":"{values["path"]}",'
                     f'"http.response.status_code":{503 if bad else 200},"client.address":"{values["ip"]}"')
        elif verb[0] in ("SELECT", "UPDATE"):
            kind, attrs = 3, f'"db.system.name":"postgresql","db.operation.name":"{verb[0]}","db.collection.name":"{verb[1]}"'
        elif operation.startswith("HTTP "):
            kind = 3
            attrs = (f'"http.request.method":"{verb[1]}","server.address":"api.paywall.example",'
                     f'"http.response.status_code":{504 if bad else 201}')
        else:
            package, method = operation.split("/")
            kind, attrs = 2, f'"rpc.system":"grpc","rpc.service":"{package}","rpc.method":"{method}","user.id":"{values["user"]}"'
        spans.append((ended, f'{{"trace_id":"{values["trace"]}","span_id":"{span_id}","parent_id":"{parent}","service":"{service}",'
                             f'"pod":"{pod}","node":"{node}","name":"{operation}","kind":{kind},"start":{began},"end":{ended},'
                             f'"status":{2 if bad else 0},"attrs":{{{attrs}}}}}\n'))


# ---- nginx ----

WORDS = ("spring summer autumn winter sale guide review garden kitchen travel music cinema health sport tennis climbing "
         "sailing recipe bread pasta coffee tea design paper stone river forest island desert bridge castle market museum "
         "gallery theatre library school science physics biology history poetry letter story winterboots collection "
         "springcollection bookshelf blacksmith waterfall lighthouse footpath").split()
SECTIONS = ["shop", "blog", "news", "help", "assets", "static", "media", "download", "account", "wp-content", "api/v1", "api/v2"]
ENDINGS = ["", "", "", "/", ".html", ".jpg", ".webp", ".js", ".css", ".json", ".php"]
SITES = ["edge-eu", "edge-us", "edge-ap", "static-eu", "api-eu", "api-us"]
METHODS = ["GET"] * 17 + ["POST"] * 3 + ["HEAD", "PUT", "DELETE", "OPTIONS"]


def nginx_agents():
    """Some thousand user agents: browsers on systems with versions, bots, libraries."""
    rnd, agents = random.Random("agents"), []
    systems = ["Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64", "Linux; Android 14; Pixel 8",
               "Linux; Android 13; SM-A546B", "iPhone; CPU iPhone OS 17_4 like Mac OS X", "iPad; CPU OS 16_6 like Mac OS X"]
    for _ in range(3000):
        system, major = rnd.choice(systems), rnd.randrange(96, 132)
        build = f"{major}.0.{rnd.randrange(4000, 7000)}.{rnd.randrange(20, 220)}"
        agents.append(rnd.choice([
            f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{build} Safari/537.36",
            f"Mozilla/5.0 ({system}; rv:{major}.0) Gecko/20100101 Firefox/{major}.0",
            f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{build} Edg/{build}",
            f"Mozilla/5.0 ({system}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{major % 10 + 9}.{rnd.randrange(7)} Mobile/15E{rnd.randrange(100, 400)}",
        ]))
    for _ in range(200):
        agents.append(rnd.choice(["curl/8.{}.1", "python-requests/2.{}.0", "Go-http-client/1.{}", "okhttp/4.{}.0",
                                  "Mozilla/5.0 (compatible; bingbot/2.{}; +http://www.bing.com/bingbot.htm)"]).format(rnd.randrange(30)))
    return agents


def nginx_networks(logs):
    """Networks that clients come from, some hundred lines each."""
    rnd = random.Random("networks")
    return ["%d.%d.%d." % (rnd.randrange(20, 223), rnd.randrange(256), rnd.randrange(256)) for _ in range(max(20, logs // 400))]


def nginx_path(rnd):
    bits = rnd.getrandbits
    section, kind = SECTIONS[int(12 * rnd.random())], bits(3)
    if kind == 0:
        return f"/{section}/orders/{uuid('%032x' % bits(128))}"
    if kind == 1:
        return f"/{section}/{WORDS[bits(5)]}?id={bits(24)}&utm_source={WORDS[bits(5)]}&sid={bits(48):012x}"
    if kind == 2:
        return f"/{section}/{bits(64):016x}{ENDINGS[bits(3) + 2]}"
    slug = "-".join(WORDS[int(51 * rnd.random())] for _ in range(1 + bits(2)))
    return f"/{section}/{2015 + bits(3)}/{slug}-{bits(17)}{ENDINGS[int(11 * rnd.random())]}"


def nginx_part(arguments):
    """An hour of access logs. One line in five carries a trace, as with a sampling rate of 20 %."""
    folder, seed, hour, count, _, needles, total = arguments
    rnd = random.Random(seed * 1_000_003 + hour)
    agents, networks = nginx_agents(), nginx_networks(total)
    where = {site: pods(site, 4) for site in SITES}
    months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    start_ns, bits, lines = (START_S + hour * 3600) * 10**9, rnd.getrandbits, []
    for at in sorted(start_ns + int(rnd.random() * 3600e9) for _ in range(count)):
        site = SITES[int(6 * rnd.random() ** 1.5)]
        pod, node = where[site][bits(2)]
        chance = rnd.random()
        if chance < 0.9:
            status, severity = (200 if chance < 0.72 else 304 if chance < 0.85 else 301), "INFO"
        elif chance < 0.99:
            status, severity = (404 if chance < 0.96 else 403 if chance < 0.975 else 499), "WARN"
        else:
            status, severity = (502 if chance < 0.995 else 503), "ERROR"
        client = networks[int(len(networks) * rnd.random() ** 2)] + str(int(rnd.random() * 60) * 4 + 1)
        moment = time.gmtime(at // 10**9)
        stamp = f"{moment.tm_mday:02}/{months[moment.tm_mon - 1]}/{moment.tm_year}:{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} +0000"
        referrer = f"https://www.{WORDS[bits(5)]}-{WORDS[bits(4)]}.example{nginx_path(rnd)}" if bits(1) else "-"
        ids = f'"trace_id":"{bits(128):032x}","span_id":"{bits(64) | 1:016x}",' if rnd.random() < 0.2 else ""
        lines.append(f'{{"_time":"{rfc3339(at)}","service":"{site}","pod":"{pod}","node":"{node}","severity":"{severity}",{ids}'
                     f'"body":"{client} - - [{stamp}] \\"{METHODS[int(24 * rnd.random())]} {nginx_path(rnd)} HTTP/1.1\\" {status} '
                     f'{int(rnd.expovariate(1 / 9000))} \\"{referrer}\\" \\"{agents[int(3200 * rnd.random() ** 3)]}\\" rt={rnd.expovariate(20):.3f}"}}\n')
    for index in needles:
        lines[index] = f'{lines[index][:-3]} {NEEDLE}"}}\n'
    write_part(folder, "logs", hour, lines)
    return len(lines), 0


# ---- both ----

SETS = {
    "shop": (shop_part, {
        "absent": "zyxgrommet", "substring": "ketTimeoutExc", "regex": "Id[:=] ?c[0-9a-f]{7}-9[0-9a-f]{3}-", "word": "subject",
        "service": "payment", "trace_logs": 12, "trace_service": "payment", "trace_min_ns": 300_000_000}),
    "nginx": (nginx_part, {
        "absent": "zyxgrommet", "substring": "ringcollec", "regex": "rders/c[0-9a-f]{7}-9[0-9a-f]{3}-", "word": "Firefox",
        "service": "edge-eu", "trace_logs": 1}),
}


def rfc3339(ns, minutes={}):  # pylint: disable=dangerous-default-value
    """With nanoseconds; minutes are kept, since formatting a date is slow."""
    seconds, rest = divmod(ns, 10**9)
    minute, second = divmod(seconds, 60)
    text = minutes.get(minute)
    if text is None:
        minutes.clear()
        text = minutes[minute] = time.strftime("%Y-%m-%dT%H:%M:", time.gmtime(minute * 60))
    return f"{text}{second:02}.{rest:09}Z"


def part_path(folder, table, hour):
    return os.path.join(folder, f"part-{table}-{hour:06}")


def write_part(folder, table, hour, lines):
    with open(part_path(folder, table, hour), "w", encoding="utf-8", buffering=1 << 20) as file:
        file.writelines(lines)


def join(folder, table, hours):
    """Parts to one file; its bytes."""
    target = os.path.join(folder, f"{table}.ndjson")
    with open(target, "wb") as whole:
        for hour in range(hours):
            path = part_path(folder, table, hour)
            if os.path.exists(path):
                with open(path, "rb") as part:
                    shutil.copyfileobj(part, whole, 1 << 20)
                os.remove(path)
    return os.path.getsize(target)


def generate(name, folder, logs, seed=7731, processes=None):
    """Makes a set, unless the folder has it already; returns its manifest."""
    make, params = SETS[name]
    wanted = {"set": name, "seed": seed, "logs_wanted": logs, "version": 1}
    path = os.path.join(folder, "manifest.json")
    if os.path.exists(path):
        manifest = read_manifest(path)
        if all(manifest.get(key) == value for key, value in wanted.items()):
            if manifest["params"] != params:
                # The lines are the same, only other things are asked of them.
                write_manifest(path, {**manifest, "params": params})
            return read_manifest(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    hours = -(-logs // LOGS_AN_HOUR)
    places = random.Random(seed).sample(range(logs), NEEDLES)
    jobs = []
    for hour in range(hours):
        first = hour * LOGS_AN_HOUR
        count = min(LOGS_AN_HOUR, logs - first)
        needles = sorted(place - first for place in places if first <= place < first + count)
        job = (folder, seed, hour, count, hour < max(1, hours * SPAN_HOURS_SHARE), needles)
        jobs.append(job + (logs,) if name == "nginx" else job)
    with multiprocessing.Pool(processes or os.cpu_count()) as pool:
        made = pool.map(make, jobs, chunksize=1)
    manifest = {**wanted, "needle": NEEDLE, "params": params,
                "logs": {"records": sum(part[0] for part in made), "bytes": join(folder, "logs", hours), "hours": hours},
                "spans": {"spans": sum(part[1] for part in made), "ndjson_bytes": 0}}
    if manifest["spans"]["spans"]:
        manifest["spans"]["ndjson_bytes"] = join(folder, "spans", hours)
    write_manifest(path, manifest)
    return manifest


def read_manifest(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_manifest(path, manifest):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("folder")
    parser.add_argument("--logs", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=7731)
    options = parser.parse_args()
    print(json.dumps(generate(options.set, options.folder, options.logs, options.seed), indent=1))


if __name__ == "__main__":
    main()
