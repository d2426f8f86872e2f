// Text that strangers wrote, made safe to look at. Log content is never markup: it becomes text nodes, and characters
// that would hide, reorder or forge something are shown by their code.

const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** A character's code as one would type it. */
function code(character: string): string {
  const point = character.codePointAt(0) ?? 0;
  return point < 0x100 ? `\\x${point.toString(16).padStart(2, '0')}` : `\\u${point.toString(16).padStart(4, '0')}`;
}

/** Text over several lines: hidden characters are shown, line ends and tabs stay. */
export function shown(text: string): string {
  return text.replace(/\r\n/g, '\n').replace(HIDDEN, code);
}

/** Text on one line: line ends are shown too. At most `max` characters. */
export function oneLine(text: string, max = 1200): string {
  const cut = text.length > max ? `${text.slice(0, max)}…` : text;
  return cut.replace(/\r?\n/g, ' ↵ ').replace(/\t/g, '  ').replace(HIDDEN, code);
}

/** A value of an attribute or a body, as text: strings as they are, everything else as JSON. */
export function valueText(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value === undefined) return '';
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    const entries = Object.entries(value as Record<string, unknown>);
    const [first] = entries;
    if (entries.length === 1 && first?.[0] === '$double') return String(first[1]);
  }
  return JSON.stringify(value);
}

/** A body or value over several lines: JSON is laid out. */
export function laidOut(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value, null, 2) ?? '';
  const text = value.trim();
  if ((text.startsWith('{') && text.endsWith('}')) || (text.startsWith('[') && text.endsWith(']'))) {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // It only looked like JSON.
    }
  }
  return value;
}

const COUNT = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** 168642 -> 168,642. */
export function count(n: number): string {
  return COUNT.format(n);
}

/** 168642 -> 168.6K. */
export function short(n: number): string {
  return n < 10_000 ? COUNT.format(n) : SHORT.format(n);
}

/** A share of a whole: 0.0341 -> 3.4 %. */
export function percent(share: number): string {
  if (!Number.isFinite(share)) return '–';
  if (share === 0) return '0 %';
  const value = share * 100;
  if (value < 0.01) return '<0.01 %';
  return `${value < 10 ? value.toFixed(value < 0.1 ? 2 : 1) : value.toFixed(0)} %`;
}

/** Bytes: 1536 -> 1.5 KiB. */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)} ${units[unit] ?? ''}`;
}

/** A rate per second, or per minute or hour where that reads better. */
export function rate(perSecond: number): string {
  if (perSecond === 0) return '0/s';
  if (perSecond >= 1) return `${perSecond < 100 ? perSecond.toFixed(1) : short(perSecond)}/s`;
  if (perSecond * 60 >= 1) return `${(perSecond * 60).toFixed(1)}/min`;
  return `${(perSecond * 3600).toFixed(1)}/h`;
}
