// An answer of a million rows: any of them is there at once, all are the right ones, and the page does not grow with them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { check, close, figure, json, open, same, shot, test, timing, until } from './harness.mjs';
import { binary, withHub } from './hub.mjs';

const ROWS = 1_000_000;
const BEGAN_US = Date.parse('2025-06-01T06:00:00Z') * 1_000;
/** A record each 40 ms, but for a rush of a tenth of them, in the middle, within two seconds. */
const RUSH = [ROWS * 0.45, ROWS * 0.55];
const EVEN_US = 40_000;
const RUSH_US = 20;
const usOf = (i) => BEGAN_US + Math.min(i, RUSH[0]) * EVEN_US + Math.max(0, Math.min(i, RUSH[1]) - RUSH[0]) * RUSH_US + Math.max(0, i - RUSH[1]) * EVEN_US;
const RANGE = `from=${new Date(BEGAN_US / 1_000).toISOString()}&to=${new Date(usOf(ROWS) / 1_000 + 1_000).toISOString()}`;
/** What the row at a place says; the first is 1, and the newest. */
const bodyAt = (place) => `record ${ROWS - place} of the answer`;

const SERVICES = ['edge', 'orders', 'catalogue', 'payment', 'notify', 'recommend'];
const lineOf = (i) => `{"time_unix_nano":"${usOf(i)}000","service":"${SERVICES[(i * 7) % 6]}","severity":"${i % 97 === 0 ? 'error' : i % 13 === 0 ? 'warn' : 'info'}","message":"record ${i} of the answer","shop.order":${i % 5_000}}\n`;

/** Brings the records in as anybody would who has them in a file. */
async function bring(hub) {
  const started = performance.now();
  const child = spawn(binary, ['import', '-', '--hub', hub.url], { stdio: ['pipe', 'inherit', 'inherit'] });
  const ended = once(child, 'exit');
  for (let i = 0; i < ROWS; ) {
    let text = '';
    for (const end = i + 5_000; i < end; i += 1) text += lineOf(i);
    if (!child.stdin.write(text)) await once(child.stdin, 'drain');
  }
  child.stdin.end();
  same(await ended, [0, null], 'the import');
  timing(`${ROWS} records brought in`, performance.now() - started);
}

await test('a million rows: any of them is there at once, scrolling does not hang, memory is bounded', async () => {
  await withHub({ DETECTION: 'false' }, async (hub) => {
    await bring(hub);
    same((await json(`/api/v1/count?q=answer&${RANGE}`, hub.url)).count, ROWS, 'rows that the hub finds');
    const opened = performance.now();
    const page = await open(`/search?q=answer&${RANGE}`, { at: hub.url });
    const session = await page.context().newCDPSession(page);
    const grid = page.locator('[role=grid]');
    /** Rows that exist: place, text, whether a person sees them. */
    const drawn = () => grid.evaluate((scroller) => {
      const { top, bottom } = scroller.getBoundingClientRect();
      return [...scroller.querySelectorAll('[role=row][aria-rowindex]')].map((row) => {
        const box = row.getBoundingClientRect();
        return { place: Number(row.getAttribute('aria-rowindex')), text: row.querySelector('.body')?.textContent, seen: box.bottom > top + 30 && box.top < bottom };
      });
    });
    /** The rows in sight are those that belong there, none of them blank; the first of them. */
    const right = async (what, isThere) => {
      let list = [];
      await until(`${what}: rows, none of them blank`, async () => {
        list = (await drawn()).filter(({ seen }) => seen);
        return list.length > 10 && list.every(({ text }) => text !== undefined) && list.some(({ place }) => isThere(place));
      });
      for (const { place, text } of list) same(text.trim(), bodyAt(place), `${what}: row ${place}`);
      check(list.every(({ place }, i) => i === 0 || place === list[i - 1].place + 1), `${what}: rows follow each other`);
      return list[0].place;
    };
    const measured = async (what, body) => {
      const started = performance.now();
      const out = await body();
      timing(`a million rows: ${what}`, performance.now() - started);
      return out;
    };
    await right('the first', (place) => place === 1);
    timing('a million rows: the first are there', performance.now() - opened);
    await until('counted', async () => (await page.locator('.total b').count()) > 0, 30_000);
    timing('a million rows: counted', performance.now() - opened);
    same(Number((await page.locator('.total b').innerText()).replace(/\D/g, '')), ROWS, 'rows');
    same(Number(await grid.getAttribute('aria-rowcount')), ROWS, 'rows of the table');

    /** Turns the wheel; frames meanwhile, and how many of them had a row that was blank. */
    const roll = async (what, by, times) => {
      const box = await grid.boundingBox();
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
      await page.evaluate(() => {
        const seen = (window.seen = { frames: [], blank: 0 });
        let before = performance.now();
        const next = (now) => {
          if (window.seen !== seen) return;
          seen.frames.push(now - before);
          before = now;
          if (document.querySelector('[role=grid] .skeleton')) seen.blank += 1;
          requestAnimationFrame(next);
        };
        requestAnimationFrame(next);
      });
      for (let i = 0; i < times; i += 1) await page.mouse.wheel(0, by);
      // Until what moves is not taken for what the wheel moves.
      await page.waitForTimeout(400);
      const { frames, blank } = await page.evaluate(() => {
        const { seen } = window;
        window.seen = undefined;
        return { frames: seen.frames.slice(1).sort((a, b) => a - b), blank: seen.blank };
      });
      check(frames.length >= 10, `${what}: ${frames.length} frames`);
      timing(`a million rows: ${what}, a frame, 95th percentile`, frames[Math.floor(frames.length * 0.95)]);
      timing(`a million rows: ${what}, the longest of ${frames.length} frames`, frames.at(-1));
      figure(`a million rows: ${what}, frames with blank rows`, (100 * blank) / (frames.length + 1), '%');
      // Not how quick it is: that it goes on.
      check(frames.at(-1) < 3_000, `${what}: a frame took ${frames.at(-1)} ms`);
    };
    const bar = (share) => grid.evaluate((scroller, to) => (scroller.scrollTop = (scroller.scrollHeight - scroller.clientHeight) * to), share);

    // The first: by the wheel, exactly as far as it was turned.
    await roll('down from the first', 108, 40);
    same(await right('after 160 rows', (place) => place === 161), 161, 'the row on top');
    await roll('a page at a time', 648, 40);
    await roll('as quickly as can be', 2_700, 40);
    same(await right('after 160 + 960 + 4,000 rows', (place) => place === 5_121), 5_121, 'the row on top');

    // The last, by the keyboard.
    await grid.focus();
    await measured('to the last', async () => {
      await page.keyboard.press('End');
      await right('the last', (place) => place === ROWS);
    });
    await roll('up from the last', -108, 40);
    await right('before the last', (place) => place > ROWS - 300 && place < ROWS - 160);

    // The middle, by the bar; it lies in the rush.
    const middle = await measured('to the middle', async () => {
      await bar(0.5);
      return right('the middle', (place) => Math.abs(place - ROWS / 2) < 100);
    });
    await roll('down from the middle', 108, 40);
    same(await right('below the middle', (place) => place > middle), middle + 160, 'the row on top');
    await shot(page, 'million');

    // Everywhere, and quickly over all of it.
    let longest = 0;
    for (const share of [0.9, 0.1, 0.7, 0.449, 0.3, 0.8, 0.551, 0.2, 0.6, 0.4]) {
      const started = performance.now();
      await bar(share);
      await right(`at ${share}`, (place) => Math.abs(place - ROWS * share) < 100);
      longest = Math.max(longest, performance.now() - started);
    }
    timing('a million rows: to any of ten places, the longest', longest);
    for (let step = 0; step <= 60; step += 1) await bar(step / 60);
    await right('after the bar was drawn over all', (place) => place === ROWS);
    await grid.focus();
    await page.keyboard.press('Home');
    await right('the first again', (place) => place === 1);

    await session.send('HeapProfiler.collectGarbage');
    const { usedSize } = await session.send('Runtime.getHeapUsage');
    const exist = (await drawn()).length;
    figure('a million rows: memory of the page after all that', usedSize / 1e6, 'MB');
    figure('a million rows: rows that are drawn', exist, 'rows');
    check(usedSize < 256e6, `the page holds ${usedSize} bytes`);
    check(exist < 120, `${exist} rows exist`);
    await close(page);
  });
});
