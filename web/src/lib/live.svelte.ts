// Rows as they are acknowledged. The newest few thousand are kept; who pauses sees them stand still, and none is lost
// meanwhile that would fit.
import { address, Problem, type Row, type Table } from './api';
import { session } from './session.svelte';

const KEPT = 5_000;

export class Live {
  rows: Row[] = [];
  /** Counts arrivals. */
  turn = $state(0);
  length = $state(0);
  received = $state(0);
  waiting = $state(0);
  paused = $state(false);
  /** Rows in the last seconds, per second. */
  perSecond = $state(0);
  state = $state<'connecting' | 'open' | 'lost'>('connecting');
  problem = $state.raw<Problem | undefined>(undefined);

  private source: EventSource;
  private fresh: Row[] = [];
  private readonly timer: ReturnType<typeof setInterval>;
  private rates: number[] = [];
  private since = 0;

  constructor(q: string, table: Table) {
    this.source = new EventSource(address('/api/v1/tail', { q, table }));
    this.source.addEventListener('open', () => (this.state = 'open'));
    this.source.addEventListener('row', (event) => {
      this.fresh.push(JSON.parse((event as MessageEvent<string>).data) as Row);
      this.since += 1;
      if (this.fresh.length > KEPT) this.fresh.splice(0, this.fresh.length - KEPT);
    });
    this.source.addEventListener('error', (event) => {
      // An event of the hub carries a problem; one of the browser does not, and it connects again by itself.
      const { data } = event as MessageEvent<string | undefined>;
      if (data) {
        this.problem = new Problem(JSON.parse(data) as { status: number });
        this.stop();
      } else if (this.source.readyState === EventSource.CLOSED) {
        this.state = 'lost';
        // Perhaps the session has ended: an event source does not say.
        void session.learn().catch(() => undefined);
      } else this.state = 'connecting';
    });
    this.timer = setInterval(() => this.tick(), 250);
  }

  private tick(): void {
    this.rates = [...this.rates.slice(-11), this.since];
    this.since = 0;
    this.perSecond = (this.rates.reduce((a, b) => a + b, 0) / this.rates.length) * 4;
    if (this.paused) this.waiting = this.fresh.length;
    else this.flush();
  }

  private flush(): void {
    if (this.fresh.length === 0) return;
    this.received += this.fresh.length;
    this.rows = [...this.rows, ...this.fresh].slice(-KEPT);
    this.fresh = [];
    this.waiting = 0;
    this.length = this.rows.length;
    this.turn += 1;
  }

  /** The newest first. */
  at(index: number): Row | undefined {
    return this.rows[this.rows.length - 1 - index];
  }

  toggle(): void {
    this.paused = !this.paused;
    if (!this.paused) this.flush();
  }

  stop(): void {
    clearInterval(this.timer);
    this.source.close();
    this.state = 'lost';
  }
}
