// Where we are. The address holds every state of a page, so that a link shows the same to whoever opens it.

class Router {
  path = $state(location.pathname);
  params = $state.raw(new URLSearchParams(location.search));

  constructor() {
    addEventListener('popstate', () => this.read());
  }

  private read(): void {
    this.path = location.pathname;
    this.params = new URLSearchParams(location.search);
  }

  /** Goes to an address of ours. */
  go(href: string, replace = false): void {
    if (href === location.pathname + location.search) return;
    history[replace ? 'replaceState' : 'pushState'](null, '', href);
    this.read();
  }

  /** Changes parameters of this address; undefined and '' leave one out. */
  set(changes: Record<string, string | undefined>, replace = false): void {
    const params = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === undefined || value === '') params.delete(name);
      else params.set(name, value);
    }
    this.go(href(this.path, params), replace);
  }
}

export function href(path: string, params: URLSearchParams | Record<string, string | undefined>): string {
  const entries = params instanceof URLSearchParams ? [...params] : Object.entries(params);
  const query = new URLSearchParams(entries.filter((entry): entry is [string, string] => !!entry[1])).toString();
  // Colons, slashes and stars need no escape in a query, and make addresses readable.
  const readable = query.replace(/%3A/g, ':').replace(/%2F/g, '/').replace(/%2C/g, ',');
  return readable ? `${path}?${readable}` : path;
}

export const router = new Router();

/** Lets links within the page change the address instead of loading it again. */
export function follow(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest?.('a');
  if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
  if (/^\/(api|metrics|healthz|openapi\.json|assets)/.test(link.pathname)) return;
  event.preventDefault();
  router.go(link.pathname + link.search);
}

/** The range of this page, for links to another one. */
export function carried(): Record<string, string | undefined> {
  const { params } = router;
  return { since: params.get('since') ?? undefined, from: params.get('from') ?? undefined, to: params.get('to') ?? undefined };
}
