// A record's fields as the page shows and searches them.
import type { Row } from './api';
import { levelNamed, levelOf, type Level } from './colour';
import { valueText } from './text';

/** The level of a record; spans are errors or not. */
export function levelOfRow(row: Row): Level {
  if (row.severity_number) return levelOf(row.severity_number);
  if (row.severity) return levelNamed(row.severity);
  if (row.status === 'error') return 'error';
  return 'unset';
}

/** Five letters at most. */
export function levelShort(row: Row): string {
  const level = levelOfRow(row);
  if (level === 'unset') return row.severity ? row.severity.slice(0, 5) : '';
  return level;
}

const OWN = new Set(['service', 'instance', 'severity', 'event', 'name', 'kind', 'status', 'status_message', 'body']);

/** A field of a record by the name that one searches it by. */
export function fieldText(row: Row, field: string): string {
  if (OWN.has(field)) return valueText((row as Record<string, unknown>)[field]);
  if (field === 'severity_text') return valueText(row.severity);
  if (field === 'trace') return row.trace_id ?? '';
  if (field === 'span') return row.span_id ?? '';
  if (field === 'parent') return row.parent_span_id ?? '';
  if (field === 'seq') return row.seq === undefined ? '' : String(row.seq);
  if (field === 'rule' || field === 'contract' || field === 'is') return (row.verdict ?? []).join(', ');
  if (field === 'scope') return valueText((row.scope as { name?: string } | undefined)?.name);
  const key = field.replace(/^@"?|"$/g, '');
  const attributes = row.attributes as Record<string, unknown> | undefined;
  const resource = row.resource as Record<string, unknown> | undefined;
  const scope = (row.scope as { attributes?: Record<string, unknown> } | undefined)?.attributes;
  return valueText(attributes?.[key] ?? resource?.[key] ?? scope?.[key]);
}

const FIELDS = new Set([
  'service', 'instance', 'severity', 'severity_text', 'event', 'trace', 'span', 'parent', 'name', 'status_message', 'kind', 'status', 'duration', 'time', 'body',
  'scope', 'scope.version', 'seq', 'is', 'contract', 'rule',
]);

/** How one searches an attribute. */
export function attributeField(key: string): string {
  const plain = /^[A-Za-z_][\w.\-/]*$/.test(key);
  if (!plain) return `@"${key.replace(/\\/g, '\\\\').replace(/"/g, '\\"')}"`;
  return FIELDS.has(key) ? `@${key}` : key;
}

/** What stands for a record in one line. */
export function mainText(row: Row): string {
  if (row.body !== undefined && row.body !== null) return valueText(row.body);
  if (row.name !== undefined) return row.status_message ? `${row.name} — ${row.status_message}` : row.name;
  return row.event ?? '';
}

/** A record's line when it has no body: its attributes in short. */
export function summary(row: Row): string {
  const text = mainText(row);
  if (row.body !== undefined || row.name !== undefined) return text;
  const attributes = Object.entries((row.attributes ?? {}) as Record<string, unknown>);
  return [text, ...attributes.map(([key, value]) => `${key}=${valueText(value)}`)].filter(Boolean).join('  ');
}
