// Colours that mean something: severities, and one per service.

/** Hues without red, which is for errors. */
const HUES = [190, 265, 320, 145, 230, 75, 295, 110, 210, 345, 165, 250, 55, 130, 280, 305];

function hash(text: string): number {
  let h = 2166136261;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  // The last bits of FNV are weak for short texts.
  h ^= h >>> 15;
  return Math.imul(h, 2246822519) >>> 0;
}

/** Where the hues that services were given are kept, so that they have them tomorrow. */
const KEPT = 'threadline.hues';
/** Services that have a hue of their own, as far as there are hues; the rest have the one of their name. */
const SERVICES_MAX = 2 * HUES.length;
/** Hues this far apart are told apart beside each other. */
const APART = 24;

/** Which service has which place: a hue, vivid; beyond the hues, a pale one. */
let given: Map<string, number> | undefined;

function places(): Map<string, number> {
  if (given) return given;
  given = new Map();
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(KEPT) ?? '{}');
    for (const [service, at] of Object.entries(kept ?? {}).slice(0, SERVICES_MAX)) {
      if (Number.isInteger(at) && at >= 0 && at < 2 * HUES.length) given.set(service, at);
    }
  } catch {
    // No store, or something else in it: services get their hues anew.
  }
  return given;
}

/** Degrees between two hues. */
function apart(a: number, b: number): number {
  const between = Math.abs(a - b) % 360;
  return Math.min(between, 360 - between);
}

/** The place of a new service: the hue of its name, unless it is too like another's; then the one least like all others. */
function placeOf(service: string, taken: Iterable<number>): number {
  const start = hash(service) % HUES.length;
  const places = [...taken];
  for (const from of [0, HUES.length]) {
    const others = places.filter((at) => at >= from && at < from + HUES.length).map((at) => HUES[at - from] ?? 0);
    const room = (at: number) => Math.min(360, ...others.map((hue) => apart(hue, HUES[at] ?? 0)));
    if (room(start) >= APART) return from + start;
    const rest = HUES.map((_, i) => (start + i) % HUES.length);
    const best = rest.reduce((a, b) => (room(b) > room(a) ? b : a));
    if (room(best) > 0) return from + best;
  }
  return start;
}

/** The colour of a service: in this browser the same on every page and every day, in others mostly so. */
export function serviceColour(service: string | null | undefined): string {
  if (!service) return 'var(--text-3)';
  const known = places();
  let at = known.get(service);
  if (at === undefined) {
    at = placeOf(service, known.values());
    if (known.size < SERVICES_MAX) {
      known.set(service, at);
      try {
        localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(known)));
      } catch {
        // They last as long as the page.
      }
    }
  }
  const hue = HUES[at % HUES.length] ?? 190;
  const vivid = at < HUES.length;
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
