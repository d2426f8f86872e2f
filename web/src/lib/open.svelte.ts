// How many incidents are open, for the navigation: looked up now and then while the page is looked at.
import { get } from './api';
import type { Incidents } from './incident';
import { type Poll, poll } from './poll';

const EVERY_MS = 30_000;

class OpenIncidents {
  /** Undefined while it is not known, or where incidents are not kept. */
  count = $state<number | undefined>(undefined);
  private poll: Poll | undefined;

  /** Looks at once, if it is watched; whoever changes an incident calls it. */
  look(): void {
    this.poll?.now();
  }

  /** Looks again and again, until the returned function is called. */
  watch(): () => void {
    const mine = poll<Incidents>({
      everyMs: EVERY_MS,
      ask: (signal) => get('/api/v1/incidents', { state: 'open', limit: 1 }, signal),
      told: ({ total }) => {
        const changed = this.count !== total;
        this.count = total;
        return changed;
      },
      failed: () => (this.count = undefined),
    });
    this.poll = mine;
    return () => mine.stop();
  }
}

export const openIncidents = new OpenIncidents();
