// What detection found, whether it was kept as a record or told by a back-test (docs/detection.md).
import type { Histogram, Row } from './api';
import { attributeField } from './record';
import { condition } from './query';
import { valueText } from './text';
import { iso, readMoment, usOf } from './time';

/** The levels of rules, the worst first. */
export const LEVELS = ['critical', 'high', 'medium', 'low', 'informational'] as const;
export type FindingLevel = (typeof LEVELS)[number];

/** Colours of bars, as of the levels' badges. */
export const FINDING_FILL: Record<FindingLevel, string> = { critical: 'var(--critical)', high: 'var(--error-fill)', medium: 'var(--warn-fill)', low: 'var(--accent)', informational: 'var(--info-fill)' };

export interface Entity {
  field: string;
  value: string;
}

export interface Finding {
  id: string;
  /** Of its own record; a back-test keeps none. */
  seq: number | undefined;
  level: FindingLevel;
  title: string;
  explanation: string;
  /** The rule's id; `baseline.<signal>` of baselines. */
  rule: string;
  version: string;
  entities: Entity[];
  tags: string[];
  sinceUs: number;
  timeUs: number;
  /** How many records it rests on. */
  count: number;
  risk: number | undefined;
  riskTotal: number | undefined;
  /** The evidence that it names, at most 50 in all. */
  logs: number[];
  spans: number[];
  traces: string[];
}

/** The search for findings. Records of other services with this event are none of the hub's. */
export const FINDINGS = 'event:security.finding service:threadline';

const ENTITY = 'threadline.finding.entity.';

export function levelWord(text: unknown): FindingLevel {
  return LEVELS.find((level) => level === text) ?? 'informational';
}

const list = (value: unknown): string[] => valueText(value).split(',').map((part) => part.trim()).filter(Boolean);
const seqs = (value: unknown): number[] => list(value).map(Number).filter((seq) => Number.isSafeInteger(seq) && seq >= 0);
const traceIds = (ids: string[]): string[] => [...new Set(ids)].filter((id) => /^[0-9a-f]{32}$/.test(id));
const amount = (value: unknown): number | undefined => (Number.isFinite(Number(value ?? undefined)) ? Number(value) : undefined);

/** What is said beside a title does not begin with it. */
export function beside(title: string, text: string): string {
  while (title && text.startsWith(`${title}: `)) text = text.slice(title.length + 2);
  return text;
}

/** A finding as it was kept. */
export function findingOf(row: Row): Finding {
  const attributes = (row.attributes ?? {}) as Record<string, unknown>;
  const of = (name: string) => attributes[`threadline.finding.${name}`];
  const title = valueText(attributes['security_rule.name']);
  const body = valueText(row.body);
  const timeUs = usOf(row.time_unix_nano);
  return {
    id: valueText(of('id')) || `seq-${row.seq ?? 0}`,
    seq: row.seq,
    level: levelWord(of('level')),
    title: title || body,
    explanation: beside(title, body),
    rule: valueText(attributes['security_rule.uuid']),
    version: valueText(attributes['security_rule.version']),
    entities: Object.entries(attributes).filter(([name]) => name.startsWith(ENTITY)).map(([name, value]) => ({ field: name.slice(ENTITY.length), value: valueText(value) })),
    tags: list(of('tags')),
    sinceUs: readMoment(valueText(of('since'))) ?? timeUs,
    timeUs,
    count: amount(of('evidence_count')) ?? 0,
    risk: amount(of('risk')),
    riskTotal: amount(of('risk_total')),
    logs: seqs(of('log_seqs')),
    spans: seqs(of('span_seqs')),
    traces: traceIds(list(of('trace_ids'))),
  };
}

interface Tested {
  entities?: Entity[];
  evidence?: { seq: number; table: string; trace_id: string | null }[];
  evidence_count?: number;
  explanation?: string;
  id?: string;
  level?: string;
  rule?: string;
  since?: string;
  time?: string;
  title?: string;
}

/** A finding as a back-test tells it. */
export function findingOfTest(told: Tested): Finding {
  const timeUs = readMoment(told.time ?? '') ?? 0;
  const evidence = told.evidence ?? [];
  return {
    id: told.id ?? '',
    seq: undefined,
    level: levelWord(told.level),
    title: told.title ?? '',
    explanation: beside(told.title ?? '', told.explanation ?? ''),
    rule: told.rule ?? '',
    version: '',
    entities: told.entities ?? [],
    tags: [],
    sinceUs: readMoment(told.since ?? '') ?? timeUs,
    timeUs,
    count: told.evidence_count ?? evidence.length,
    risk: undefined,
    riskTotal: undefined,
    logs: evidence.filter((one) => one.table === 'logs').map((one) => one.seq).slice(0, 50),
    spans: evidence.filter((one) => one.table === 'spans').map((one) => one.seq).slice(0, 50),
    traces: traceIds(evidence.map((one) => one.trace_id ?? '')).slice(0, 50),
  };
}

/** The search for one entity. */
export function entitySearch({ field, value }: Entity): string {
  return condition(field === 'service.name' ? 'service' : attributeField(field), value);
}

/** The search for all that a finding is about. */
export function around(finding: Finding): string {
  return finding.entities.map(entitySearch).join(' ');
}

/** Findings with the same id are one: a back-test may tell it twice. */
export function distinct(findings: readonly Finding[]): Finding[] {
  const seen = new Map<string, Finding>();
  for (const finding of findings) if (!seen.has(finding.id)) seen.set(finding.id, finding);
  return [...seen.values()];
}

const STEPS_S = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400, 30 * 86_400];
const BUCKETS = 80;
const SERIES = 6;

/** Findings over time, split by what `of` says of each; times without an end reach to the findings themselves. */
export function overTime(findings: readonly Finding[], { fromUs, toUs }: { fromUs: number | undefined; toUs: number | undefined }, of: (finding: Finding) => string): Histogram {
  const times = findings.map((finding) => finding.timeUs);
  const from = fromUs ?? times.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const to = Math.max(toUs ?? times.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY) + 1, from + 1);
  const interval_us = (STEPS_S.find((step) => (to - from) / (step * 1e6) <= BUCKETS) ?? Math.ceil((to - from) / 1e6 / BUCKETS)) * 1e6;
  const start_us = Math.floor(from / interval_us) * interval_us;
  const buckets = Math.max(1, Math.ceil((to - start_us) / interval_us));
  const sums = new Map<string, number>();
  for (const finding of findings) sums.set(of(finding), (sums.get(of(finding)) ?? 0) + 1);
  const names = [...sums].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const own = new Map(names.slice(0, names.length > SERIES ? SERIES - 1 : SERIES).map((name, i) => [name, i]));
  const series: Histogram['series'] = [...own.keys()].map((value) => ({ value, counts: new Array<number>(buckets).fill(0) }));
  if (names.length > own.size) series.push({ value: null, other: true, counts: new Array<number>(buckets).fill(0) });
  let total = 0;
  for (const finding of findings) {
    const bucket = Math.floor((finding.timeUs - start_us) / interval_us);
    const one = series[own.get(of(finding)) ?? series.length - 1];
    if (bucket < 0 || bucket >= buckets || !one) continue;
    one.counts[bucket] = (one.counts[bucket] ?? 0) + 1;
    total += 1;
  }
  return { start: iso(start_us), start_us, interval_us, buckets, total, series };
}
