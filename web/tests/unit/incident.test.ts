import { expect, it, vi } from 'vitest';
import { ACTIONS, depths, ends, evidenceHref, evidenceText, type Incident, incidentOf, type Item, itemsOf, kinship, lines, matcher, matcherLines, matchersOf, rangeOf, searchHref, type State, touchedGraph } from '../../src/lib/incident';
import { mayAct, mayRead } from '../../src/lib/session.svelte';

// What a browser has and Node has not.
vi.hoisted(() => Object.assign(globalThis, { location: { pathname: '/', search: '' }, addEventListener: () => undefined }));

const incident = (more: Partial<Incident>): Incident => ({
  id: 1, title: 'T', state: 'open', severity: 'high', assignee: '', opened: '', since: '', first_seen: '2026-01-01T10:00:00Z', last_seen: '2026-01-01T11:00:00Z', findings: 1, rules: ['Many failed logins'], ...more,
});

it('who may operate may act, and nobody else', () => {
  expect([undefined, {}, { roles: ['read'] }, { roles: ['read', 'operate'] }, { roles: ['admin'] }].map(mayAct)).toEqual([false, false, false, true, true]);
  expect([undefined, {}, { roles: ['operate'] }, { roles: ['read'] }, { roles: ['admin'] }].map(mayRead)).toEqual([false, false, false, true, true]);
});

it('every state offers what leads on from it', () => {
  const offered = (state: State) => ACTIONS[state].join(' ');
  expect(offered('open')).toBe('acknowledge assign snooze resolve merge note');
  expect(offered('acknowledged')).toBe('assign snooze resolve merge note');
  expect(offered('snoozed')).toBe('acknowledge assign snooze resolve merge note');
  expect(offered('resolved')).toBe('reopen note');
  expect(offered('merged')).toBe('');
});

it('evidence is looked up around the incident', () => {
  const range = rangeOf(incident({}));
  expect(range).toEqual({ from: '2026-01-01T09:00:00Z', to: '2026-01-01T12:00:00Z' });
  expect(searchHref({ table: 'spans', query: 'seq:1 OR seq:2' }, range)).toBe('/search?q=seq:1+OR+seq:2&table=spans&from=2026-01-01T09:00:00Z&to=2026-01-01T12:00:00Z');
  expect(searchHref({ table: 'logs', query: 'a' }, {})).toBe('/search?q=a&since=all');
  expect(rangeOf(incident({ last_seen: 'odd' }))).toEqual({});
});

it('others are offered by what they have in common: services, group, nearness in time', () => {
  const one = incident({ id: 9, services: ['edge', 'shop'], group: { rule: 'R', service: 'shop' }, last_seen: '2026-01-01T12:00:00Z' });
  const others = [
    one,
    incident({ id: 1, services: ['cart'], last_seen: '2026-01-01T11:59:00Z' }),
    incident({ id: 2, services: ['cart'], last_seen: '2026-01-01T12:00:30Z' }),
    incident({ id: 3, services: ['cart'], group: { rule: 'R', service: 'cart' }, last_seen: '2025-01-01T12:00:00Z' }),
    incident({ id: 4, services: ['shop', 'cart'], last_seen: '2025-01-01T12:00:00Z' }),
    incident({ id: 5, services: ['edge', 'shop'], last_seen: '2024-01-01T12:00:00Z' }),
    incident({ id: 6, last_seen: 'odd' }),
  ];
  expect(kinship(others, one).map(({ id }) => id)).toEqual([5, 4, 3, 2, 1, 6]);
});

it('a silence begins with the labels that make the alerts one incident', () => {
  expect(matchersOf(incident({ group: { rule: 'Many "failed" logins', service: 'shop', team: '' } }))).toEqual(['rule="Many \\"failed\\" logins"', 'service="shop"']);
  expect(matchersOf(incident({ rules: ['One'] }))).toEqual(['rule="One"']);
  expect(matchersOf(incident({ rules: ['a.b', 'c'] }))).toEqual(['rule=~"a\\\\.b|c"']);
  expect(matchersOf(incident({ rules: [] }))).toEqual([]);
  expect(matcher('x', 'a\\b\n')).toBe('x="a\\\\b\\n"');
  expect(matcherLines(' a="1"\n\n b="2" ')).toEqual(['a="1"', 'b="2"']);
});

it('a long timeline shows its ends', () => {
  const list = Array.from({ length: 10 }, (_, i) => i);
  expect(ends(list, 3)).toEqual({ head: [0, 1, 2], hidden: 4, tail: [7, 8, 9] });
  expect(ends(list, 5)).toEqual({ head: list, hidden: 0, tail: [] });
  expect(ends(list.slice(0, 7), 3)).toEqual({ head: list.slice(0, 7), hidden: 0, tail: [] });
});

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const item = (kind: Item['kind'], n: number): Item => ({ kind, time: `2026-01-01T10:00:0${n % 10}Z`, text: `${n}`, ...(kind === 'transition' ? {} : { queries: [{ table: kind === 'record' ? 'logs' : 'spans', query: kind === 'trace' ? `trace:${TRACE}` : `seq:${n}` }] }) });

it('evidence leads to its record or span at its time, and to its trace', () => {
  const around = 'from=2026-01-01T09:00:01Z&to=2026-01-01T11:00:01Z';
  expect(evidenceHref(item('record', 1))).toBe(`/search?q=seq:1&${around}`);
  expect(evidenceHref(item('span', 1))).toBe(`/search?q=seq:1&table=spans&${around}`);
  expect(evidenceHref(item('trace', 1))).toBe(`/trace/${TRACE}?${around}`);
  expect(evidenceHref({ ...item('trace', 1), queries: [{ table: 'spans', query: `trace:${TRACE}0` }] })).toBe(`/search?q=trace:${TRACE}0&table=spans&${around}`);
  expect(evidenceHref(item('transition', 1))).toBeUndefined();
});

it('much evidence in a row is folded, and nothing else', () => {
  const told = (list: Item[], open: string[] = []) => lines(list, new Set(open)).map((line) => ('item' in line ? line.item.text : `${line.items.length}: ${evidenceText(line.items)}`));
  const run = (kind: Item['kind'], from: number, n: number) => Array.from({ length: n }, (_, i) => item(kind, from + i));
  const list = [...run('record', 1, 4), item('finding', 5), ...run('record', 6, 3), ...run('span', 9, 1), ...run('trace', 10, 2), ...run('finding', 12, 6), ...run('transition', 18, 6), item('trace', 24)];
  const texts = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);
  expect(told(list)).toEqual([...texts(1, 8), '3: 1 span, 2 traces', ...texts(12, 24)]);
  expect(itemsOf(lines(list, new Set()))).toBe(list.length);
  const fold = lines(list, new Set()).find((line) => 'fold' in line);
  expect(told(list, [fold && 'fold' in fold ? fold.fold : ''])).toEqual(texts(1, 24));
  expect(told([])).toEqual([]);
});

it('what was touched is told by depth, and beside it last', () => {
  const service = (name: string, hops?: number | null) => ({ name, hops, spans: 1, errors: 0, operations: [] });
  const told = depths([service('edge', null), service('pay', 2), service('shop', 0), service('cart', 1), service('user', 1), service('old'), service('bank', 12)]);
  expect(told.map((depth) => `${depth.name}: ${depth.services.map((one) => one.name)}`)).toEqual(['Where it happened: shop', 'One call below: cart,user', '2 calls below: pay', '12 calls below: bank', 'In the same traces, not below: edge,old']);
});

it('what was touched is on the map, with its neighbours, be there calls or not', () => {
  const service = (name: string) => ({ service: name, requests: { count: 5, errors: 0 }, rate: 1, spans: 5, logs: 0, error_logs: 0 });
  const call = (caller: string, callee: string) => ({ caller, callee, requests: { count: 5, errors: 0 } });
  const graph = { services: ['edge', 'shop', 'pay', 'far'].map(service), edges: [call('edge', 'shop'), call('shop', 'pay'), call('pay', 'far')], notes: [] };
  const drawn = touchedGraph(graph as never, [{ name: 'shop', spans: 2, errors: 0, operations: [] }, { name: 'gone', spans: 1, errors: 1, operations: [] }]);
  expect(drawn.services.map((one) => one.service)).toEqual(['edge', 'shop', 'pay', 'gone']);
  expect(drawn.edges.map((edge) => `${edge.caller} ${edge.callee}`)).toEqual(['edge shop', 'shop pay']);
});

it('the incident of a finding is one question, by the number of its record', async () => {
  const asked: string[] = [];
  vi.stubGlobal('fetch', async (url: string) => {
    asked.push(url);
    return Response.json({ incidents: url.includes('finding=41') ? [incident({ id: 7 })] : [], total: 0, problems: [] });
  });
  expect((await incidentOf(41, new AbortController().signal))?.id).toBe(7);
  expect(await incidentOf(42, new AbortController().signal)).toBeUndefined();
  expect(asked).toEqual(['/api/v1/incidents?finding=41&limit=1', '/api/v1/incidents?finding=42&limit=1']);
  vi.unstubAllGlobals();
});
