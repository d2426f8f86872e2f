// How many incidents are open, for the navigation: looked up now and then while the page is looked at.
import { get, isAbort } from './api';
import type { Incidents } from './incident';

const EVERY_MS = 30_000;

class OpenIncidents {
  /** Undefined while it is not known, or where incidents are not kept. */
  count = $state<number | undefined>(undefined);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private abort: AbortController | undefined;

  /** Looks at once; whoever changes an incident calls it. */
  async look(): Promise<void> {
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    try {
      this.count = (await get<Incidents>('/api/v1/incidents', { state: 'open', limit: 1 }, abort.signal)).total;
    } catch (error) {
      if (!isAbort(error)) this.count = undefined;
    }
  }

  /** Looks again and again, until the returned function is called. */
  watch(): () => void {
    const again = async () => {
      if (!document.hidden) await this.look();
      this.timer = setTimeout(() => void again(), EVERY_MS);
    };
    void again();
    return () => {
      clearTimeout(this.timer);
      this.abort?.abort();
    };
  }
}

export const openIncidents = new OpenIncidents();
