// The two hubs that tests share, each started once.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { binary, start } from './hub.mjs';

const run = process.env.THREADLINE_FLEET ?? '';
if (!existsSync(join(run, 'notices.ndjson'))) {
  throw new Error('THREADLINE_FLEET names no folder of a run of the fleet: fleet run --hub …/threadline --for 30s --folder DIR');
}

/** A hub with what `data.mjs` sends, and nothing else. */
export const own = await start();

/** A hub with all that the demo's hub held when its run had ended, and a day of another system. */
export const fleet = await start({}, join(run, 'data'));
const day = (process.env.THREADLINE_DAY ?? '').split(delimiter).filter(Boolean);
if (day.length > 0) execFileSync(binary, ['import', ...day, '--hub', fleet.url], { stdio: ['ignore', 'inherit', 'inherit'] });

/** What the receivers of the demo were told: `receiver`, `type`, `incident`, `title`, `url`. */
export const notices = readFileSync(join(run, 'notices.ndjson'), 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));

export async function stop() {
  await Promise.all([own.stop(), fleet.stop()]);
}
