"""Telemetry of @SERVICE@ as contract @CONTRACT@ wants it. Written by `threadline contract render`; edit the contract, not this.

`setup()` configures OpenTelemetry's SDK from the `OTEL_*` variables; `ThreadlineMiddleware` (ASGI: FastAPI, Starlette, Litestar)
continues the caller's trace and leaves `request.finished` for every outcome: also 401, 403, 404, 405 and 429, exceptions that nobody
handled, and callers that went away. `inject(headers)` hands the trace on; `event(...)` records any other event of the contract.

Needs: opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http, @PYTHON_SDK@.
"""

import atexit
import itertools
import logging
import os
import signal
import sys
import threading
import time
import traceback
import uuid

import requests
from opentelemetry import baggage, propagate, trace
from opentelemetry._logs import SeverityNumber, get_logger, set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler, LogRecordProcessor
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

SERVICE = "@SERVICE@"
CONTRACT = "@CONTRACT@"
METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "QUERY"}
TEXT_MAX = 2048
_tracer = trace.get_tracer("threadline")
_logger = get_logger("threadline")
_providers = []


class _Sequence(LogRecordProcessor, SpanProcessor):
    """Numbers the records of this instance, so that the host can show what was lost."""

    def __init__(self):
        self._numbers = itertools.count(1)

    def on_emit(self, log_record):
        record = log_record.log_record
        attributes = dict(record.attributes or {})
        # uvicorn's second message, with the terminal's colours in it.
        attributes.pop("color_message", None)
        attributes["threadline.sequence"] = next(self._numbers)
        record.attributes = attributes
        if not record.timestamp:
            record.timestamp = record.observed_timestamp

    def on_start(self, span, parent_context=None):
        span.set_attribute("threadline.sequence", next(self._numbers))

    def on_end(self, span):
        pass

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30000):
        return True


def setup(level=logging.INFO):
    """Configures the SDK: resource, exporters (OTLP over HTTP, with mTLS where the variables name certificates), `logging`."""
    given = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME", SERVICE),
        "service.instance.id": uuid.uuid4().hex,
        "threadline.contract.version": CONTRACT,
        "process.pid": os.getpid(),
    }
    # OTEL_RESOURCE_ATTRIBUTES wins over these.
    resource = Resource(given).merge(Resource.create())
    if "OTEL_SERVICE_NAME" not in os.environ and resource.attributes["service.name"].startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(_Sequence())
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(session=_session())))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(_Sequence())
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(session=_session()), schedule_delay_millis=500))
    set_logger_provider(loggers)
    _providers[:] = [tracers, loggers]
    root = logging.getLogger()
    root.setLevel(level)
    handler = LoggingHandler(logger_provider=loggers)
    # The exporter's own lines would be exported, and make more.
    handler.addFilter(lambda line: not line.name.startswith(("opentelemetry", "urllib3", "requests")))
    root.addHandler(handler)
    # What the exporter cannot send it is to say, if not to the host.
    complaints = logging.StreamHandler(sys.stderr)
    complaints.setLevel(logging.WARNING)
    logging.getLogger("opentelemetry").addHandler(complaints)
    for name in ("uvicorn", "uvicorn.error", "gunicorn.error"):
        logging.getLogger(name).propagate = True
    # `request.finished` says what the access log says, and more.
    logging.getLogger("uvicorn.access").disabled = True
    threading.excepthook = _thread_failed
    atexit.register(shutdown)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # By itself SIGTERM ends Python without `atexit`; servers raise it again when they have closed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    event("service.started", "%s has started" % SERVICE, **{"process.pid": os.getpid()})


def _session():
    session = requests.Session()
    # REQUESTS_CA_BUNDLE would win over the authority that OTEL_EXPORTER_OTLP_CERTIFICATE names.
    session.trust_env = "OTEL_EXPORTER_OTLP_CERTIFICATE" not in os.environ
    return session


def shutdown():
    """Sends what waits; a second call does nothing."""
    if _providers:
        event("service.stopping", "%s stops" % SERVICE, **{"threadline.reason": "request"})
    while _providers:
        provider = _providers.pop()
        provider.force_flush(5000)
        provider.shutdown()


def event(name, message, severity=SeverityNumber.INFO, **attributes):
    """Records an event of the contract, within the current span. Attributes by their keys: `**{"user.id": "u-1"}`."""
    now = time.time_ns()
    _logger.emit(
        timestamp=now,
        observed_timestamp=now,
        severity_number=severity,
        severity_text="INFO" if severity.value < 13 else "WARN" if severity.value < 17 else "ERROR",
        body=message,
        attributes={key: value for key, value in attributes.items() if value is not None},
        event_name=name,
    )


def inject(headers=None):
    """Headers for a request to another service, with the current trace."""
    headers = {} if headers is None else headers
    propagate.inject(headers)
    return headers


def _thread_failed(arguments):
    text = "".join(traceback.format_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback))
    event(
        "exception",
        "a thread failed: %s" % arguments.exc_value,
        SeverityNumber.ERROR,
        **_exception(arguments.exc_type, arguments.exc_value, text),
    )


def _exception(kind, value, text):
    return {"exception.type": kind.__qualname__, "exception.message": str(value)[:TEXT_MAX], "exception.stacktrace": text}


class ThreadlineMiddleware:
    """Outermost of an ASGI app: `app.add_middleware(ThreadlineMiddleware)`, last.

    `edge=True` is for servers that strangers reach: it trusts no `traceparent`, begins the trace anew, and links what was sent.
    `trusted_proxies` are addresses whose `X-Forwarded-For` is believed.
    """

    def __init__(self, app, edge=False, trusted_proxies=()):
        self.app = app
        self.edge = edge
        self.trusted = frozenset(trusted_proxies)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        await _Exchange(self, scope).run(receive, send)


class _Exchange:
    """One request, from its head to the last byte of its answer."""

    def __init__(self, layer, scope):
        self.app, self.scope, self.edge = layer.app, scope, layer.edge
        self.started = time.perf_counter()
        headers = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        self.headers = headers
        self.method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        self.path = scope["path"][:TEXT_MAX]
        self.client = self._client(layer.trusted)
        self.user_agent = headers.get("user-agent", [None])[0]
        self.status = None
        self.complete = False

    def _client(self, trusted):
        peer = (self.scope.get("client") or ("unknown", 0))[0]
        named = [part.strip() for value in self.headers.get("x-forwarded-for", []) for part in value.split(",")]
        client = peer
        while client in trusted and named:
            client = named.pop()
        return client

    def _context(self):
        # Two traceparent headers are none.
        carrier = {name: ",".join(values) for name, values in self.headers.items()}
        if len(self.headers.get("traceparent", [])) > 1:
            carrier.pop("traceparent")
        return propagate.extract(carrier)

    async def run(self, receive, send):
        # Newer FastAPI begins the server's span by itself.
        current = trace.get_current_span()
        if current.get_span_context().is_valid and not self.edge:
            self.own = False
            return await self._within(current, receive, send)
        self.own = True
        with trace.use_span(self._begin(), end_on_exit=True, record_exception=False, set_status_on_exception=False) as span:
            await self._within(span, receive, send)

    def _begin(self):
        context, links, outside = self._context(), [], None
        caller = trace.get_current_span(context).get_span_context()
        if self.edge:
            if caller.is_valid:
                links, outside = [Link(caller)], self.headers["traceparent"][0]
            context = baggage.clear(trace.set_span_in_context(trace.INVALID_SPAN, context))
        attributes = {
            "http.request.method": self.method,
            "url.path": self.path,
            "url.scheme": self.scope.get("scheme", "http"),
            "client.address": self.client,
            "user_agent.original": self.user_agent,
            "threadline.outside.traceparent": outside,
        }
        attributes = {key: value for key, value in attributes.items() if value is not None}
        return _tracer.start_span(self.method, context, SpanKind.SERVER, attributes, links)

    async def _within(self, span, receive, send):
        error = None
        try:
            await self.app(self.scope, receive, self._sender(send, span))
        except BaseException as failure:
            error = failure
            raise
        finally:
            self._finish(span, error)

    def _sender(self, send, span):
        async def tell(message):
            if message["type"] == "http.response.start":
                self.status = message["status"]
                told = span.get_span_context()
                value = "00-%032x-%016x-%02x" % (told.trace_id, told.span_id, told.trace_flags)
                message.setdefault("headers", [])
                message["headers"] = list(message["headers"]) + [
                    (b"traceresponse", value.encode()),
                    (b"server-timing", b"trace;desc=" + value.encode()),
                ]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.complete = True

        return tell

    def _finish(self, span, error):
        route = getattr(self.scope.get("route"), "path", None)
        fault = None
        if error is not None and not isinstance(error, Exception):
            # Cancelled: the caller went away, or the server stops.
            outcome, fault, status = "unknown", "client_disconnected", self.status or 499
        elif error is not None:
            outcome, fault, status = "failure", type(error).__qualname__, self.status or 500
        elif not self.complete:
            outcome, fault, status = "unknown", "client_disconnected", self.status or 499
        else:
            status = self.status
            fault = str(status) if status >= 400 else None
            outcome = "denied" if status in (401, 403, 429) else "failure" if fault else "success"
        if route:
            span.update_name("%s %s" % (self.method, route))
            span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        if fault:
            span.set_attribute("error.type", fault)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        if isinstance(error, Exception) and self.own:
            text = "".join(traceback.format_exception(error))
            event(
                "http.server.request.exception",
                "%s was not handled: %s" % (type(error).__qualname__, error),
                SeverityNumber.ERROR,
                **_exception(type(error), error, text),
            )
        severity = SeverityNumber.INFO
        if status >= 500:
            severity = SeverityNumber.ERROR
        elif status in (401, 403, 404, 429):
            severity = SeverityNumber.WARN
        duration = time.perf_counter() - self.started
        common = {
            "http.request.method": self.method,
            "url.path": self.path,
            "http.response.status_code": status,
            "client.address": self.client,
            "user_agent.original": self.user_agent,
        }
        event(
            "request.finished",
            "%s %s %d in %.1f ms" % (self.method, route or self.path, status, duration * 1e3),
            severity,
            **common,
            **{
                "threadline.outcome": outcome,
                "threadline.duration_s": duration,
                "http.route": route,
                "error.type": fault,
                "user.id": self.scope.get("state", {}).get("user_id"),
            },
        )
        reason = "method_not_allowed" if status == 405 else "no_route" if status == 404 and not route else None
        if reason and error is None:
            event(
                "security.endpoint.unknown",
                "%s %s: %s" % (self.method, self.path, reason),
                SeverityNumber.WARN,
                **common,
                **{"threadline.outcome": "failure", "threadline.reason": reason},
            )
