// What the hub says of itself, put into words that people act on: receivers, disk, who asked.
import type { components } from '../api/schema';
import type { Row } from './api';
import { fieldText } from './record';
import { count } from './text';
import { readMoment, usOf } from './time';

type Schemas = components['schemas'];
export type Detection = Schemas['Detection'];
export type Stats = Schemas['Stats'];
/** What is deleted, and when nothing more is taken. */
export type Limits = Stats['limits'];
/** How long records are kept: the first rule that fits a record decides. */
export type Rule = Limits['retention'][number];
export type Receivers = Schemas['NotifyReceivers'];
export type Receiver = Receivers['receivers'][number];

const momentOf = (text: string | null | undefined) => (text ? readMoment(text) : undefined);

export interface Standing {
  word: string;
  tone: 'good' | 'warn' | 'error' | '';
}

/** How it goes with a receiver: the worst first. */
export function standing(receiver: Receiver, nowUs: number): Standing {
  if (receiver.target === null) return { word: 'no longer in the alerts file', tone: '' };
  if (receiver.gone) return { word: 'gone', tone: 'error' };
  const [success, failure] = [momentOf(receiver.last_success), momentOf(receiver.last_failure)];
  if (failure !== undefined && failure > (success ?? Number.NEGATIVE_INFINITY)) return { word: 'failing', tone: 'error' };
  if ((momentOf(receiver.paused_until) ?? 0) > nowUs) return { word: 'paused', tone: 'warn' };
  if (success === undefined) return { word: 'not used yet', tone: '' };
  return { word: 'reached', tone: 'good' };
}

/** Below this a rate since the start says nothing of days. */
const RATE_AFTER_S = 300;

export interface Growth {
  rows_per_day: number;
  bytes_per_day: number;
  /** Until something ends it, at this rate. */
  days_left: number;
  /** What comes first: the disk is down to its floor and nothing more is taken, or files are at their bound and the oldest go. */
  then: 'floor' | 'bound';
  /** How many days the bound holds. */
  days_held: number | undefined;
}

/** What a day adds at the rate since the hub's start, and for how long there is room; undefined while too little is known, or nothing comes. */
export function growth(stats: Stats, freeBytes: number): Growth | undefined {
  const { logs, spans } = stats.tables;
  const rows = logs.sealed_rows + spans.sealed_rows;
  if (stats.uptime_s < RATE_AFTER_S || rows === 0 || !stats.rows) return undefined;
  const rows_per_day = (stats.rows / stats.uptime_s) * 86_400;
  const held = logs.sealed_bytes + spans.sealed_bytes;
  const bytes_per_day = rows_per_day * (held / rows);
  const { sealed_bytes_max: bound, disk_free_bytes_min: floor } = stats.limits;
  const toFloor = Math.max(0, freeBytes - floor) / bytes_per_day;
  const toBound = bound == null ? Number.POSITIVE_INFINITY : Math.max(0, bound - held) / bytes_per_day;
  return { rows_per_day, bytes_per_day, days_left: Math.min(toFloor, toBound), then: toBound <= toFloor ? 'bound' : 'floor', days_held: bound == null ? undefined : bound / bytes_per_day };
}

/** An age of a rule, exactly. */
export function ageText(seconds: number): string {
  const [n, unit] = seconds % 86_400 === 0 ? [seconds / 86_400, 'day'] : seconds % 3600 === 0 ? [seconds / 3600, 'hour'] : seconds % 60 === 0 ? [seconds / 60, 'minute'] : [seconds, 'second'];
  return `${count(n)} ${unit}${n === 1 ? '' : 's'}`;
}

export interface Kept {
  what: string;
  /** How long; undefined for ever. */
  age: string | undefined;
}

/** What is kept how long: the rules in words, in their order, with what none of them fits. Rules after one that fits everything decide nothing. */
export function keptFor({ retention }: Pick<Limits, 'retention'>): Kept[] {
  const all = retention.findIndex((rule) => rule.table == null && rule.service == null && rule.event == null);
  const kept = (all < 0 ? retention : retention.slice(0, all + 1)).map((rule, i): Kept => {
    const what = rule.table == null ? '' : rule.table === 'spans' ? 'spans' : 'logs';
    const parts = [what, rule.event == null ? '' : `${what ? 'with ' : ''}event ${rule.event}`, rule.service == null ? '' : `of ${rule.service}`].filter(Boolean).join(' ');
    const words = rule.table == null && rule.event == null && rule.service != null ? `everything ${parts}` : parts || (i === 0 ? 'everything' : 'everything else');
    return { what: words.charAt(0).toUpperCase() + words.slice(1), age: ageText(rule.age_max_s) };
  });
  return all < 0 ? [...kept, { what: kept.length === 0 ? 'Everything' : 'Everything else', age: undefined }] : kept;
}

/** A number of days as people say it. */
export function daysText(days: number): string {
  if (days >= 3650) return 'more than 10 years';
  if (days >= 730) return `${Math.floor(days / 365)} years`;
  if (days >= 60) return `${Math.floor(days / 30)} months`;
  if (days >= 2) return `${Math.floor(days)} days`;
  return `${Math.max(1, Math.floor(days * 24))} h`;
}

/** A query of the audit records, or many of one kind. */
export interface Asked {
  key: string;
  who: string;
  from: string;
  action: string;
  /** Without the time range: it differs each time that a page asks the same. */
  query: string;
  /** As it was asked last. */
  full: string;
  lastUs: number;
  times: number;
  rows: number | undefined;
  seconds: number | undefined;
  failed: boolean;
}

/** What was asked in a body is its statement or its rules. */
function asked(text: string): string {
  if (!text.startsWith('{')) return text;
  try {
    const { query, rules } = JSON.parse(text) as { query?: unknown; rules?: unknown };
    return typeof query === 'string' ? query : typeof rules === 'string' ? rules : text;
  } catch {
    // It was cut, or only looks like a body.
    return text;
  }
}

const numberOf = (text: string) => (text === '' || !Number.isFinite(Number(text)) ? undefined : Number(text));

/** Who asked what, the newest first; the same question of the same person is one line. */
export function folded(rows: readonly Row[]): Asked[] {
  const lines = new Map<string, Asked>();
  for (const row of rows) {
    const full = asked(fieldText(row, 'db.query.text'));
    const who = fieldText(row, 'user.id') || fieldText(row, 'user.name');
    const [from, action, outcome] = ['client.address', 'threadline.audit.action', 'threadline.outcome'].map((name) => fieldText(row, name));
    const query = full.replace(/(^| )(?:from|to|since)=\S+/g, '').trim();
    const failed = outcome !== '' && outcome !== 'success';
    const key = [who, from, action, query, failed].join('\u0000');
    const line = lines.get(key);
    if (line) line.times += 1;
    else lines.set(key, { key, who, from: from ?? '', action: action ?? '', query, full, lastUs: usOf(row.time_unix_nano), times: 1, rows: numberOf(fieldText(row, 'db.response.returned_rows')), seconds: numberOf(fieldText(row, 'threadline.duration_s')), failed });
  }
  return [...lines.values()];
}

/** Where to send OTLP over HTTP, as seen from the browser: a hub that listens everywhere is reached by the page's own name. */
export function endpoint(address: string, { protocol, hostname }: { protocol: string; hostname: string }): string {
  const [, host = '', port = '4318'] = /^(.*):(\d+)$/.exec(address) ?? [];
  const bare = host.replace(/^\[|\]$/g, '');
  const everywhere = bare === '' || bare === '0.0.0.0' || bare === '::';
  return `${protocol === 'https:' ? 'https' : 'http'}://${everywhere ? hostname : host}:${port}`;
}
