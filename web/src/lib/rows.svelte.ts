// The rows of a search as one long list, of which only what is looked at is in memory.
//
// A *stretch* is a part of the list whose rows all lie in one piece of time, with the exact number of them: histograms
// tell it. So the row at any place is found without reading those before it: a stretch that is looked at is read when it
// is short, and cut into shorter ones by another histogram when it is long. The first rows come by a search of their own, so
// that they are there before anything was counted.
import { get, type Histogram, isAbort, type Params, Problem, problemOf, type Row, search, searchAll, type Table } from './api';
import { iso, usOf } from './time';

const FIRST_ROWS = 200;
const STRETCH_ROWS_MAX = 1_000;
/** Of a stretch that cannot be cut, since all its rows have the same microsecond, so many are read at once. */
const PAGE_ROWS = 5_000;
const STRETCHES_KEPT = 40;
/** So many rows further on are fetched while somebody scrolls. */
const AHEAD_ROWS = 200;
const AT_ONCE = 2;

export interface Question {
  q: string;
  table: Table;
  fromUs: number | undefined;
  toUs: number | undefined;
  order: 'newest' | 'oldest';
  by: string;
}

interface Stretch {
  index: number;
  count: number;
  fromUs: number;
  toUs: number;
  /** Of a page: it begins after the row with this cursor, and ends with the row with that one. */
  after?: string;
  until?: string;
  rows?: Row[];
  /** Its first rows, until it is read. */
  first?: Row[];
  used: number;
  busy?: boolean;
  failed?: boolean;
}

/** A round width for about a hundred buckets; undefined lets the hub choose. */
function interval({ fromUs, toUs }: Question): string | undefined {
  if (fromUs === undefined || toUs === undefined) return undefined;
  const least = (toUs - fromUs) / 120 / 1e6;
  const round = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400].find((seconds) => seconds >= least);
  if (round === undefined) return `${Math.ceil(least / 86_400)}d`;
  return round < 1 ? `${Math.round(round * 1000)}ms` : `${round}s`;
}

export class RowSource {
  /** Rows in all; undefined until they are counted. */
  total = $state<number | undefined>(undefined);
  histogram = $state.raw<Histogram | undefined>(undefined);
  problem = $state.raw<Problem | undefined>(undefined);
  /** Counts arrivals: whoever shows rows looks again when it changes. */
  turn = $state(0);
  /** The first rows are there, or there are none. */
  ready = $state(false);
  counting = $state(true);
  tookMs = $state<number | undefined>(undefined);

  private head: Row[] = [];
  private headWhole = false;
  private settled = false;
  private stretches: Stretch[] = [];
  private wanted: Stretch[] = [];
  private looked: [number, number] = [0, 0];
  private running = 0;
  private clock = 0;
  private readonly abort = new AbortController();

  constructor(readonly question: Question) {
    void this.begin();
  }

  stop(): void {
    this.abort.abort();
  }

  private params(more: Params): Params {
    const { q, table, fromUs, toUs } = this.question;
    const params: Params = { q, table };
    if (fromUs !== undefined) params.from = iso(fromUs);
    if (toUs !== undefined) params.to = iso(toUs);
    return { ...params, ...more };
  }

  private async begin(): Promise<void> {
    const started = performance.now();
    const { signal } = this.abort;
    const first = (async () => {
      for await (const batch of search(this.params({ limit: FIRST_ROWS, order: this.question.order }), signal)) {
        this.head.push(...batch);
        this.turn += 1;
        this.ready = true;
      }
      this.headWhole = this.head.length < FIRST_ROWS;
      this.ready = true;
      this.tookMs = performance.now() - started;
    })();
    const counted = (async () => {
      const histogram = await get<Histogram>('/api/v1/histogram', this.params({ by: this.question.by, series: 8, interval: interval(this.question) }), signal);
      this.histogram = histogram;
      this.total = histogram.total;
      this.stretches = this.cut(histogram, this.question, true);
      this.counting = false;
      this.turn += 1;
    })();
    try {
      await Promise.all([first, counted]);
      this.settle();
    } catch (error) {
      if (isAbort(error)) return;
      this.problem = problemOf(error);
      this.counting = false;
      this.ready = true;
      this.abort.abort();
    }
  }

  /** Gives the first rows to the stretches that they lie in. */
  private settle(): void {
    this.settled = true;
    // When these are all rows, the counts beside them may still be of a moment before or after.
    if (!this.headWhole) {
      give(this.head, this.stretches);
      this.head = [];
      placed(this.stretches);
    }
    this.count();
    this.turn += 1;
    this.look(...this.looked);
  }

  private count(): void {
    const end = this.stretches[this.stretches.length - 1];
    this.total = this.headWhole ? this.head.length : end ? end.index + end.count : 0;
  }

  /** How many rows can be shown now. */
  get length(): number {
    return this.headWhole ? this.head.length : Math.max(this.total ?? 0, this.head.length);
  }

  /** The stretches of a histogram of a piece of time, in the list's order; those without rows if wanted. */
  private cut(histogram: Histogram, { fromUs, toUs }: Pick<Question, 'fromUs' | 'toUs'>, empty = false): Stretch[] {
    const sums = new Array<number>(histogram.buckets).fill(0);
    for (const series of histogram.series) series.counts.forEach((count, i) => (sums[i] = (sums[i] ?? 0) + count));
    const out: Stretch[] = [];
    sums.forEach((count, i) => {
      if (count === 0 && !empty) return;
      const start = histogram.start_us + i * histogram.interval_us;
      const end = start + histogram.interval_us;
      out.push({ index: 0, count, fromUs: Math.max(start, fromUs ?? start), toUs: Math.min(end, toUs ?? end), used: 0 });
    });
    if (this.question.order === 'newest') out.reverse();
    return placed(out);
  }

  private find(index: number): Stretch | undefined {
    let low = 0;
    let high = this.stretches.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const stretch = this.stretches[middle];
      if (!stretch) return undefined;
      if (index < stretch.index) high = middle - 1;
      else if (index >= stretch.index + stretch.count) low = middle + 1;
      else return stretch;
    }
    return undefined;
  }

  /** The row at a place, if it is here. */
  at(index: number): Row | undefined {
    const row = this.head[index];
    if (row) return row;
    const stretch = this.find(index);
    if (!stretch) return undefined;
    stretch.used = ++this.clock;
    return (stretch.rows ?? stretch.first)?.[index - stretch.index];
  }

  /**
   * Says what is looked at; what is missing of it is fetched, and nothing else any more. But while somebody scrolls on, what
   * comes next is fetched before it is in sight.
   */
  look(from: number, to: number): void {
    const by = from - this.looked[0];
    this.looked = [from, to];
    this.wanted = [];
    if (!this.settled) return;
    this.want(from, to);
    if (by > 0 && by < AHEAD_ROWS) this.want(to, to + AHEAD_ROWS);
    if (by < 0 && by > -AHEAD_ROWS) this.want(Math.max(0, from - AHEAD_ROWS), from);
    this.pump();
  }

  private want(from: number, to: number): void {
    let index = Math.max(from, this.head.length);
    while (index < to) {
      const stretch = this.find(index);
      if (!stretch) break;
      const end = stretch.index + stretch.count;
      const here = stretch.rows !== undefined || (stretch.first?.length ?? 0) >= Math.min(to, end) - stretch.index;
      if (!here && !stretch.busy && !stretch.failed) this.wanted.push(stretch);
      index = end;
    }
  }

  private pump(): void {
    while (this.running < AT_ONCE && !this.abort.signal.aborted) {
      const stretch = this.wanted.shift();
      if (!stretch) return;
      if (stretch.busy || stretch.rows) continue;
      stretch.busy = true;
      this.running += 1;
      void this.fetch(stretch)
        .catch((error: unknown) => {
          if (isAbort(error)) return;
          stretch.failed = true;
          this.problem = problemOf(error);
        })
        .finally(() => {
          stretch.busy = false;
          this.running -= 1;
          this.turn += 1;
          // A long stretch may have become several, one of which is in sight.
          this.look(...this.looked);
        });
    }
  }

  private async fetch(stretch: Stretch): Promise<void> {
    const { signal } = this.abort;
    const between = { from: iso(stretch.fromUs), to: iso(stretch.toUs) };
    const widthUs = stretch.toUs - stretch.fromUs;
    if (stretch.count > STRETCH_ROWS_MAX && widthUs > 1 && stretch.after === undefined) {
      const pieces = Math.min(1000, Math.max(2, Math.ceil(stretch.count / (STRETCH_ROWS_MAX / 2))));
      const histogram = await get<Histogram>('/api/v1/histogram', this.params({ ...between, interval: `${Math.ceil(widthUs / pieces)}us` }), signal);
      const parts = this.cut(histogram, stretch);
      // A part is narrower, be it the only one: it is cut again until it is short, or a microsecond.
      if (parts.every((part) => part.toUs - part.fromUs < widthUs)) {
        give(stretch.first ?? [], parts);
        this.replace(stretch, parts);
        return;
      }
    }
    const paged = stretch.count > PAGE_ROWS || stretch.after !== undefined || stretch.until !== undefined;
    const limit = paged && stretch.until === undefined ? Math.min(stretch.count, PAGE_ROWS) : STRETCH_ROWS_MAX + PAGE_ROWS;
    const rows = await searchAll(this.params({ ...between, limit, order: this.question.order, ...(paged ? { cursors: 1, cursor: stretch.after } : {}) }), signal);
    const last = rows[rows.length - 1]?.cursor;
    if (stretch.until !== undefined) {
      // A page is read again up to where the next one begins.
      const end = rows.findIndex((row) => row.cursor === stretch.until);
      this.keep(stretch, rows.slice(0, end < 0 ? stretch.count : end + 1));
    } else if (!paged && rows.length === limit) {
      // So many have come that it is no short one any more.
      stretch.count = rows.length + 1;
      this.replace(stretch, [stretch]);
    } else if (rows.length === limit && stretch.count > limit && last !== undefined) {
      const page: Stretch = { ...stretch, until: last };
      delete page.busy;
      this.replace(stretch, [page, { index: 0, count: stretch.count - limit, fromUs: stretch.fromUs, toUs: stretch.toUs, after: last, used: 0 }]);
      this.keep(page, rows);
    } else this.keep(stretch, rows);
    this.forget();
  }

  private keep(stretch: Stretch, rows: Row[]): void {
    stretch.used = ++this.clock;
    delete stretch.first;
    stretch.rows = rows;
    if (stretch.count === rows.length) return;
    stretch.count = rows.length;
    this.replace(stretch, rows.length > 0 ? [stretch] : []);
  }

  /** Puts others in the place of a stretch; what comes after them moves if they have more rows, or fewer. */
  private replace(stretch: Stretch, others: Stretch[]): void {
    const place = this.stretches.indexOf(stretch);
    if (place < 0) return;
    this.stretches.splice(place, 1, ...others);
    placed(this.stretches);
    this.count();
  }

  /** Drops what was looked at longest ago, and nothing that is looked at now: it would be read again at once. */
  private forget(): void {
    const [from, to] = this.looked;
    const held = this.stretches.filter((stretch) => stretch.rows && (stretch.index >= to || stretch.index + stretch.count <= from));
    if (held.length <= STRETCHES_KEPT) return;
    held.sort((a, b) => a.used - b.used);
    for (const stretch of held.slice(0, held.length - STRETCHES_KEPT)) delete stretch.rows;
  }
}

/** Gives the first rows of a list to the stretches that they lie in: one that they are all rows of needs no reading. */
function give(rows: readonly Row[], stretches: readonly Stretch[]): void {
  const us = rows.map((row) => usOf(row.time_unix_nano));
  for (const stretch of stretches) {
    const its = rows.filter((_, i) => (us[i] ?? 0) >= stretch.fromUs && (us[i] ?? 0) < stretch.toUs);
    if (its.length === 0) continue;
    // More of them may lie behind the last.
    const whole = its[its.length - 1] !== rows[rows.length - 1] && its.length >= stretch.count;
    if (whole) stretch.rows = its;
    else stretch.first = its;
    stretch.count = Math.max(stretch.count, its.length);
  }
}

/** Stretches one behind the other. */
function placed(stretches: Stretch[]): Stretch[] {
  let index = 0;
  for (const stretch of stretches) {
    stretch.index = index;
    index += stretch.count;
  }
  return stretches;
}
