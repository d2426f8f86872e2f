import { describe, expect, it } from 'vitest';
import type { Row } from '../../src/lib/api';
import { ageText, daysText, endpoint, folded, type Growth, growth, keptFor, type Receiver, type Rule, standing, type Stats } from '../../src/lib/hub';

const NOW = Date.parse('2026-03-01T12:00:00Z') * 1000;
const receiver = (more: Partial<Receiver>): Receiver => ({ name: 'chat', target: 'webhook', waiting: 0, dead: 0, sent: 0, failed: 0, ...more });

describe('how it goes with a receiver', () => {
  it.each<[string, Partial<Receiver>]>([
    ['not used yet', {}],
    ['reached', { last_success: '2026-03-01T11:00:00Z' }],
    ['reached', { last_success: '2026-03-01T11:00:00Z', last_failure: '2026-03-01T10:00:00Z', last_failure_reason: 'refused' }],
    ['failing', { last_success: '2026-03-01T11:00:00Z', last_failure: '2026-03-01T11:30:00Z' }],
    ['failing', { last_failure: '2026-03-01T11:30:00Z', paused_until: '2026-03-01T12:30:00Z' }],
    ['paused', { last_success: '2026-03-01T11:00:00Z', paused_until: '2026-03-01T12:30:00Z' }],
    ['reached', { last_success: '2026-03-01T11:00:00Z', paused_until: '2026-03-01T11:59:00Z' }],
    ['gone', { gone: true, last_success: '2026-03-01T11:00:00Z' }],
    ['no longer in the alerts file', { target: null, gone: true }],
  ])('%s', (word, more) => {
    expect(standing(receiver(more), NOW).word).toBe(word);
  });
});

function stats(more: Partial<Stats>): Stats {
  const table = (rows: number, bytes: number) => ({ rows, memory_rows: 0, sealed_rows: rows, files: 1, draft_files: 0, sealed_bytes: bytes });
  return { tables: { logs: table(1_000, 20_000), spans: table(3_000, 100_000) }, last_seq: 4_000, uptime_s: 86_400, rows: 8_000, addresses: { otlp_grpc: '', otlp_http: '', api: '' }, version: '', limits: { retention: [], disk_free_bytes_min: 0 }, ...more };
}

it('what a day adds is rows since the start at the bytes that rows take', () => {
  expect(growth(stats({}), 2_400_000)).toEqual({ rows_per_day: 8_000, bytes_per_day: 240_000, days_left: 10, then: 'floor', days_held: undefined });
  expect(growth(stats({ uptime_s: 43_200 }), 0)).toMatchObject({ rows_per_day: 16_000, bytes_per_day: 480_000, days_left: 0, then: 'floor' });
});

it.each<[string, number, number, number | undefined, Partial<Growth>]>([
  // A day adds 240,000 bytes, and 120,000 are held.
  ['the floor of free disk', 2_400_000, 480_000, undefined, { days_left: 8, then: 'floor', days_held: undefined }],
  ['a disk that is below its floor', 100, 480_000, undefined, { days_left: 0, then: 'floor' }],
  ['a bound of files that comes first', 2_400_000, 480_000, 840_000, { days_left: 3, then: 'bound', days_held: 3.5 }],
  ['a bound of files beyond the floor', 2_400_000, 480_000, 24_000_000, { days_left: 8, then: 'floor', days_held: 100 }],
  ['files beyond their bound', 2_400_000, 0, 60_000, { days_left: 0, then: 'bound', days_held: 0.25 }],
])('room respects %s', (_, free, disk_free_bytes_min, sealed_bytes_max, want) => {
  expect(growth(stats({ limits: { retention: [], disk_free_bytes_min, sealed_bytes_max } }), free)).toMatchObject(want);
});

it.each<[string, Partial<Rule>[], string[]]>([
  ['no rule', [], ['Everything']],
  ['one for all', [{}], ['Everything: 1 day']],
  ['the first that fits decides', [{ event: 'security.*', age_max_s: 400 * 86_400 }, { table: 'logs', service: 'checkout', age_max_s: 30 * 86_400 }, { age_max_s: 14 * 86_400 }], ['Event security.*: 400 days', 'Logs of checkout: 30 days', 'Everything else: 14 days']],
  ['what no rule fits is kept', [{ table: 'spans', age_max_s: 3600 }, { service: 'shop' }, { table: 'logs', event: 'a.b', service: 'shop' }, { event: 'a.b', service: 'shop' }], ['Spans: 1 hour', 'Everything of shop: 1 day', 'Logs with event a.b of shop: 1 day', 'Event a.b of shop: 1 day', 'Everything else']],
  ['rules after one for all decide nothing', [{}, { service: 'shop' }], ['Everything: 1 day']],
])('what is kept how long: %s', (_, rules, want) => {
  const retention = rules.map((rule) => ({ table: null, service: null, event: null, age_max_s: 86_400, ...rule }));
  expect(keptFor({ retention }).map(({ what, age }) => (age ? `${what}: ${age}` : what))).toEqual(want);
});

it.each([[400 * 86_400, '400 days'], [86_400, '1 day'], [129_600, '36 hours'], [5_400, '90 minutes'], [61, '61 seconds']])('%d s are %s', (seconds, text) => {
  expect(ageText(seconds)).toBe(text);
});

it.each<[string, Partial<Stats>]>([
  ['it has only begun', { uptime_s: 299 }],
  ['nothing came', { rows: 0 }],
  ['nothing is in files', { tables: { ...stats({}).tables, logs: { ...stats({}).tables.logs, sealed_rows: 0 }, spans: { ...stats({}).tables.spans, sealed_rows: 0 } } }],
])('nothing is said of growth when %s', (_, more) => {
  expect(growth(stats(more), 1)).toBeUndefined();
});

it.each([[0, '1 h'], [0.5, '12 h'], [1.99, '47 h'], [2, '2 days'], [59.9, '59 days'], [61, '2 months'], [729, '24 months'], [730, '2 years'], [5000, 'more than 10 years'], [Infinity, 'more than 10 years']])('%d days are %s', (days, text) => {
  expect(daysText(days)).toBe(text);
});

it('the same question of the same person is one line, whatever time it was about', () => {
  const row = (seq: number, who: string, query: string, more: Record<string, unknown> = {}) => ({
    seq,
    time: '',
    time_unix_nano: String(BigInt(seq) * 1_000_000_000n),
    attributes: { ...(who ? { 'user.id': who } : {}), 'client.address': '127.0.0.1', 'threadline.audit.action': 'search', 'db.query.text': query, 'db.response.returned_rows': seq, 'threadline.duration_s': 0.5, 'threadline.outcome': 'success', ...more },
  }) as unknown as Row;
  const lines = folded([
    row(9, 'ann', 'q=service:shop from=2026-01-01T00:00:00Z to=2026-01-02T00:00:00Z limit=9'),
    row(8, '', 'since=1h'),
    row(7, 'ann', 'q=service:shop from=2026-01-03T00:00:00Z to=2026-01-04T00:00:00Z limit=9'),
    row(6, 'bob', 'q=service:shop limit=9'),
    row(5, 'ann', 'q=service:shop limit=9', { 'threadline.outcome': 'failure' }),
    row(4, '', ''),
    row(3, '', '{"query":"SELECT 1","since":"1h"}'),
    row(2, '', '{"cut":'),
  ]);
  expect(lines.map((line) => [line.who, line.query, line.times, line.rows, line.lastUs, line.failed])).toEqual([
    ['ann', 'q=service:shop limit=9', 2, 9, 9_000_000, false],
    ['', '', 2, 8, 8_000_000, false],
    ['bob', 'q=service:shop limit=9', 1, 6, 6_000_000, false],
    ['ann', 'q=service:shop limit=9', 1, 5, 5_000_000, true],
    ['', 'SELECT 1', 1, 3, 3_000_000, false],
    ['', '{"cut":', 1, 2, 2_000_000, false],
  ]);
  expect(lines[0]?.full).toContain('from=2026-01-01');
});

it.each([
  ['127.0.0.1:4318', 'http:', 'localhost', 'http://127.0.0.1:4318'],
  ['0.0.0.0:4318', 'http:', 'logs.example.com', 'http://logs.example.com:4318'],
  ['[::]:4318', 'https:', 'logs.example.com', 'https://logs.example.com:4318'],
  ['[::1]:9', 'http:', '[::1]', 'http://[::1]:9'],
  ['odd', 'http:', 'h', 'http://h:4318'],
])('OTLP to %s, seen at %s//%s, goes to %s', (address, protocol, hostname, want) => {
  expect(endpoint(address, { protocol, hostname })).toBe(want);
});
