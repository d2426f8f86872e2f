// Incidents as people work with them (docs/incidents.md): what may be done with one, and where its evidence is looked up.
import type { components } from '../api/schema';
import { get } from './api';
import { href } from './router.svelte';
import { count } from './text';
import { iso, readMoment } from './time';

type Schemas = components['schemas'];
export type Incident = Schemas['Incident'];
export type Incidents = Schemas['Incidents'];
export type Report = Schemas['IncidentReport'];
export type Query = Schemas['IncidentQuery'];
export type Silence = Schemas['Silence'];
export type Preview = Schemas['SilencePreview'];
export type Item = NonNullable<Report['timeline']>[number];
export type State = Incident['state'];

/** What the list can be asked for; `live` are the first three. */
export const STATES = ['live', 'open', 'acknowledged', 'snoozed', 'resolved', 'merged', 'all'] as const;
export const STATE_NAMES: Record<(typeof STATES)[number], string> = { live: 'Live', open: 'Open', acknowledged: 'Acknowledged', snoozed: 'Snoozed', resolved: 'Resolved', merged: 'Merged', all: 'All' };

export type Action = 'acknowledge' | 'assign' | 'snooze' | 'resolve' | 'reopen' | 'note' | 'merge';

/** What leads on from a state. */
export const ACTIONS: Record<State, readonly Action[]> = {
  open: ['acknowledge', 'assign', 'snooze', 'resolve', 'merge', 'note'],
  acknowledged: ['assign', 'snooze', 'resolve', 'merge', 'note'],
  snoozed: ['acknowledge', 'assign', 'snooze', 'resolve', 'merge', 'note'],
  resolved: ['reopen', 'note'],
  merged: [],
};

/** Other incidents by how much they have in common with one: services, then what its alerts are grouped by, then nearness in time. */
export function kinship(others: readonly Incident[], one: Incident): Incident[] {
  const mine = new Set(one.services ?? []);
  const group = Object.entries(one.group ?? {});
  const at = momentOf(one.last_seen) ?? 0;
  const rank = (other: Incident) => [
    (other.services ?? []).filter((service) => mine.has(service)).length,
    group.filter(([name, value]) => other.group?.[name] === value).length,
    -Math.abs((momentOf(other.last_seen) ?? 0) - at),
  ];
  return others
    .filter((other) => other.id !== one.id)
    .map((other) => ({ other, ranks: rank(other) }))
    .sort((a, b) => b.ranks.map((value, i) => value - (a.ranks[i] ?? 0)).find((difference) => difference !== 0) ?? 0)
    .map(({ other }) => other);
}

/** A moment of an incident, µs. */
export function momentOf(text: string | undefined | null): number | undefined {
  return text ? readMoment(text) : undefined;
}

/** From a while before its first finding to a while after its last: clocks differ, and causes lie before. */
export function rangeOf(incident: Pick<Incident, 'first_seen' | 'last_seen'>, minutes = 60): { from?: string; to?: string } {
  const [first, last] = [momentOf(incident.first_seen), momentOf(incident.last_seen)];
  if (first === undefined || last === undefined) return {};
  return { from: iso(Math.floor((first - minutes * 60e6) / 1e6) * 1e6), to: iso(Math.ceil((last + minutes * 60e6) / 1e6) * 1e6) };
}

/** The page for a search of an incident. */
export function searchHref(query: Query, range: { from?: string; to?: string }): string {
  return href('/search', { q: query.query, table: query.table === 'spans' ? 'spans' : undefined, ...(range.from ? range : { since: 'all' }) });
}

/** A condition on a label, as silences have them. */
export function matcher(name: string, value: string): string {
  return `${name}="${value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')}"`;
}

/** What would mute the alerts of an incident: the labels that make them one; without any, its rules. */
export function matchersOf(incident: Incident): string[] {
  const group = Object.entries((incident.group ?? {}) as Record<string, string>).filter(([, value]) => value !== '');
  if (group.length > 0) return group.map(([name, value]) => matcher(name, value));
  const rules = incident.rules ?? [];
  return rules.length === 0 ? [] : [rules.length === 1 ? matcher('rule', rules[0] ?? '') : `rule=~"${rules.map((rule) => rule.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|').replace(/\\/g, '\\\\').replace(/"/g, '\\"')}"`];
}

/** Lines of a text as matchers. */
export function matcherLines(text: string): string[] {
  return text.split('\n').map((line) => line.trim()).filter(Boolean);
}

/** Of a long timeline the two ends; how many are between. */
export function ends<T>(list: readonly T[], each: number): { head: readonly T[]; hidden: number; tail: readonly T[] } {
  if (list.length <= 2 * each + 1) return { head: list, hidden: 0, tail: [] };
  return { head: list.slice(0, each), hidden: list.length - 2 * each, tail: list.slice(-each) };
}

/** What findings rest on, beside them on the timeline. */
export function isEvidence(item: Pick<Item, 'kind'>): boolean {
  return item.kind === 'record' || item.kind === 'span' || item.kind === 'trace';
}

/** The record or span among the others of its time, or the trace. */
export function evidenceHref(item: Item): string | undefined {
  const [query] = item.queries ?? [];
  if (!query) return undefined;
  const range = rangeOf({ first_seen: item.time, last_seen: item.time });
  const trace = item.kind === 'trace' ? /(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])/.exec(query.query)?.[0] : undefined;
  return trace ? href(`/trace/${trace}`, range) : searchHref(query, range);
}

/** An item of a timeline, or so much evidence in a row that it would bury what it is evidence of. */
export type Line = { item: Item } | { fold: string; items: Item[] };

/** Evidence in a row that is shown before the rest of it is folded. */
const EVIDENCE_SHOWN = 3;

/** The lines of a timeline: long runs of evidence are folded, but for those that are open. */
export function lines(timeline: readonly Item[], open: ReadonlySet<string>): Line[] {
  const all: Line[] = [];
  for (let at = 0; at < timeline.length; ) {
    let end = at + 1;
    const [first] = timeline.slice(at, end);
    if (first && isEvidence(first)) while (timeline[end] && isEvidence(timeline[end] as Item)) end += 1;
    const run = timeline.slice(at, end);
    const fold = `${first?.time} ${first?.kind} ${first?.queries?.[0]?.query ?? ''}`;
    // To fold one alone saves nothing.
    const shown = run.length > EVIDENCE_SHOWN + 1 && !open.has(fold) ? EVIDENCE_SHOWN : run.length;
    all.push(...run.slice(0, shown).map((item) => ({ item })));
    if (shown < run.length) all.push({ fold, items: run.slice(shown) });
    at = end;
  }
  return all;
}

/** How many items lines stand for. */
export function itemsOf(all: readonly Line[]): number {
  return all.reduce((sum, line) => sum + ('item' in line ? 1 : line.items.length), 0);
}

/** How much evidence of each kind: `6 records, 1 trace`. */
export function evidenceText(items: readonly Pick<Item, 'kind'>[]): string {
  return (['record', 'span', 'trace'] as const)
    .map((kind) => [kind, items.filter((item) => item.kind === kind).length] as const)
    .filter(([, n]) => n > 0)
    .map(([kind, n]) => `${count(n)} ${kind}${n === 1 ? '' : 's'}`)
    .join(', ');
}

type Graph = Schemas['Services'];
type Reached = NonNullable<NonNullable<Report['blast_radius']>['services']>;

/** The part of the map of services that was touched, with those that call it and are called by it. */
export function touchedGraph(graph: Graph, reached: Reached): Graph {
  const touched = new Set(reached.map((service) => service.name));
  const edges = graph.edges.filter((edge) => touched.has(edge.caller) || touched.has(edge.callee));
  const near = new Set([...touched, ...edges.flatMap((edge) => [edge.caller, edge.callee])]);
  const services = graph.services.filter((service) => near.has(service.service));
  const known = new Set(services.map((service) => service.service));
  // Touched outside the time of the map.
  const others = reached.filter((service) => !known.has(service.name)).map((service) => ({
    service: service.name, requests: { count: 0, errors: 0 }, rate: 0, spans: service.spans, logs: 0, error_logs: 0,
  }));
  return { ...graph, edges, services: [...services, ...others] };
}

export interface Depth {
  /** Calls from where it happened; null: beside it in the same traces. */
  hops: number | null;
  name: string;
  services: Reached;
}

/** What was touched by how many calls below the offender it lies, what lies beside it last. */
export function depths(reached: Reached): Depth[] {
  const of = new Map<number | null, Reached>();
  for (const service of reached) of.set(service.hops ?? null, [...(of.get(service.hops ?? null) ?? []), service]);
  const name = (hops: number | null) => (hops === null ? 'In the same traces, not below' : hops === 0 ? 'Where it happened' : hops === 1 ? 'One call below' : `${hops} calls below`);
  return [...of]
    .sort(([a], [b]) => (a ?? Number.POSITIVE_INFINITY) - (b ?? Number.POSITIVE_INFINITY))
    .map(([hops, services]) => ({ hops, name: name(hops), services }));
}

/** The incident that a finding is part of; undefined where no incident that is kept has it. */
export async function incidentOf(seq: number, signal: AbortSignal): Promise<Incident | undefined> {
  return (await get<Incidents>('/api/v1/incidents', { finding: seq, limit: 1 }, signal)).incidents[0];
}
