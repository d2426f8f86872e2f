// Telemetry of @SERVICE@ as contract @CONTRACT@ wants it. Written by `threadline contract render`; edit the contract, not this.
//
// Import it first. It configures OpenTelemetry's SDK from the `OTEL_*` variables (OTLP over HTTP, with mTLS where they name
// certificates). `middleware()` (express, connect) continues the caller's trace and leaves `request.finished` for every outcome: also
// 401, 403, 404, 405 and 429, errors that nobody handled, and callers that went away. `inject(headers)` hands the trace on,
// `event(…)` records any other event of the contract, `watchTls(server)` reports handshakes that failed, `end()` sends what waits.
//
// Needs the packages of @opentelemetry, @NODE_SDK@.

import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import {
  context,
  diag,
  DiagConsoleLogger,
  DiagLogLevel,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { logs } from '@opentelemetry/api-logs';
import { W3CBaggagePropagator, W3CTraceContextPropagator, CompositePropagator } from '@opentelemetry/core';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

const METHODS = new Set(['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'CONNECT', 'TRACE', 'QUERY']);
const TEXT_MAX = 2048;

/** The context of whatever runs: OpenTelemetry's own managers for it are a package more. */
class Contexts {
  #current = new AsyncLocalStorage();
  active() {
    return this.#current.getStore() ?? ROOT_CONTEXT;
  }
  with(active, run, self, ...rest) {
    return this.#current.run(active ?? ROOT_CONTEXT, () => run.apply(self, rest));
  }
  bind(active, target) {
    return typeof target === 'function' ? (...rest) => this.with(active, target, undefined, ...rest) : target;
  }
  enable() {
    return this;
  }
  disable() {
    return this;
  }
}

/** Numbers the records of this instance, so that the host can show what was lost. */
class Sequence {
  #last = 0;
  onEmit(record) {
    record.setAttribute('threadline.sequence', ++this.#last);
  }
  onStart(span) {
    span.setAttribute('threadline.sequence', ++this.#last);
  }
  onEnd() {}
  async forceFlush() {}
  async shutdown() {}
}

// Else an exporter that cannot export says nothing at all.
diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);

const given = Object.fromEntries(
  (process.env.OTEL_RESOURCE_ATTRIBUTES ?? '')
    .split(',')
    .filter((pair) => pair.includes('='))
    .map((pair) => [pair.slice(0, pair.indexOf('=')).trim(), decodeURIComponent(pair.slice(pair.indexOf('=') + 1).trim())]),
);
const resource = resourceFromAttributes({
  'service.instance.id': randomUUID().replaceAll('-', ''),
  'threadline.contract.version': '@CONTRACT@',
  'process.pid': process.pid,
  'telemetry.sdk.language': 'nodejs',
  'telemetry.sdk.name': 'opentelemetry',
  'service.name': '@SERVICE@',
  ...given,
  ...(process.env.OTEL_SERVICE_NAME ? { 'service.name': process.env.OTEL_SERVICE_NAME } : {}),
});

const tracers = new TracerProvider({
  resource,
  spanProcessors: [new Sequence(), new BatchSpanProcessor({ exporter: new OTLPTraceExporter(), scheduledDelayMillis: 500 })],
});
const loggers = new LoggerProvider({
  resource,
  processors: [new Sequence(), new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(), scheduledDelayMillis: 500 })],
});
context.setGlobalContextManager(new Contexts());
propagation.setGlobalPropagator(
  new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
);
trace.setGlobalTracerProvider(tracers);
logs.setGlobalLoggerProvider(loggers);
const tracer = trace.getTracer('threadline');
const logger = logs.getLogger('threadline');

/** Records an event of the contract, within the current span. Severity: 9 info, 13 warn, 17 error. */
export function event(eventName, body, attributes = {}, severityNumber = 9) {
  const severityText = severityNumber < 13 ? 'INFO' : severityNumber < 17 ? 'WARN' : 'ERROR';
  const known = Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
  logger.emit({ eventName, body, attributes: known, severityNumber, severityText, timestamp: new Date(), context: context.active() });
}

/** Headers for a request to another service, with the current trace. */
export function inject(headers = {}) {
  propagation.inject(context.active(), headers);
  return headers;
}

/** Options for pino: its lines become records of the current span. Give them to `pino()`, with `event` as `log`'s way out. */
export const pinoOptions = {
  base: undefined,
  hooks: {
    logMethod(parts, method, level) {
      const [first, second] = parts;
      const [attributes, body] = typeof first === 'object' ? [first, second] : [{}, first];
      const { 'otel.event.name': name, ...rest } = attributes ?? {};
      event(name ?? '', String(body ?? ''), rest, { 10: 1, 20: 5, 30: 9, 40: 13, 50: 17, 60: 21 }[level] ?? 9);
      return method.apply(this, parts);
    },
  },
};

/**
 * Outermost of an express app: `app.use(middleware())`, first. `edge: true` is for servers that strangers reach: it trusts no
 * `traceparent`, begins the trace anew, and links what was sent. `trustedProxies` are addresses whose `X-Forwarded-For` is believed.
 */
export function middleware({ edge = false, trustedProxies = [] } = {}) {
  const trusted = new Set(trustedProxies);
  return (request, response, next) => {
    const exchange = begin(request, edge, trusted);
    const { span, active } = exchange;
    const told = span.spanContext();
    const value = `00-${told.traceId}-${told.spanId}-${told.traceFlags.toString(16).padStart(2, '0')}`;
    response.setHeader('traceresponse', value);
    response.appendHeader('server-timing', `trace;desc=${value}`);
    // `close` comes always, after `finish` when the answer was sent as a whole.
    response.once('close', () => context.with(active, () => finish(exchange, request, response)));
    context.with(active, next);
  };
}

function begin(request, edge, trusted) {
  const method = METHODS.has(request.method) ? request.method : '_OTHER';
  const path = request.url.split('?', 1)[0].slice(0, TEXT_MAX);
  const peer = (request.socket.remoteAddress ?? 'unknown').replace(/^::ffff:/, '');
  const named = (request.headers['x-forwarded-for'] ?? '').split(',').map((part) => part.trim()).filter(Boolean);
  let client = peer;
  while (trusted.has(client) && named.length > 0) client = named.pop();
  // Two traceparent headers are none.
  const twice = request.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'traceparent').length > 1;
  const headers = twice ? { ...request.headers, traceparent: undefined } : request.headers;
  let parent = propagation.extract(ROOT_CONTEXT, headers);
  const caller = trace.getSpanContext(parent);
  const links = edge && caller ? [{ context: caller }] : [];
  if (edge) parent = ROOT_CONTEXT;
  const common = { 'http.request.method': method, 'url.path': path, 'client.address': client };
  const agent = request.headers['user-agent'];
  if (agent) common['user_agent.original'] = agent.slice(0, TEXT_MAX);
  const attributes = { ...common, 'url.scheme': request.socket.encrypted ? 'https' : 'http' };
  if (links.length > 0) attributes['threadline.outside.traceparent'] = request.headers.traceparent;
  const span = tracer.startSpan(method, { kind: SpanKind.SERVER, attributes, links }, parent);
  return { span, active: trace.setSpan(parent, span), common, started: process.hrtime.bigint() };
}

function finish({ span, common, started }, request, response) {
  const route = request.route ? (request.baseUrl ?? '') + request.route.path : undefined;
  const whole = response.writableFinished;
  const status = response.headersSent ? response.statusCode : 499;
  let fault = status >= 400 ? String(status) : undefined;
  let outcome = [401, 403, 429].includes(status) ? 'denied' : fault ? 'failure' : 'success';
  if (!whole) [fault, outcome] = ['client_disconnected', 'unknown'];
  const error = response.locals?.threadlineError;
  if (error) {
    fault = error.name;
    const attributes = { 'exception.type': error.name, 'exception.message': error.message, 'exception.stacktrace': error.stack };
    event('http.server.request.exception', `${error.name} was not handled: ${error.message}`, attributes, 17);
  }
  if (route) {
    span.updateName(`${common['http.request.method']} ${route}`);
    span.setAttribute('http.route', route);
  }
  span.setAttribute('http.response.status_code', status);
  if (fault) span.setAttribute('error.type', fault);
  if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
  const duration = Number(process.hrtime.bigint() - started) / 1e9;
  const attributes = { ...common, 'http.response.status_code': status };
  const severity = status >= 500 ? 17 : [401, 403, 404, 429].includes(status) ? 13 : 9;
  event(
    'request.finished',
    `${common['http.request.method']} ${route ?? common['url.path']} ${status} in ${(duration * 1e3).toFixed(1)} ms`,
    {
      ...attributes,
      'threadline.outcome': outcome,
      // An integer would be sent as one: the contract has a double.
      'threadline.duration_s': duration || Number.MIN_VALUE,
      'http.route': route,
      'error.type': fault,
      'user.id': response.locals?.userId,
    },
    severity,
  );
  const reason = status === 405 ? 'method_not_allowed' : status === 404 && !route ? 'no_route' : undefined;
  if (reason && whole) {
    const unknown = { ...attributes, 'threadline.outcome': 'failure', 'threadline.reason': reason };
    event('security.endpoint.unknown', `${common['http.request.method']} ${common['url.path']}: ${reason}`, unknown, 13);
  }
  span.end();
}

/** Last of an express app: `app.use(failed())`. Records an error that nobody handled, and answers 500. */
export function failed() {
  // eslint-disable-next-line no-unused-vars
  return (error, request, response, next) => {
    const status = error.status >= 400 && error.status < 600 ? error.status : 500;
    // A caller's own mistake, as JSON that is none, is no failure of this service.
    if (status >= 500) response.locals.threadlineError = error;
    if (response.headersSent) return response.destroy();
    response.status(status).end();
  };
}

/** Reports handshakes that fail at a TLS server. */
export function watchTls(server) {
  const reasons = {
    CERT_HAS_EXPIRED: 'expired',
    CERT_NOT_YET_VALID: 'expired',
    CERT_REVOKED: 'revoked',
    ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'client_cert_missing',
    ERR_SSL_HTTP_REQUEST: 'plaintext',
    ERR_SSL_WRONG_VERSION_NUMBER: 'plaintext',
    ERR_SSL_UNSUPPORTED_PROTOCOL: 'protocol_version',
    ERR_SSL_NO_SHARED_CIPHER: 'cipher',
    ERR_TLS_HANDSHAKE_TIMEOUT: 'timeout',
    ECONNRESET: 'alert',
  };
  let last = 0;
  server.on('tlsClientError', (error, socket) => {
    const shown = socket.getPeerX509Certificate?.();
    const reason = reasons[error.code] ?? (shown ? 'untrusted' : 'alert');
    event(
      'security.tls.handshake_failed',
      `TLS handshake with ${socket.remoteAddress ?? 'unknown'} failed: ${reason}: ${error.message.trim()}`,
      {
        'threadline.outcome': 'failure',
        'threadline.reason': reason,
        'threadline.tls.side': 'server',
        'threadline.connection.id': `${process.pid}-${++last}`,
        'network.peer.address': (socket.remoteAddress ?? 'unknown').replace(/^::ffff:/, ''),
        'server.port': server.address()?.port ?? 0,
        'tls.established': false,
        'tls.client.subject': shown?.subject,
        'tls.client.issuer': shown?.issuer,
        'tls.client.hash.sha256': shown?.fingerprint256?.replaceAll(':', ''),
      },
      13,
    );
  });
  return server;
}

let ended;
/** Sends what waits; call it when the server has closed. */
export function end() {
  ended ??= (async () => {
    event('service.stopping', '@SERVICE@ stops', { 'threadline.reason': 'request' });
    await Promise.allSettled([tracers.forceFlush(), loggers.forceFlush()]);
    await Promise.allSettled([tracers.shutdown(), loggers.shutdown()]);
  })();
  return ended;
}

process.on('uncaughtExceptionMonitor', (error) => {
  event(
    'exception',
    `nobody handled ${error.name}: ${error.message}`,
    { 'exception.type': error.name, 'exception.message': error.message, 'exception.stacktrace': error.stack },
    17,
  );
});
event('service.started', '@SERVICE@ has started', { 'process.pid': process.pid });
