// Package telemetry sets up OpenTelemetry for @SERVICE@ by contract @CONTRACT@. Written by `threadline contract render`.
package telemetry

import (
	"context"
	"log/slog"
	"os"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/otelconf"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/log/global"
	"go.opentelemetry.io/otel/propagation"
)

// Setup reads otel.yaml and makes log/slog send its records. Call what it returns before the program ends.
//
// An event: slog.InfoContext(ctx, "…", "otel.event.name", "request.finished", "url.path", path).
func Setup(ctx context.Context) (func(context.Context) error, error) {
	text, err := os.ReadFile("otel.yaml")
	if err != nil {
		return nil, err
	}
	config, err := otelconf.ParseYAML(text)
	if err != nil {
		return nil, err
	}
	sdk, err := otelconf.NewSDK(otelconf.WithContext(ctx), otelconf.WithOpenTelemetryConfiguration(*config))
	if err != nil {
		return nil, err
	}
	otel.SetTracerProvider(sdk.TracerProvider())
	global.SetLoggerProvider(sdk.LoggerProvider())
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	slog.SetDefault(otelslog.NewLogger("@SERVICE@"))
	return sdk.Shutdown, nil
}
