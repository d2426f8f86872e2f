// Keyboard shortcuts: each page says which it has, and the `?` sheet shows exactly those.

import { untrack } from 'svelte';

export interface Shortcut {
  /** As `KeyboardEvent.key`; two in a row are written `g s`. */
  keys: string;
  label: string;
  group: string;
  run: () => void;
}

class Keys {
  shortcuts = $state.raw<readonly Shortcut[]>([]);
  private pending = '';
  private pendingSince = 0;

  /** Adds shortcuts until the returned function is called. */
  add(shortcuts: readonly Shortcut[]): () => void {
    // Whoever adds them in an effect does not depend on what others add.
    this.shortcuts = [...untrack(() => this.shortcuts), ...shortcuts];
    return () => {
      this.shortcuts = untrack(() => this.shortcuts).filter((shortcut) => !shortcuts.includes(shortcut));
    };
  }

  handle(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || typing(event)) return;
    const now = performance.now();
    const first = now - this.pendingSince < 900 ? this.pending : '';
    this.pending = '';
    const found = (keys: string) => this.shortcuts.findLast((shortcut) => shortcut.keys.split(' | ').includes(keys));
    const shortcut = (first && found(`${first} ${event.key}`)) || found(event.key);
    if (shortcut) {
      event.preventDefault();
      shortcut.run();
    } else if (this.shortcuts.some((other) => other.keys.startsWith(`${event.key} `))) {
      this.pending = event.key;
      this.pendingSince = now;
    }
  }
}

/** Whether keys go into a text. */
function typing(event: KeyboardEvent): boolean {
  const target = event.composedPath()[0];
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  // An open dialog has its own keys, Escape too.
  if (document.querySelector('dialog[open]')) return true;
  return target instanceof HTMLInputElement && !/^(checkbox|radio|button|range)$/.test(target.type);
}

export const keys = new Keys();
