// Who looks at the page. A hub without tokens needs no session; one with them answers 401 until there is one.

export interface Who {
  /** Of the token; null where the hub asks for none. */
  name?: string | null;
  roles?: string[];
  /** Known by a session, which can be ended. */
  session?: boolean;
}

/** Whether somebody may change incidents and see how the hub is; while it is not known who looks, nothing is offered. */
export function mayAct(who: Who | undefined): boolean {
  return (who?.roles ?? []).some((role) => role === 'operate' || role === 'admin');
}

/** Whether somebody may see what is kept; not before it is known who looks. */
export function mayRead(who: Who | undefined): boolean {
  return (who?.roles ?? []).some((role) => role === 'read' || role === 'admin');
}

class Session {
  /** Some answer was 401: a token is needed. */
  signedOut = $state(false);
  /** Known after signing in, or when the hub said so. */
  who = $state<Who | undefined>(undefined);
  /** Why signing out failed. */
  problem = $state<string | undefined>(undefined);
  /** Counts sessions, so that pages ask again after signing in. */
  turn = $state(0);

  ended(): void {
    this.signedOut = true;
    this.problem = undefined;
    this.who = undefined;
  }

  /** Asks who we are; a hub that has no sessions leaves it unknown. */
  async learn(): Promise<void> {
    const response = await fetch('/api/v1/session', { credentials: 'same-origin' });
    if (response.ok) this.who = (await response.json()) as Who;
    else if (response.status === 401) this.ended();
  }

  /** Trades a token for a session; an error is a sentence for people. */
  async begin(token: string): Promise<string | undefined> {
    let response: Response;
    try {
      response = await fetch('/api/v1/session', {
        method: 'POST',
        credentials: 'same-origin',
        headers: { 'content-type': 'application/json', 'X-Threadline-CSRF': '1' },
        body: JSON.stringify({ token }),
      });
    } catch {
      return 'The hub does not answer. Is it running, and can this machine reach it?';
    }
    if (response.ok) {
      this.signedOut = false;
      this.turn += 1;
      await this.learn();
      return undefined;
    }
    if (response.status === 429) {
      const wait = response.headers.get('retry-after');
      return `Too many failures from this address. Try again ${wait ? `in ${wait} s` : 'later'}.`;
    }
    if (response.status === 401) return 'The hub does not know this token: it may be mistyped, expired or revoked.';
    try {
      return ((await response.json()) as { detail?: string }).detail ?? `The hub answered ${response.status}.`;
    } catch {
      return `The hub answered ${response.status}.`;
    }
  }

  /** Ends the session; what kept it from ending is in `problem`. Only the hub can end it: its cookie is out of our reach. */
  async end(): Promise<void> {
    this.problem = undefined;
    try {
      const response = await fetch('/api/v1/session', { method: 'DELETE', credentials: 'same-origin', headers: { 'X-Threadline-CSRF': '1' } });
      // 401: there was none any more.
      if (response.ok || response.status === 401) this.ended();
      else this.problem = `You are still signed in: the hub answered ${response.status}. Try again.`;
    } catch {
      this.problem = 'You are still signed in: the hub does not answer. Try again when it does.';
    }
  }
}

export const session = new Session();
