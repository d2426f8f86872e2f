import { expect, it } from 'vitest';
import type { Row } from '../../src/lib/api';
import { around, findingOf, findingOfTest } from '../../src/lib/finding';

const TRACE = '0af7651916cd43dd8448eb211c80319c';

it('reads a finding as it was kept', () => {
  const finding = findingOf({
    time: '', time_unix_nano: '1796013034304678000', seq: 41, body: 'Brute force: 10 records',
    attributes: {
      'threadline.finding.id': 'b2', 'security_rule.uuid': 'r1', 'security_rule.name': 'Brute force', 'threadline.finding.level': 'medium', 'threadline.finding.evidence_count': 10,
      'threadline.finding.log_seqs': '1,2,x', 'threadline.finding.trace_ids': `${TRACE},javascript:1`, 'threadline.finding.entity.user.id': 'a b',
    },
  } as unknown as Row);
  expect(finding).toMatchObject({ id: 'b2', level: 'medium', title: 'Brute force', explanation: '10 records', rule: 'r1', count: 10, logs: [1, 2], spans: [], traces: [TRACE], risk: undefined });
  expect(around(finding)).toBe('user.id:"a b"');
});

it('reads a finding that a back-test tells', () => {
  const finding = findingOfTest({ id: 'x', level: 'odd', title: 'T', time: '2026-11-30T04:30:34Z', evidence: [{ seq: 1, table: 'logs', trace_id: null }, { seq: 7, table: 'spans', trace_id: TRACE }] });
  expect(finding).toMatchObject({ level: 'informational', logs: [1], spans: [7], traces: [TRACE], count: 2 });
  expect(finding.sinceUs).toBe(finding.timeUs);
});
