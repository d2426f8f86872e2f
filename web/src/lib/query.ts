// The search language as the page needs to know it: pieces to colour and complete, conditions to add and take away.
// What a search means is the hub's business alone (docs/search.md).

export type PieceKind = 'field' | 'op' | 'value' | 'string' | 'regex' | 'keyword' | 'not' | 'paren' | 'word';

export interface Piece {
  kind: PieceKind;
  from: number;
  to: number;
  /** Of a value: the field that it is compared with. */
  field?: string;
}

const FIELD = /(@?"(?:[^"\\]|\\.)*"|@?[A-Za-z_][\w.\-/]*)(>=|<=|!=|:|=|>|<)/y;
const STRING = /~?"(?:[^"\\]|\\.)*"?/y;
const REGEX = /\/(?:[^/\\]|\\.|\/(?![\s)]|$))+\/(?=[\s)]|$)/y;
const WORD = /[^\s()]+/y;

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** The pieces of a search, in order. Never fails: what is no search yet is words. */
export function pieces(text: string): Piece[] {
  const out: Piece[] = [];
  let at = 0;
  let field: string | undefined;
  let group: string | undefined;
  let depth = 0;
  const push = (kind: PieceKind, to: number, of?: string) => {
    out.push(of === undefined ? { kind, from: at, to } : { kind, from: at, to, field: of });
    at = to;
  };
  while (at < text.length) {
    const character = text[at] ?? '';
    if (/\s/.test(character)) {
      at += 1;
      field = undefined;
      continue;
    }
    const of = field ?? group;
    if (character === '(') {
      if (field !== undefined) {
        group = field;
        depth = 0;
      }
      depth += 1;
      push('paren', at + 1);
      field = undefined;
      continue;
    }
    if (character === ')') {
      depth -= 1;
      if (depth <= 0) group = undefined;
      push('paren', at + 1);
      field = undefined;
      continue;
    }
    if (character === '-' && field === undefined && /\S/.test(text[at + 1] ?? ' ')) {
      push('not', at + 1);
      continue;
    }
    const named = field === undefined ? match(FIELD, text, at) : null;
    // A scheme is no field: http://…
    if (named && !(named[2] === ':' && text.startsWith('//', FIELD.lastIndex))) {
      const name = named[1] ?? '';
      push('field', at + name.length);
      push('op', at + (named[2] ?? '').length);
      field = name;
      continue;
    }
    const quoted = match(STRING, text, at);
    if (quoted) {
      push('string', at + quoted[0].length, of);
      field = undefined;
      continue;
    }
    const regex = character === '/' ? match(REGEX, text, at) : null;
    if (regex) {
      push('regex', at + regex[0].length, of);
      field = undefined;
      continue;
    }
    const word = match(WORD, text, at)?.[0] ?? character;
    if (/^(AND|OR|NOT)$/.test(word)) push('keyword', at + word.length);
    else push(of === undefined ? 'word' : 'value', at + word.length, of);
    field = undefined;
  }
  return out;
}

/** A value as it stands after a colon. */
export function quoted(value: string): string {
  const plain = /^[\p{L}\p{N}_][\p{L}\p{N}_.\-/@]*$/u.test(value) && !/^(AND|OR|NOT)$/.test(value);
  return plain ? value : `"${value.replace(/\\/g, '\\\\').replace(/"/g, '\\"')}"`;
}

/** A value of several lines, which a field of one line can hold as a regular expression only. */
const SEVERAL_LINES = /[\n\r]/;
const REGEX_BYTES_MAX = 1_024;
/** What `valueRegex` makes. */
const WHOLE = /^\/\\A([^]*)\\z\/$/;

/** A regular expression that finds this text, with case, as it stands between slashes. */
function textRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/#&\-~]/g, '\\$&').replace(/\n/g, '\\n').replace(/\r/g, '\\r');
}

function ofTextRegex(regex: string): string {
  return regex.replace(/\\([^])/g, (_, letter: string) => (letter === 'n' ? '\n' : letter === 'r' ? '\r' : letter));
}

function valueRegex(value: string): string {
  return `/\\A${textRegex(value)}\\z/`;
}

/** Why no search of one line can ask for a value; undefined when one can. */
export function unsearchable(value: string | null): string | undefined {
  if (value === null || !SEVERAL_LINES.test(value) || new TextEncoder().encode(valueRegex(value)).length <= REGEX_BYTES_MAX) return undefined;
  return 'A search is one line: a value of several lines that is as long as this one cannot stand in it';
}

function written(value: string): string {
  return SEVERAL_LINES.test(value) ? valueRegex(value) : quoted(value);
}

/** The condition that a field has a value; null: that it has none. */
export function condition(field: string, value: string | null, exclude = false): string {
  if (value === null) return exclude ? `${field}:*` : `-${field}:*`;
  const text = field === 'body' && !SEVERAL_LINES.test(value) ? quotedAlways(value) : `${field}:${written(value)}`;
  return exclude ? `-${text}` : text;
}

function quotedAlways(value: string): string {
  return `"${value.replace(/\\/g, '\\\\').replace(/"/g, '\\"')}"`;
}

/**
 * A search as it stands on one line. Line ends between conditions are spaces; what is quoted over several lines becomes
 * a regular expression that finds the same, but for a phrase's bounds.
 */
export function onOneLine(text: string): string {
  if (!SEVERAL_LINES.test(text)) return text;
  const out: string[] = [];
  let at = 0;
  for (const piece of pieces(text)) {
    const raw = text.slice(piece.from, piece.to);
    out.push(text.slice(at, piece.from).replace(/[\n\r]+/g, ' '));
    at = piece.to;
    const closed = piece.kind === 'string' ? /^(~?)"([^]*)"$/.exec(raw) : null;
    if (!closed || !SEVERAL_LINES.test(raw)) out.push(raw.replace(/[\n\r]+/g, ' '));
    else {
      const value = (closed[2] ?? '').replace(/\\(["\\])/g, '$1');
      if (closed[1]) out.push(`/${textRegex(value)}/`);
      else out.push(piece.field === undefined || piece.field === 'body' ? `/(?i)${textRegex(value)}/` : valueRegex(value));
    }
  }
  return out.join('') + text.slice(at).replace(/[\n\r]+/g, ' ');
}

/** The conditions of a search that stand side by side, each as written; undefined when they are joined by OR. */
export function conditions(text: string): string[] | undefined {
  const out: string[] = [];
  let depth = 0;
  let start = -1;
  let end = 0;
  for (const piece of pieces(text)) {
    if (piece.kind === 'keyword' && depth === 0) return undefined;
    const glued = start >= 0 && (piece.from === end || depth > 0);
    if (!glued) {
      if (start >= 0) out.push(text.slice(start, end));
      start = piece.from;
    }
    if (piece.kind === 'paren') depth += text[piece.from] === '(' ? 1 : -1;
    end = piece.to;
  }
  if (start >= 0) out.push(text.slice(start, end));
  return out;
}

/** The value that a piece of a search names alone; undefined for patterns, texts to be contained, networks and the like. */
function plainValue(raw: string): string | undefined {
  const regex = WHOLE.exec(raw)?.[1];
  if (regex !== undefined) return valueRegex(ofTextRegex(regex)) === raw ? ofTextRegex(regex) : undefined;
  if (raw.startsWith('"')) return raw.length > 1 && raw.endsWith('"') ? raw.slice(1, -1).replace(/\\(["\\])/g, '$1') : undefined;
  return quoted(raw) === raw ? raw : undefined;
}

/** The alternatives of `field:value` or `field:(a OR b)`, as written; undefined for any other condition. */
function alternatives(part: string, field: string): string[] | undefined {
  if (!part.startsWith(`${field}:`)) return undefined;
  const [name, op, ...rest] = pieces(part);
  if (!name || op?.kind !== 'op' || part.slice(0, name.to) !== field || op.to !== field.length + 1) return undefined;
  const raw = rest.map((piece) => part.slice(piece.from, piece.to));
  if (rest.length === 1) return plainValue(raw[0] ?? '') === undefined ? undefined : raw;
  if (raw[0] !== '(' || raw[raw.length - 1] !== ')') return undefined;
  const inside = rest.slice(1, -1);
  // a OR b OR c: every second one is the word.
  const fits = inside.length % 2 === 1 && inside.every((piece, i) => (i % 2 === 0 ? /^(value|string|regex)$/.test(piece.kind) : part.slice(piece.from, piece.to) === 'OR'));
  return fits ? inside.filter((_, i) => i % 2 === 0).map((piece) => part.slice(piece.from, piece.to)) : undefined;
}

/** What a search asks of one field: its alternatives, and the conditions beside them. */
function asked(parts: readonly string[], field: string): { any: string[]; rest: string[]; at: number } {
  const any: string[] = [];
  const rest: string[] = [];
  let at = -1;
  for (const part of parts) {
    const found = alternatives(part, field);
    if (!found) rest.push(part);
    else {
      if (at < 0) at = rest.length;
      any.push(...found.filter((one) => !any.includes(one)));
    }
  }
  return { any, rest, at: at < 0 ? rest.length : at };
}

/**
 * Adds a condition; takes it away when it is there; its opposite makes way for it. Values of one field that are asked for
 * are alternatives: a record has one of them.
 */
export function toggled(text: string, field: string, value: string | null, exclude = false): string {
  const wanted = condition(field, value, exclude);
  const opposite = condition(field, value, !exclude);
  const none = condition(field, null);
  const parts = conditions(text);
  if (parts === undefined) return `(${text.trim()}) ${wanted}`;
  // A phrase of the body is a condition of its own: a body may have several.
  if (field === 'body' || (exclude && value === null)) return switched(parts, wanted, opposite);
  const { any, rest, at } = asked(parts, field);
  const isIt = (raw: string) => plainValue(raw) === value;
  const together = (values: string[], others: string[], place: number) => {
    const group = values.length === 0 ? [] : [values.length === 1 ? `${field}:${values[0] ?? ''}` : `${field}:(${values.join(' OR ')})`];
    return [...others.slice(0, place), ...group, ...others.slice(place)].join(' ');
  };
  if (exclude) {
    if (value !== null && any.some(isIt)) return [together(any.filter((raw) => !isIt(raw)), rest, at), wanted].filter(Boolean).join(' ');
    return switched(parts, wanted, opposite);
  }
  // None of the values that are asked for, or no value.
  if (value === null) return rest.includes(wanted) ? rest.filter((part) => part !== wanted).join(' ') : [...rest.filter((part) => part !== opposite && part !== '*'), wanted].join(' ');
  if (any.some(isIt)) return together(any.filter((raw) => !isIt(raw)), rest, at);
  const makesWay = (part: string) => part === opposite || part === none || part === '*';
  const place = rest.slice(0, at).filter((part) => !makesWay(part)).length;
  const left = rest.filter((part) => !makesWay(part));
  return together([...any, written(value)], left, any.length === 0 ? left.length : place);
}

function switched(parts: readonly string[], wanted: string, opposite: string): string {
  if (parts.includes(wanted)) return parts.filter((part) => part !== wanted).join(' ');
  return [...parts.filter((part) => part !== opposite && part !== '*'), wanted].join(' ');
}

/** How a value stands in a search: asked for, alone or among others, excluded, or neither. */
export function standing(parts: readonly string[] | undefined, field: string, value: string | null): 'in' | 'out' | undefined {
  if (!parts) return undefined;
  if (parts.includes(condition(field, value))) return 'in';
  if (value !== null && field !== 'body' && asked(parts, field).any.some((raw) => plainValue(raw) === value)) return 'in';
  return parts.includes(condition(field, value, true)) ? 'out' : undefined;
}

/** The search for records by their numbers, in quarantine or not. */
export function bySeq(numbers: readonly number[]): string {
  return `(${numbers.map((seq) => `seq:${seq}`).join(' OR ')}) (is:quarantined OR -is:quarantined)`;
}

/** The place in a text that a byte of its UTF-8 is at. */
export function atByte(text: string, byte: number): number {
  const encoder = new TextEncoder();
  let seen = 0;
  let at = 0;
  for (const character of text) {
    if (seen >= byte) break;
    seen += encoder.encode(character).length;
    at += character.length;
  }
  return at;
}

/** A trace id, if that is all that was written. */
export function traceId(text: string): string | undefined {
  const id = /^(?:trace:)?"?([0-9a-fA-F]{32})"?$/.exec(text.trim())?.[1];
  return id && !/^0+$/.test(id) ? id.toLowerCase() : undefined;
}

/** Words and phrases that a search looks for in texts, to be marked where they stand. */
export function marks(text: string): string[] {
  const out: string[] = [];
  let negated = false;
  for (const piece of pieces(text)) {
    const raw = text.slice(piece.from, piece.to);
    if (piece.kind === 'not' || (piece.kind === 'keyword' && raw === 'NOT')) {
      negated = true;
      continue;
    }
    const free = piece.field === undefined || piece.field === 'body';
    if (!negated && free && (piece.kind === 'word' || piece.kind === 'string' || piece.kind === 'value')) {
      const inner = raw.replace(/^~?"?/, '').replace(/"$/, '').replace(/\\(["\\])/g, '$1');
      const longest = piece.kind === 'string' ? inner : (inner.split('*').sort((a, b) => b.length - a.length)[0] ?? '');
      if (longest.length > 1) out.push(longest);
    }
    negated = false;
  }
  return out;
}

/** A text cut where the marks stand: every second piece is marked. */
export function marked(text: string, words: readonly string[]): string[] {
  if (words.length === 0) return [text];
  const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|');
  return text.split(new RegExp(`(${pattern})`, 'gi'));
}
