// A sample service: the JDK's HTTP server, slf4j, the OpenTelemetry agent with the rendered files. For `threadline contract verify`.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

public final class Sample {
  private static final Logger LOG = LoggerFactory.getLogger(Sample.class);

  private Sample() {}

  // What a service's own filter does: leave request.finished. The agent continues the caller's trace.
  private static void handle(HttpExchange exchange) throws IOException {
    long started = System.nanoTime();
    String path = exchange.getRequestURI().getPath();
    int status = 404;
    if (path.startsWith("/orders/")) {
      status = 200;
      LOG.info("an order was read");
    } else if (path.equals("/refused")) {
      status = 401;
      LOG.atWarn()
          .addKeyValue("otel.event.name", "security.authn.rejected")
          .addKeyValue("threadline.outcome", "failure")
          .addKeyValue("threadline.reason", "expired")
          .addKeyValue("threadline.authn.method", "bearer")
          .addKeyValue("client.address", "127.0.0.1")
          .log("a token was refused: expired");
    } else if (path.equals("/broken")) {
      status = 500;
    }
    Level level = status >= 500 ? Level.ERROR : status >= 400 ? Level.WARN : Level.INFO;
    var event =
        LOG.atLevel(level)
            .addKeyValue("otel.event.name", "request.finished")
            .addKeyValue("threadline.outcome", status == 200 ? "success" : status == 401 ? "denied" : "failure")
            .addKeyValue("http.request.method", exchange.getRequestMethod())
            .addKeyValue("url.path", path)
            .addKeyValue("client.address", exchange.getRemoteAddress().getAddress().getHostAddress())
            .addKeyValue("http.response.status_code", status)
            .addKeyValue("threadline.duration_s", (System.nanoTime() - started) / 1e9);
    if (status >= 400) {
      event = event.addKeyValue("error.type", Integer.toString(status));
    }
    event.log("{} {}", exchange.getRequestMethod(), path);
    exchange.sendResponseHeaders(status, -1);
    exchange.close();
  }

  public static void main(String[] arguments) throws IOException {
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 0);
    server.createContext("/", Sample::handle);
    server.start();
  }
}
