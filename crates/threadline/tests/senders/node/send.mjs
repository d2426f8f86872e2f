// Sends a few logs and spans with the OpenTelemetry SDK and prints each record as a line of JSON, as it was made.
//
// usage: send.mjs grpc|http|json ENDPOINT SERVICE none|gzip
//
// A line is what the hub must give back: times in nanoseconds as decimal text, ids in hex, values as typed JSON
// (`{"$bytes": base64}` for bytes). JavaScript has no whole doubles: 3.0 is the integer 3 here and on the wire.

import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

const ALL_TYPES = {
  text: 'crème brûlée 日本 "quoted" \\ \n end',
  empty: '',
  yes: true,
  no: false,
  int: 42,
  negative: -7,
  int_safe_max: Number.MAX_SAFE_INTEGER,
  double: 2.5,
  tiny: 1e-300,
  strings: ['a', '', 'ü'],
  ints: [1, -2, 3],
  doubles: [0.5, 1.5],
  bools: [true, false],
  'http.request.method': 'POST',
  'http.response.status_code': 503,
};
// Only logs may carry these.
const LOG_TYPES = {
  bytes: new Uint8Array([0, 255, 16, 114, 97, 119]),
  map: { inner: { deep: [1, 'two', 3.5, false] }, 'key with blank': 'v' },
  mixed: [1, 'two', { three: 3 }],
};

async function exporters(protocol, endpoint, compression) {
  const kind = { grpc: 'grpc', http: 'proto', json: 'http' }[protocol];
  const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${kind}`);
  const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${kind}`);
  const options = (path) => ({ url: protocol === 'grpc' ? endpoint : endpoint + path, compression });
  return [new OTLPLogExporter(options('/v1/logs')), new OTLPTraceExporter(options('/v1/traces'))];
}

function typed(value) {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('base64') };
  if (Array.isArray(value)) return value.map(typed);
  if (value === undefined) return null;
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, typed(inner)]));
}

const nanos = ([seconds, rest]) => BigInt(seconds) * 1_000_000_000n + BigInt(rest);
const show = (record) => console.log(JSON.stringify(record));

function showSpan(span) {
  const { traceId, spanId } = span.spanContext();
  show({
    table: 'spans',
    trace_id: traceId,
    span_id: spanId,
    parent_span_id: span.parentSpanContext?.spanId ?? null,
    name: span.name,
    kind: span.kind + 1,
    time: String(nanos(span.startTime)),
    duration_ns: Number(nanos(span.endTime) - nanos(span.startTime)),
    status_code: span.status.code,
    status_message: span.status.message ?? null,
    attributes: typed(span.attributes),
    events: span.events.map((event) => ({
      name: event.name,
      time: String(nanos(event.time)),
      attributes: typed(event.attributes ?? {}),
    })),
    links: span.links.map((link) => ({
      trace_id: link.context.traceId,
      span_id: link.context.spanId,
      attributes: typed(link.attributes ?? {}),
    })),
  });
}

function emit(logger, timestamp, span, fields) {
  const context = span ? trace.setSpan(ROOT_CONTEXT, span) : ROOT_CONTEXT;
  logger.emit({ timestamp, context, ...fields });
  const ids = span?.spanContext();
  show({
    table: 'logs',
    time: String(nanos(timestamp)),
    trace_id: ids?.traceId ?? null,
    span_id: ids?.spanId ?? null,
    severity_number: fields.severityNumber,
    severity_text: fields.severityText ?? null,
    event_name: fields.eventName ?? null,
    body: typed(fields.body),
    attributes: typed(fields.attributes ?? {}),
  });
}

const [protocol, endpoint, service, compression] = process.argv.slice(2);
const [logs, spans] = await exporters(protocol, endpoint, compression);
const resource = resourceFromAttributes({
  'service.name': service,
  'service.version': '1.2.3',
  'host.name': 'box',
  answer: 42,
});
const tracers = new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter: spans })] });
const loggers = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: logs })] });
const tracer = tracers.getTracer('sender', '0.1');
const logger = loggers.getLogger('sender', '0.1');

const far = { traceId: '0123456789abcdef0123456789abcdef', spanId: '0123456789abcdef', traceFlags: TraceFlags.SAMPLED, isRemote: true };
const root = tracer.startSpan('POST /orders', {
  kind: SpanKind.SERVER,
  attributes: ALL_TYPES,
  links: [{ context: far, attributes: { why: 'retry', attempt: 2 } }],
}, ROOT_CONTEXT);
const child = tracer.startSpan('charge', { kind: SpanKind.CLIENT }, trace.setSpan(ROOT_CONTEXT, root));
child.addEvent('retrying', { attempt: 1, wait_s: 0.25 });
child.recordException(new Error('card refused'));
child.setStatus({ code: SpanStatusCode.ERROR, message: 'card refused' });
const inner = tracer.startSpan('internal', {}, trace.setSpan(ROOT_CONTEXT, child));
inner.setStatus({ code: SpanStatusCode.OK });

const now = Date.now();
const at = (extra) => [Math.floor(now / 1000), (now % 1000) * 1_000_000 + extra];
emit(logger, at(0), root, {
  severityNumber: SeverityNumber.INFO,
  severityText: 'INFO',
  body: 'order taken',
  attributes: { ...ALL_TYPES, ...LOG_TYPES },
});
emit(logger, at(1), child, {
  severityNumber: SeverityNumber.ERROR,
  severityText: 'error',
  body: 'card refused\nsecond line',
  eventName: 'payment.refused',
});
emit(logger, at(2), null, {
  severityNumber: SeverityNumber.DEBUG,
  body: { map: [1, 2.5, new Uint8Array([1])], text: 'x' },
});
emit(logger, at(1003), null, { severityNumber: SeverityNumber.FATAL4, severityText: 'FATAL', body: 'no trace' });
for (const span of [inner, child, root]) {
  span.end();
  showSpan(span);
}
await tracers.shutdown();
await loggers.shutdown();
