import { beforeEach, describe, expect, it, vi } from 'vitest';

const store = new Map<string, string>();
vi.stubGlobal('localStorage', {
  getItem: (key: string) => store.get(key) ?? null,
  setItem: (key: string, value: string) => void store.set(key, value),
});

const hueOf = (colour: string) => Number(/oklch\([\d.]+ [\d.]+ (\d+)\)/.exec(colour)?.[1]);
const apart = (a: number, b: number) => Math.min(Math.abs(a - b) % 360, 360 - (Math.abs(a - b) % 360));

let serviceColour: (service: string) => string;

/** As a page that is loaded anew. */
async function load(): Promise<void> {
  vi.resetModules();
  ({ serviceColour } = await import('../../src/lib/colour'));
}

beforeEach(async () => {
  store.clear();
  await load();
});

describe('colours of services', () => {
  it('are told apart in one trace', () => {
    const names = ['edge', 'orders', 'recommend', 'catalogue', 'payment', 'notify', 'threadline'];
    const hues = names.map((name) => hueOf(serviceColour(name)));
    for (const [i, a] of hues.entries()) for (const b of hues.slice(i + 1)) expect(apart(a, b)).toBeGreaterThanOrEqual(20);
  });

  it('stay, also when the page is loaded anew and others came first', async () => {
    const before = ['edge', 'orders', 'recommend'].map((name) => serviceColour(name));
    await load();
    serviceColour('another');
    expect(['edge', 'orders', 'recommend'].map((name) => serviceColour(name))).toEqual(before);
  });

  it('differ for as many services as there are places, and are there for more', () => {
    const many = Array.from({ length: 32 }, (_, i) => serviceColour(`service-${i}`));
    expect(new Set(many).size).toBe(32);
    expect(serviceColour('one more')).toContain('oklch');
  });

  it('are given anew when the store holds something else', async () => {
    for (const wrong of ['', 'x', '[]', 'null', '{"edge":"red"}', '{"edge":99}']) {
      store.set('threadline.hues', wrong);
      await load();
      expect(serviceColour('edge')).toContain('oklch');
    }
  });
});
