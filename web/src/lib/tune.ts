// What a back-test says of rules that find much (docs/detection.md, "Tuning"), and taking over the exception it suggests.
import type { Backtest } from './api';

/** Findings from which on a rule is noisy, as for `threadline rules tune`. */
export const NOISY = 10;

export interface Shared {
  field: string;
  values: { value: string; share: number }[];
}

export interface Noisy {
  id: string;
  title: string;
  findings: number;
  per_day: number;
  entities: Shared[];
  shared: Shared[];
  exception: { field: string; value: string; yaml: string; rules: { id: string; title: string }[]; removes: number; leaves: number } | null;
}

/** The schema leaves open what one is. */
export function noisyOf(answer: Backtest): Noisy[] {
  return (answer.noisy ?? []) as unknown as Noisy[];
}

/** Rules with an exception below the one with this id; undefined where it is not there, or has something at that place already. */
export function withException(rules: string, id: string, block: string): string | undefined {
  const parts = rules.split(/^(---[ \t]*(?:#.*)?\n)/m);
  const at = parts.findIndex((part, i) => i % 2 === 0 && new RegExp(`^id:[ \\t]*(['"]?)${id.replace(/[^\w-]/g, '\\$&')}\\1[ \\t]*(?:#.*)?$`, 'm').test(part));
  const part = parts[at];
  if (part === undefined || /^threadline[ \t]*:/m.test(part)) return undefined;
  parts[at] = `${part.trimEnd()}\n${block.trimEnd()}\n`;
  return parts.join('');
}
