// Pages against hubs of a test's own, for what the one that all tests share cannot show: tokens, quarantine, rules, receivers, nothing
// at all. `run.mjs` runs them.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { check, close, looks, open, same, shot, test, until } from './harness.mjs';
import { sendLogs, withHub } from './hub.mjs';

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
    page.on('request', (request) => /\/incidents\?.*finding=|\/incidents\/\d/.test(request.url()) && looked.push(request.url()));
    await page.goto(`${own.url}/detection`);
    await page.locator('button.finding').first().waitFor();
    await page.waitForLoadState('networkidle');
    same(looked, [], 'looked up for a finding that nobody opened');
    // One that no incident has.
    await page.route('**/api/v1/incidents?finding=*', (route) => route.fulfill({ json: { incidents: [], total: 0, problems: [] } }));
    await page.locator('button.finding').first().click();
    await page.locator('.ways', { hasText: 'Part of no incident that is kept' }).waitFor();
    await page.locator('button.finding').first().click();
    await page.unroute('**/api/v1/incidents?finding=*');
    await page.locator('button.finding').first().click();
    await page.getByRole('link', { name: 'Its incident' }).waitFor();
    same(looked.length, 2, `one question each time that it was opened: ${looked}`);
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
    // What the finding rests on: quieter than it, each with its way, and in the way of nothing.
    const resting = page.locator('.timeline li.evidence');
    same(await page.locator('.timeline li.evidence:is(.record, .span, .trace)').count(), 3, 'evidence that is shown before the rest is folded');
    await page.locator('.timeline li.more button').click();
    await until('all five records and their traces', async () => (await page.locator('.timeline li.record').count()) === 5 && (await page.locator('.timeline li.trace').count()) === 5);
    const size = (of) => of.first().evaluate((node) => parseFloat(getComputedStyle(node).fontSize));
    check((await size(resting.locator('.rests'))) < (await size(page.locator('.timeline li.finding .said p'))), 'evidence is quieter than findings');
    const seen = await Promise.all(['record', 'trace'].map((kind) => page.locator(`.timeline li.${kind} a`).first().getAttribute('href')));
    for (const [path, ready] of [[seen[0], '[role=grid] [role=row] .body'], [seen[1], '[role=grid] .bar']]) {
      const other = await open(path, { at: own.url });
      await other.waitForSelector(ready);
      await close(other);
    }
    check(seen[1].startsWith('/trace/'), seen[1]);
    // What it touched, on the map and as a list: by depth, with who called.
    await page.waitForSelector('.blast .node.touched');
    same((await page.locator('.blast .node.touched .name').allTextContents()).toSorted(), ['edge', 'shop'], 'touched services');
    const radius = await page.locator('.blast table').innerText();
    check(radius.includes('POST /login'), 'touched operations');
    // The records are of spans of the shop, which the edge has called.
    check(/Where it happened\s+shop[\s\S]*called by edge 5 times, 5 failed[\s\S]*In the same traces, not below\s+edge/.test(radius), radius);
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
    check((await page.locator('.timeline li:not(.transition)').count()) === 0, 'only what was done');
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
    await page.getByRole('button', { name: 'Findings and evidence' }).click();
    await until('no step is told', async () => (await page.locator('.timeline li.transition').count()) === 0);
    check((await page.locator('.timeline li.finding').count()) > 0 && (await page.locator('.timeline li.record').count()) === 5, 'findings and evidence');
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

await test('hub: what is kept how long, and until when there is room', async () => {
  const card = (page, name) => page.locator('section', { has: page.getByRole('heading', { name, exact: true }) });
  // As if it had run for a day, and a day added 480 MiB.
  const MIB = 1024 ** 2;
  const aged = (page, free) => Promise.all([
    page.route('**/api/v1/stats', async (route) => {
      const told = await (await route.fetch()).json();
      const table = { ...told.tables.logs, rows: 1000, sealed_rows: 1000, sealed_bytes: 120 * MIB };
      await route.fulfill({ json: { ...told, uptime_s: 86_400, rows: 4000, tables: { logs: table, spans: { ...table, rows: 0, sealed_rows: 0, sealed_bytes: 0 } } } });
    }),
    page.route('**/healthz', async (route) => route.fulfill({ json: { ...(await (await route.fetch()).json()), disk_free_bytes: free } })),
  ]);
  await withHub({ DETECTION: 'false', DISK_FREE_BYTES_MIN: '1MiB' }, async (own) => {
    const page = await open('/', { bare: true, at: own.url });
    await aged(page, 4801 * MIB);
    await page.goto(`${own.url}/hub`);
    await card(page, 'Kept how long').waitFor();
    const kept = await card(page, 'Kept how long').innerText();
    check(/Nothing is deleted\./.test(kept) && /less than 1\.0 MiB of free disk no more is taken/.test(kept), kept);
    const disk = await card(page, 'Disk').innerText();
    check(/Room for\s*10 days then no more is taken/.test(disk), disk);
    await close(page);
  });
  await withHub({ DETECTION: 'false', DISK_FREE_BYTES_MIN: '1MiB', RETENTION: 'event=security.*,age_max=400d; table=logs,service=checkout,age_max=30d', SEALED_BYTES_MAX: '1080MiB' }, async (own) => {
    const page = await open('/', { bare: true, at: own.url });
    await aged(page, 48_001 * MIB);
    await page.goto(`${own.url}/hub`);
    await card(page, 'Kept how long').waitFor();
    const kept = await card(page, 'Kept how long').innerText();
    for (const said of [/Event security\.\*\s*400 days/, /Logs of checkout\s*30 days/, /Everything else\s*as long as there is room/, /Beyond 1\.1 GiB of files the oldest hours are deleted/]) check(said.test(kept), `${said}: ${kept}`);
    const disk = await card(page, 'Disk').innerText();
    check(/Room for\s*2 days then the oldest are deleted/.test(disk) && /Held at this rate\s*2 days/.test(disk), disk);
    const wrong = await looks(page, 'hub-kept');
    await close(page);
    check(wrong.length === 0, wrong.join('\n'));
  });
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
