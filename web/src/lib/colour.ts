// Colours that mean something: severities, and one per service, the same on every page and every day.

/** Hues without red, which is for errors. */
const HUES = [190, 265, 320, 145, 230, 75, 295, 110, 210, 345, 165, 250, 55, 130, 280, 305];

function hash(text: string): number {
  let h = 2166136261;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  // The last bits of FNV are weak for short texts.
  h ^= h >>> 15;
  return Math.imul(h, 2246822519) >>> 0;
}

/** The colour of a service. */
export function serviceColour(service: string | null | undefined): string {
  if (!service) return 'var(--text-3)';
  const h = hash(service);
  const hue = HUES[h % HUES.length] ?? 190;
  const vivid = (h >>> 8) % 2 === 0;
  return `light-dark(oklch(${vivid ? 0.6 : 0.68} ${vivid ? 0.13 : 0.095} ${hue}), oklch(${vivid ? 0.76 : 0.68} ${vivid ? 0.12 : 0.085} ${hue}))`;
}

export type Level = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'unset';

/** The level of a severity number. */
export function levelOf(number: number | undefined): Level {
  if (!number || number < 1) return 'unset';
  return (['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const)[Math.min(5, Math.floor((number - 1) / 4))] ?? 'unset';
}

/** The level that a word names. */
export function levelNamed(name: string | null): Level {
  const word = (name ?? '').toLowerCase().replace(/\d+$/, '');
  if (word.startsWith('warn')) return 'warn';
  if (word.startsWith('err') || word === 'severe') return 'error';
  if (word.startsWith('info') || word === 'notice') return 'info';
  if (word.startsWith('crit') || word === 'fatal' || word === 'panic' || word.startsWith('emerg')) return 'fatal';
  if (word === 'debug' || word === 'trace') return word;
  return 'unset';
}

export const LEVEL_FILL: Record<Level, string> = {
  fatal: 'var(--error-fill)',
  error: 'var(--error-fill)',
  warn: 'var(--warn-fill)',
  info: 'var(--info-fill)',
  debug: 'var(--debug-fill)',
  trace: 'var(--debug-fill)',
  unset: 'var(--debug-fill)',
};

let probe: HTMLElement | undefined;

/** A colour of the page as a canvas takes it. */
export function resolved(colour: string): string {
  probe ??= document.body.appendChild(Object.assign(document.createElement('i'), { hidden: true }));
  probe.style.color = colour;
  return getComputedStyle(probe).color;
}
