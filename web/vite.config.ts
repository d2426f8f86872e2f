// Builds the page into `dist`: hashed files under `assets`, each also compressed, so that the hub serves bytes as they are.
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

const hub = process.env.THREADLINE_HUB ?? 'http://127.0.0.1:7311';

/** Writes `x.br` and `x.gz` beside every text file of the build. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    async buildStart() {
      // All but .gitignore, which keeps the folder in the repository: cargo watches it.
      for (const name of await readdir('dist')) if (name !== '.gitignore') await rm(join('dist', name), { recursive: true });
    },
    async closeBundle() {
      const entries = await readdir('dist', { recursive: true });
      const texts = entries.filter((name) => /\.(js|css|html|svg|txt)$/.test(name));
      await Promise.all(
        texts.map(async (name) => {
          const path = join('dist', name);
          const bytes = await readFile(path);
          const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
          await writeFile(`${path}.br`, await promisify(brotliCompress)(bytes, quality));
          await writeFile(`${path}.gz`, await promisify(gzip)(bytes, { level: 9 }));
        }),
      );
    },
  };
}

export default defineConfig({
  plugins: [svelte(), compressed()],
  build: {
    target: ['chrome123', 'firefox128', 'safari17.5'],
    assetsInlineLimit: 0,
    emptyOutDir: false,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: {
    host: '127.0.0.1',
    port: 5173,
    proxy: Object.fromEntries(
      ['/api', '/healthz', '/metrics', '/openapi.json'].map((path) => [path, { target: hub, changeOrigin: true }]),
    ),
  },
  test: { include: ['tests/unit/**/*.test.ts'] },
});
