// A browser, a way to fail, and a count at the end in the words of cargo's tests, so that one reader counts both.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const hub = process.env.THREADLINE_HUB ?? 'http://127.0.0.1:7311';
export const screens = process.env.THREADLINE_SCREENS ?? 'screens';

const only = process.argv.slice(2);
const counts = { passed: 0, failed: 0 };
const timings = [];

export const browser = await chromium.launch({
  executablePath: process.env.THREADLINE_CHROMIUM ?? '/usr/bin/chromium',
  // Tests run as root in containers, where the sandbox cannot start; the pages are our own.
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
mkdirSync(screens, { recursive: true });

/** A page of its own, with everything noted that it should not do. */
export async function open(path, { width = 1280, height = 800, theme = 'light', zone = 'Europe/Berlin', bare = false, at = hub } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, timezoneId: zone, locale: 'en-GB', reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(`error: ${error.message}`));
  page.on('console', (message) => {
    const said = message.text();
    // The browser tells of every answer that is no success; those are looked at where they matter.
    if (message.type() === 'error' && !said.startsWith('Failed to load resource')) page.faults.push(`console: ${said}`);
  });
  page.on('request', (request) => {
    if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(at)) page.faults.push(`asked elsewhere: ${request.url()}`);
  });
  if (!bare) await page.goto(at + path);
  return page;
}

export async function close(page) {
  await page.context().close();
  check(page.faults.length === 0, page.faults.slice(0, 5).join('\n'));
}

export function check(condition, message) {
  if (!condition) throw new Error(message);
}

export function same(got, want, what) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}

export function timing(what, ms) {
  timings.push(`${what.padEnd(56)} ${ms.toFixed(0).padStart(6)} ms`);
}

export async function shot(page, name) {
  await page.screenshot({ path: join(screens, `${name}.png`) });
}

/** Runs a test. */
export async function test(name, body) {
  if (only.length > 0 && !only.some((word) => name.includes(word))) return;
  const started = performance.now();
  try {
    await body();
    counts.passed += 1;
    console.log(`test ${name} ... ok (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    counts.failed += 1;
    console.log(`test ${name} ... FAILED\n${error instanceof Error ? error.message.split('\nBrowser logs')[0] : String(error)}`);
  }
}

export async function finish() {
  await browser.close();
  if (timings.length > 0) console.log(`\ntimings, reported and not judged:\n${timings.join('\n')}`);
  console.log(`screens are in ${screens}`);
  console.log(`test result: ${counts.failed === 0 ? 'ok' : 'FAILED'}. ${counts.passed} passed; ${counts.failed} failed; 0 ignored; 0 measured; 0 filtered out`);
  process.exitCode = counts.failed === 0 ? 0 : 1;
}
