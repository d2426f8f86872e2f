// A browser, a way to fail, and a count at the end in the words of cargo's tests, so that one reader counts both.
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { own, stop } from './hubs.mjs';

/** The hub of tests that name no other. */
export const hub = own.url;
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
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
  figure(what, ms, 'ms');
}

/** Tells a figure at the end. */
export function figure(what, value, unit) {
  timings.push(`${what.padEnd(64)} ${value.toFixed(0).padStart(6)} ${unit}`);
}

export async function shot(page, name) {
  await page.screenshot({ path: join(screens, `${name}.png`) });
}

/** Until something is so; what is not so within ten seconds is a failure. */
export async function until(what, is, ms = 10_000) {
  const end = performance.now() + ms;
  for (;;) {
    if (await is()) return;
    check(performance.now() < end, `not within ${ms} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 40));
  }
}

/** What is wrong with how a page looks: in light and dark, wide and narrow. */
export async function looks(page, name) {
  const wrong = [];
  // By the debugger's protocol: the page's own policy lets no foreign script in.
  await page.evaluate(axeSource);
  for (const [theme, width] of [['light', 1280], ['dark', 1280], ['dark', 390], ['light', 390]]) {
    await page.emulateMedia({ colorScheme: theme });
    await page.setViewportSize({ width, height: width < 500 ? 844 : 800 });
    await page.waitForTimeout(250);
    await shot(page, `${name}-${theme}-${width}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) wrong.push(`${name} at ${width}: ${wide} px wider than the window`);
    const found = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'], resultTypes: ['violations'] }));
    wrong.push(...found.violations.map((one) => `${theme} ${width}: ${one.id} (${one.impact}): ${one.nodes.slice(0, 3).map((node) => `${node.target.join(' ')} ${node.failureSummary?.split('\n')[1] ?? ''}`).join(' | ')}`));
  }
  return wrong;
}

/** An answer of a hub in JSON. */
export async function json(path, at = hub) {
  const response = await fetch(at + path);
  check(response.ok, `${path}: ${response.status}`);
  return response.json();
}

/** Rows of an answer of a hub. */
export async function rows(path, at = hub) {
  const response = await fetch(at + path);
  check(response.ok, `${path}: ${response.status}`);
  return (await response.text()).split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

/** A page as a test: what is waited for is drawn, without a fault, and axe finds nothing. */
export function place(name, path, ready, at = hub) {
  return test(`page ${name}: drawn, no fault, axe finds nothing`, async () => {
    const page = await open(path, { at });
    await page.waitForSelector(ready, { timeout: 15_000, state: 'attached' });
    await page.waitForLoadState('networkidle', { timeout: 3_000 }).catch(() => undefined);
    await page.evaluate(() => document.fonts.ready);
    const wrong = await looks(page, name);
    wrong.push(...page.faults);
    page.faults.length = 0;
    await close(page);
    check(wrong.length === 0, wrong.join('\n'));
  });
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
  await stop();
  if (timings.length > 0) console.log(`\nfigures, reported and not judged:\n${timings.join('\n')}`);
  console.log(`screens are in ${screens}`);
  console.log(`test result: ${counts.failed === 0 ? 'ok' : 'FAILED'}. ${counts.passed} passed; ${counts.failed} failed; 0 ignored; 0 measured; 0 filtered out`);
  process.exitCode = counts.failed === 0 ? 0 : 1;
}
