"""Sends a few logs and spans with the OpenTelemetry SDK and prints each record as a line of JSON, as it was made.

usage: send.py grpc|http ENDPOINT SERVICE none|gzip

A line is what the hub must give back: times in nanoseconds as decimal text, ids in hex, values as typed JSON
(`{"$bytes": base64}` for bytes; a double has a fraction).
"""

import base64
import json
import sys
import time

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

ALL_TYPES = {
    "text": "crème brûlée 日本 \"quoted\" \\ \n end",
    "empty": "",
    "yes": True,
    "no": False,
    "int": 42,
    "negative": -7,
    "int_max": 2**63 - 1,
    "int_min": -(2**63),
    "double": 2.5,
    "whole_double": 3.0,
    "tiny": 1e-300,
    "strings": ["a", "", "ü"],
    "ints": [1, -2, 2**53 + 1],
    "doubles": [0.5, 1.0],
    "bools": [True, False],
    "http.request.method": "POST",
    "http.response.status_code": 503,
}
# Only logs may carry these.
LOG_TYPES = {
    "bytes": b"\x00\xff\x10raw",
    "map": {"inner": {"deep": [1, "two", 3.5, False]}, "key with blank": "v"},
    "mixed": [1, "two", {"three": 3}],
}


def exporters(protocol, endpoint, compression):
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        kind = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        options = {"endpoint": endpoint, "insecure": True, "compression": kind}
        return OTLPLogExporter(**options), OTLPSpanExporter(**options)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    return (
        OTLPLogExporter(endpoint=endpoint + "/v1/logs", compression=kind),
        OTLPSpanExporter(endpoint=endpoint + "/v1/traces", compression=kind),
    )


def typed(value):
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [typed(inner) for inner in value]
    return value


def show_span(span):
    context = span.get_span_context()
    print(json.dumps({
        "table": "spans",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.value + 1,
        "time": str(span.start_time),
        "duration_ns": span.end_time - span.start_time,
        "status_code": span.status.status_code.value,
        "status_message": span.status.description,
        "attributes": typed(span.attributes),
        "events": [
            {"name": event.name, "time": str(event.timestamp), "attributes": typed(event.attributes)}
            for event in span.events
        ],
        "links": [
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "attributes": typed(link.attributes),
            }
            for link in span.links
        ],
    }))


def emit(logger, service_time, span=None, **fields):
    fields.setdefault("attributes", {})
    context = trace.set_span_in_context(span) if span else None
    logger.emit(LogRecord(timestamp=service_time, context=context, **fields))
    ids = span.get_span_context() if span else None
    print(json.dumps({
        "table": "logs",
        "time": str(service_time),
        "trace_id": f"{ids.trace_id:032x}" if ids else None,
        "span_id": f"{ids.span_id:016x}" if ids else None,
        "severity_number": fields["severity_number"].value,
        "severity_text": fields.get("severity_text"),
        "event_name": fields.get("event_name"),
        "body": typed(fields.get("body")),
        "attributes": typed(fields["attributes"]),
    }))


def main(protocol, endpoint, service, compression):
    logs, spans = exporters(protocol, endpoint, compression)
    resource = Resource({"service.name": service, "service.version": "1.2.3", "host.name": "box", "answer": 42})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    tracer = tracers.get_tracer("sender", "0.1", schema_url="https://opentelemetry.io/schemas/1.44.0")
    logger = loggers.get_logger("sender", "0.1")
    now = time.time_ns()

    far = SpanContext(0x0123456789ABCDEF0123456789ABCDEF, 0x0123456789ABCDEF, True, TraceFlags(1))
    root = tracer.start_span("POST /orders", kind=SpanKind.SERVER, attributes=ALL_TYPES,
                             links=[Link(far, {"why": "retry", "attempt": 2})])
    child = tracer.start_span("charge", context=trace.set_span_in_context(root), kind=SpanKind.CLIENT)
    child.add_event("retrying", {"attempt": 1, "wait_s": 0.25})
    child.record_exception(ValueError("card refused"))
    child.set_status(Status(StatusCode.ERROR, "card refused"))
    inner = tracer.start_span("internal", context=trace.set_span_in_context(child))
    inner.set_status(StatusCode.OK)
    emit(logger, now, root, severity_number=SeverityNumber.INFO, severity_text="INFO", body="order taken",
         attributes={**ALL_TYPES, **LOG_TYPES})
    emit(logger, now + 1, child, severity_number=SeverityNumber.ERROR, severity_text="error",
         body="card refused\nsecond line", event_name="payment.refused")
    emit(logger, now + 2, severity_number=SeverityNumber.DEBUG, body={"map": [1, 2.5, b"\x01"], "text": "x"})
    emit(logger, now + 1003, severity_number=SeverityNumber.FATAL4, severity_text="FATAL", body="no trace")
    for span in (inner, child, root):
        span.end()
        show_span(span)
    tracers.shutdown()
    loggers.shutdown()


main(*sys.argv[1:])
