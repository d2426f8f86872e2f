import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { changes, poll } from '../../src/lib/poll';

/** What of a document says whether it is seen. */
class Seen extends EventTarget {
  hidden = false;
  set(hidden: boolean): void {
    this.hidden = hidden;
    this.dispatchEvent(new Event('visibilitychange'));
  }
}
let seen: Seen;
beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('document', (seen = new Seen()));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A poll whose questions are answered by the test: each of `asked` settles one. */
function polled(changed: () => boolean | void = () => undefined) {
  const asked: { signal: AbortSignal; answer: (value: string) => void; fail: (error: unknown) => void }[] = [];
  const said: string[] = [];
  const it = poll<string>({
    everyMs: 1000,
    ask: (signal) => new Promise((answer, fail) => asked.push({ signal, answer, fail })),
    told: (answer) => {
      said.push(answer);
      return changed();
    },
    failed: (error) => said.push(`failed: ${String(error)}`),
  });
  return { ...it, asked, said, waits: (ms: number) => vi.advanceTimersByTimeAsync(ms) };
}

it('asks at once, and again after each answer, be it good or bad', async () => {
  const { asked, said, waits } = polled();
  await waits(60_000);
  expect(asked.length).toBe(1);
  asked[0]?.answer('a');
  await waits(999);
  expect([asked.length, said]).toEqual([1, ['a']]);
  await waits(1);
  asked[1]?.fail('no');
  await waits(1000);
  expect([asked.length, said]).toEqual([3, ['a', 'failed: no']]);
});

it.each([
  ['before the answer', (one: ReturnType<typeof polled>) => (one.stop(), one.asked[0]?.answer('late'))],
  ['before the failure', (one: ReturnType<typeof polled>) => (one.stop(), one.asked[0]?.fail('late'))],
  // A request that ends by its abort, and one that a 401 ends, whose handling stops the poll.
  ['by the failure itself', (one: ReturnType<typeof polled>) => (one.asked[0]?.fail('401'), one.stop())],
  ['by the answer itself', (one: ReturnType<typeof polled>) => (one.asked[0]?.answer('late'), one.stop())],
])('once stopped it asks and tells nothing more: stopped %s', async (_, end) => {
  const one = polled();
  end(one);
  expect(one.asked[0]?.signal.aborted).toBe(true);
  await one.waits(600_000);
  one.now();
  seen.set(true);
  seen.set(false);
  await one.waits(600_000);
  expect([one.asked.length, one.said]).toEqual([1, []]);
});

it('asking at once takes the place of what is under way: there is never a second round', async () => {
  const { asked, said, now, waits } = polled();
  now();
  now();
  expect(asked.map(({ signal }) => signal.aborted)).toEqual([true, true, false]);
  asked[0]?.answer('old');
  asked[1]?.fail('old');
  asked[2]?.answer('new');
  await waits(999);
  expect([asked.length, said]).toEqual([3, ['new']]);
  now();
  asked[3]?.answer('newer');
  await waits(999);
  expect(asked.length).toBe(4);
  await waits(1);
  expect(asked.length).toBe(5);
});

it('asks less often while nothing changes, and as often as at first once something does', async () => {
  let changes = false;
  const { asked, waits } = polled(() => changes);
  const gap = async () => {
    const before = asked.length;
    asked[before - 1]?.answer('');
    for (let ms = 0; ; ms += 500) {
      if (asked.length > before) return ms;
      await waits(500);
    }
  };
  expect([await gap(), await gap(), await gap()]).toEqual([2000, 4000, 4000]);
  changes = true;
  expect([await gap(), await gap()]).toEqual([1000, 1000]);
});

it('asks nothing while the page is hidden, and as soon as it is seen again', async () => {
  const { asked, waits } = polled();
  asked[0]?.answer('a');
  seen.set(true);
  await waits(600_000);
  expect(asked.length).toBe(1);
  seen.set(false);
  expect(asked.length).toBe(2);
  // Seen again before it was due: it waits its time.
  asked[1]?.answer('b');
  await waits(500);
  seen.set(true);
  seen.set(false);
  expect(asked.length).toBe(2);
  await waits(500);
  expect(asked.length).toBe(3);
});

it('may ask a second time sooner, once', async () => {
  const asked: number[] = [];
  const one = poll<void>({ everyMs: 1000, firstMs: 100, ask: async () => void asked.push(Date.now()), told: () => undefined, failed: () => undefined });
  const began = Date.now();
  await vi.advanceTimersByTimeAsync(2500);
  one.stop();
  expect(asked.map((at) => at - began)).toEqual([0, 100, 1100, 2100]);
});

it('tells of each answer whether it differs from the one before', () => {
  const changed = changes<unknown>();
  expect([{ a: [1] }, { a: [1] }, { a: [2] }, { a: [1] }, undefined, undefined].map(changed)).toEqual([true, false, true, true, true, false]);
});
