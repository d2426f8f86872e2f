// The pages in a real browser, against hubs that this starts: with a run of the demo's fleet and a day of another system
// (`fleet.mjs`), with what `data.mjs` sends (here), with a million records (`long.mjs`), and of tests' own (`own.mjs`).
//   THREADLINE_BINARY=…/threadline THREADLINE_FLEET=DIR THREADLINE_DAY=LOGS:SPANS node tests/browser/run.mjs [part of a test's name …]
import { readFileSync } from 'node:fs';
import { HOSTILE, send } from './data.mjs';
import { browser, check, close, finish, hub, json as api, open, place, rows, same, shot, test, timing, until } from './harness.mjs';
import { fleet, own } from './hubs.mjs';

// Fixed, so that what the page counts and what the test counts is the same.
const HOUR = `from=${new Date(Date.now() - 3_600_000).toISOString()}&to=${new Date(Date.now() + 60_000).toISOString()}`;

const known = await send(own.otlp);

await import('./fleet.mjs');
await import('./long.mjs');

// Pages as the fleet's run has none: its traces are whole and of a usual size, and all that somebody asks for is there.
for (const [name, path, ready] of [
  ['search-empty', '/search?q=nothinglikethis', '.empty'],
  ['trace-large', `/trace/${known.large}`, '[role=grid] .bar'],
  ['trace-logs-only', `/trace/${known.logsOnly}`, '.banner'],
  ['trace-holes', `/trace/${known.holes}`, '.gaps'],
  ['silences', '/incidents?tab=silences', '.empty'],
  ['nowhere', '/trace/00000000000000000000000000000001', '.empty'],
]) await place(name, path, ready);

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

await test('facets: what is out of sight is not asked for', async () => {
  const page = await open('/', { bare: true });
  const asked = [];
  let [underWay, last] = [0, 0];
  page.on('request', (request) => {
    const { pathname } = new URL(request.url());
    if (pathname.startsWith('/api/v1/fields')) asked.push(pathname.slice('/api/v1/'.length));
    underWay += 1;
  });
  for (const end of ['requestfinished', 'requestfailed']) page.on(end, () => ((underWay -= 1), (last = performance.now())));
  /** Nothing is asked, and nothing has come that could lead to a question. */
  const settled = () => until('all is asked', () => underWay <= 0 && performance.now() - last > 400);
  // Beside the rows: the fields, and the values of those that are open.
  await page.goto(`${hub}/search?${HOUR}`);
  await page.locator('.facet', { hasText: 'event' }).locator('.value').first().waitFor();
  await settled();
  same(asked.toSorted(), ['fields', 'fields/event/values', 'fields/service/values', 'fields/severity/values'], 'asked for the facets that are seen');
  // A record takes their place: nothing until they are seen again, and nothing that is known then.
  await page.locator('[role=grid] [role=row][aria-rowindex="2"]').click();
  await page.waitForSelector('aside[aria-label=Record]');
  await until('no facets', async () => !(await page.locator('.facets').first().isVisible()));
  await page.keyboard.press('Escape');
  await page.waitForSelector('.facet .value');
  await settled();
  same(asked.length, 4, `nothing anew: ${asked}`);
  // Folded: not with the next search.
  await page.locator('.facet').getByRole('button', { name: 'event', exact: true }).click();
  asked.length = 0;
  await page.locator('.facet', { hasText: 'severity' }).locator('.value').first().click();
  await until('the next search', () => asked.includes('fields/service/values'));
  await settled();
  check(!asked.includes('fields/event/values'), `${asked}`);
  // Narrow: in a sheet of their own, when that is opened.
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(`${hub}/search?${HOUR}`);
  await page.waitForSelector('[role=grid] [role=row] .body');
  asked.length = 0;
  await page.reload();
  await page.waitForSelector('[role=grid] [role=row] .body');
  await settled();
  same(asked, [], 'asked for facets that nobody sees');
  await page.locator('.facets-narrow').click();
  await page.locator('dialog .facet .value').first().waitFor();
  await settled();
  same(asked.toSorted(), ['fields', 'fields/event/values', 'fields/service/values', 'fields/severity/values'], 'asked for when the sheet is opened');
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
    const response = await fetch(`${own.otlp}/v1/logs`, {
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

// Those with a hub of their own come last: they need nothing of the one above.
await import('./own.mjs');

await finish();
void browser;
