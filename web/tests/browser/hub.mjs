// Hubs: each is a process with a folder and ports of its own, and ends when we do.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const binary = process.env.THREADLINE_BINARY ?? '../target/debug/threadline';

/** Those that run: none outlives us, however we end. */
const running = new Map();
process.on('exit', () => {
  for (const [child, folder] of running) {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

function freePort() {
  return new Promise((done, failed) => {
    const server = createServer().on('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** Starts a hub with an empty folder, or with a copy of another's data; settings as in the environment, without `THREADLINE_`. */
export async function start(settings = {}, from) {
  const folder = mkdtempSync(join(tmpdir(), 'threadline-page-'));
  const data = join(folder, 'data');
  if (from) cpSync(from, data, { recursive: true });
  const [api, http, grpc] = [await freePort(), await freePort(), await freePort()];
  const env = {
    ...process.env,
    THREADLINE_DATA_DIR: data,
    THREADLINE_API_ADDRESS: `127.0.0.1:${api}`,
    THREADLINE_OTLP_HTTP_ADDRESS: `127.0.0.1:${http}`,
    THREADLINE_OTLP_GRPC_ADDRESS: `127.0.0.1:${grpc}`,
    ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`THREADLINE_${name}`, value])),
  };
  const child = spawn(binary, ['serve'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.set(child, folder);
  let said = '';
  let ended;
  child.stdout.on('data', (text) => (said += text));
  child.stderr.on('data', (text) => (said += text));
  child.on('error', (error) => (ended = error.message));
  child.on('exit', (code) => (ended ??= `it ended with ${code}`));
  const url = `http://127.0.0.1:${api}`;
  const hub = {
    url,
    otlp: `http://127.0.0.1:${http}`,
    folder,
    /** Makes a token; what it is. */
    token: (name, ...roles) => execFileSync(binary, ['token', 'create', name, '--role', roles.join(','), '--data', data], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).match(/tl_[\w-]+/)?.[0] ?? '',
    async stop() {
      const over = ended === undefined ? new Promise((done) => child.on('exit', done)) : undefined;
      child.kill('SIGTERM');
      await over;
      running.delete(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  const end = performance.now() + 30_000;
  while (!(await fetch(`${url}/healthz`).then((response) => response.ok, () => false))) {
    if (ended !== undefined || performance.now() > end) {
      await hub.stop();
      throw new Error(`no hub by ${binary} (THREADLINE_BINARY): ${ended ?? 'not ready within 30 s'}\n${said.slice(-2_000)}`);
    }
    await new Promise((done) => setTimeout(done, 50));
  }
  return hub;
}

/** Runs a test with a hub of its own, which ends with it. */
export async function withHub(settings, body) {
  const hub = await start(settings);
  try {
    await body(hub);
  } finally {
    await hub.stop();
  }
}

/** Sends logs of a service: `[body, attributes, event]`. */
export async function sendLogs(hub, service, logs, headers = {}) {
  const attributes = (of) => Object.entries(of).map(([key, value]) => ({ key, value: { stringValue: value } }));
  const logRecords = logs.map(([body, more = {}, eventName], i) => ({
    timeUnixNano: String(BigInt(Date.now()) * 1_000_000n + BigInt(i)), severityNumber: 9, severityText: 'INFO', ...(body === undefined ? {} : { body: { stringValue: body } }), attributes: attributes(more), ...(eventName ? { eventName } : {}),
  }));
  const response = await fetch(`${hub.otlp}/v1/logs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ resourceLogs: [{ resource: { attributes: attributes({ 'service.name': service, 'service.instance.id': `${service}-1`, 'deployment.environment.name': 'test' }) }, scopeLogs: [{ logRecords }] }] }),
  });
  if (!response.ok) throw new Error(`/v1/logs: ${response.status} ${await response.text()}`);
}
