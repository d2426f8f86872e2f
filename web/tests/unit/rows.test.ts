// The list of rows against a store in memory that answers as the hub does, while records come in.
import { afterEach, expect, it, vi } from 'vitest';
import { RowSource } from '../../src/lib/rows.svelte';

interface Kept {
  /** After `START_US`. */
  ns: number;
  seq: number;
}

const START_US = 1_700_000_000_000_000;
const nsOf = (text: string): number => {
  const [whole = '', fraction = ''] = text.replace('Z', '').split('.');
  return (Date.parse(`${whole}Z`) * 1_000 - START_US) * 1_000 + Number(fraction.padEnd(9, '0').slice(0, 9));
};
const bare = (ns: number): string => String(BigInt(START_US) * 1000n + BigInt(ns));

class Store {
  /** By time, then number. */
  readonly kept: Kept[] = [];
  requests = 0;
  /** What happens before each answer. */
  before: () => void = () => undefined;

  /** The first place whose row is not before this. */
  private place(ns: number, seq = 0): number {
    let [low, high] = [0, this.kept.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const row = this.kept[middle];
      if (row && (row.ns < ns || (row.ns === ns && row.seq < seq))) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  add(us: number, ns = 0): void {
    const row = { ns: us * 1000 + ns, seq: this.kept.length + 1 };
    this.kept.splice(this.place(row.ns, row.seq), 0, row);
  }

  answer(url: URL): Response {
    this.requests += 1;
    this.before();
    const { searchParams: params } = url;
    const [from, to] = [nsOf(params.get('from') ?? ''), nsOf(params.get('to') ?? '')];
    const rows = this.kept.slice(this.place(from), this.place(to));
    if (url.pathname.endsWith('/histogram')) {
      const width = /^(\d+)(us|ms|s|d)$/.exec(params.get('interval') ?? '');
      const us = Number(width?.[1] ?? 1) * ({ us: 1, ms: 1e3, s: 1e6, d: 86_400e6 }[width?.[2] ?? 's'] ?? 1e6);
      const start = Math.floor((START_US + from / 1000) / us) * us;
      const buckets = Math.ceil((START_US + to / 1000 - start) / us);
      expect(buckets).toBeLessThan(5_000);
      const counts = new Array<number>(buckets).fill(0);
      for (const row of rows) {
        const i = Math.floor((START_US + Math.floor(row.ns / 1000) - start) / us);
        counts[i] = (counts[i] ?? 0) + 1;
      }
      return Response.json({ start: '', start_us: start, interval_us: us, buckets, total: rows.length, series: [{ value: null, counts }] });
    }
    if (params.get('order') !== 'oldest') rows.reverse();
    const [ns, seq] = (params.get('cursor') ?? '').split('.').map(Number);
    const first = params.get('cursor') ? rows.findIndex((row) => row.ns === ns && row.seq === seq) + 1 : 0;
    const lines = rows.slice(first, first + Number(params.get('limit'))).map((row) => {
      return JSON.stringify({ time_unix_nano: bare(row.ns), seq: row.seq, ...(params.get('cursors') ? { cursor: `${row.ns}.${row.seq}` } : {}) });
    });
    return new Response(lines.length > 0 ? `${lines.join('\n')}\n` : '');
  }
}

function serve(store: Store): void {
  vi.stubGlobal('fetch', async (url: string, options?: RequestInit) => {
    await Promise.resolve();
    options?.signal?.throwIfAborted();
    return store.answer(new URL(url, 'http://hub'));
  });
}
afterEach(() => void vi.unstubAllGlobals());

/** Looks at a piece of the list until it is there. */
async function look(source: RowSource, from: number, to: number): Promise<void> {
  for (let turns = 0; turns < 3_000; turns += 1) {
    source.look(from, Math.min(to, source.length));
    const missing = Array.from({ length: Math.max(0, Math.min(to, source.length) - from) }, (_, i) => source.at(from + i)).some((row) => !row);
    if (source.ready && !source.counting && !missing) return;
    await new Promise((done) => setTimeout(done));
  }
  throw new Error(`rows ${from} to ${to} never came`);
}

/** The whole list, as one sees it by scrolling through it. */
async function all(source: RowSource): Promise<number[]> {
  const seqs: number[] = [];
  await look(source, 0, 50);
  for (let from = 0; from < source.length; from += 250) {
    await look(source, from, from + 250);
    for (let i = from; i < Math.min(from + 250, source.length); i += 1) seqs.push(source.at(i)?.seq ?? -1);
  }
  expect(source.problem).toBeUndefined();
  return seqs;
}

const question = (order: 'newest' | 'oldest', seconds: number) => ({ q: '', table: 'logs' as const, fromUs: START_US, toUs: START_US + seconds * 1e6, order, by: 'severity' });

it.each([1, 1_000])('45,000 rows within %i µs are all in the list, each once', { timeout: 60_000 }, async (width) => {
  const store = new Store();
  for (let i = 0; i < 500; i += 1) store.add(i * 7_000_000);
  for (let i = 0; i < 45_000; i += 1) store.add(1_800_000_321 + (i % width), i % 1000);
  serve(store);
  for (const order of ['newest', 'oldest'] as const) {
    const source = new RowSource(question(order, 3600));
    const seqs = await all(source);
    expect(seqs.length).toBe(45_500);
    expect(new Set(seqs).size).toBe(45_500);
    // And again from the first, since what is out of sight was forgotten.
    await look(source, 0, 300);
    await look(source, 22_000, 22_040);
    expect(source.at(22_010)?.seq).toBe(seqs[22_010]);
    source.stop();
  }
});

it('while records come in, none is shown twice and none that was there is left out', { timeout: 60_000 }, async () => {
  for (let seed = 1; seed <= 12; seed += 1) {
    let state = seed;
    const random = (n: number) => Math.floor(((state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32) * n);
    const store = new Store();
    const seconds = [1, 60, 3600][random(3)] ?? 60;
    // Clusters, so that some stretches are long and others empty.
    const add = () => store.add(Math.min(seconds * 1e6 - 1, Math.floor((random(5) * seconds * 1e6) / 5) + random(1 + random(seconds * 200_000))), random(1000));
    for (let i = random(4_000); i >= 0; i -= 1) add();
    const there = store.kept.map((row) => row.seq);
    store.before = () => {
      for (let i = random(4); i > 0; i -= 1) add();
    };
    serve(store);
    const source = new RowSource(question(random(2) ? 'newest' : 'oldest', seconds));
    await all(source);
    // What has been read moves no more: a second walk sees one list.
    store.before = () => undefined;
    const seqs = await all(source);
    expect(seqs.length, `seed ${seed}`).toBe(new Set(seqs).size);
    const seen = new Set(seqs);
    expect(there.filter((seq) => !seen.has(seq)), `seed ${seed}`).toEqual([]);
    expect(seqs).not.toContain(-1);
    source.stop();
  }
});

it('a short answer is one request for rows, and no count contradicts it', async () => {
  const store = new Store();
  for (let i = 0; i < 150; i += 1) store.add(i);
  store.before = () => store.requests === 2 && store.add(500);
  serve(store);
  const source = new RowSource(question('newest', 60));
  expect((await all(source)).length).toBe(source.total);
  expect(store.requests).toBe(2);
});

it('what comes next is fetched before it is in sight, while somebody scrolls on', async () => {
  const store = new Store();
  for (let i = 0; i < 6_000; i += 1) store.add(i * 10_000);
  serve(store);
  const source = new RowSource(question('newest', 60));
  const settled = async () => {
    for (let asked = -1; asked !== store.requests; ) {
      asked = store.requests;
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  const here = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => source.at(from + i)).filter(Boolean).length;
  // Who looks only is asked nothing more for.
  await look(source, 0, 30);
  await settled();
  expect([store.requests, here(200, 230)]).toEqual([2, 0]);
  for (let from = 1; from <= 150; from += 10) {
    source.look(from, from + 30);
    await settled();
  }
  expect(here(170, 370)).toBe(200);
  // Nor is who jumps: what lies around the place is not what comes next.
  source.look(4_000, 4_030);
  await settled();
  const asked = store.requests;
  source.look(2_000, 2_030);
  await settled();
  expect(here(2_000, 2_030)).toBe(30);
  // Back again, on the way up.
  for (let from = 2_000; from > 1_900; from -= 10) {
    source.look(from, from + 30);
    await settled();
  }
  expect(store.requests).toBeGreaterThan(asked);
  expect(here(1_720, 1_910)).toBe(190);
  source.stop();
});
