// What can be written next in a search: fields that the store has, values that it holds, and the language's own words.
import { type Fields, type FieldValues, get, type Table } from './api';
import { pieces, quoted } from './query';
import { oneLine, short } from './text';
import { type Fixed, rangeParams } from './time';

export interface Choice {
  label: string;
  detail?: string;
  apply: string;
  kind: 'field' | 'value' | 'keyword';
}

export interface Choices {
  from: number;
  to: number;
  choices: Choice[];
}

const CLOSED: Record<string, string[]> = {
  severity: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'unset'],
  kind: ['internal', 'server', 'client', 'producer', 'consumer', 'unspecified'],
  status: ['unset', 'ok', 'error'],
  contract: ['ok', 'violated', 'unchecked', 'quarantined', 'redacted'],
  is: ['time_absurd', 'time_missing', 'sender_mismatch'],
};

const ALWAYS: Record<Table, [string, string][]> = {
  logs: [
    ['service', 'service.name'], ['severity', 'level'], ['event', 'event name'], ['trace', 'trace id'], ['body', 'text'], ['instance', 'service.instance.id'],
    ['contract', 'verdict'], ['rule', 'broken rule'], ['is', 'what the hub noted'], ['time', 'event time'], ['span', 'span id'],
  ],
  spans: [
    ['service', 'service.name'], ['name', 'operation'], ['duration', 'as 250ms'], ['status', 'ok, error'], ['kind', 'server, client, …'], ['trace', 'trace id'],
    ['parent', 'parent span'], ['status_message', 'text'], ['event', "name of a span's event"], ['instance', 'service.instance.id'], ['time', 'event time'],
  ],
};

export class Completer {
  private fields: Promise<Fields> | undefined;
  private readonly values = new Map<string, Promise<FieldValues>>();

  constructor(
    private readonly table: Table,
    private readonly fixed: Fixed,
  ) {}

  private asked(): Promise<Fields> {
    this.fields ??= get<Fields>('/api/v1/fields', { table: this.table, ...rangeParams(this.fixed) }).catch(() => ({ fields: [] }));
    return this.fields;
  }

  private valuesOf(field: string): Promise<FieldValues> {
    let values = this.values.get(field);
    if (!values) {
      const path = `/api/v1/fields/${encodeURIComponent(field)}/values`;
      values = get<FieldValues>(path, { table: this.table, limit: 200, ...rangeParams(this.fixed) }).catch(() => ({ name: field, values: [] }));
      this.values.set(field, values);
    }
    return values;
  }

  async at(text: string, position: number): Promise<Choices | undefined> {
    const list = pieces(text);
    const piece = list.find((piece) => piece.from < position && position <= piece.to);
    const before = list.findLast((piece) => piece.to <= position);
    // After `field:`, or within the value that follows.
    const inValue = piece && piece.field !== undefined && piece.kind !== 'paren';
    if (inValue || (before?.kind === 'op' && before.to === position && text[before.from] === ':')) {
      const at = list.indexOf(inValue ? piece : (before as (typeof list)[number]));
      const named = inValue ? piece.field : text.slice(list[at - 1]?.from ?? 0, list[at - 1]?.to ?? 0);
      if (!named) return undefined;
      const from = inValue ? piece.from : position;
      const to = inValue ? piece.to : position;
      const typed = text.slice(from, position).replace(/^~?"?/, '').toLowerCase();
      return { from, to, choices: await this.choicesOf(named, typed) };
    }
    if (piece && piece.kind !== 'word' && piece.kind !== 'field') return undefined;
    const from = piece?.from ?? position;
    const to = piece?.to ?? position;
    const typed = text.slice(from, position).toLowerCase();
    const { fields } = await this.asked();
    const known = new Map(fields.map((field) => [field.name, field]));
    const named: Choice[] = ALWAYS[this.table].map(([name, detail]) => ({
      label: name,
      detail: known.has(name) ? `${detail} · ${short(known.get(name)?.rows ?? 0)}` : detail,
      apply: name === 'duration' ? 'duration>' : `${name}:`,
      kind: 'field',
    }));
    const builtin = new Set(named.map((choice) => choice.label));
    for (const field of fields) {
      if (!builtin.has(field.name)) {
        named.push({ label: oneLine(field.name, 90), detail: `${field.type} · ${short(field.rows)}`, apply: `${field.name}:`, kind: 'field' });
      }
    }
    const choices = named.filter((choice) => choice.label.toLowerCase().includes(typed));
    choices.sort((a, b) => Number(b.label.toLowerCase().startsWith(typed)) - Number(a.label.toLowerCase().startsWith(typed)));
    if (typed && text.slice(0, from).trim()) {
      for (const word of ['AND', 'OR', 'NOT']) {
        if (word.toLowerCase().startsWith(typed)) choices.push({ label: word, apply: `${word} `, kind: 'keyword' });
      }
    }
    return { from, to, choices: choices.slice(0, 60) };
  }

  private async choicesOf(field: string, typed: string): Promise<Choice[]> {
    const closed = CLOSED[field];
    if (closed) {
      return closed.filter((value) => value.startsWith(typed)).map((value) => ({ label: value, apply: `${value} `, kind: 'value' }));
    }
    const { values } = await this.valuesOf(field);
    return values
      .filter((value) => value.value.length <= 300 && value.value.toLowerCase().includes(typed))
      .slice(0, 60)
      .map((value) => ({ label: oneLine(value.value, 90), detail: short(value.rows), apply: `${quoted(value.value)} `, kind: 'value' }));
  }
}
