// Moments, durations and time ranges. A moment is a number of whole microseconds since the Unix epoch (exact in a
// double until the year 2255); nanoseconds below are kept as digits where a record is shown.

/** What a page looks at: the last while, from one moment to another, or everything. */
export type Range =
  | { kind: 'since'; since: string }
  | { kind: 'between'; fromUs: number; toUs: number }
  | { kind: 'all' };

export const DEFAULT_RANGE: Range = { kind: 'since', since: '1h' };
export const QUICK: readonly { since: string; label: string }[] = [
  { since: '5m', label: 'Last 5 minutes' },
  { since: '15m', label: 'Last 15 minutes' },
  { since: '1h', label: 'Last hour' },
  { since: '4h', label: 'Last 4 hours' },
  { since: '24h', label: 'Last 24 hours' },
  { since: '7d', label: 'Last 7 days' },
  { since: '30d', label: 'Last 30 days' },
];

const UNIT_US: Record<string, number> = {
  us: 1, ms: 1e3, s: 1e6, m: 60e6, h: 3600e6, d: 86_400e6, w: 604_800e6,
};

/** `1h30m` in µs; undefined when it is no duration. */
export function durationUs(text: string): number | undefined {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(us|µs|ms|s|m|h|d|w)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join('') !== text) return undefined;
  return parts.reduce((sum, part) => sum + Number(part[1]) * (UNIT_US[part[2] === 'µs' ? 'us' : (part[2] ?? '')] ?? 0), 0);
}

/** The range in a page's address. */
export function readRange(params: URLSearchParams): Range {
  const since = params.get('since');
  if (since === 'all') return { kind: 'all' };
  const from = readMoment(params.get('from') ?? '');
  const to = readMoment(params.get('to') ?? '');
  if (from !== undefined && to !== undefined && from < to) return { kind: 'between', fromUs: from, toUs: to };
  if (since && durationUs(since) !== undefined) return { kind: 'since', since };
  return DEFAULT_RANGE;
}

/** Puts a range into an address; the usual one is left out. */
export function writeRange(params: URLSearchParams, range: Range): void {
  params.delete('since');
  params.delete('from');
  params.delete('to');
  if (range.kind === 'all') params.set('since', 'all');
  else if (range.kind === 'since') {
    if (range.since !== '1h') params.set('since', range.since);
  } else {
    params.set('from', iso(range.fromUs));
    params.set('to', iso(range.toUs));
  }
}

/** A range with its ends fixed, so that every question of a page is about the same rows. */
export interface Fixed {
  fromUs: number | undefined;
  toUs: number | undefined;
}

export function fix(range: Range, nowUs = Date.now() * 1000): Fixed {
  if (range.kind === 'all') return { fromUs: undefined, toUs: undefined };
  if (range.kind === 'between') return { fromUs: range.fromUs, toUs: range.toUs };
  const length = durationUs(range.since) ?? 3600e6;
  // A sender's clock may be a little ahead of ours.
  return { fromUs: nowUs - length, toUs: nowUs + 1e6 };
}

/** The ends as parameters of the API. */
export function rangeParams(fixed: Fixed): Record<string, string> {
  const params: Record<string, string> = {};
  if (fixed.fromUs !== undefined) params.from = iso(fixed.fromUs);
  if (fixed.toUs !== undefined) params.to = iso(fixed.toUs);
  return params;
}

/** RFC 3339 in UTC with as many digits as there are. */
export function iso(us: number): string {
  const date = new Date(Math.floor(us / 1000));
  const below = ((us % 1_000_000) + 1_000_000) % 1_000_000;
  const seconds = date.toISOString().slice(0, 19);
  if (below === 0) return `${seconds}Z`;
  return `${seconds}.${String(below).padStart(6, '0').replace(/0+$/, '')}Z`;
}

/** RFC 3339, with up to nine digits below the second, in µs; undefined when it is none. */
export function readMoment(text: string): number | undefined {
  const parts = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?)?$/.exec(text.trim());
  if (!parts) return undefined;
  const [, day, clock = '00:00:00', below = '', zone = 'Z'] = parts;
  const ms = Date.parse(`${day}T${clock.length === 5 ? `${clock}:00` : clock}${zone}`);
  return Number.isNaN(ms) ? undefined : ms * 1000 + Number(below.padEnd(9, '0').slice(0, 6));
}

/** µs of nanoseconds given as digits. */
export function usOf(ns: string): number {
  return Number(BigInt(ns) / 1000n);
}

export type Zone = 'local' | 'utc';

function parts(us: number, zone: Zone) {
  const date = new Date(Math.floor(us / 1000));
  const two = (n: number) => String(n).padStart(2, '0');
  return zone === 'utc'
    ? {
        year: date.getUTCFullYear(), month: two(date.getUTCMonth() + 1), day: two(date.getUTCDate()),
        hour: two(date.getUTCHours()), minute: two(date.getUTCMinutes()), second: two(date.getUTCSeconds()),
      }
    : {
        year: date.getFullYear(), month: two(date.getMonth() + 1), day: two(date.getDate()),
        hour: two(date.getHours()), minute: two(date.getMinutes()), second: two(date.getSeconds()),
      };
}

/** `2023-01-29`. */
export function dayText(us: number, zone: Zone): string {
  const p = parts(us, zone);
  return `${p.year}-${p.month}-${p.day}`;
}

/** `14:03:21.482`; `digits` below the second. */
export function clockText(us: number, zone: Zone, digits = 3): string {
  const p = parts(us, zone);
  const below = String(((us % 1_000_000) + 1_000_000) % 1_000_000).padStart(6, '0').slice(0, digits);
  return `${p.hour}:${p.minute}:${p.second}${digits > 0 ? `.${below}` : ''}`;
}

/** `2023-01-29 14:03:21.482`. */
export function momentText(us: number, zone: Zone, digits = 3): string {
  return `${dayText(us, zone)} ${clockText(us, zone, digits)}`;
}

/** A text of the hub with its moments as people read them here. */
export function timesIn(text: string, zone: Zone): string {
  return text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z(?![\w:])/g, (moment) => {
    const us = readMoment(moment);
    return us === undefined ? moment : momentText(us, zone, 0);
  });
}

/** The local zone's name and offset, for people. */
export function localZone(): string {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const minutes = -new Date().getTimezoneOffset();
  const sign = minutes < 0 ? '−' : '+';
  const hours = Math.floor(Math.abs(minutes) / 60);
  return `${name} (UTC${sign}${hours}${Math.abs(minutes) % 60 ? `:${String(Math.abs(minutes) % 60).padStart(2, '0')}` : ''})`;
}

/** A range as people say it. */
export function rangeText(range: Range, zone: Zone): string {
  if (range.kind === 'all') return 'All time';
  if (range.kind === 'since') return QUICK.find((quick) => quick.since === range.since)?.label ?? `Last ${range.since}`;
  const { fromUs, toUs } = range;
  const digits = toUs - fromUs < 5e6 ? 3 : 0;
  const short = (us: number) => {
    const text = clockText(us, zone, digits);
    return toUs - fromUs >= 120e6 && digits === 0 ? text.replace(/:00$/, '') : text;
  };
  const sameDay = dayText(fromUs, zone) === dayText(toUs, zone);
  const end = sameDay ? short(toUs) : `${dayText(toUs, zone)} ${short(toUs)}`;
  return `${dayText(fromUs, zone)} ${short(fromUs)} – ${end}`;
}

/** Nanoseconds for people: `1.24 s`, `38.2 ms`, `412 µs`. */
export function durationText(ns: number): string {
  const sign = ns < 0 ? '−' : '';
  const n = Math.abs(ns);
  const three = (value: number) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
  if (n < 1000) return `${sign}${n.toFixed(0)} ns`;
  if (n < 999_500) return `${sign}${three(n / 1e3)} µs`;
  if (n < 999_500_000) return `${sign}${three(n / 1e6)} ms`;
  if (n < 60e9) return `${sign}${three(n / 1e9)} s`;
  const [seconds, minutes] = [Math.round(n / 1e9), Math.round(n / 60e9)];
  if (seconds < 3600) return `${sign}${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return minutes < 48 * 60 ? `${sign}${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${sign}${(n / 86_400e9).toFixed(1)} d`;
}

/** How long ago, roughly. */
export function ago(us: number, nowUs = Date.now() * 1000): string {
  const s = (nowUs - us) / 1e6;
  if (s < -2) return 'in the future';
  if (s < 60) return `${Math.max(0, Math.round(s))} s ago`;
  if (s < 3600) return `${Math.round(s / 60)} min ago`;
  if (s < 86_400 * 2) return `${Math.round(s / 3600)} h ago`;
  if (s < 86_400 * 60) return `${Math.round(s / 86_400)} days ago`;
  if (s < 86_400 * 700) return `${Math.round(s / 86_400 / 30)} months ago`;
  return `${(s / 86_400 / 365.25).toFixed(1)} years ago`;
}
