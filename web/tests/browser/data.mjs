// What the tests send to the hub beside the day that is imported: a small shop with versions, failures and events of the
// contract, a very large trace, traces with holes, and records that try to harm whoever looks at them.

/** Texts that must be shown as texts, wherever they stand. Each would set `window.hacked` if it were not. */
export const HOSTILE = [
  '<script>window.hacked = 1</script>',
  '<img src=x onerror="window.hacked = 1">',
  '"><svg onload=window.hacked=1>',
  "';window.hacked=1;//",
  '<iframe srcdoc="<script>parent.hacked = 1</script>"></iframe>',
  '<a href="javascript:window.hacked=1">javascript:window.hacked=1</a>',
  '<style>*{display:none!important}</style>',
  '<base href="https://attacker.example/">',
  '<meta http-equiv="refresh" content="0;url=https://attacker.example/">',
  '{{constructor.constructor("window.hacked=1")()}} ${window.hacked=1} <%= 1 %>',
  '</title></textarea></pre><script>window.hacked=1</script>',
  '<!--><script>window.hacked=1</script-->',
  '<math><mtext><table><mglyph><style><img src=x onerror=window.hacked=1>',
  '\u001b[31mred\u001b[0m \u001b]0;title\u0007 \u009b1m',
  'first line\r\n2026-01-01 00:00:00 INFO forged line\nthird line',
  'nul \u0000 bell \u0007 backspace \u0008 delete \u007f',
  'right-to-left \u202etxt.exe\u202c and \u2066isolated\u2069, zero\u200bwidth\u200djoined\ufeff',
  'soft\u00adhyphen, line\u2028separator, paragraph\u2029separator',
  '=HYPERLINK("https://attacker.example/","click")',
  '[link](javascript:alert(1)) ![image](https://attacker.example/x.png) https://attacker.example/?q=<b>',
  `${'A'.repeat(200_000)}<script>window.hacked=1</script>`,
  `${'['.repeat(60)}"deep"${']'.repeat(60)}`,
  '{"json":"<script>window.hacked=1</script>","nested":{"a":[1,2,{"b":"</script>"}]}}',
  'Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘! 🧵👩‍👩‍👧‍👦 مرحبا שלום',
];

let state = 0;
/** From the seed that `send` was given. */
function random() {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
}
const hex = (digits) => Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join('');
const text = (value) => ({ stringValue: value });
const value = (v) => (typeof v === 'number' ? (Number.isInteger(v) ? { intValue: String(v) } : { doubleValue: v }) : typeof v === 'boolean' ? { boolValue: v } : text(v));
const attributes = (of) => Object.entries(of).map(([key, v]) => ({ key, value: value(v) }));
const ns = (ms) => String(BigInt(Math.round(ms * 1000)) * 1000n);

function resource(service, version = '1.4.2') {
  return { attributes: attributes({ 'service.name': service, 'service.version': version, 'service.instance.id': `${service}-1`, 'deployment.environment.name': 'test' }) };
}

class Sender {
  logs = new Map();
  spans = new Map();

  constructor(otlp) {
    this.otlp = otlp;
  }
  log(service, version, record) {
    const key = `${service}\u0000${version}`;
    this.logs.set(key, [...(this.logs.get(key) ?? []), record]);
  }
  span(service, version, record) {
    const key = `${service}\u0000${version}`;
    const list = this.spans.get(key) ?? [];
    list.push(record);
    this.spans.set(key, list);
  }
  async flush() {
    const of = (key) => resource(...key.split('\u0000'));
    await this.post('/v1/logs', { resourceLogs: [...this.logs].map(([key, logRecords]) => ({ resource: of(key), scopeLogs: [{ scope: { name: 'test' }, logRecords }] })) });
    await this.post('/v1/traces', { resourceSpans: [...this.spans].map(([key, spans]) => ({ resource: of(key), scopeSpans: [{ scope: { name: 'test' }, spans }] })) });
  }
  async post(path, body) {
    const response = await fetch(this.otlp + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  }
}

/** Sends everything; what was sent, by name. */
export async function send(otlp, nowMs = Date.now(), seed = nowMs >>> 0) {
  // Ids differ from run to run: a hub that is asked twice holds both.
  state = seed;
  console.log(`seed ${seed}`);
  const sender = new Sender(otlp);
  const known = { failed: '', fine: '', large: hex(32), logsOnly: hex(32), holes: hex(32), hostile: hex(32) };

  for (let i = 0; i < 400; i += 1) {
    const trace = hex(32);
    const start = nowMs - 50 * 60_000 + i * 7_000;
    const version = i < 260 ? '1.4.2' : '1.5.0';
    const failed = i % 23 === 7 || (i > 300 && i % 5 === 0);
    const slow = i % 31 === 3;
    if (failed) known.failed = trace;
    else known.fine = trace;
    const route = ['/api/cart', '/api/orders', '/api/pay'][i % 3];
    const pay = (slow ? 900 : 40) + random() * 60;
    const ids = { edge: hex(16), shop: hex(16), call: hex(16), pay: hex(16), db: hex(16) };
    const status = failed ? 502 : 200;
    const whole = pay + 38;
    const span = (service, version_, id, parent, name, kind, from, length, more = {}, bad = false) =>
      sender.span(service, version_, {
        traceId: trace, spanId: id, ...(parent ? { parentSpanId: parent } : {}), name, kind, startTimeUnixNano: ns(start + from), endTimeUnixNano: ns(start + from + length),
        attributes: attributes(more), ...(bad ? { status: { code: 2, message: 'upstream failed' } } : {}),
      });
    span('edge', '2.0.0', ids.edge, '', `POST ${route}`, 2, 0, whole, { 'http.request.method': 'POST', 'http.route': route, 'http.response.status_code': status, 'url.path': route, 'client.address': `10.1.2.${i % 200}` }, failed);
    span('shop', version, ids.shop, ids.edge, `POST ${route}`, 2, 4, whole - 8, { 'http.route': route, 'http.response.status_code': status }, failed);
    span('shop', version, ids.call, ids.shop, 'POST', 3, 12, pay + 8, { 'server.address': 'payment', 'http.response.status_code': failed ? 500 : 200 }, failed);
    span('payment', '3.1.0', ids.pay, ids.call, 'POST /charge', 2, 15, pay, { 'http.route': '/charge', 'http.response.status_code': failed ? 500 : 200 }, failed);
    span('payment', '3.1.0', ids.db, ids.pay, 'INSERT charges', 3, 20, pay - 12, { 'db.system.name': 'postgresql' });
    const log = (service, version_, spanId, at, severity, body, more = {}, event) =>
      sender.log(service, version_, {
        timeUnixNano: ns(start + at), severityNumber: severity, severityText: severity >= 17 ? 'ERROR' : severity >= 13 ? 'WARN' : 'INFO', ...(body === undefined ? {} : { body: text(body) }),
        traceId: trace, spanId, attributes: attributes(more), ...(event ? { eventName: event } : {}),
      });
    log('shop', version, ids.shop, 6, 9, `order ${1000 + i} accepted for ${route}`, { 'shop.order': 1000 + i });
    if (failed) log('payment', '3.1.0', ids.pay, pay - 2, 17, `charge of order ${1000 + i} failed: connection refused by acquirer 10.9.8.7:443`, { 'exception.type': 'ConnectError', 'exception.message': 'connection refused' });
    if (slow) log('payment', '3.1.0', ids.pay, 400, 13, 'acquirer answers slowly');
    log('edge', '2.0.0', ids.edge, whole - 1, failed ? 17 : 9, undefined, { 'http.request.method': 'POST', 'http.route': route, 'http.response.status_code': status, 'threadline.outcome': failed ? 'failure' : 'success', 'url.path': route, 'client.address': `10.1.2.${i % 200}`, 'threadline.duration_s': whole / 1000 }, 'request.finished');
    if (i % 40 === 0) log('careless', '0.0.1', hex(16), 3, 9, undefined, { user: 'someone' }, 'security.authn.rejected');
  }

  // One request of 10,000 spans.
  {
    const start = nowMs - 20 * 60_000;
    const ids = [];
    for (let i = 0; i < 10_000; i += 1) {
      const id = hex(16);
      const parent = i === 0 ? undefined : ids[Math.max(0, Math.floor((i - 1) / 3))];
      ids.push(id);
      const from = i === 0 ? 0 : Math.log2(i + 1) * 60 + (i % 7) * 3;
      sender.span(`batch-${i % 9}`, '1.0.0', { traceId: known.large, spanId: id, ...(parent ? { parentSpanId: parent } : {}), name: i === 0 ? 'nightly batch' : `step ${i}`, kind: 1, startTimeUnixNano: ns(start + from), endTimeUnixNano: ns(start + (i === 0 ? 1_500 : from + 25 + (i % 11) * 9)), attributes: [] });
    }
  }

  // A request that is known from its logs alone, and one whose parents are missing.
  {
    const start = nowMs - 15 * 60_000;
    const spans = [hex(16), hex(16)];
    for (let i = 0; i < 12; i += 1) {
      sender.log(i % 2 ? 'legacy-a' : 'legacy-b', '1.0.0', { timeUnixNano: ns(start + i * 35), severityNumber: i === 9 ? 17 : 9, severityText: i === 9 ? 'ERROR' : 'INFO', body: text(`legacy step ${i}`), traceId: known.logsOnly, spanId: spans[i % 2], attributes: [] });
    }
    const [child, gone] = [hex(16), hex(16)];
    sender.span('shop', '1.5.0', { traceId: known.holes, spanId: child, parentSpanId: gone, name: 'orphan', kind: 2, startTimeUnixNano: ns(start), endTimeUnixNano: ns(start + 50), attributes: [] });
    sender.span('payment', '3.1.0', { traceId: known.holes, spanId: hex(16), parentSpanId: child, name: 'child of orphan', kind: 2, startTimeUnixNano: ns(start + 5), endTimeUnixNano: ns(start + 30), attributes: [] });
    sender.log('audit-trail', '1.0.0', { timeUnixNano: ns(start + 10), severityNumber: 9, severityText: 'INFO', body: text('a service without a span'), traceId: known.holes, attributes: [] });
  }

  // Hostile texts in every place that a text can have.
  HOSTILE.forEach((bad, i) => {
    const at = nowMs - 60_000 + i * 100;
    const short = bad.slice(0, 2_000);
    const spanId = hex(16);
    sender.log(`hostile ${short.slice(0, 120)}`.replace(/\u0000/g, ''), '1.0.0', { timeUnixNano: ns(at), severityNumber: 13, severityText: 'WARN', eventName: `hostile.${short.slice(0, 60)}`, body: text(bad), traceId: known.hostile, spanId, attributes: attributes({ 'hostile.case': i, [`key ${short.slice(0, 80)}`]: short, 'hostile.value': short }) });
    sender.span('hostile', '1.0.0', { traceId: known.hostile, spanId, name: short, kind: 2, startTimeUnixNano: ns(at), endTimeUnixNano: ns(at + 80), attributes: attributes({ 'hostile.value': short }), status: { code: 2, message: short }, events: [{ timeUnixNano: ns(at + 3), name: short, attributes: attributes({ [`key ${short.slice(0, 80)}`]: short }) }] });
  });
  await sender.flush();
  return known;
}
