// The pages in a real browser, against a hub that holds an imported day and what `data.mjs` sends.
//   THREADLINE_HUB=http://… THREADLINE_OTLP=http://… THREADLINE_BINARY=…/threadline node tests/browser/run.mjs [part of a test's name …]
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HOSTILE, send } from './data.mjs';
import { browser, check, close, finish, hub, open, same, shot, test, timing } from './harness.mjs';
import { sendLogs, withHub } from './hub.mjs';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
// Fixed, so that what the page counts and what the test counts is the same.
const HOUR = `from=${new Date(Date.now() - 3_600_000).toISOString()}&to=${new Date(Date.now() + 60_000).toISOString()}`;
const DAY = 'from=2023-01-29T08:00:00Z&to=2023-01-29T16:00:00Z';

const api = async (path) => {
  const response = await fetch(hub + path);
  check(response.ok, `${path}: ${response.status}`);
  return response.json();
};
const rows = async (path) => {
  const response = await fetch(hub + path);
  check(response.ok, `${path}: ${response.status}`);
  return (await response.text()).split('\n').filter(Boolean).map((line) => JSON.parse(line));
};
/** Until something is so; what is not so within ten seconds is a failure. */
async function until(what, is, ms = 10_000) {
  const end = performance.now() + ms;
  for (;;) {
    if (await is()) return;
    check(performance.now() < end, `not within ${ms} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 40));
  }
}

const known = await send(process.env.THREADLINE_OTLP ?? 'http://127.0.0.1:4318');
const day = (await api(`/api/v1/count?${DAY}`)).count;
const hasDay = day > 100_000;

const PLACES = [
  ['search', '/search', '[role=grid] [role=row] .body'],
  ['search-day', `/search?${DAY}&q=severity%3E=warn`, '[role=grid] [role=row] .body'],
  ['search-spans', '/search?table=spans', '[role=grid] [role=row] .duration'],
  ['search-empty', '/search?q=nothinglikethis', '.empty'],
  ['search-wrong', '/search?q=duration%3E250', '[role=alert]'],
  ['traces', '/traces', '.scatter circle'],
  ['trace', `/trace/${known.failed}`, '[role=grid] .bar'],
  ['trace-large', `/trace/${known.large}`, '[role=grid] .bar'],
  ['trace-logs-only', `/trace/${known.logsOnly}`, '.banner'],
  ['trace-holes', `/trace/${known.holes}`, '.gaps'],
  ['trace-compare', `/trace/${known.failed}?tab=compare`, 'table tbody tr'],
  ['services', '/services', '.node'],
  ['services-list', '/services?view=list', 'table tbody tr'],
  ['service', '/services?service=payment', '.panel canvas'],
  ['sql', `/sql?q=${encodeURIComponent("SELECT service, count(*) AS n FROM logs GROUP BY service ORDER BY n DESC")}`, '[role=gridcell]'],
  ['incidents-list', '/incidents', 'a.title, .empty'],
  ['silences', '/incidents?tab=silences', '.empty'],
  ['contract', '/contract', '.sender'],
  ['contract-events', '/contract?tab=events', '.sender'],
  ['detection', '/detection', '.finding, .empty'],
  ['detection-rules', '/detection?tab=rules', 'button.rule'],
  ['detection-backtest', '/detection?tab=backtest', 'textarea'],
  ['hub', '/hub', '.figures'],
  ['nowhere', '/trace/00000000000000000000000000000001', '.empty'],
];

/** What is wrong with how a page looks: in light and dark, wide and narrow. */
async function looks(page, name) {
  const wrong = [];
  // By the debugger's protocol: the page's own policy lets no foreign script in.
  await page.evaluate(axeSource);
  for (const [theme, width] of [['light', 1280], ['dark', 1280], ['dark', 390], ['light', 390]]) {
    await page.emulateMedia({ colorScheme: theme });
    await page.setViewportSize({ width, height: width < 500 ? 844 : 800 });
    await page.waitForTimeout(250);
    await shot(page, `${name}-${theme}-${width}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) wrong.push(`${name} at ${width}: ${wide} px wider than the window`);
    const found = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'], resultTypes: ['violations'] }));
    wrong.push(...found.violations.map((one) => `${theme} ${width}: ${one.id} (${one.impact}): ${one.nodes.slice(0, 3).map((node) => `${node.target.join(' ')} ${node.failureSummary?.split('\n')[1] ?? ''}`).join(' | ')}`));
  }
  return wrong;
}

for (const [name, path, ready] of PLACES) {
  await test(`page ${name}: drawn, no fault, axe finds nothing`, async () => {
    const page = await open(path);
    await page.waitForSelector(ready, { timeout: 15_000, state: 'attached' });
    await page.waitForLoadState('networkidle', { timeout: 3_000 }).catch(() => undefined);
    await page.evaluate(() => document.fonts.ready);
    const wrong = await looks(page, name);
    wrong.push(...page.faults);
    page.faults.length = 0;
    await close(page);
    check(wrong.length === 0, wrong.join('\n'));
  });
}

await test('first load: under 300 kB on the wire, nothing from elsewhere, a strict policy', async () => {
  const page = await open('/', { bare: true });
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  const sizes = new Map();
  const names = new Map();
  session.on('Network.responseReceived', (event) => names.set(event.requestId, event.response));
  session.on('Network.loadingFinished', (event) => sizes.set(event.requestId, event.encodedDataLength));
  const answer = await page.goto(`${hub}/search`);
  const policy = answer.headers()['content-security-policy'] ?? '';
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) check(policy.includes(part), `the policy lacks ${part}: ${policy}`);
  check(!policy.includes('unsafe'), policy);
  await page.waitForSelector('[role=grid] [role=row] .body');
  const painted = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0);
  timing('search: first contentful paint', painted);
  timing('search: first rows', await page.evaluate(() => performance.now()));
  await page.waitForLoadState('networkidle', { timeout: 4_000 }).catch(() => undefined);
  let first = 0;
  for (const [id, response] of names) {
    const path = new URL(response.url).pathname;
    const size = sizes.get(id) ?? 0;
    if (path.startsWith('/assets/')) {
      check(/immutable/.test(response.headers['cache-control'] ?? ''), `${path} is not immutable`);
      check(/woff2$/.test(path) || /^(br|gzip)$/.test(response.headers['content-encoding'] ?? ''), `${path} is not compressed`);
    }
    if (!path.startsWith('/api/') && !/\/editor-/.test(path)) first += size;
  }
  console.log(`first load: ${(first / 1000).toFixed(1)} kB without answers and the lazily loaded editor`);
  check(first > 10_000 && first < 300_000, `${first} bytes`);
  await close(page);
});

await test('hostile texts are texts, in every place', async () => {
  const places = [
    '/search?q=hostile.case:*',
    '/search?q=hostile.case:*&cols=hostile.value,hostile.case',
    '/search?table=spans&q=service:hostile',
    '/traces?service=hostile',
    `/trace/${known.hostile}`,
    '/services',
    '/services?view=list&service=hostile',
    `/sql?q=${encodeURIComponent("SELECT body, event_name, attr('hostile.value') AS v FROM logs WHERE matches('hostile.case:*')")}`,
    '/contract',
    `/trace/${known.hostile}?tab=compare`,
    '/search?q=%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E',
  ];
  for (const path of places) {
    const page = await open(path, { height: 2400 });
    await page.waitForLoadState('networkidle', { timeout: 4_000 }).catch(() => undefined);
    await page.waitForTimeout(300);
    // Every row is opened once, so that its detail is drawn, too.
    const lines = await page.locator('[role=grid] [role=row][aria-rowindex]').count();
    for (let i = 0; i < Math.min(lines, HOSTILE.length + 4); i += 1) {
      await page.locator('[role=grid]').first().focus();
      await page.keyboard.press('ArrowDown');
      await page.waitForTimeout(15);
    }
    await page.waitForTimeout(200);
    const harm = await page.evaluate(() => ({
      hacked: window.hacked,
      scripts: [...document.scripts].filter((script) => !script.src).length,
      foreign: document.querySelectorAll('main iframe, main img, main base, main meta, main style, main object, main embed, main math, [onerror], [onload]').length,
      links: [...document.querySelectorAll('a[href]')].filter((link) => !/^(https?:|blob:)/.test(link.href)).length,
      raw: /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText.replace(/[\n\t\r]/g, '')),
    }));
    same(harm, { scripts: 0, foreign: 0, links: 0, raw: false }, path);
    await close(page);
  }
  // An address that no page has: a hub does not answer with the page, and what it says runs nothing.
  const nowhere = '/%3Cscript%3Ewindow.hacked=1%3C/script%3E';
  const lost = await open('/', { bare: true });
  const answer = await lost.goto(hub + nowhere);
  same([answer.status(), answer.headers()['content-type']], [404, 'application/problem+json'], 'the answer');
  same(await lost.evaluate(() => [window.hacked, document.scripts.length]), [undefined, 0], 'nothing ran');
  // Within the page there is no request, and the address is a text in it.
  await lost.goto(`${hub}/search`);
  await lost.waitForSelector('.bar');
  await lost.evaluate((path) => {
    history.pushState(null, '', path);
    dispatchEvent(new PopStateEvent('popstate'));
  }, nowhere);
  await lost.waitForSelector('.nothing');
  check((await lost.locator('.nothing code').innerText()) === nowhere, await lost.locator('.nothing').innerText());
  same(await lost.evaluate(() => [window.hacked, [...document.scripts].filter((script) => !script.src).length]), [undefined, 0], 'nothing ran in the page');
  await close(lost);
  // What was sent is what one reads: nothing was dropped on the way to the screen.
  const page = await open('/search?q=hostile.case:0', {});
  await page.waitForSelector('[role=grid] [role=row] .body');
  await page.keyboard.press('j');
  await page.waitForSelector('pre.body');
  same(await page.locator('pre.body').innerText(), HOSTILE[0], 'the text of the first');
  await close(page);
  const ansi = await open('/search?q=hostile.case:13', {});
  await ansi.waitForSelector('[role=grid] [role=row] .body');
  check((await ansi.locator('[role=row] .body').first().innerText()).includes('\\x1b[31mred'), 'an escape is shown as one');
  await shot(ansi, 'hostile-ansi');
  await close(ansi);
});

await test('from an alert to the request that caused it: four clicks at most', async () => {
  // An alert links to a search for what it is about.
  const page = await open(`/search?q=${encodeURIComponent('service:edge event:request.finished http.response.status_code>=500')}`);
  let clicks = 0;
  const click = async (locator) => {
    clicks += 1;
    await locator.click();
  };
  await page.waitForSelector('[role=grid] [role=row] .body');
  await click(page.locator('[role=grid] [role=row][aria-rowindex="1"]'));
  await click(page.getByRole('link', { name: 'Whole trace' }));
  await page.waitForSelector('.cause');
  await click(page.locator('.cause'));
  await page.waitForSelector('aside[aria-label=Span], aside[aria-label=Log]');
  const said = await page.locator('.trace').innerText();
  check(/connection refused by acquirer|upstream failed/.test(said), said.slice(0, 600));
  check(clicks <= 4, `${clicks} clicks`);
  await shot(page, 'cause');
  await close(page);
});

await test('the address says everything: a link shows the same', async () => {
  const page = await open('/search?q=service:payment');
  await page.waitForSelector('[role=grid] [role=row] .body');
  // A facet, a column, a row, the order.
  await page.locator('.facet', { hasText: 'severity' }).locator('.value', { hasText: 'error' }).click();
  await until('the facet is in the search', () => page.url().includes('severity:error'));
  await page.getByRole('button', { name: 'Columns' }).click();
  await page.locator('.columns label', { hasText: 'exception.type' }).click();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Time', exact: true }).click();
  await page.locator('[role=grid] [role=row][aria-rowindex="2"]').click();
  await page.waitForSelector('aside[aria-label=Record]');
  const text = (of) => of.evaluate(() => [...document.querySelectorAll('[role=grid] [role=row]')].slice(0, 8).map((row) => row.textContent).join('\n') + document.querySelector('aside')?.querySelector('pre')?.textContent);
  const here = await text(page);
  check(here.includes('exception.type') && here.includes('ConnectError'), here);
  const other = await open(page.url().slice(hub.length));
  await other.waitForSelector('aside[aria-label=Record] pre');
  await until('the same is shown', async () => (await text(other)) === here);
  // And back takes the last step back.
  await page.goBack();
  check(!page.url().includes('order=oldest'), page.url());
  await close(other);
  await close(page);
});

await test('facets: a click asks for a value, another click leaves it out again, minus excludes it', async () => {
  const page = await open(`/search?q=order&${HOUR}`);
  await page.waitForSelector('.facet .value');
  const total = async () => Number((await page.locator('.total b').innerText()).replace(/\D/g, ''));
  await until('the count', async () => (await page.locator('.total b').count()) > 0);
  const all = await total();
  const service = page.locator('.facet', { has: page.getByRole('button', { name: 'service', exact: true }) });
  const shop = service.locator('li', { hasText: 'shop' });
  await shop.locator('.value').click();
  await until('only shop', async () => page.url().includes('service:shop') && (await total()) < all);
  const inside = await total();
  same(inside, (await api(`/api/v1/count?q=order%20service:shop&${HOUR}`)).count, 'the count of shop');
  await shop.locator('.value').click();
  await until('all again', async () => !page.url().includes('service:shop') && (await total()) === all);
  await shop.hover();
  await shop.locator('.not').click();
  await until('without shop', async () => page.url().includes('-service:shop') && (await total()) === all - inside);
  await close(page);
});

await test('facets: a second value of a field finds either', async () => {
  const page = await open(`/search?${HOUR}`);
  await page.waitForSelector('.facet .value');
  const service = page.locator('.facet', { has: page.getByRole('button', { name: 'service', exact: true }) });
  const value = (name) => service.locator('li', { has: page.locator('.cut', { hasText: new RegExp(`^${name}$`) }) }).locator('.value');
  const total = async () => Number((await page.locator('.total b').innerText()).replace(/\D/g, ''));
  const counted = async (q) => (await api(`/api/v1/count?q=${encodeURIComponent(q)}&${HOUR}`)).count;
  for (const name of ['shop', 'payment', 'edge']) {
    await value(name).click();
    await until(`${name} is asked for`, async () => (await value(name).getAttribute('aria-pressed')) === 'true');
  }
  const all = await counted('service:(shop OR payment OR edge)');
  check(all > (await counted('service:shop')) && all > 0, `${all}`);
  await until('any of the three', async () => (await page.locator('.total b').count()) > 0 && (await total()) === all);
  check(page.url().includes('service:(shop+OR+payment+OR+edge)') || decodeURIComponent(page.url()).includes('service:(shop+OR+payment+OR+edge)'), page.url());
  await value('payment').click();
  const two = await counted('service:(shop OR edge)');
  await until('two are left', async () => (await total()) === two);
  same(await Promise.all(['shop', 'payment', 'edge'].map((name) => value(name).getAttribute('aria-pressed'))), ['true', 'false', 'true'], 'pressed');
  await close(page);
});

await test('a value of several lines is searched for as it is', async () => {
  const page = await open(`/search?q=hostile.case:14&${HOUR}`);
  await page.waitForSelector('[role=grid] [role=row] .body');
  await page.locator('[role=grid] [role=row][aria-rowindex="1"]').click();
  await page.locator('aside[aria-label=Record]').getByRole('button', { name: 'Only hostile.value of this value' }).click();
  await until('it is in the address', () => decodeURIComponent(page.url()).includes('hostile.value:/'));
  const q = new URL(page.url()).searchParams.get('q').replace('hostile.case:14', '').trim();
  check(!/[\r\n]/.test(q), q);
  same((await rows(`/api/v1/search?q=${encodeURIComponent(q)}&${HOUR}`)).map((row) => row.attributes['hostile.value']).filter((text) => text !== HOSTILE[14]), [], 'found by it');
  check((await rows(`/api/v1/search?q=${encodeURIComponent(q)}&${HOUR}`)).length > 0, 'something is found');
  // A link that holds line ends in quotes asks for the same on one line.
  const link = await open(`/search?q=${encodeURIComponent(`hostile.value:"${HOSTILE[14]}"`)}&${HOUR}`);
  await link.waitForSelector('[role=grid] [role=row] .body');
  await until('the field shows what is asked', () => link.evaluate(() => document.querySelector('.host')?.shadowRoot?.querySelector('.cm-content')?.textContent?.includes('\\r\\nforged') || document.querySelector('.host')?.shadowRoot?.querySelector('.cm-content')?.textContent?.includes('\\r\\n')));
  await close(link);
  await close(page);
});

await test('a log beside a span leads to that log', async () => {
  const page = await open(`/search?table=spans&q=${encodeURIComponent('service:payment status:error name:"POST /charge"')}&${HOUR}`);
  await page.waitForSelector('[role=grid] [role=row] .duration');
  await page.locator('[role=grid] [role=row][aria-rowindex="1"]').click();
  const link = page.locator('aside[aria-label=Record] .around a', { hasText: 'charge of order' }).first();
  const said = (await link.locator('.mono').innerText()).trim();
  await link.click();
  await until('among the logs', () => !page.url().includes('table=spans') && /row=\d+/.test(page.url()));
  await page.waitForSelector('aside[aria-label=Record] pre.body');
  same((await page.locator('aside[aria-label=Record] pre.body').innerText()).trim(), said, 'the text of the log');
  check((await page.locator('aside[aria-label=Record] .level').innerText()).toLowerCase() === 'error', 'drawn as a log');
  check((await page.locator('[role=grid] [role=row][aria-selected=true]').count()) <= 1, 'one at most');
  await close(page);
});

await test('traces: what is written and not asked yet stays when something else changes', async () => {
  const page = await open('/traces');
  await page.waitForSelector('.scatter circle');
  await page.getByLabel('At least').fill('1ms');
  await page.getByLabel('Span fulfils, or a trace id').fill('http.route:/charge');
  await page.getByRole('button', { name: 'Failed' }).click();
  await until('the status is in the address', () => page.url().includes('status=error'));
  await page.getByRole('button', { name: 'Took' }).click();
  await until('the order is in the address', () => page.url().includes('sort=duration'));
  same([await page.getByLabel('At least').inputValue(), await page.getByLabel('Span fulfils, or a trace id').inputValue()], ['1ms', 'http.route:/charge'], 'what was written');
  await page.getByRole('button', { name: 'Find', exact: true }).click();
  await until('all of it is asked', () => ['min=1ms', 'q=http.route:/charge', 'status=error', 'sort=duration'].every((part) => page.url().includes(part)));
  await page.goBack();
  await until('a field follows the address', async () => (await page.getByLabel('At least').inputValue()) === '');
  await close(page);
});

await test('orders, views and chosen logs are in the address', async () => {
  const traces = await open('/traces?sort=duration');
  await traces.waitForSelector('table tbody tr');
  check((await traces.getByRole('button', { name: 'Took' }).getAttribute('aria-pressed')) === 'true', 'traces by duration');
  await close(traces);
  const services = await open('/services?view=list');
  await services.waitForSelector('table tbody tr');
  await services.getByRole('button', { name: 'Service', exact: true }).click();
  const other = await open(services.url().slice(hub.length));
  await other.waitForSelector('th[aria-sort=ascending]');
  // How punctuation is ordered is the browser's business.
  const names = (await other.locator('table tbody .pick').allInnerTexts()).filter((name) => !name.startsWith('hostile'));
  same(names, names.toSorted((a, b) => a.localeCompare(b)), 'services by name');
  await close(other);
  await close(services);
  const sql = await open(`/sql?q=${encodeURIComponent('SELECT service, count(*) AS n FROM logs GROUP BY service')}`);
  await sql.waitForSelector('[role=gridcell]');
  await sql.getByRole('button', { name: 'Chart' }).click();
  const chart = await open(sql.url().slice(hub.length));
  await until('a chart', async () => (await chart.getByRole('button', { name: 'Chart' }).getAttribute('aria-pressed')) === 'true' && (await chart.locator('[role=gridcell]').count()) === 0);
  await close(chart);
  await close(sql);
  const trace = await open(`/trace/${known.logsOnly}`);
  await trace.locator('[role=row].log', { hasText: 'legacy step 9' }).click();
  await trace.waitForSelector('aside[aria-label=Log]');
  const log = await open(trace.url().slice(hub.length));
  await log.waitForSelector('aside[aria-label=Log]');
  check((await log.locator('aside[aria-label=Log]').innerText()).includes('legacy step 9'), 'the same log');
  await log.waitForSelector('[role=row].log[aria-selected=true]');
  await close(log);
  await close(trace);
});

await test('hub: each figure has its own line', async () => {
  const page = await open('/', { bare: true });
  let looks = 0;
  await page.route('**/metrics', (route) => {
    looks += 1;
    const slow = looks > 2 ? 50 : 0;
    const lines = [
      `threadline_process_resident_memory_bytes ${looks % 2 ? 9e9 : 3e9}`, `threadline_ingest_received_bytes_total ${looks}`, 'threadline_store_memory_rows 5', 'threadline_store_syncs_total 7', 'threadline_ingest_records_total 1',
      `threadline_append_latency_seconds_bucket{le="0.001"} ${looks * 10}`, `threadline_append_latency_seconds_bucket{le="1"} ${looks * 10 + slow}`, `threadline_append_latency_seconds_bucket{le="+Inf"} ${looks * 10 + slow}`,
    ];
    return route.fulfill({ contentType: 'text/plain', body: `${lines.join('\n')}\n` });
  });
  await page.goto(`${hub}/hub`);
  const heights = async (label) => {
    const line = page.locator('.figure', { hasText: label }).locator('polyline');
    if ((await line.count()) === 0) return [];
    return (await line.getAttribute('points')).split(' ').map((point) => point.split(',')[1]);
  };
  await until('the memory goes up and down', async () => new Set(await heights('Memory')).size > 1, 15_000);
  await until('the reply has become slower', async () => new Set(await heights('Reply after sync')).size > 1, 15_000);
  await close(page);
});

await test('completion from the store, a fault under its character, trace ids lead to traces', async () => {
  const page = await open('/search');
  await page.waitForSelector('.host .cm-content, .host');
  await until('the editor', () => page.evaluate(() => !!document.querySelector('.host')?.shadowRoot?.querySelector('.cm-content')));
  await page.keyboard.press('/');
  await page.keyboard.type('service:pay');
  const proposals = () => page.evaluate(() => [...(document.querySelector('.host')?.shadowRoot?.querySelectorAll('.cm-tooltip-autocomplete li') ?? [])].map((li) => li.textContent));
  await until('payment is proposed', async () => (await proposals()).some((one) => one.startsWith('payment')));
  await page.keyboard.press('Tab');
  await page.keyboard.type('severity>=error');
  // Proposals may be open; who did not go to one gets what was written.
  await page.keyboard.press('Enter');
  await until('the search is in the address', () => page.url().includes('service:payment'));
  // The field keeps the focus.
  await page.keyboard.press('End');
  await page.keyboard.type(' duration>250 x');
  await until('the fault is marked', () => page.evaluate(() => document.querySelector('.host')?.shadowRoot?.querySelector('.tl-fault')?.textContent === '250'));
  check((await page.locator('.complaint').innerText()).includes('unit'), 'it says what to do');
  await shot(page, 'fault');
  // Typing over a selection makes Chromium itself try to keep the style of what was there, which the policy refuses and
  // the console tells: harmless, and not ours.
  await page.keyboard.press('Control+A');
  await page.keyboard.press('Delete');
  await page.keyboard.type(known.failed);
  await page.keyboard.press('Enter');
  await page.waitForURL(`**/trace/${known.failed}*`);
  await close(page);
});

await test('the histogram is a ruler: dragging over it narrows the time', async () => {
  const page = await open('/search');
  await page.waitForSelector('.volume canvas');
  const box = await page.locator('.volume .u-over').boundingBox();
  const before = Number((await page.locator('.total b').innerText()).replace(/\D/g, ''));
  await page.mouse.move(box.x + box.width * 0.3, box.y + 20);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.5, box.y + 30, { steps: 5 });
  await page.mouse.up();
  await until('the address has both ends', () => /from=.*to=/.test(page.url()));
  await until('fewer rows', async () => Number((await page.locator('.total b').innerText()).replace(/\D/g, '')) < before);
  await close(page);
});

await test('any row of a long answer is there at once, and none is shown twice', async () => {
  const range = hasDay ? DAY : 'since=1h';
  const table = 'spans';
  const page = await open(`/search?table=${table}&${range}`);
  await page.waitForSelector('[role=grid] [role=row] .body');
  await until('counted', async () => (await page.locator('.total b').count()) > 0);
  const total = Number((await page.locator('.total b').innerText()).replace(/\D/g, ''));
  same(total, (await api(`/api/v1/count?table=${table}&${range}`)).count, 'rows');
  const grid = page.locator('[role=grid]');
  await grid.focus();
  const started = performance.now();
  await page.keyboard.press('End');
  const last = page.locator(`[role=row][aria-rowindex="${total}"]`);
  await last.locator('.body').waitFor();
  timing(`spans: to row ${total} of ${total}`, performance.now() - started);
  const [oldest] = await rows(`/api/v1/search?table=${table}&${range}&limit=1&order=oldest`);
  check((await last.innerText()).includes(oldest.name), `${await last.innerText()} is not ${oldest.name}`);
  // To the middle by the bar.
  const jump = performance.now();
  await page.evaluate(() => {
    const scroller = document.querySelector('[role=grid]');
    scroller.scrollTop = (scroller.scrollHeight - scroller.clientHeight) / 2;
  });
  const shown = () =>
    page.locator('[role=grid] [role=row][aria-rowindex]').evaluateAll((list) => list.map((row) => Number(row.getAttribute('aria-rowindex'))));
  await until('the rows of the middle, none of them blank', async () => {
    const numbers = await shown();
    const there = numbers.length > 10 && Math.abs(numbers[0] - total / 2) < total / 10;
    return there && (await page.locator('[role=grid] .skeleton').count()) === 0;
  });
  timing('spans: to the middle', performance.now() - jump);
  const numbers = await shown();
  check(numbers.every((number, i) => i === 0 || number === numbers[i - 1] + 1), 'rows follow each other');
  const times = await page.locator('[role=grid] [role=row][aria-rowindex] .time').allInnerTexts();
  check(times.every((time, i) => i === 0 || time <= times[i - 1]), `newest first: ${times.slice(0, 3)}`);
  // Frames while the wheel turns.
  const frames = await page.evaluate(async () => {
    const scroller = document.querySelector('[role=grid]');
    const out = [];
    let before = performance.now();
    for (let i = 0; i < 60; i += 1) {
      scroller.scrollTop += 54;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      out.push(now - before);
      before = now;
    }
    return out.sort((a, b) => a - b);
  });
  timing('spans: a frame while scrolling, 95th percentile', frames[Math.floor(frames.length * 0.95)]);
  await close(page);
});

await test('a trace of 10,000 spans stays fluid', async () => {
  const started = performance.now();
  const page = await open(`/trace/${known.large}`);
  await page.waitForSelector('[role=grid] .bar');
  timing('trace of 10,000 spans: drawn', performance.now() - started);
  // Before anything is unfolded: what is folded away is found, and opened.
  await page.keyboard.press('/');
  await page.keyboard.type('step 9876');
  await until('found among what is folded', async () => (await page.locator('.find [role=status]').innerText()).includes('of 1'));
  await page.keyboard.press('Enter');
  await page.waitForSelector('aside[aria-label=Span]');
  check((await page.locator('aside[aria-label=Span] .name').innerText()) === 'step 9876', 'it is chosen');
  await page.waitForSelector('[role=row][aria-selected=true] >> text=step 9876');
  check(Number(await page.locator('[role=grid]').getAttribute('aria-rowcount')) < 10_000, 'all else stays folded');
  await page.keyboard.press('Control+A');
  await page.keyboard.press('Delete');
  await page.keyboard.press('Escape');
  await page.keyboard.press('x');
  const rowsShown = async () => Number(await page.locator('[role=grid]').getAttribute('aria-rowcount'));
  await until('all are open', async () => (await rowsShown()) >= 10_000);
  const drawn = await page.locator('[role=grid] [role=row]').count();
  check(drawn < 120, `${drawn} rows exist`);
  const frames = await page.evaluate(async () => {
    const scroller = document.querySelector('[role=grid]');
    const out = [];
    let before = performance.now();
    for (let i = 0; i < 90; i += 1) {
      scroller.scrollTop += 400;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      out.push(now - before);
      before = now;
    }
    return out.sort((a, b) => a - b);
  });
  timing('trace of 10,000 spans: a frame, 95th percentile', frames[Math.floor(frames.length * 0.95)]);
  await page.keyboard.press('/');
  await page.keyboard.type('step 9876');
  await until('found', async () => (await page.locator('.find [role=status]').innerText()).includes('of 1'));
  await page.keyboard.press('Enter');
  await page.waitForSelector('aside[aria-label=Span]');
  check((await page.locator('aside[aria-label=Span] .name').innerText()) === 'step 9876', 'it is chosen');
  await close(page);
});

await test('traces: what is missing is told, what is from logs alone is told, two are compared', async () => {
  const logs = await open(`/trace/${known.logsOnly}`);
  await logs.waitForSelector('.banner');
  check((await logs.locator('.banner').innerText()).includes('No span of this request was received'), 'from logs alone');
  await close(logs);
  const holes = await open(`/trace/${known.holes}`);
  await holes.waitForSelector('.gaps');
  const gaps = await holes.locator('.gaps').innerText();
  check(/parent span was not received/i.test(gaps) && gaps.includes('audit-trail'), gaps);
  check((await holes.locator('.bar.missing').count()) > 0, 'the missing parent has a place');
  await close(holes);
  const two = await open(`/trace/${known.failed}?tab=compare&with=${known.fine}`);
  await two.waitForSelector('.sum');
  check(/failed against/.test(await two.locator('.sum').innerText()), 'both are told');
  check((await two.locator('table tbody tr').count()) >= 4, 'operations side by side');
  await close(two);
});

await test('live: what comes is shown at once, pausing keeps it waiting', async () => {
  const page = await open('/search?live=1&q=live.case:*');
  await page.waitForSelector('.pulse:not(.still)');
  const say = async (n) => {
    const response = await fetch(`${process.env.THREADLINE_OTLP ?? 'http://127.0.0.1:4318'}/v1/logs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ resourceLogs: [{ resource: { attributes: [{ key: 'service.name', value: { stringValue: 'live' } }] }, scopeLogs: [{ logRecords: [{ timeUnixNano: `${Date.now()}000000`, severityNumber: 9, body: { stringValue: `live record ${n}` }, attributes: [{ key: 'live.case', value: { intValue: String(n) } }] }] }] }] }),
    });
    check(response.ok, `${response.status}`);
  };
  const sent = performance.now();
  await say(1);
  await page.waitForSelector('[role=row] .body >> text=live record 1');
  timing('live: from sending to the screen', performance.now() - sent);
  await page.keyboard.press('p');
  await say(2);
  await page.waitForSelector('.badge >> text=1 new');
  check((await page.locator('[role=row] .body >> text=live record 2').count()) === 0, 'paused');
  await page.keyboard.press('p');
  await page.waitForSelector('[role=row] .body >> text=live record 2');
  check((await page.locator('[role=row][aria-rowindex="1"] .body').innerText()).includes('live record 2'), 'the newest is first');
  await close(page);
});

await test('exports hold what the search found', async () => {
  const page = await open(`/search?q=service:payment%20severity:error&cols=exception.type&${HOUR}`);
  await page.waitForSelector('[role=grid] [role=row] .body');
  const want = (await api(`/api/v1/count?q=service:payment%20severity:error&${HOUR}`)).count;
  const save = async (name) => {
    await page.getByRole('button', { name: 'Export' }).click();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByText(name, { exact: true }).click()]);
    return readFileSync(await download.path(), 'utf8');
  };
  const ndjson = (await save('NDJSON')).trim().split('\n').map((line) => JSON.parse(line));
  same(ndjson.length, want, 'rows of NDJSON');
  const csv = (await save('CSV')).trim().split('\r\n');
  same(csv.length - 1, want, 'rows of CSV');
  same(csv[0], 'time,severity,service,event,exception.type,body,trace,span', 'the head of CSV');
  await close(page);
});

await test('keyboard: from anywhere to anywhere, and the sheet says how', async () => {
  const page = await open('/search');
  await page.waitForSelector('[role=grid] [role=row] .body');
  await page.keyboard.press('?');
  await page.waitForSelector('dialog[open]');
  check((await page.locator('dialog').innerText()).includes('Follow live'), 'it lists this page');
  await shot(page, 'help');
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.waitForSelector('[role=row][aria-rowindex="2"][aria-selected=true]');
  for (const [key, path] of [['t', '/traces'], ['v', '/services'], ['q', '/sql'], ['i', '/incidents'], ['c', '/contract'], ['d', '/detection'], ['h', '/hub'], ['s', '/search']]) {
    await page.locator('#main').focus();
    await page.keyboard.press('g');
    await page.keyboard.press(key);
    await page.waitForURL(`**${path}*`);
    await page.waitForTimeout(150);
    // The SQL page's editor takes the keys.
    await page.evaluate(() => document.activeElement?.blur?.());
  }
  const before = await page.locator('.rail .tools').innerText();
  await page.keyboard.press('u');
  check((await page.locator('.rail .tools').innerText()) !== before, 'the zone changes');
  await close(page);
});

await test('times: local zone and UTC say the same moment', async () => {
  const page = await open('/search?q=service:payment', { zone: 'America/New_York' });
  await page.waitForSelector('[role=grid] [role=row] .body');
  const seen = async () => (await page.locator('[role=row][aria-rowindex="1"] .time').innerText()).slice(-12);
  const local = await seen();
  await page.keyboard.press('u');
  await until('another time', async () => (await seen()) !== local);
  const utc = await seen();
  const [row] = await rows('/api/v1/search?q=service:payment&since=1h&limit=1');
  same(utc, row.time.slice(11, 23), 'UTC');
  const there = new Date(row.time).toLocaleTimeString('en-GB', { timeZone: 'America/New_York', hour12: false });
  check(local.startsWith(there), `${local} is ${there}`);
  await close(page);
});

await test('a hub with tokens: any 401 asks for one, a good one brings the page back', async () => {
  const page = await open('/', { bare: true });
  // The hub of this run has no tokens; these answers are what one with tokens gives.
  let signedIn = false;
  const sent = [];
  await page.route('**/api/v1/**', async (route) => {
    const request = route.request();
    if (new URL(request.url()).pathname === '/api/v1/session') {
      if (request.method() === 'POST') {
        sent.push({ csrf: request.headers()['x-threadline-csrf'], body: request.postDataJSON() });
        signedIn = request.postDataJSON().token === 'tl_good';
        return route.fulfill({ status: signedIn ? 200 : 401, contentType: 'application/json', body: signedIn ? '{"name":"alice","roles":["read"],"session":true}' : '{"status":401,"detail":"no good token"}' });
      }
      return route.fulfill({ status: signedIn ? 200 : 401, contentType: 'application/json', body: signedIn ? '{"name":"alice","roles":["read"],"session":true}' : '{"status":401}' });
    }
    if (!signedIn) return route.fulfill({ status: 401, contentType: 'application/problem+json', body: '{"type":"urn:threadline:problem:unauthenticated","title":"unauthenticated","status":401,"detail":"no token"}' });
    return route.continue();
  });
  await page.goto(`${hub}/search`);
  await page.locator('input#token').fill('tl_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await until('it says so', async () => (await page.locator('[role=alert]').innerText()).includes('does not know'));
  await shot(page, 'sign-in');
  await page.locator('input#token').fill('tl_good');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForSelector('[role=grid] [role=row] .body');
  check((await page.getByRole('button', { name: 'Sign out' }).count()) === 1, 'one can sign out');
  same(sent.map((one) => one.csrf), ['1', '1'], 'every write says that the page itself asks');
  check((await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }))).includes('tl_') === false, 'no token is kept where scripts can read it');
  await close(page);
});

// The example that the page offers, made to speak sooner and by service.
const RULES = [['Ten refused', 'Five refused'], ['[client.address]', '[client.address, service.name]'], ['gte: 10', 'gte: 5']].reduce((rules, [offered, here]) => {
  check(rules.includes(offered), `the example has no ${offered}`);
  return rules.replace(offered, here);
}, readFileSync(new URL('../../src/lib/example.yml', import.meta.url), 'utf8'));
/** Lets somebody guess logins at a service, each try with a span and a trace. */
async function attack(own, address, headers = {}, service = 'shop') {
  const now = BigInt(Date.now()) * 1_000_000n;
  const hex = (n, digits) => n.toString(16).padStart(digits, '0');
  const resource = (name) => ({ attributes: [{ key: 'service.name', value: { stringValue: name } }, { key: 'service.instance.id', value: { stringValue: `${name}-1` } }] });
  const traces = Array.from({ length: 6 }, () => BigInt(Math.floor(Math.random() * 2 ** 52)) + 1n);
  const post = async (path, body) => {
    const response = await fetch(own.otlp + path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
    check(response.ok, `${path}: ${response.status} ${await response.text()}`);
  };
  const span = (trace, id, parent, name, kind) => ({ traceId: hex(trace, 32), spanId: id, ...(parent ? { parentSpanId: parent } : {}), name, kind, startTimeUnixNano: String(now), endTimeUnixNano: String(now + 40_000_000n), attributes: [], status: { code: 2 } });
  await post('/v1/traces', { resourceSpans: [
    { resource: resource('edge'), scopeSpans: [{ spans: traces.map((trace) => span(trace, hex(trace, 16), '', 'POST /login', 2)) }] },
    { resource: resource(service), scopeSpans: [{ spans: traces.map((trace) => span(trace, hex(trace + 1n, 16), hex(trace, 16), 'login', 2)) }] },
  ] });
  await post('/v1/logs', { resourceLogs: [{ resource: resource(service), scopeLogs: [{ logRecords: traces.map((trace, i) => ({
    timeUnixNano: String(now + BigInt(i)), severityNumber: 13, severityText: 'WARN', eventName: 'security.authn.rejected', traceId: hex(trace, 32), spanId: hex(trace + 1n, 16),
    attributes: [{ key: 'client.address', value: { stringValue: address } }, { key: 'user.id', value: { stringValue: 'root' } }],
  })) }] }] });
}
async function withRules(settings, body) {
  const folder = mkdtempSync(join(tmpdir(), 'threadline-rules-'));
  writeFileSync(join(folder, 'logins.yml'), RULES);
  try {
    await withHub({ RULES_BUILTIN: 'false', BASELINES: 'false', RULES_DIR: folder, ...settings }, body);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
const incidents = async (own, headers = {}) => (await (await fetch(`${own.url}/api/v1/incidents?state=all`, { headers })).json()).incidents;

await test('incidents: from a finding to its incident, its evidence, and everything that can be done with it', async () => {
  await withRules({}, async (own) => {
    const empty = await open('/incidents', { at: own.url });
    await empty.waitForSelector('.empty');
    check((await empty.locator('.rail .count').count()) === 0, 'no count of nothing');
    await shot(empty, 'incidents-empty');
    await close(empty);
    await attack(own, '192.0.2.7');
    await until('an incident', async () => (await incidents(own)).length === 1, 60_000);
    const [{ id }] = await incidents(own);

    // From the finding: its incident is looked up when it is opened, not for each of the list.
    const page = await open('/', { bare: true, at: own.url });
    const looked = [];
    page.on('request', (request) => /\/incidents\?.*state=all|\/incidents\/\d/.test(request.url()) && looked.push(request.url()));
    await page.goto(`${own.url}/detection`);
    await page.locator('button.finding').first().waitFor();
    await page.waitForLoadState('networkidle');
    same(looked, [], 'looked up for a finding that nobody opened');
    // One that the newest incidents do not have.
    await page.route('**/api/v1/incidents?*state=all*', (route) => route.fulfill({ json: { incidents: [], total: 0, problems: [] } }));
    await page.locator('button.finding').first().click();
    await page.locator('.ways', { hasText: 'not found among the newest' }).waitFor();
    await page.locator('button.finding').first().click();
    await page.unroute('**/api/v1/incidents?*state=all*');
    await page.locator('button.finding').first().click();
    await page.getByRole('link', { name: 'Its incident' }).click();
    await page.waitForURL(`**/incidents/${id}`);
    await page.waitForSelector('.timeline .finding');
    await until('one is open', async () => (await page.locator('.rail .count').innerText().catch(() => '')).startsWith('1'));
    const main = page.locator('main');
    check((await page.locator('.timeline .finding').first().innerText()).includes('Five refused logins of one address'), 'the finding');
    // Its records, one of its traces, the entity.
    const searched = await page.locator('.timeline .finding').first().getByRole('link', { name: 'logs it rests on' }).getAttribute('href');
    const trace = await page.locator('.timeline .finding').first().locator('a', { hasText: 'trace' }).first().getAttribute('href');
    const entity = await page.locator('.entities a', { hasText: '192.0.2.7' }).getAttribute('href');
    for (const [path, ready] of [[searched, '[role=grid] [role=row] .body'], [trace, '[role=grid] .bar'], [entity, '[role=grid] [role=row] .body']]) {
      const other = await open(path, { at: own.url });
      await other.waitForSelector(ready);
      await close(other);
    }
    // What it touched, on the map and as a list.
    await page.waitForSelector('.blast .node.touched');
    same((await page.locator('.blast .node.touched .name').allTextContents()).toSorted(), ['edge', 'shop'], 'touched services');
    check((await page.locator('.blast table').innerText()).includes('POST /login'), 'touched operations');
    await page.locator('.blast').scrollIntoViewIfNeeded();
    await shot(page, 'incident-touched');

    const acts = page.getByRole('group', { name: 'What to do' });
    await acts.getByRole('button', { name: 'Acknowledge' }).click();
    await page.waitForSelector('.page-head .badge.acknowledged');
    await until('none is open', async () => (await page.locator('.rail .count').count()) === 0);
    check((await acts.getByRole('button', { name: 'Acknowledge' }).count()) === 0, 'what has been done is not offered');
    await acts.getByRole('button', { name: /Assign$/ }).click();
    await page.getByLabel('Who has it from now on').fill('ann');
    await page.getByRole('button', { name: 'Give it' }).click();
    await until('ann has it', async () => (await page.locator('.facts').innerText()).includes('ann'));
    await page.locator('main').focus();
    await page.keyboard.press('n');
    await page.keyboard.type('<b>blocked</b> at the edge');
    await page.keyboard.press('Control+Enter');
    await page.waitForSelector('.note >> text=<b>blocked</b> at the edge');
    await page.keyboard.press('Escape');
    await acts.getByRole('button', { name: /Snooze$/ }).click();
    await page.getByRole('button', { name: 'For 2 hours' }).click();
    await page.waitForSelector('.page-head .badge.snoozed');
    await page.locator('main').focus();
    await page.keyboard.press('x');
    await page.waitForSelector('.page-head .badge.resolved');
    await acts.getByRole('button', { name: 'Reopen' }).click();
    await page.waitForSelector('.page-head .badge.open');
    // What was done is on record, with the clock.
    await page.getByRole('button', { name: 'What was done' }).click();
    await until('every step is told', async () => (await page.locator('.timeline li.transition').count()) >= 6);
    check((await page.locator('.timeline li.finding').count()) === 0, 'only what was done');
    const other = await open(page.url().slice(own.url.length), { at: own.url });
    await other.waitForSelector('.timeline li.transition');
    check((await other.locator('.timeline li.finding').count()) === 0, 'the link says which part of the timeline');
    await close(other);
    // What somebody else did meanwhile: told, and shown.
    await fetch(`${own.url}/api/v1/incidents/${id}/resolve`, { method: 'POST' });
    await acts.getByRole('button', { name: 'Resolve' }).click();
    await page.waitForSelector('[role=alert] >> text=cannot be done now');
    await page.waitForSelector('.page-head .badge.resolved');
    await acts.getByRole('button', { name: 'Reopen' }).click();
    await page.waitForSelector('.page-head .badge.open');
    await page.getByRole('button', { name: 'All', exact: true }).first().click();
    await shot(page, 'incident');

    // Silence, with what it would mute before it does.
    await acts.getByRole('button', { name: 'Silence' }).click();
    const dialog = page.getByRole('dialog', { name: 'Silence' });
    await until('what it would mute', async () => /would mute 1 alerts? of 1 incident/.test(await dialog.locator('.preview').innerText()));
    await dialog.getByLabel('Conditions on labels').fill('service="elsewhere"');
    await until('nothing by another', async () => (await dialog.locator('.preview').innerText()).includes('nothing'));
    await dialog.getByLabel('Conditions on labels').fill('odd');
    await dialog.locator('.preview [role=alert]').waitFor();
    await dialog.getByLabel('Conditions on labels').fill('service="shop"');
    await dialog.getByLabel('Why').fill('load test');
    await dialog.getByRole('button', { name: 'Silence', exact: true }).click();
    await until('closed', async () => (await page.locator('dialog').count()) === 0);
    await page.goto(`${own.url}/incidents?tab=silences`);
    check((await page.locator('table tbody tr').innerText()).includes('load test'), 'it is listed');
    await shot(page, 'silences');
    await page.getByRole('button', { name: 'End', exact: true }).click();
    await page.waitForSelector('.empty');

    // Reports.
    await page.goto(`${own.url}/incidents/${id}`);
    await page.waitForSelector('.timeline .finding');
    const save = async (name) => {
      await page.getByRole('button', { name: 'Report' }).click();
      const [download] = await Promise.all([page.waitForEvent('download'), page.locator('.choices a', { has: page.locator('b', { hasText: new RegExp(`^${name}$`) }) }).click()]);
      return readFileSync(await download.path(), 'utf8');
    };
    check((await save('Markdown')).includes('Five refused logins'), 'Markdown');
    same(JSON.parse(await save('JSON')).id, id, 'JSON');
    same(JSON.parse(await save('OCSF')).class_uid, 2004, 'OCSF');

    // The list: filters are in the address.
    await page.goto(`${own.url}/incidents`);
    const line = page.locator('a.title', { hasText: 'Five refused logins' });
    await line.waitFor();
    await page.getByRole('button', { name: 'Resolved' }).click();
    await page.waitForSelector('.empty');
    check(page.url().includes('state=resolved'), page.url());
    await page.goto(`${own.url}/incidents?severity=critical`);
    await page.waitForSelector('.empty');
    await page.goto(`${own.url}/incidents?state=all&severity=high&service=shop`);
    await line.waitFor();
    await page.locator('main').focus();
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.waitForURL(`**/incidents/${id}`);
    await page.goto(`${own.url}/incidents/999`);
    check((await page.locator('.empty').innerText()).includes('#999'), 'one that is not there');
    await main.focus();
    await page.keyboard.press('?');
    check((await page.locator('dialog').innerText()).includes('Go to Incidents'), 'the sheet knows');
    await page.keyboard.press('Escape');

    // In both themes and widths, with nothing for axe.
    const wrong = [];
    for (const [name, path, ready] of [['incidents', '/incidents?state=all', 'a.title'], ['incident', `/incidents/${id}`, '.blast .node.touched']]) {
      await page.goto(own.url + path);
      await page.waitForSelector(ready);
      wrong.push(...(await looks(page, name)));
    }
    await close(page);
    check(wrong.length === 0, wrong.join('\n'));
  });
});

await test('incidents: the map is asked for once, however often the incident is looked at; less often while nothing changes', async () => {
  await withRules({}, async (own) => {
    await attack(own, '192.0.2.9');
    await until('an incident', async () => (await incidents(own)).length === 1, 60_000);
    const [{ id }] = await incidents(own);
    // As it is now, for good, but for what each answer has of its own.
    const settled = await (await fetch(`${own.url}/api/v1/incidents/${id}`)).json();
    const page = await open('/', { bare: true, at: own.url });
    await page.clock.install();
    await page.route(`**/api/v1/incidents/${id}`, (route) => route.fulfill({ json: { ...settled, generated: new Date(asked.report * 1000).toISOString(), clock: settled.clock.map((spent) => ({ ...spent, seconds: spent.seconds + asked.report })) } }));
    const asked = { report: 0, map: 0, under_way: 0 };
    const count = (request, by) => {
      const { pathname } = new URL(request.url());
      if (by > 0 && pathname === `/api/v1/incidents/${id}`) asked.report += 1;
      if (by > 0 && pathname === '/api/v1/services') asked.map += 1;
      if (pathname.startsWith('/api/')) asked.under_way += by;
    };
    page.on('request', (request) => count(request, 1));
    for (const end of ['requestfinished', 'requestfailed']) page.on(end, (request) => count(request, -1));
    /** What the time that has gone by led to is answered and shown. */
    const quiet = async () => {
      await page.evaluate(() => undefined);
      await until('all is answered', () => asked.under_way === 0);
      await page.evaluate(() => undefined);
    };
    await page.goto(`${own.url}/incidents/${id}`);
    await page.waitForSelector('.blast .node.touched');
    await page.locator('.blast .node.touched').first().evaluate((node) => (node.mark = 1));
    for (let quarters = 0; quarters < 40; quarters += 1) {
      await page.clock.runFor(15_000);
      await quiet();
    }
    // Ten minutes: at 0, 15, 45 and 105 s, then once a minute.
    check(asked.report >= 8 && asked.report <= 14, `${asked.report} questions for the incident in ten minutes`);
    same(asked.map, 1, 'questions for the map');
    check(await page.locator('.blast .node.touched').first().evaluate((node) => node.mark === 1), 'the map stands');
    // Nobody looks: nothing is asked. Somebody does again: at once.
    const hide = (hidden) => page.evaluate((value) => {
      Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await hide(true);
    const before = asked.report;
    await page.clock.runFor(1_200_000);
    await quiet();
    same(asked.report - before, 0, 'questions while the page is hidden');
    await hide(false);
    await until('it is looked at again', () => asked.report === before + 1);
    await close(page);
  });
});

await test('incidents: more of one filter are no part of another, and a service with quotes can be silenced', async () => {
  await withHub({ DETECTION: 'false' }, async (own) => {
    const page = await open('/', { bare: true, at: own.url });
    const moment = new Date().toISOString();
    const one = (id, title) => ({ id, title, state: 'open', severity: 'high', assignee: '', opened: moment, since: moment, first_seen: moment, last_seen: moment, findings: 1 });
    let held;
    await page.route('**/api/v1/incidents?*', async (route) => {
      const of = new URL(route.request().url()).searchParams;
      if (of.get('limit') === '1') return route.fulfill({ json: { incidents: [], total: 0, problems: [] } });
      if (of.get('before')) await new Promise((go) => (held = go));
      const state = of.get('state');
      // One whose question was taken back is not there to be answered.
      return route.fulfill({ json: { incidents: of.get('before') ? [one(4, `older, ${state}`)] : [one(5, `newest, ${state}`)], total: 2, ...(of.get('before') ? {} : { next: 5 }), problems: [] } }).catch(() => undefined);
    });
    const titles = async () => (await page.locator('a.title').allInnerTexts()).map((text) => text.replace(/^#\d+ /, ''));
    await page.goto(`${own.url}/incidents?state=all`);
    await page.getByRole('button', { name: /Show more/ }).click();
    await until('it is asked', () => held !== undefined);
    check(await page.getByRole('button', { name: /Show more/ }).isDisabled(), 'asked once');
    await page.getByRole('button', { name: 'Resolved' }).click();
    await until('the others', async () => (await titles())[0] === 'newest, resolved');
    held();
    await page.waitForTimeout(200);
    same(await titles(), ['newest, resolved'], 'the list');
    held = undefined;
    await page.getByRole('button', { name: /Show more/ }).click();
    await until('it is asked', () => held !== undefined);
    held();
    await until('older ones', async () => (await titles()).length === 2);
    same(await titles(), ['newest, resolved', 'older, resolved'], 'the list');
    await page.goto(`${own.url}/incidents?service=${encodeURIComponent('a"b\\')}`);
    await page.locator('.page-head').getByRole('button', { name: 'Silence', exact: true }).click();
    same(await page.getByLabel('Conditions on labels').inputValue(), 'service="a\\"b\\\\"', 'the condition');
    await page.locator('.preview', { hasText: 'nothing' }).waitFor();
    await close(page);
  });
});

await test('incidents: one becomes a part of another, which is said before it is done', async () => {
  await withRules({}, async (own) => {
    await attack(own, '192.0.2.9', {}, 'shop');
    await attack(own, '192.0.2.9', {}, 'cart');
    await until('two incidents', async () => (await incidents(own)).length === 2, 60_000);
    const [mine, other] = ['shop', 'cart'].map((service) => ({ service }));
    for (const one of await incidents(own)) Object.assign([mine, other].find(({ service }) => one.services.includes(service)), { id: one.id });
    const page = await open(`/incidents/${mine.id}`, { at: own.url });
    await page.waitForSelector('.timeline .finding');
    await page.locator('main').focus();
    await page.keyboard.press('p');
    const dialog = page.getByRole('dialog', { name: `Merge #${mine.id} into another` });
    await dialog.locator('.choice').waitFor();
    check(await dialog.getByRole('button', { name: 'Merge' }).isDisabled(), 'nothing is chosen');
    same((await dialog.locator('.choice b').allInnerTexts()).map((text) => text.split(' ')[0]), [`#${other.id}`], 'the others');
    await dialog.getByRole('searchbox').fill('nowhere');
    await dialog.locator('.none').waitFor();
    await dialog.getByRole('searchbox').fill('CART');
    await dialog.locator('.choice').click();
    check((await dialog.locator('.end').innerText()).includes('cannot be taken back'), 'what it means');
    const wrong = await looks(page, 'incident-merge');
    await dialog.getByRole('button', { name: `Merge into #${other.id}` }).click();
    await page.waitForURL(`**/incidents/${other.id}`);
    await until('it has both', async () => (await page.locator('.facts').innerText()).includes('Alerts\n2'));
    await page.goto(`${own.url}/incidents/${mine.id}`);
    await page.waitForSelector('.page-head .badge >> text=Merged');
    await page.getByRole('link', { name: `into #${other.id}` }).click();
    await page.waitForURL(`**/incidents/${other.id}`);
    await page.waitForSelector('.timeline .finding');
    // One that is alone is told so.
    await page.getByRole('button', { name: 'Merge' }).click();
    await page.locator('dialog >> text=No other incident is live').waitFor();
    await close(page);
    check(wrong.length === 0, wrong.join('\n'));
  });
});

await test('detection: a back-test shows when, and what would make a rule quieter', async () => {
  await withRules({}, async (own) => {
    for (const address of ['192.0.2.1', '192.0.2.1', '192.0.2.2']) await attack(own, address);
    await until('all is kept', async () => (await (await fetch(`${own.url}/api/v1/count?since=1h&q=event:security.authn.rejected`)).json()).count === 18);
    const asked = [];
    const page = await open('/', { bare: true, at: own.url });
    page.on('request', (request) => new URL(request.url()).pathname.startsWith('/api/') && asked.push(`${request.method()} ${new URL(request.url()).pathname}`));
    await page.goto(`${own.url}/detection?tab=backtest`);
    await page.locator('#yaml').waitFor();
    await page.waitForLoadState('networkidle');
    same(asked.filter((one) => /search|values|histogram/.test(one)), [], 'questions whose answers nobody sees');
    await page.locator('#yaml').fill(RULES.split('---')[0]);
    await page.keyboard.press('Control+Enter');
    await page.getByRole('figure', { name: 'What would have been found over time' }).locator('canvas').waitFor();
    check((await page.getByRole('figure').getByRole('img').getAttribute('aria-label')).startsWith('18 findings over time'), 'all are among the bars');
    await page.getByRole('button', { name: 'Tune' }).click();
    const noisy = page.getByRole('region', { name: /^Noisy: / });
    await noisy.waitFor();
    check((await noisy.innerText()).includes('18 findings'), await noisy.innerText());
    check(/12 would go, 6 stay/.test(await noisy.innerText()), await noisy.innerText());
    const wrong = await looks(page, 'detection-tune');
    await noisy.getByRole('button', { name: 'Put it into the rule' }).click();
    await noisy.locator('[role=status]', { hasText: 'It is in the rules' }).waitFor();
    check((await page.locator('#yaml').inputValue()).includes("'192.0.2.1'"), 'the exception is in the rules');
    await noisy.getByRole('button', { name: 'Put it into the rule' }).click();
    await noisy.locator('[role=status]', { hasText: 'has exceptions or settings already' }).waitFor();
    await page.locator('#yaml').fill((await page.locator('#yaml').inputValue()).replace(/FILL IN[^']*/, 'a test of ours'));
    await page.keyboard.press('Control+Enter');
    await until('what is left', async () => /^6\s*findings/.test(await page.locator('[aria-live] .state').innerText()));
    await close(page);
    check(wrong.length === 0, wrong.join('\n'));
  });
});

await test('hub: who is told and who is not, what waits, who asked; it asks seldom, and nothing of it is on record', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'threadline-alerts-'));
  const taken = [];
  const target = createServer((request, response) => {
    request.resume().on('end', () => {
      taken.push(request.url);
      response.writeHead(200).end('ok');
    });
  });
  await new Promise((done) => target.listen(0, '127.0.0.1', done));
  const { port } = target.address();
  // A port that nobody listens on: it was free a moment ago.
  const nobody = createServer();
  await new Promise((done) => nobody.listen(0, '127.0.0.1', done));
  const closed = nobody.address().port;
  await new Promise((done) => nobody.close(done));
  const webhook = (to) => `{ url: "http://127.0.0.1:${to}/hook", allow_plain: true, allow_private: true, secret_env: HOOK_SECRET }`;
  writeFileSync(join(folder, 'alerts.yml'), `route: { receivers: [chat, oncall], group_wait: 1s }\nreceivers:\n  - name: chat\n    dead_after: 1m\n    webhook: ${webhook(closed)}\n  - name: oncall\n    webhook: ${webhook(port)}\n`);
  process.env.HOOK_SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
  try {
    await withRules({ ALERTS_FILE: join(folder, 'alerts.yml'), AUDIT_QUERIES: 'true' }, async (own) => {
      await attack(own, '192.0.2.9');
      for (const q of ['service:shop', 'service:shop', 'service:cart']) await (await fetch(`${own.url}/api/v1/search?q=${q}&since=1h`)).text();
      const receiver = async (name) => (await (await fetch(`${own.url}/api/v1/notify/receivers`)).json()).receivers.find((one) => one.name === name);
      await until('one is told, the other cannot be', async () => (await receiver('oncall')).sent > 0 && (await receiver('chat')).failed > 0, 60_000);
      const page = await open('/', { bare: true, at: own.url });
      await page.goto(`${own.url}/hub`);
      const row = (name) => page.locator('section', { has: page.getByRole('heading', { name: 'Who is told' }) }).locator('tbody tr', { hasText: name });
      await row('chat').waitFor();
      check(/failing/.test(await row('chat').innerText()) && /connection/.test(await row('chat').innerText()), await row('chat').innerText());
      check(/reached/.test(await row('oncall').innerText()), await row('oncall').innerText());
      check(/Notices to receivers\s*1 notice/.test(await page.locator('section', { has: page.getByRole('heading', { name: 'What waits' }) }).innerText()), 'what waits');
      const before = taken.length;
      await row('oncall').getByRole('button', { name: 'Test' }).click();
      await until('it was tried', async () => taken.length > before);
      await page.locator('tr.said .good').waitFor();
      // Who asked: the same question is one line.
      const asked = page.locator('section', { has: page.getByRole('heading', { name: 'Who queried what' }) });
      await until('what was asked', async () => (await asked.locator('tbody tr').count()) > 0);
      const line = await asked.locator('tbody tr', { hasText: 'q=service:shop' }).innerText();
      check(/search/.test(line) && /\t2\t/.test(line), line);
      const wrong = await looks(page, 'hub-receivers');
      // What the page asks while it stands, and what of it is on record.
      await page.reload();
      await row('chat').waitFor();
      await page.waitForLoadState('networkidle', { timeout: 3_000 }).catch(() => undefined);
      const seen = [];
      page.on('request', (request) => seen.push(new URL(request.url()).pathname));
      await page.waitForTimeout(12_000);
      check(seen.length <= 12, `${seen.length} questions in 12 s: ${seen}`);
      same(seen.filter((path) => !['/metrics', '/healthz', '/api/v1/stats', '/api/v1/detection', '/api/v1/notify/receivers'].includes(path)), [], 'questions that are on record');
      await close(page);
      check(wrong.length === 0, wrong.join('\n'));
    });
  } finally {
    target.close();
    delete process.env.HOOK_SECRET;
    rmSync(folder, { recursive: true, force: true });
  }
});

await test('incidents: who may only read is offered nothing that is refused', async () => {
  await withRules({}, async (own) => {
    await attack(own, '192.0.2.8');
    await until('an incident', async () => (await incidents(own)).length === 1, 60_000);
    const [reader, doer] = [own.token('rita', 'read'), own.token('ann', 'read', 'operate')];
    // The hub notices within a second which tokens there are.
    await until('it knows who comes', async () => (await fetch(`${own.url}/api/v1/stats`, { headers: { authorization: `Bearer ${doer}` } })).ok && (await fetch(`${own.url}/api/v1/stats`)).status === 401);
    const [{ id }] = await incidents(own, { authorization: `Bearer ${doer}` });
    for (const [token, acts] of [[reader, 0], [doer, 1]]) {
      const page = await open('/', { bare: true, at: own.url });
      await page.goto(`${own.url}/incidents/${id}`);
      await page.locator('input#token').fill(token);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.waitForSelector('.timeline .finding');
      await page.getByRole('button', { name: 'Sign out' }).waitFor();
      same(await page.getByRole('group', { name: 'What to do' }).count(), acts, 'what can be done');
      same(await page.getByLabel('Note', { exact: true }).count(), acts, 'a note can be written');
      await page.locator('main').focus();
      await page.keyboard.press('a');
      if (acts) {
        await page.waitForSelector('.page-head .badge.acknowledged');
        check((await page.locator('.facts').innerText()).includes('ann'), 'who acknowledges has it');
      } else {
        await page.waitForTimeout(400);
        check((await page.locator('.page-head .badge.open').count()) === 1, 'nothing was done');
      }
      await page.goto(`${own.url}/incidents`);
      await page.waitForSelector('a.title');
      await page.getByRole('button', { name: 'Sign out' }).waitFor();
      same(await page.locator('.page-head').getByRole('button', { name: 'Silence', exact: true }).count(), acts, 'silence');
      // What would be refused is not asked: each refusal is on record.
      const refused = [];
      page.on('response', (response) => response.status() === 403 && refused.push(response.url()));
      await page.goto(`${own.url}/hub`);
      await page.locator('section h2', { hasText: 'What it holds' }).waitFor();
      await (acts ? page.locator('.figures') : page.locator('.hint', { hasText: 'operate' })).waitFor();
      await page.waitForLoadState('networkidle', { timeout: 3_000 }).catch(() => undefined);
      same(refused, [], 'asked and refused');
      await close(page);
    }
  });
});

await test('incidents: a hub that does not keep them says so', async () => {
  await withHub({ DETECTION: 'false', INCIDENTS: 'false' }, async (own) => {
    const page = await open('/incidents', { at: own.url });
    await page.waitForSelector('[role=alert]');
    check((await page.locator('main').innerText()).includes('Incidents are not kept now'), await page.locator('main').innerText());
    check((await page.locator('.rail .count').count()) === 0, 'no count');
    await close(page);
  });
});

await test('sign in, stay, sign out: a hub with tokens', async () => {
  await withHub({ DETECTION: 'false' }, async (own) => {
    const token = own.token('alice', 'read', 'operate');
    check(/^tl_/.test(token), 'a token was made');
    const page = await open('/', { bare: true, at: own.url });
    await page.clock.install();
    let asked = [];
    page.on('request', (request) => /^\/(api|healthz|metrics)/.test(new URL(request.url()).pathname) && asked.push(`${request.method()} ${request.url()}`));
    /** Signed out, it asks nothing any more, however long it stands. */
    const silent = async (how) => {
      await page.locator('input#token').waitFor();
      await page.waitForTimeout(200);
      asked = [];
      await page.clock.runFor(600_000);
      await page.waitForTimeout(100);
      same(asked, [], `asked after ${how}`);
    };
    // The hub notices within a second that it has tokens.
    await until('it asks who comes', async () => (await fetch(`${own.url}/api/v1/stats`)).status === 401);
    await page.goto(`${own.url}/search`);
    await page.locator('input#token').fill(`${token}x`);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await until('a wrong one is told', async () => (await page.locator('[role=alert]').innerText()).includes('does not know'));
    await page.locator('input#token').fill(token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.waitForSelector('[role=grid], .empty');
    await page.reload();
    await page.waitForSelector('[role=grid], .empty');
    const out = page.getByRole('button', { name: 'Sign out' });
    await out.waitFor();
    check((await out.getAttribute('title')).includes('alice'), 'it says who');
    // A hub that does not end the session: nobody is told that it has.
    await page.route('**/api/v1/session', (route) => (route.request().method() === 'DELETE' ? route.fulfill({ status: 503, body: '' }) : route.continue()));
    await out.click();
    await page.waitForSelector('[role=alert] >> text=still signed in');
    check((await page.locator('input#token').count()) === 0, 'the page stays');
    await page.unroute('**/api/v1/session');
    // Whatever is looked at again and again is under way when the session ends: by the person, then by an answer.
    for (const path of ['/search', '/incidents', '/incidents/1', '/hub']) {
      const polled = /\/api\/v1\/incidents(\?|\/)|\/metrics$/;
      for (const by of ['signing out', 'a 401']) {
        let end;
        const held = new Promise((go) => (end = go));
        let waiting = 0;
        await page.route(polled, async (route) => {
          waiting += 1;
          await held;
          // A question that was taken back is not there to be answered.
          await route.fulfill({ status: 401, json: { status: 401, detail: 'the session has ended' } }).catch(() => undefined);
        });
        await page.goto(own.url + path);
        await out.waitFor();
        await until('it is looked at', () => waiting > 0);
        if (by === 'a 401') end();
        else await out.click();
        await page.locator('input#token').waitFor();
        end();
        await silent(`${by} at ${path}`);
        await page.unroute(polled);
        await page.locator('input#token').fill(token);
        await page.getByRole('button', { name: 'Sign in' }).click();
        await page.locator('input#token').waitFor({ state: 'detached' });
      }
    }
    await out.click();
    await silent('signing out');
    await page.reload();
    await silent('loading the page anew');
    await close(page);
  });
});

await test('what the hub writes of itself is left out when one asks for that', async () => {
  await withHub({ DETECTION: 'false', AUDIT_QUERIES: 'true' }, async (own) => {
    await sendLogs(own, 'shop', [['order accepted', {}]]);
    await until('both are there', async () => (await (await fetch(`${own.url}/api/v1/count?since=1h&q=service:threadline`)).json()).count > 0);
    const page = await open('/search', { at: own.url });
    await page.locator('[role=grid] [role=row] .body', { hasText: 'order accepted' }).waitFor();
    const without = page.getByRole('button', { name: "Without the hub's own" });
    await without.click();
    await until('only the others', async () => {
      const rows = await page.locator('[role=grid] [role=row] .service').allInnerTexts();
      return rows.length > 0 && rows.every((service) => service === 'shop');
    });
    check(new URL(page.url()).searchParams.get('q') === '-service:threadline', page.url());
    same(await without.count(), 0, 'offers');
    await close(page);
  });
});

await test('a phone: every page and tool is in reach; a hub that has nothing says how to send', async () => {
  await withHub({ DETECTION: 'false' }, async (own) => {
    const page = await open('/traces', { at: own.url, width: 390, height: 844 });
    await page.locator('.empty', { hasText: 'No trace has come yet' }).waitFor();
    await until('where to send', async () => (await page.locator('.empty pre').innerText()).includes(`OTEL_EXPORTER_OTLP_ENDPOINT=${own.otlp}\n`));
    const outside = await page.locator('.rail a, .rail .more').evaluateAll((list) => list.filter((one) => one.checkVisibility()).filter((one) => one.getBoundingClientRect().right > innerWidth || one.getBoundingClientRect().width < 24).map((one) => one.textContent));
    same(outside, [], 'out of reach');
    for (const name of ['Services', 'Hub', 'Incidents']) {
      await page.getByRole('link', { name, exact: true }).click();
      await page.locator('.rail a[aria-current] span', { hasText: name }).waitFor();
    }
    await page.getByRole('link', { name: 'Services', exact: true }).click();
    await page.locator('.empty pre').waitFor();
    await page.getByRole('button', { name: 'More' }).click();
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme ?? '');
    const before = await theme();
    await page.getByRole('button', { name: /^Theme/ }).click();
    check((await theme()) !== before, 'the theme changed');
    await page.getByRole('button', { name: 'Help' }).click();
    await page.locator('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'More' }).click();
    await page.getByRole('button', { name: 'Help' }).waitFor();
    await page.keyboard.press('Escape');
    await until('it is closed', async () => !(await page.getByRole('button', { name: 'Help' }).isVisible()));
    await close(page);
  });
});

await test('records in quarantine are shown by their links', async () => {
  await withHub({ DETECTION: 'false', CONTRACT_ACTIONS: 'event.unknown=quarantine' }, async (own) => {
    await sendLogs(own, 'odd', [['kept back', {}, 'no.such.event'], ['plain', {}]]);
    const page = await open('/search?q=is:quarantined', { at: own.url });
    await page.locator('[role=grid] [role=row] .body', { hasText: 'kept back' }).click();
    await page.waitForSelector('aside[aria-label=Record] pre.body');
    const link = await page.getByRole('link', { name: 'Link to this record' }).getAttribute('href');
    await page.reload();
    await page.waitForSelector('aside[aria-label=Record] pre.body');
    await page.goto(own.url + link);
    await page.waitForSelector('aside[aria-label=Record] pre.body');
    same(await page.locator('pre.body').innerText(), 'kept back', 'the record');
    const lines = await page.locator('[role=grid] [role=row] .body').allInnerTexts();
    check(lines.length === 1 && lines[0].includes('kept back'), `${lines}`);
    await close(page);
  });
});

await finish();
void browser;
