// The hub's metrics in Prometheus' text format, as far as the page needs to read them.

export interface Sample {
  labels: Record<string, string>;
  value: number;
}

export class Metrics {
  private readonly samples = new Map<string, Sample[]>();

  constructor(
    text: string,
    readonly atMs: number,
  ) {
    for (const line of text.split('\n')) {
      if (!line || line.startsWith('#')) continue;
      const found = /^threadline_([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (!found) continue;
      const labels: Record<string, string> = {};
      for (const [, name, value] of (found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) if (name) labels[name] = value ?? '';
      const list = this.samples.get(found[1] ?? '') ?? [];
      list.push({ labels, value: Number(found[3]) });
      this.samples.set(found[1] ?? '', list);
    }
  }

  all(name: string): Sample[] {
    return this.samples.get(name) ?? [];
  }

  /** The sum over all labels; undefined where there is none. */
  sum(name: string, labels: Record<string, string> = {}): number | undefined {
    const fits = this.all(name).filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value));
    return fits.length === 0 ? undefined : fits.reduce((sum, sample) => sum + sample.value, 0);
  }

  /** A quantile of a histogram, by its buckets' upper bounds; of what came after `before` where that is given. */
  quantile(name: string, q: number, before?: Metrics, labels: Record<string, string> = {}): number | undefined {
    const sums = (metrics: Metrics | undefined) => {
      const out = new Map<number, number>();
      for (const sample of metrics?.all(`${name}_bucket`) ?? []) {
        if (!Object.entries(labels).every(([key, value]) => sample.labels[key] === value)) continue;
        const bound = sample.labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(sample.labels.le);
        out.set(bound, (out.get(bound) ?? 0) + sample.value);
      }
      return out;
    };
    const [now, then] = [sums(this), sums(before)];
    const bounds = [...now.keys()].sort((a, b) => a - b);
    const counts = bounds.map((bound) => (now.get(bound) ?? 0) - (then.get(bound) ?? 0));
    const total = counts[counts.length - 1] ?? 0;
    if (total <= 0) return undefined;
    const i = counts.findIndex((count) => count >= total * q);
    const bound = bounds[i] ?? 0;
    return Number.isFinite(bound) ? bound : bounds[i - 1];
  }
}

/** A gauge at each look; a look without it repeats the one before. */
export function gauges(looks: readonly Metrics[], name: string): number[] {
  return carried(looks.map((look) => look.sum(name)));
}

/** A quantile of what came between each two looks; where nothing came, it stays. */
export function quantiles(looks: readonly Metrics[], name: string, q: number): number[] {
  return carried(looks.slice(1).map((look, i) => look.quantile(name, q, looks[i])));
}

function carried(values: readonly (number | undefined)[]): number[] {
  let last = values.find((value) => value !== undefined) ?? 0;
  return values.map((value) => (last = value ?? last));
}
