// The rows of a search as one long list, of which only what is looked at is in memory.
//
// A *stretch* is a part of the list whose rows all lie in one piece of time, with the exact number of them: histograms
// tell it. So the row at any place is found without reading those before it: a stretch that is looked at is read when it
// is short, and cut into shorter ones by another histogram when it is long. The first rows come by a search of their own, so
// that they are there before anything was counted.
import { get, type Histogram, isAbort, type Params, Problem, problemOf, type Row, search, searchAll, type Table } from './api';
import { iso } from './time';

const FIRST_ROWS = 200;
const STRETCH_ROWS_MAX = 1_000;
/** A stretch that cannot be cut, since all its rows have the same time, is read up to here. */
const DENSE_ROWS_MAX = 20_000;
const STRETCHES_KEPT = 40;
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
  rows?: Row[];
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
      this.stretches = this.cut(histogram, 0, this.question.fromUs, this.question.toUs);
      this.counting = false;
      this.turn += 1;
    })();
    try {
      await Promise.all([first, counted]);
    } catch (error) {
      if (isAbort(error)) return;
      this.problem = problemOf(error);
      this.counting = false;
      this.ready = true;
      this.abort.abort();
    }
  }

  /** How many rows can be shown now. */
  get length(): number {
    return this.headWhole ? this.head.length : Math.max(this.total ?? 0, this.head.length);
  }

  private cut(histogram: Histogram, index: number, fromUs?: number, toUs?: number): Stretch[] {
    const sums = new Array<number>(histogram.buckets).fill(0);
    for (const series of histogram.series) series.counts.forEach((count, i) => (sums[i] = (sums[i] ?? 0) + count));
    const places = sums.map((_, i) => i);
    if (this.question.order === 'newest') places.reverse();
    const out: Stretch[] = [];
    for (const i of places) {
      const count = sums[i] ?? 0;
      if (count === 0) continue;
      const start = histogram.start_us + i * histogram.interval_us;
      const end = start + histogram.interval_us;
      out.push({ index, count, fromUs: Math.max(start, fromUs ?? start), toUs: Math.min(end, toUs ?? end), used: 0 });
      index += count;
    }
    return out;
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
    if (!stretch?.rows) return undefined;
    stretch.used = ++this.clock;
    return stretch.rows[index - stretch.index];
  }

  /** Says what is looked at; what is missing of it is fetched, and nothing else any more. */
  look(from: number, to: number): void {
    this.looked = [from, to];
    this.wanted = [];
    let index = Math.max(from, this.head.length);
    while (index < to) {
      const stretch = this.find(index);
      if (!stretch) break;
      if (!stretch.rows && !stretch.busy && !stretch.failed) this.wanted.push(stretch);
      index = stretch.index + stretch.count;
    }
    this.pump();
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
    if (stretch.count > STRETCH_ROWS_MAX && stretch.toUs - stretch.fromUs > 1) {
      const pieces = Math.min(1000, Math.max(2, Math.ceil(stretch.count / (STRETCH_ROWS_MAX / 2))));
      const interval = Math.max(1, Math.ceil((stretch.toUs - stretch.fromUs) / pieces));
      const asked = this.params({ ...between, interval: `${interval}us` });
      const histogram = await get<Histogram>('/api/v1/histogram', asked, signal);
      const cut = this.cut(histogram, stretch.index, stretch.fromUs, stretch.toUs);
      const sum = cut.reduce((n, part) => n + part.count, 0);
      const place = this.stretches.indexOf(stretch);
      // Rows that arrived late would shift everything behind them: keep the places that are shown.
      if (cut.length > 1 && sum >= stretch.count && place >= 0) {
        this.stretches.splice(place, 1, ...fitted(cut, stretch));
        return;
      }
    }
    const limit = Math.min(stretch.count, DENSE_ROWS_MAX);
    const rows = await searchAll(this.params({ ...between, limit, order: this.question.order }), signal);
    stretch.rows = rows;
    stretch.used = ++this.clock;
    this.forget();
  }

  private forget(): void {
    const held = this.stretches.filter((stretch) => stretch.rows);
    if (held.length <= STRETCHES_KEPT) return;
    held.sort((a, b) => a.used - b.used);
    for (const stretch of held.slice(0, held.length - STRETCHES_KEPT)) delete stretch.rows;
  }
}

/** Parts cut to the places that their whole had. */
function fitted(parts: Stretch[], whole: Stretch): Stretch[] {
  const end = whole.index + whole.count;
  return parts
    .filter((part) => part.index < end)
    .map((part) => ({ ...part, count: Math.min(part.count, end - part.index) }));
}
