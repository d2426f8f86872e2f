// A sample service: net/http, telemetry by the rendered files. For `threadline contract verify`.
package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"sample/telemetry"
)

// What a service's own middleware does: continue the caller's trace, and leave request.finished.
func handle(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := otel.Tracer("sample").Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	status, outcome, level := http.StatusOK, "success", slog.LevelInfo
	switch {
	case strings.HasPrefix(r.URL.Path, "/orders/"):
		slog.InfoContext(ctx, "an order was read")
	case r.URL.Path == "/refused":
		status, outcome, level = http.StatusUnauthorized, "denied", slog.LevelWarn
		slog.WarnContext(ctx, "a token was refused: expired", "otel.event.name", "security.authn.rejected",
			"threadline.outcome", "failure", "threadline.reason", "expired",
			"threadline.authn.method", "bearer", "client.address", "127.0.0.1")
	case r.URL.Path == "/broken":
		status, outcome, level = http.StatusInternalServerError, "failure", slog.LevelError
	default:
		status, outcome, level = http.StatusNotFound, "failure", slog.LevelWarn
	}
	attributes := []any{
		"otel.event.name", "request.finished", "threadline.outcome", outcome, "http.request.method", r.Method,
		"url.path", r.URL.Path, "http.response.status_code", status, "threadline.duration_s", time.Since(started).Seconds(),
		"client.address", "127.0.0.1",
	}
	if status >= 400 {
		attributes = append(attributes, "error.type", strconv.Itoa(status))
	}
	slog.Log(ctx, level, r.Method+" "+r.URL.Path, attributes...)
	w.WriteHeader(status)
}

func main() {
	shutdown, err := telemetry.Setup(context.Background())
	if err != nil {
		panic(err)
	}
	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: http.HandlerFunc(handle)}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		_ = server.Close()
	}()
	_ = server.ListenAndServe()
	if err := shutdown(context.Background()); err != nil {
		panic(err)
	}
}
