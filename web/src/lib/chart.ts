// What charts have in common: axes, zone, cursor.
import uPlot from 'uplot';
import { resolved } from './colour';
import { prefs } from './prefs.svelte';
import { short } from './text';

const FONT = '11px Geist, system-ui, sans-serif';

export function tzDate(): (seconds: number) => Date {
  return prefs.zone === 'utc'
    ? (seconds) => uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC')
    : (seconds) => new Date(seconds * 1000);
}

/** Labels of a time axis: as coarse as its steps, with the day where it changes. */
const two = (n: number) => String(n).padStart(2, '0');
function timeLabels(u: uPlot, splits: number[], _axis: number, _space: number, step: number): string[] {
  const date = tzDate();
  let before = '';
  return splits.map((seconds) => {
    const d = date(seconds);
    const day = `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
    if (step >= 86_400) {
      const text = step >= 86_400 * 28 ? day.slice(0, 7) : day.slice(5);
      return text;
    }
    const clock = `${two(d.getHours())}:${two(d.getMinutes())}${step < 60 ? `:${two(d.getSeconds())}` : ''}${step < 1 ? `.${String(d.getMilliseconds()).padStart(3, '0')}` : ''}`;
    const long = (u.scales.x?.max ?? 0) - (u.scales.x?.min ?? 0) > 86_400;
    const changed = long && day !== before;
    before = day;
    return changed ? `${day.slice(5)} ${clock}` : clock;
  });
}

export function timeAxis(): uPlot.Axis {
  return {
    stroke: resolved('var(--text-3)'),
    font: FONT,
    size: 20,
    gap: 4,
    space: 76,
    values: timeLabels,
    grid: { show: false },
    ticks: { show: true, stroke: resolved('var(--line)'), width: 1, size: 3 },
    border: { show: true, stroke: resolved('var(--line)'), width: 1 },
  };
}

export function valueAxis(format: (value: number) => string = short, size = 46): uPlot.Axis {
  return {
    stroke: resolved('var(--text-3)'),
    font: FONT,
    size,
    gap: 6,
    space: 26,
    values: (_u, splits) => splits.map((value) => format(value)),
    grid: { show: true, stroke: resolved('var(--line)'), width: 1, dash: [2, 3] },
    ticks: { show: false },
  };
}
