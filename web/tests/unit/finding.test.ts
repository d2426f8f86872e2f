import { expect, it } from 'vitest';
import type { Row } from '../../src/lib/api';
import { around, beside, findingOf, findingOfTest, overTime } from '../../src/lib/finding';

const TRACE = '0af7651916cd43dd8448eb211c80319c';

it('reads a finding as it was kept', () => {
  const finding = findingOf({
    time: '', time_unix_nano: '1796013034304678000', seq: 41, body: 'Brute force: 10 records',
    attributes: {
      'threadline.finding.id': 'b2', 'security_rule.uuid': 'r1', 'security_rule.name': 'Brute force', 'threadline.finding.level': 'medium', 'threadline.finding.evidence_count': 10,
      'threadline.finding.log_seqs': '1,2,x', 'threadline.finding.trace_ids': `${TRACE},javascript:1`, 'threadline.finding.entity.user.id': 'a b',
    },
  } as unknown as Row);
  expect(finding).toMatchObject({ id: 'b2', seq: 41, level: 'medium', title: 'Brute force', explanation: '10 records', rule: 'r1', count: 10, logs: [1, 2], spans: [], traces: [TRACE], risk: undefined });
  expect(around(finding)).toBe('user.id:"a b"');
});

it('reads a finding that a back-test tells', () => {
  const finding = findingOfTest({ id: 'x', level: 'odd', title: 'T', time: '2026-11-30T04:30:34Z', evidence: [{ seq: 1, table: 'logs', trace_id: null }, { seq: 7, table: 'spans', trace_id: TRACE }] });
  expect(finding).toMatchObject({ seq: undefined, level: 'informational', logs: [1], spans: [7], traces: [TRACE], count: 2 });
  expect(finding.sinceUs).toBe(finding.timeUs);
});

it('findings over time: each is in its bucket, few values have a series each, and no end reaches to the findings', () => {
  const at = (seconds: number, level: string) => ({ ...findingOfTest({ id: String(seconds), level, time: new Date(seconds * 1000).toISOString(), title: `rule ${seconds % 9}` }) });
  const one = overTime([at(3600, 'high'), at(3601, 'low'), at(7199, 'high')], { fromUs: 3600e6, toUs: 7200e6 }, (finding) => finding.level);
  expect([one.start_us, one.interval_us, one.buckets, one.total]).toEqual([3600e6, 60e6, 60, 3]);
  expect(one.series.map(({ value, counts }) => [value, counts.flatMap((n, i) => (n > 0 ? [[i, n]] : []))])).toEqual([['high', [[0, 1], [59, 1]]], ['low', [[0, 1]]]]);
  const open = overTime([at(100, 'high'), at(90_000, 'low')], { fromUs: undefined, toUs: undefined }, (finding) => finding.level);
  expect([open.total, open.buckets <= 81]).toEqual([2, true]);
  const many = overTime(Array.from({ length: 90 }, (_, i) => at(i, 'low')), { fromUs: 0, toUs: 80e6 }, (finding) => finding.title);
  expect([many.total, many.series.length, many.series.at(-1)?.other]).toEqual([80, 6, true]);
  expect(overTime([at(5, 'low')], { fromUs: undefined, toUs: undefined }, (finding) => finding.level).total).toBe(1);
});

it.each([['T', 'T: a', 'a'], ['T', 'T: T: a', 'a'], ['T', 'Ta: b', 'Ta: b'], ['', ': a', ': a'], ['T', 'T', 'T']])('beside the title %j, %j is %j', (title, text, want) => {
  expect(beside(title, text)).toBe(want);
});
