// Asking again and again while somebody looks: the one way for all that changes by itself.

/** While nothing changes, waits grow up to this many times the shortest. */
const SLOWEST = 4;

export interface Poll {
  /** Asks at once, instead of a question that is under way. Nothing happens once it has been stopped. */
  now(): void;
  /** Ends it for good: nothing is asked, and no answer is told, from now on. */
  stop(): void;
}

export interface Polled<T> {
  /** Milliseconds from an answer to the next question. */
  everyMs: number;
  /** The same after the first answer, where two are needed before anything can be told. */
  firstMs?: number;
  ask: (signal: AbortSignal) => Promise<T>;
  /** Takes an answer; `false` says that it changed nothing, so that the next question may wait longer. */
  told: (answer: T) => boolean | void;
  failed: (error: unknown) => void;
}

/** Asks at once, then after each answer; not while the page is hidden, but then as soon as it is seen again. */
export function poll<T>({ everyMs, firstMs, ask, told, failed }: Polled<T>): Poll {
  let question = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let wait = everyMs;
  let due = false;
  let first = true;
  let stopped = false;

  async function turn(): Promise<void> {
    clearTimeout(timer);
    due = false;
    question.abort();
    const { signal } = (question = new AbortController());
    try {
      const answer = await ask(signal);
      if (signal.aborted) return;
      wait = told(answer) === false ? Math.min(2 * wait, SLOWEST * everyMs) : everyMs;
    } catch (error) {
      if (signal.aborted) return;
      failed(error);
      wait = everyMs;
    }
    timer = setTimeout(next, (first ? firstMs : undefined) ?? wait);
    first = false;
  }
  function next(): void {
    due = document.hidden;
    if (!due) void turn();
  }
  function seen(): void {
    if (due) next();
  }

  document.addEventListener('visibilitychange', seen);
  void turn();
  return {
    now() {
      if (!stopped) void turn();
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
      question.abort();
      document.removeEventListener('visibilitychange', seen);
    },
  };
}

/** Tells of each answer whether it differs from the one before. */
export function changes<T>(): (answer: T) => boolean {
  let before: string | undefined;
  return (answer) => {
    const now = JSON.stringify(answer);
    const changed = now !== before;
    before = now;
    return changed;
  };
}
