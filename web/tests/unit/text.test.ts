import { expect, it } from 'vitest';
import { csv } from '../../src/lib/export';
import { gauges, Metrics, quantiles } from '../../src/lib/metrics';
import { laidOut, oneLine, shown, valueText } from '../../src/lib/text';
import { durationText, durationUs, fix, iso, readMoment, readRange, timesIn, usOf, writeRange, type Range } from '../../src/lib/time';
import { differences, lay, linesOf, logKey, nextPlace, targetOf, type Trace } from '../../src/lib/trace';

it('hidden characters are shown', () => {
  expect(oneLine('a\r\nb\u001b[31mc\u202ed\u0000')).toBe('a ↵ b\\x1b[31mc\\u202ed\\x00');
  expect(shown('a\r\nb\tc\u200b')).toBe('a\nb\tc\\u200b');
  expect(oneLine('x'.repeat(10), 4)).toBe('xxxx…');
  expect(oneLine('né 🧵 مرحبا')).toBe('né 🧵 مرحبا');
});

it('values are text', () => {
  expect([1, true, 'x', null, { $double: 'NaN' }, [1, 'a'], undefined].map(valueText)).toEqual(['1', 'true', 'x', 'null', 'NaN', '[1,"a"]', '']);
  expect(laidOut('{"a":1}')).toBe('{\n  "a": 1\n}');
  expect(laidOut('{no json}')).toBe('{no json}');
});

it('a spreadsheet takes nothing for a formula', () => {
  expect(['=1+1', '+x', '-5', '-5.2', '-x', '@a', 'a,b', 'a"b', 'plain'].map(csv)).toEqual(["'=1+1", "'+x", '-5', '-5.2', "'-x", "'@a", '"a,b"', '"a""b"', 'plain']);
});

it('moments keep their microseconds', () => {
  for (const text of ['2023-01-29T10:00:00Z', '2023-01-29T10:00:00.123456Z', '1999-12-31T23:59:59.5Z']) expect(iso(readMoment(text) ?? 0)).toBe(text);
  expect(readMoment('2023-01-29 10:00')).toBe(readMoment('2023-01-29T10:00:00Z'));
  expect(readMoment('2023-01-29T12:00:00+02:00')).toBe(readMoment('2023-01-29T10:00:00Z'));
  expect(readMoment('yesterday')).toBeUndefined();
  expect(usOf('1675007047796398815')).toBe(1675007047796398);
});

it('a range in an address comes back', () => {
  const ranges: Range[] = [{ kind: 'since', since: '4h' }, { kind: 'since', since: '1h' }, { kind: 'all' }, { kind: 'between', fromUs: 1675007047796398, toUs: 1675007057796398 }];
  for (const range of ranges) {
    const params = new URLSearchParams('q=x');
    writeRange(params, range);
    expect(readRange(params)).toEqual(range);
    expect(params.get('q')).toBe('x');
  }
  expect(readRange(new URLSearchParams('from=nonsense&to=2023-01-01'))).toEqual({ kind: 'since', since: '1h' });
  expect(fix({ kind: 'since', since: '1m' }, 100e6)).toEqual({ fromUs: 40e6, toUs: 101e6 });
});

it('durations are read and written', () => {
  expect(['250ms', '1h30m', '5', 'x', '1.5s'].map(durationUs)).toEqual([250_000, 5_400_000_000, undefined, undefined, 1_500_000]);
  expect([5, 1500, 38_200_000, 1_240_000_000, 75e9, 119.7e9, 3599.8e9, 7200e9, 7199.9e9].map(durationText)).toEqual(['5 ns', '1.50 µs', '38.2 ms', '1.24 s', '1 min 15 s', '2 min 0 s', '1 h 0 min', '2 h 0 min', '2 h 0 min']);
});

it('metrics are read', () => {
  const text = (n: number) => `# HELP threadline_x y\nthreadline_x{a="1",b="q\\"z"} ${n}\nthreadline_x{a="2"} 3\nthreadline_l_bucket{le="0.1"} ${n}\nthreadline_l_bucket{le="1"} ${n + 9}\nthreadline_l_bucket{le="+Inf"} ${n + 10}\n`;
  const metrics = new Metrics(text(5), 0);
  expect([metrics.sum('x'), metrics.sum('x', { a: '1' }), metrics.sum('nothing')]).toEqual([8, 5, undefined]);
  expect([metrics.quantile('l', 0.3), metrics.quantile('l', 0.9), metrics.quantile('l', 0.999)]).toEqual([0.1, 1, 1]);
});

it('figures over time: a gauge as it is, a quantile of what came between two looks', () => {
  const look = (free: number, fast: number, slow: number) => new Metrics(`threadline_free ${free}\nthreadline_l_bucket{le="0.1"} ${fast}\nthreadline_l_bucket{le="1"} ${fast + slow}\nthreadline_l_bucket{le="+Inf"} ${fast + slow}\n`, 0);
  const looks = [look(9, 100, 0), look(8, 110, 0), look(8, 110, 0), look(7, 110, 5), look(7, 210, 5)];
  expect(gauges(looks, 'free')).toEqual([9, 8, 8, 7, 7]);
  expect(quantiles(looks, 'l', 0.9)).toEqual([0.1, 0.1, 1, 0.1]);
  expect([gauges([], 'free'), quantiles([look(1, 0, 0)], 'l', 0.9), gauges(looks, 'none')]).toEqual([[], [], [0, 0, 0, 0, 0]]);
});

function trace(spans: { id: string; parent?: number; start: number; ns: number; name?: string; error?: boolean }[], logs: { at: number; span?: number; severity?: number }[] = []): Trace {
  const moment = (ns: number) => ({ rfc3339: '', unix_nano: String(1_700_000_000_000_000_000n + BigInt(ns)) });
  const depth = (i: number): number => (spans[i]?.parent === undefined ? 0 : 1 + depth(spans[i]?.parent ?? 0));
  return {
    trace_id: '1'.repeat(32), from_logs_only: false, start: moment(0), end: moment(1000), duration_ns: 1000, main_root: 0, span_count: spans.length, error_span_count: 0, causes: [], services: [],
    spans: spans.map((span, i) => ({
      span_id: span.id, ...(span.parent === undefined ? {} : { parent: span.parent }), depth: depth(i), presence: 'received', service: 's', name: span.name ?? span.id, kind: 'server', start: moment(span.start), raw_start: moment(span.start),
      duration_ns: span.ns, self_ns: span.ns, critical_ns: 0, status: 'unset', ...(span.error ? { error: 'status' as const } : {}), logs: logs.flatMap((log, j) => (log.span === i ? [j] : [])),
    })),
    logs: logs.map((log) => ({ time: moment(log.at), raw_time: moment(log.at), service: 's', severity_number: log.severity ?? 9, body: 'x', placed_by: 'span_id', ...(log.span === undefined ? {} : { span: log.span }) })),
    critical_path: [], skews: [],
    gaps: { missing_parents: [], missing_logged: [], services_without_spans: [], services_without_logs: [], truncated: [], copies: 0, duplicate_ids: 0, cycles: 0, logs_without_time: 0, spans_left_out: 0, logs_left_out: 0 },
  } as Trace;
}

it('lines of a trace: logs at their place, what is closed is left out, failures below are known', () => {
  const laid = lay(trace([{ id: 'a', start: 0, ns: 1000 }, { id: 'b', parent: 0, start: 100, ns: 300 }, { id: 'c', parent: 1, start: 150, ns: 50, error: true }, { id: 'd', parent: 0, start: 500, ns: 100 }], [{ at: 450, span: 0 }, { at: 120, span: 1, severity: 17 }, { at: 700 }]));
  const say = (shut: number[], least: number) => linesOf(laid, new Set(shut), least).map((line) => (line.kind === 'span' ? laid.trace.spans[line.span]?.span_id : `log${line.log}`)).join(' ');
  expect(say([], 0)).toBe('a b log1 c log0 d log2');
  expect(say([1], 0)).toBe('a b log0 d log2');
  expect(say([], 13)).toBe('a b log1 c d');
  expect(say([], 99)).toBe('a b c d');
  expect(laid.below).toEqual([3, 1, 0, 0]);
  expect(laid.failedBelow).toEqual([true, true, true, false]);
  expect(laid.lengthNs).toBe(1000);
});

it('a trace as deep as it is long has its lines', () => {
  const deep = lay(trace(Array.from({ length: 20_000 }, (_, i) => ({ id: String(i), ...(i > 0 ? { parent: i - 1 } : {}), start: i, ns: 1 })).slice(0, 2_000)));
  expect(linesOf(deep, new Set(), 0).length).toBe(2_000);
});

it('a chosen log is known by its time, a chosen span by its id', () => {
  const laid = lay(trace([{ id: 'a', start: 0, ns: 1000 }], [{ at: 120 }, { at: 450, span: 0 }, { at: 450, span: 0 }]));
  const keys = [0, 1, 2, 3].map((log) => logKey(laid.trace, log));
  expect(keys).toEqual(['1700000000000000120', '1700000000000000450', '1700000000000000450.2', undefined]);
  expect(keys.map((key) => targetOf(laid, '', key ?? ''))).toEqual([0, 1, 2].map((log) => ({ kind: 'log', log })).concat([undefined as never]));
  expect([targetOf(laid, 'a', ''), targetOf(laid, 'b', ''), targetOf(laid, 'a', '5')]).toEqual([{ kind: 'span', span: 0 }, undefined, { kind: 'span', span: 0 }]);
});

it('steps go round', () => {
  expect([nextPlace([2, 5], -1, 1), nextPlace([2, 5], 2, 1), nextPlace([2, 5], 5, 1), nextPlace([2, 5], 3, -1), nextPlace([2, 5], 2, -1), nextPlace([], 0, 1)]).toEqual([2, 5, 2, 2, 5, undefined]);
});

it('two traces differ by their operations', () => {
  const a = trace([{ id: 'a', start: 0, ns: 1000, name: 'same' }, { id: 'b', parent: 0, start: 0, ns: 10, name: 'only here' }]);
  const b = trace([{ id: 'c', start: 0, ns: 400, name: 'same' }, { id: 'd', parent: 0, start: 0, ns: 30, name: 'only there' }]);
  expect(differences(a, b).map((one) => [one.here?.operation, one.there?.operation, one.selfNs])).toEqual([['same', 'same', 600], [undefined, 'only there', -30], ['only here', undefined, 10]]);
});

it.each([
  ['from 2026-01-01T09:00:00Z to 2026-01-01T09:00:01.5Z; found', 'from 2026-01-01 09:00:00 to 2026-01-01 09:00:01; found'],
  ['no time: 2026-01-01, 09:00:00Z, 2026-13-01T09:00:00Z', 'no time: 2026-01-01, 09:00:00Z, 2026-13-01T09:00:00Z'],
  ['2026-01-01T09:00:00Zulu and x2026-01-01T09:00:00Z', '2026-01-01T09:00:00Zulu and x2026-01-01T09:00:00Z'],
])('moments in the text %j are read as %j', (text, want) => {
  expect(timesIn(text, 'utc')).toBe(want);
});
