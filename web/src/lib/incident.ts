// Incidents as people work with them (docs/incidents.md): what may be done with one, and where its evidence is looked up.
import type { components } from '../api/schema';
import { get } from './api';
import { href } from './router.svelte';
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

/** The incident that a finding is part of; undefined where no incident that is kept has it. */
export async function incidentOf(seq: number, signal: AbortSignal): Promise<Incident | undefined> {
  return (await get<Incidents>('/api/v1/incidents', { finding: seq, limit: 1 }, signal)).incidents[0];
}
