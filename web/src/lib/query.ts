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

/** The condition that a field has a value; null: that it has none. */
export function condition(field: string, value: string | null, exclude = false): string {
  if (value === null) return exclude ? `${field}:*` : `-${field}:*`;
  const text = field === 'body' ? quotedAlways(value) : `${field}:${quoted(value)}`;
  return exclude ? `-${text}` : text;
}

function quotedAlways(value: string): string {
  return `"${value.replace(/\\/g, '\\\\').replace(/"/g, '\\"')}"`;
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

/** Adds a condition; takes it away when it is there; its opposite makes way for it. */
export function toggled(text: string, field: string, value: string | null, exclude = false): string {
  const wanted = condition(field, value, exclude);
  const opposite = condition(field, value, !exclude);
  const parts = conditions(text);
  if (parts === undefined) return `(${text.trim()}) ${wanted}`;
  if (parts.includes(wanted)) return parts.filter((part) => part !== wanted).join(' ');
  return [...parts.filter((part) => part !== opposite && part !== '*'), wanted].join(' ');
}

/** How a value stands in a search: asked for, excluded, or neither. */
export function standing(parts: readonly string[] | undefined, field: string, value: string | null): 'in' | 'out' | undefined {
  if (!parts) return undefined;
  if (parts.includes(condition(field, value))) return 'in';
  return parts.includes(condition(field, value, true)) ? 'out' : undefined;
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
