// A rebuilt request, made ready to be drawn: times relative to its start, rows of a waterfall, differences to others.
import type { components } from '../api/schema';

type Schemas = components['schemas'];
export type Trace = Schemas['Trace'];
export type Span = Schemas['TraceSpan'];
export type Log = Schemas['TraceLog'];
export type TraceSummary = Schemas['Traces']['traces'][number];

/** Times of a trace in ns from its start: small enough for doubles. */
export interface Laid {
  trace: Trace;
  startNs: bigint;
  /** From the first start to the last end, logs too. */
  lengthNs: number;
  spanStart: number[];
  spanEnd: number[];
  logAt: number[];
  children: number[][];
  roots: number[];
  /** Parts of each span that are on the critical path: (start, end) in ns. */
  critical: [number, number][][];
  /** Spans below each one. */
  below: number[];
  /** The span, or one below it, has failed. */
  failedBelow: boolean[];
}

export function lay(trace: Trace): Laid {
  const times = [...trace.spans.map((span) => span.start.unix_nano), ...trace.logs.map((log) => log.time.unix_nano)];
  const startNs = trace.start ? BigInt(trace.start.unix_nano) : times.reduce((least, ns) => (BigInt(ns) < least ? BigInt(ns) : least), BigInt(times[0] ?? '0'));
  const from = (ns: string) => Number(BigInt(ns) - startNs);
  const spanStart = trace.spans.map((span) => from(span.start.unix_nano));
  const spanEnd = trace.spans.map((span, i) => (spanStart[i] ?? 0) + span.duration_ns);
  const logAt = trace.logs.map((log) => from(log.time.unix_nano));
  const children: number[][] = trace.spans.map(() => []);
  const roots: number[] = [];
  trace.spans.forEach((span, i) => {
    if (span.parent === undefined || span.parent === null) roots.push(i);
    else children[span.parent]?.push(i);
  });
  const critical: [number, number][][] = trace.spans.map(() => []);
  for (const piece of trace.critical_path) {
    const at = from(piece.start.unix_nano);
    critical[piece.span]?.push([at, at + piece.duration_ns]);
  }
  const below = trace.spans.map(() => 0);
  const failedBelow = trace.spans.map((span) => span.error !== undefined);
  // Parents stand before their children.
  for (let i = trace.spans.length - 1; i >= 0; i -= 1) {
    const parent = trace.spans[i]?.parent;
    if (parent === undefined || parent === null) continue;
    below[parent] = (below[parent] ?? 0) + 1 + (below[i] ?? 0);
    if (failedBelow[i]) failedBelow[parent] = true;
  }
  const ends = [...spanEnd, ...logAt];
  const lengthNs = Math.max(1, ends.reduce((most, end) => Math.max(most, end), 0));
  return { trace, startNs, lengthNs, spanStart, spanEnd, logAt, children, roots, critical, below, failedBelow };
}

export type Line = { kind: 'span'; span: number } | { kind: 'log'; log: number; depth: number; span: number | undefined };

/** A span or log, wherever its line is. */
export type Target = { kind: 'span'; span: number } | { kind: 'log'; log: number };

export function sameLine(a: Target, b: Target): boolean {
  return a.kind === 'span' ? b.kind === 'span' && a.span === b.span : b.kind === 'log' && a.log === b.log;
}

/** A log by when it was written, which stays when others come in; of several at one instant, the how-manieth. */
export function logKey(trace: Trace, log: number): string | undefined {
  const time = trace.logs[log]?.raw_time.unix_nano;
  if (time === undefined) return undefined;
  const before = trace.logs.slice(0, log).filter((other) => other.raw_time.unix_nano === time).length;
  return before === 0 ? time : `${time}.${before + 1}`;
}

/** What an address chooses: a log before a span. */
export function targetOf({ trace }: Laid, spanId: string, key: string): Target | undefined {
  const [time, nth = '1'] = key.split('.');
  const at = trace.logs.flatMap((log, i) => (log.raw_time.unix_nano === time ? [i] : []))[Number(nth) - 1];
  if (at !== undefined) return { kind: 'log', log: at };
  const span = spanId ? trace.spans.findIndex((one) => one.span_id === spanId) : -1;
  return span >= 0 ? { kind: 'span', span } : undefined;
}

/** The next of some places, in order, after or before one; from the end back to the beginning. */
export function nextPlace(places: readonly number[], from: number, by: number): number | undefined {
  return by > 0 ? (places.find((place) => place > from) ?? places[0]) : (places.findLast((place) => place < from) ?? places[places.length - 1]);
}

/** The rows of the waterfall, in the order in which they are shown. */
export function linesOf(laid: Laid, collapsed: ReadonlySet<number>, severityMin: number): Line[] {
  const { trace, children, roots, logAt, spanStart } = laid;
  const out: Line[] = [];
  const shows = (log: number) => severityMin <= 24 && (trace.logs[log]?.severity_number ?? 0) >= severityMin;
  // Without recursion: a trace may be as deep as it has spans.
  type Step = { span: number } | { log: number; depth: number; of: number | undefined };
  const stack: Step[] = [];
  const push = (steps: Step[]) => {
    for (let i = steps.length - 1; i >= 0; i -= 1) {
      const step = steps[i];
      if (step) stack.push(step);
    }
  };
  const stray = trace.logs.flatMap((log, i) => ((log.span === undefined || log.span === null) && shows(i) ? [{ log: i, depth: 0, of: undefined } as Step] : []));
  const at = (step: Step) => ('span' in step ? (spanStart[step.span] ?? 0) : (logAt[step.log] ?? 0));
  push([...roots.map((span): Step => ({ span })), ...stray].sort((a, b) => at(a) - at(b)));
  for (let step = stack.pop(); step; step = stack.pop()) {
    if ('log' in step) {
      out.push({ kind: 'log', log: step.log, depth: step.depth, span: step.of });
      continue;
    }
    const index = step.span;
    out.push({ kind: 'span', span: index });
    if (collapsed.has(index)) continue;
    const depth = (trace.spans[index]?.depth ?? 0) + 1;
    const logs = (trace.spans[index]?.logs ?? []).filter(shows).map((log): Step => ({ log, depth, of: index }));
    const inner = (children[index] ?? []).map((span): Step => ({ span }));
    push(logs.length === 0 ? inner : [...inner, ...logs].sort((a, b) => at(a) - at(b)));
  }
  return out;
}

/** Whether a span or log has a text anywhere. */
export function finder(laid: Laid, words: string): (line: Line) => boolean {
  const wanted = words.trim().toLowerCase();
  if (!wanted) return () => false;
  const spans = new Map<number, boolean>();
  return (line) => {
    if (line.kind === 'log') {
      const log = laid.trace.logs[line.log];
      return !!log && `${log.body} ${log.event_name ?? ''} ${log.service} ${JSON.stringify(log.attributes ?? {})}`.toLowerCase().includes(wanted);
    }
    const known = spans.get(line.span);
    if (known !== undefined) return known;
    const span = laid.trace.spans[line.span];
    const text = span ? `${span.name} ${span.service} ${span.span_id} ${span.instance ?? ''} ${span.status_message ?? ''} ${JSON.stringify(span.attributes ?? {})} ${JSON.stringify(span.events ?? [])}` : '';
    const found = text.toLowerCase().includes(wanted);
    spans.set(line.span, found);
    return found;
  };
}

/** What one operation of one service did in a trace. */
export interface Part {
  service: string;
  operation: string;
  calls: number;
  totalNs: number;
  selfNs: number;
  longestNs: number;
  failed: number;
}

export function partKey(service: string, operation: string): string {
  return `${service}\u0000${operation}`;
}

export function partsOf(trace: Trace): Map<string, Part> {
  const parts = new Map<string, Part>();
  for (const span of trace.spans) {
    if (span.presence !== 'received') continue;
    const key = partKey(span.service, span.name);
    const part = parts.get(key) ?? { service: span.service, operation: span.name, calls: 0, totalNs: 0, selfNs: 0, longestNs: 0, failed: 0 };
    part.calls += 1;
    part.totalNs += span.duration_ns;
    part.selfNs += span.self_ns;
    part.longestNs = Math.max(part.longestNs, span.duration_ns);
    part.failed += span.error ? 1 : 0;
    parts.set(key, part);
  }
  return parts;
}

export interface Difference {
  here: Part | undefined;
  there: Part | undefined;
  /** Time in the operation itself, here less there. */
  selfNs: number;
}

/** Where two traces differ, the largest differences of time first. */
export function differences(here: Trace, there: Trace): Difference[] {
  const a = partsOf(here);
  const b = partsOf(there);
  const keys = new Set([...a.keys(), ...b.keys()]);
  return [...keys]
    .map((key) => {
      const [x, y] = [a.get(key), b.get(key)];
      return { here: x, there: y, selfNs: (x?.selfNs ?? 0) - (y?.selfNs ?? 0) };
    })
    .sort((p, q) => Math.abs(q.selfNs) - Math.abs(p.selfNs));
}

/** How long an operation usually takes. */
export interface Usual {
  service: string;
  name: string;
  n: number;
  p50: number;
  p95: number;
}
