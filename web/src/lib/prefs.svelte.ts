// What a person likes, kept in this browser: theme, zone of times. Nothing here changes what a page answers.
import type { Zone } from './time';

export type Theme = 'system' | 'light' | 'dark';

function read(name: string): string | null {
  try {
    return localStorage.getItem(`threadline.${name}`);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(`threadline.${name}`, value);
  } catch {
    // A browser that keeps nothing is no fault of ours.
  }
}

class Prefs {
  theme = $state<Theme>((read('theme') as Theme | null) ?? 'system');
  zone = $state<Zone>(read('zone') === 'utc' ? 'utc' : 'local');
  facets = $state(read('facets') !== 'off');
  /** Counts changes of theme, so that canvases are drawn again. */
  painted = $state(0);

  setTheme(theme: Theme): void {
    this.theme = theme;
    write('theme', theme);
    this.apply();
  }

  nextTheme(): void {
    const order: Theme[] = ['system', 'light', 'dark'];
    this.setTheme(order[(order.indexOf(this.theme) + 1) % 3] ?? 'system');
  }

  setZone(zone: Zone): void {
    this.zone = zone;
    write('zone', zone);
    this.painted += 1;
  }

  setFacets(on: boolean): void {
    this.facets = on;
    write('facets', on ? 'on' : 'off');
  }

  apply(): void {
    if (this.theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
    this.painted += 1;
  }
}

export const prefs = new Prefs();
prefs.apply();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => prefs.apply());
