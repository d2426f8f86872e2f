// The hub's API as the page uses it: one way to ask, one kind of error, rows as they come.
import type { components } from '../api/schema';
import { session } from './session.svelte';

type Schemas = components['schemas'];
export type Row = Schemas['Row'] & { cursor?: string };
export type Backtest = Schemas['Backtest'];
export type Histogram = Schemas['Histogram'];
export type Fields = Schemas['Fields'];
export type FieldValues = Schemas['FieldValues'];
export type Red = Schemas['Red'];
export type ContractScore = Schemas['ContractScore'];
export type Health = Schemas['Health'];
export type Table = 'logs' | 'spans';
type ProblemBody = Schemas['Problem'];
export type Params = Record<string, string | number | undefined>;

/** What the hub answered instead of what was asked for. */
export class Problem extends Error {
  readonly status: number;
  /** The kind, after `urn:threadline:problem:`. */
  readonly kind: string;
  readonly field: string | undefined;
  /** Bytes of the search that are wrong. */
  readonly at: number | undefined;
  readonly len: number | undefined;

  constructor(body: Partial<ProblemBody> & { status: number }) {
    super(body.detail ?? body.title ?? `the hub answered ${body.status}`);
    this.status = body.status;
    this.kind = (body.type ?? '').replace('urn:threadline:problem:', '');
    this.field = body.field;
    this.at = body.at;
    this.len = body.len;
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** Any error as a problem. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof TypeError) {
    return new Problem({ status: 0, type: 'unreachable', detail: 'The hub does not answer. Is it running, and can this machine reach it?' });
  }
  return new Problem({ status: 0, type: 'unexpected', detail: error instanceof Error ? error.message : String(error) });
}

export function address(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== '') query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

async function ask(url: string, options: RequestInit): Promise<Response> {
  const response = await fetch(url, { credentials: 'same-origin', ...options });
  if (response.ok) return response;
  if (response.status === 401) session.ended();
  throw await problem(response);
}

async function problem(response: Response): Promise<Problem> {
  try {
    return new Problem({ ...((await response.json()) as ProblemBody), status: response.status });
  } catch {
    return new Problem({ status: response.status });
  }
}

/** Asks for JSON. */
export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  const response = await ask(address(path, params), signal ? { signal } : {});
  return (await response.json()) as T;
}

export async function getText(path: string, signal?: AbortSignal): Promise<string> {
  return (await ask(path, signal ? { signal } : {})).text();
}

/** A write. The header tells the hub that the page itself asks, not a form elsewhere. */
export function send(method: 'POST' | 'DELETE', path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { 'X-Threadline-CSRF': '1' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  const options: RequestInit = { method, headers };
  if (body !== undefined) options.body = JSON.stringify(body);
  if (signal) options.signal = signal;
  return ask(path, options);
}

/** Lines of a response, in batches as they arrive. */
async function* lines(response: Response): AsyncGenerator<string[]> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split('\n');
    rest = parts.pop() ?? '';
    if (parts.length > 0) yield parts;
  }
  if (rest) yield [rest];
}

/** Rows of an answer in NDJSON, in batches; a failure midway is thrown after the rows before it. */
export async function* rows<T>(response: Response): AsyncGenerator<T[]> {
  for await (const batch of lines(response)) {
    const out: T[] = [];
    for (const line of batch) {
      if (line.startsWith('{"error":{')) {
        if (out.length > 0) yield out;
        const { error } = JSON.parse(line) as { error: ProblemBody };
        throw new Problem(error);
      }
      if (line) out.push(JSON.parse(line) as T);
    }
    if (out.length > 0) yield out;
  }
}

export async function* search(params: Params, signal?: AbortSignal): AsyncGenerator<Row[]> {
  yield* rows<Row>(await ask(address('/api/v1/search', params), signal ? { signal } : {}));
}

export async function searchAll(params: Params, signal?: AbortSignal): Promise<Row[]> {
  const out: Row[] = [];
  for await (const batch of search(params, signal)) out.push(...batch);
  return out;
}

export type SqlRow = Record<string, unknown>;

export async function* sql(query: string, range: { from?: string; to?: string }, signal?: AbortSignal): AsyncGenerator<SqlRow[]> {
  yield* rows<SqlRow>(await send('POST', '/api/v1/sql', { query, ...range }, signal));
}

export async function sqlAll<T = SqlRow>(query: string, range: { from?: string; to?: string } = {}, signal?: AbortSignal): Promise<T[]> {
  const out: SqlRow[] = [];
  for await (const batch of sql(query, range, signal)) out.push(...batch);
  return out as T[];
}

/** A text in SQL. */
export function sqlText(text: string): string {
  return `'${text.replace(/'/g, "''")}'`;
}
