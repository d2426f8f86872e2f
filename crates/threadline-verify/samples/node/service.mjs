// A sample service: express, telemetry by the rendered files. For `threadline contract verify`.

import { end, event, failed, middleware } from './telemetry.mjs';
import express from 'express';

const app = express();
app.use(middleware());
app.get('/orders/:order', (request, response) => {
  event('', `order ${request.params.order} was read`);
  response.json({ order: Number(request.params.order) });
});
app.get('/refused', (request, response) => {
  const attributes = {
    'threadline.outcome': 'failure',
    'threadline.reason': 'expired',
    'threadline.authn.method': 'bearer',
    'client.address': '127.0.0.1',
  };
  event('security.authn.rejected', 'a token was refused: expired', attributes, 13);
  response.status(401).send('a good token is needed');
});
app.get('/broken', () => {
  throw new Error('the shelf is broken');
});
app.use(failed());

const server = app.listen(Number(process.argv[2]), '127.0.0.1');
process.once('SIGTERM', () => {
  server.close(async () => {
    await end();
    process.exit(0);
  });
  server.closeAllConnections();
});
