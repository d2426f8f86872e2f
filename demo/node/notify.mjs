// The fleet's Node service: express behind mTLS, tokens checked, telemetry by the files that the contract renders.

import { end, event, failed, middleware, watchTls } from './telemetry.mjs';
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import express from 'express';

const folder = process.env.FLEET_FOLDER;
const secret = readFileSync(join(folder, 'tokens.key'));
const pem = (name) => readFileSync(join(folder, 'pki', name));

/** The claims of a good token, else why it is refused. */
function verify(token) {
  if (!token) return { reason: 'missing' };
  const [head, claims, tag, ...rest] = token.split('.');
  if (tag === undefined || rest.length > 0) return { reason: 'malformed' };
  const signed = createHmac('sha256', secret).update(`${head}.${claims}`).digest();
  const shown = Buffer.from(tag, 'base64url');
  if (shown.length !== signed.length || !timingSafeEqual(shown, signed)) return { reason: 'bad_signature' };
  const said = JSON.parse(Buffer.from(claims, 'base64url').toString());
  return said.exp > Date.now() / 1000 ? { claims: said } : { reason: 'expired' };
}

const app = express();
app.disable('x-powered-by');
app.use(middleware({ trustedProxies: ['127.0.0.1'] }));
app.get('/ready', (request, response) => response.send('ready'));
app.use((request, response, next) => {
  const { claims, reason } = verify((request.headers.authorization ?? '').replace(/^Bearer /, ''));
  if (claims) {
    response.locals.userId = claims.sub;
    return next();
  }
  event(
    'security.authn.rejected',
    `a token was refused: ${reason}`,
    {
      'threadline.outcome': 'failure',
      'threadline.reason': reason,
      'threadline.authn.method': 'bearer',
      'client.address': (request.socket.remoteAddress ?? 'unknown').replace(/^::ffff:/, ''),
    },
    13,
  );
  response.status(401).send('a good token is needed');
});
app.post('/mails', express.json(), (request, response) => {
  event('', `mail queued for order ${request.body?.order}`);
  response.json({ queued: true });
});
app.use(failed());

const tls = { cert: pem('notify.pem'), key: pem('notify.key'), ca: pem('ca.pem'), requestCert: true, rejectUnauthorized: true };
const server = watchTls(createServer(tls, app));
server.listen(Number(process.env.FLEET_NOTIFY_PORT), '127.0.0.1');
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    server.close(async () => {
      await end();
      process.exit(0);
    });
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), 2000).unref();
  });
}
