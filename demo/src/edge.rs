//! nginx as the fleet's edge: before the Rust services with the rendered configuration, as a company has it. It writes lines, and
//! `threadline import --follow` sends them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::mesh::identity;
use crate::run::write;

/// Its name in the fleet.
pub(crate) const NAME: &str = "edge";
/// Where it writes its lines, in its folder.
const LINES: &str = "threadline.json";

/// What leads where: how nginx tells it, the route as the contract has it, the service.
const ROUTES: [(&str, &str, &str); 4] = [
    ("~ ^/items/[^/]+$", "/items/{id}", "catalogue"),
    ("= /orders", "/orders", "orders"),
    ("~ ^/orders/[^/]+$", "/orders/{id}", "orders"),
    ("~ ^/admin/[^/]+$", "/admin/{what}", "orders"),
];

/// Writes its configuration beside the rendered one; the command that runs it in the foreground.
pub(crate) fn nginx(program: &Path, folder: &Path, places: &[(&'static str, u16)]) -> Result<Command> {
    let place = folder.join(NAME);
    let configuration = place.join("nginx.conf");
    write(&configuration, &configured(folder, places))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&place).arg("-c").arg(configuration).args(["-e", "stderr"]);
    Ok(command)
}

/// The command that sends its lines.
pub(crate) fn follower(hub: &Path, folder: &Path, otlp: &str) -> Command {
    let place = folder.join(NAME);
    let files = identity(folder, NAME);
    let mut command = Command::new(hub);
    command.args(["import", "--follow", "--state"]).arg(place.join("sent.json")).args(["--otlp", otlp]);
    command.arg("--ca").arg(files.ca).arg("--cert").arg(files.cert).arg("--key").arg(files.key);
    command.arg(place.join(LINES));
    command
}

fn configured(folder: &Path, places: &[(&'static str, u16)]) -> String {
    let files = identity(folder, NAME);
    let port = |name: &str| places.iter().find(|(known, _)| *known == name).map_or(0, |(_, port)| *port);
    let (cert, key, ca) = (files.cert.display(), files.key.display(), files.ca.display());
    let place = folder.join(NAME);
    let place = place.display();
    let mut text = format!(
        "daemon off;\nmaster_process off;\npid {place}/nginx.pid;\nerror_log stderr warn;\nevents {{ }}\nhttp {{\n  \
         include {place}/threadline.conf;\n  access_log off;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "  {kind}_temp_path {place}/tmp-{kind};");
    }
    for name in ["catalogue", "orders"] {
        let _ = writeln!(text, "  upstream {name} {{ server 127.0.0.1:{}; keepalive 16; }}", port(name));
    }
    let _ = writeln!(
        text,
        "  server {{\n    listen 127.0.0.1:{} ssl;\n    ssl_certificate {cert};\n    ssl_certificate_key {key};\n    \
         keepalive_requests 1000000;\n    add_header traceresponse $threadline_traceparent always;",
        port(NAME)
    );
    for (format, condition) in [
        ("threadline", "request"),
        ("threadline_span", "request"),
        ("threadline_unknown", "unknown"),
        ("threadline_tls", "tls"),
    ] {
        let _ = writeln!(text, "    access_log {place}/{LINES} {format} if=$threadline_{condition};");
    }
    // The services show their certificates to it, and it shows its own.
    let _ = writeln!(
        text,
        "    proxy_ssl_certificate {cert};\n    proxy_ssl_certificate_key {key};\n    proxy_ssl_trusted_certificate {ca};\n    \
         proxy_ssl_verify on;\n    proxy_ssl_name localhost;\n    proxy_http_version 1.1;\n    proxy_read_timeout 3s;\n    \
         proxy_set_header Connection \"\";\n    proxy_set_header Host $host;\n    \
         proxy_set_header traceparent $threadline_traceparent;\n    proxy_set_header tracestate \"\";\n    \
         proxy_set_header baggage \"\";\n    proxy_set_header X-Forwarded-For $remote_addr;"
    );
    for (path, route, service) in ROUTES {
        let _ = writeln!(
            text,
            "    location {path} {{ set $threadline_route \"{route}\"; proxy_pass https://{service}; }}"
        );
    }
    text.push_str("    location = /ready { access_log off; return 200 \"ready\"; }\n    location / { return 404; }\n  }\n}\n");
    text
}
