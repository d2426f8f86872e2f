// Answers as files.
import { address, type Params, type Row, search } from './api';
import { fieldText } from './record';
import { valueText } from './text';

export const CSV_ROWS_MAX = 100_000;

/** A value in CSV. What a spreadsheet would take for a formula gets an apostrophe. */
export function csv(text: string): string {
  const tame = /^[=+\-@\t\r]/.test(text) && !/^[+-]?\d+(\.\d+)?$/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(tame) ? `"${tame.replace(/"/g, '""')}"` : tame;
}

export function save(name: string, parts: BlobPart[], type: string): void {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = Object.assign(document.createElement('a'), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The address of all rows as NDJSON: the browser downloads it as the hub streams it. */
export function ndjsonAddress(params: Params): string {
  return address('/api/v1/search', { ...params, limit: 1_000_000 });
}

/** All rows as CSV, with the columns of the table. */
export async function saveCsv(params: Params, columns: readonly string[], onrows: (rows: number) => void): Promise<void> {
  const names = params.table === 'spans' ? ['service', 'name', ...columns] : ['severity', 'service', 'event', ...columns];
  const head = ['time', ...names, ...(params.table === 'spans' ? ['duration_ns'] : ['body']), 'trace', 'span'];
  const line = (row: Row) =>
    [
      row.time,
      ...names.map((name) => fieldText(row, name)),
      params.table === 'spans' ? String(row.duration_ns ?? '') : valueText(row.body),
      row.trace_id ?? '',
      row.span_id ?? '',
    ]
      .map(csv)
      .join(',');
  const parts = [`${head.map(csv).join(',')}\r\n`];
  let rows = 0;
  for await (const batch of search({ ...params, limit: CSV_ROWS_MAX })) {
    parts.push(batch.map((row) => `${line(row)}\r\n`).join(''));
    rows += batch.length;
    onrows(rows);
  }
  save('threadline.csv', parts, 'text/csv');
}
