// The pages over a run of the demo's fleet and a day of another system, and the way from each of the demo's alerts to what caused
// it. The run is as it was left: what it holds is known by its attacks (demo/src/attacks.rs), not by its records.
import { check, close, json, open, place, rows, shot, test, until } from './harness.mjs';
import { fleet, notices } from './hubs.mjs';

/** An attack, the rule that finds it, what the record says that it left (its event, and its reason or error), and more of its line. */
const ATTACKS = [
  ['expired client certificate', 'TLS handshake with an expired client certificate', 'security.tls.handshake_failed', 'expired'],
  ['certificate of another CA', 'TLS handshake with a certificate of an unknown authority', 'security.tls.handshake_failed', 'untrusted'],
  ['no client certificate', 'Caller without a client certificate', 'security.tls.handshake_failed', 'client_cert_missing'],
  ['plaintext to a TLS port', 'Plain text sent to a TLS port', 'security.tls.handshake_failed', 'plaintext'],
  ['expired tokens', 'Many expired tokens from one address', 'security.authn.rejected', 'expired'],
  ['forged tokens', 'Token with a bad signature', 'security.authn.rejected', 'bad_signature'],
  ['privilege probe', 'Privilege probing across resources', 'security.authz.denied', 'missing_scope'],
  ['path scan', 'Scan of unknown endpoints', 'security.endpoint.unknown', 'no_route'],
  ['slow dependency', 'Requests of a service run out of time', 'request.finished', 'timeout', ' 504 in '],
].map(([name, rule, event, reason, more = '']) => ({ name, rule, event, reason, more }));
const CLICKS_MAX = 4;

const around = (from, to) => `from=${new Date(from).toISOString()}&to=${new Date(to).toISOString()}`;
const at = async (more) => Date.parse((await rows(`/api/v1/search?limit=1&${more}`, fleet.url))[0]?.time);
const [began, ended] = [await at('q=service:edge&order=oldest'), await at('q=service:edge&order=newest')];
/** The run, and the end of the day before it. */
const RUN = around(began - 60_000, ended + 60_000);
const dayEnded = await at(`order=newest&to=${new Date(began - 3_600_000).toISOString()}`);
const DAY = around(dayEnded - 8 * 3_600_000, dayEnded + 1_000);

const { incidents } = await json('/api/v1/incidents?state=all&limit=1000', fleet.url);
const incidentOf = ({ rule }) => incidents.find((incident) => incident.rules.includes(rule));
const slow = ATTACKS.at(-1);
const [late] = await rows(`/api/v1/search?q=${encodeURIComponent('service:edge event:request.finished error.type:timeout')}&limit=1&${RUN}`, fleet.url);
const [found] = await rows(`/api/v1/search?q=${encodeURIComponent('event:security.finding service:threadline')}&limit=1&${RUN}`, fleet.url);
check(began > 0 && dayEnded > 0, 'the hub holds no run of the fleet, or no day before it (THREADLINE_DAY)');
check(late?.trace_id && found && incidentOf(slow), 'the run has no request that ran out of time, or nothing was found of it');

for (const [name, path, ready] of [
  ['search', `/search?${RUN}`, '[role=grid] [role=row] .body'],
  ['search-record', `/search?${RUN}&q=service:edge&row=${late.seq}`, 'aside[aria-label=Record] h2'],
  ['search-day', `/search?${DAY}&q=severity%3E=warn`, '[role=grid] [role=row] .body'],
  ['search-spans', `/search?table=spans&${RUN}`, '[role=grid] [role=row] .duration'],
  ['search-wrong', '/search?q=duration%3E250', '[role=alert]'],
  ['traces', `/traces?${RUN}`, '.scatter circle'],
  ['trace', `/trace/${late.trace_id}`, '[role=grid] .bar'],
  ['trace-span', `/trace/${late.trace_id}?span=${late.span_id}`, 'aside[aria-label=Span] h2'],
  ['trace-log', `/trace/${late.trace_id}?log=${late.time_unix_nano}`, 'aside[aria-label=Log] h2'],
  ['trace-compare', `/trace/${late.trace_id}?tab=compare`, 'table tbody tr'],
  ['services', `/services?${RUN}`, '.node'],
  ['services-day', `/services?${DAY}`, '.node'],
  ['services-list', `/services?view=list&${RUN}`, 'table tbody tr'],
  ['service', `/services?service=payment&${RUN}`, '.panel canvas'],
  ['sql', `/sql?q=${encodeURIComponent('SELECT service, count(*) AS n FROM logs GROUP BY service ORDER BY n DESC')}`, '[role=gridcell]'],
  ['fleet-incidents', '/incidents?state=all', 'a.title'],
  ['fleet-incident', `/incidents/${incidentOf(slow).id}`, '.blast .node.touched'],
  ['contract', `/contract?${RUN}`, '.sender'],
  ['contract-events', `/contract?tab=events&${RUN}`, '.sender'],
  ['detection', `/detection?${RUN}`, '.finding'],
  ['detection-finding', `/detection?finding=${found.attributes['threadline.finding.id']}&${RUN}`, '.finding[aria-expanded=true]'],
  ['detection-rules', '/detection?tab=rules', 'button.rule'],
  ['detection-backtest', '/detection?tab=backtest', 'textarea'],
  ['hub', '/hub', '.figures'],
]) await place(name, path, ready, fleet.url);

/** Whether a person sees it, without scrolling. */
const inSight = async (of) => (await of.count()) > 0 && of.first().evaluate((node) => {
  const { left, top, width, height } = node.getBoundingClientRect();
  return node.contains(document.elementFromPoint(left + Math.min(width / 2, 200), top + height / 2));
});

for (const attack of ATTACKS) {
  await test(`from the demo's alert to the offending request in at most ${CLICKS_MAX} clicks: ${attack.name}`, async () => {
    const incident = incidentOf(attack);
    check(incident, `no incident of "${attack.rule}"`);
    const alert = notices.find((notice) => notice.type === 'incident.trigger' && notice.incident === incident.id);
    check(alert, `nobody was told of incident ${incident.id}`);
    // The hub that sent it had another port; all else of the address is as it was sent.
    const page = await open(new URL(alert.url).pathname, { at: fleet.url });
    const clicked = [];
    const click = async (what, of) => {
      clicked.push(what);
      await of.first().click();
    };
    const finding = page.locator('.timeline li.finding', { hasText: attack.rule }).first();
    await finding.waitFor();
    const trace = finding.locator('a', { hasText: /^trace / });
    const isRequest = (await trace.count()) > 0;
    const said = (rows) => rows.filter({ hasText: attack.event }).filter({ hasText: attack.more });
    if (isRequest) {
      await click('its trace', trace);
      await page.waitForSelector('.fall [role=row] .bar');
      // Where the record is not in sight, the page says what failed.
      const record = said(page.locator('.fall [role=row].log'));
      for (const [what, of] of [['likely cause', page.locator('.cause')], ['next failure', page.getByRole('button', { name: 'Next failure' })]]) {
        if ((await inSight(record)) || (await of.count()) === 0 || (await of.isDisabled())) continue;
        await click(what, of);
        await page.waitForTimeout(200);
      }
      check(await inSight(record), 'one would have to search for the record');
      await click('the record', record);
    } else {
      await click('the records it rests on', finding.getByRole('link', { name: 'logs it rests on' }));
      const record = said(page.locator('[role=grid] [role=row][aria-rowindex]'));
      await record.first().waitFor();
      await click('the record', record);
    }
    const detail = page.locator(isRequest ? 'aside[aria-label=Log]' : 'aside[aria-label=Record]');
    await until('what the record says', async () => (await detail.count()) > 0 && (await detail.innerText()).includes(attack.reason));
    check((await detail.innerText()).includes(attack.event), await detail.innerText());
    await shot(page, `alert-${attack.name.replaceAll(' ', '-')}`);
    // The hub says so, too: this trace has that record.
    if (isRequest) {
      const id = new URL(page.url()).pathname.split('/').pop();
      const held = await rows(`/api/v1/search?q=${encodeURIComponent(`trace:${id} event:${attack.event} (threadline.reason:${attack.reason} OR error.type:${attack.reason})`)}&${RUN}`, fleet.url);
      check(held.length > 0, `trace ${id} has no ${attack.event} ${attack.reason}`);
    }
    await close(page);
    console.log(`${alert.receiver}, ${alert.title}: ${clicked.length} clicks: ${clicked.join(', ')}`);
    check(clicked.length <= CLICKS_MAX, `${clicked.length} clicks: ${clicked.join(', ')}`);
  });
}
