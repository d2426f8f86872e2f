//! The door from the command line: a hub that refuses to be open, tokens, and commands that come over TLS.

use std::path::Path;
use std::process::Command;

use threadline::Components;
use threadline::settings::Settings;

use crate::cli::run_with;
use crate::pki::{Authority, put, write};
use crate::process::Process;

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_hub_refuses_to_be_open_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let base = ["serve", "--data-dir", shown(&data), "--otlp-grpc-address", "127.0.0.1:0"];
    for (address, want) in [
        (["--api-address", "0.0.0.0:0", "--otlp-http-address", "127.0.0.1:0"], ["api_address", "--insecure"]),
        (
            ["--api-address", "127.0.0.1:0", "--otlp-http-address", "[::]:0"],
            ["otlp_http_address", "tls_client_ca"],
        ),
    ] {
        let said = run_with(&[&base[..], &address].concat(), "", &[]);
        assert_eq!(said.code, 1, "{}", said.err);
        let all = ["TLS: set tls_cert and tls_key", "threadline token create", "docs/security.md"];
        for part in want.iter().chain(&all) {
            assert!(said.err.contains(part), "no {part:?} in {}", said.err);
        }
        assert!(!data.exists(), "nothing was made");
    }
    // Told so, it listens.
    let open = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    let settings = crate::hub::settings(&data);
    let settings = Settings { otlp_http_address: open, ..settings };
    assert!(threadline::start(settings.clone(), Components::system()).is_err());
    let hub = threadline::start(Settings { insecure: true, ..settings }, Components::system()).unwrap();
    assert!(hub.addresses().otlp_http.ip().is_unspecified());
    hub.shutdown().unwrap();
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let at = ["--data", shown(&data)];
    let token = |arguments: &[&str]| run_with(&[&["token"], arguments, &at].concat(), "", &[]);
    let made = token(&["create", "grafana", "--role", "read,operate", "--expires", "90d"]);
    assert_eq!((made.code, made.out.len()), (0, 60), "{}{}", made.out, made.err);
    let secret = made.out.trim().split_at(16).1;
    assert!(made.err.contains("read, operate") && made.err.contains("not shown again"), "{}", made.err);
    let made =
        token(&["create", "shop", "--role", "ingest", "--service", "shop-*", "--expires", "never", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(
        (&json["services"][0], &json["expires"], &json["state"]),
        (&"shop-*".into(), &().into(), &"good".into())
    );
    for (arguments, code, part) in [
        (&["create", "shop", "--role", "read"][..], 1, "already"),
        (&["create", "x"], 2, "--role"),
        (&["create", "x", "--role", "king"], 2, "possible values"),
        (&["create", "x", "--role", "read", "--expires", "soon"], 2, "--expires"),
        (&["revoke", "nobody"], 1, "there is no token"),
        (&["revoke", "shop"], 0, "is revoked"),
        (&["list"], 0, "revoked"),
        (&["list", "-o", "csv"], 0, "id,name,roles,services,created,expires,state,used"),
        (&["list", "-o", "json"], 0, "\"name\":\"grafana\""),
    ] {
        let said = token(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}{}", said.out, said.err);
        assert!(format!("{}{}", said.out, said.err).contains(part), "{arguments:?}: {}{}", said.out, said.err);
        assert!(!said.out.contains(secret), "{arguments:?}");
    }
}

#[test]
fn commands_come_over_tls_with_token_and_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (data, ca) = (folder.path().join("data"), Authority::new("ours"));
    let (cert, key) = write(folder.path(), "hub", &ca.hub());
    let authority = put(folder.path(), "ca.pem", &ca.pem);
    let (own_cert, own_key) = write(folder.path(), "importer", &ca.service("shop"));
    let make = |name: &str, role: &str| {
        let said = run_with(&["token", "create", name, "--role", role, "--data", shown(&data)], "", &[]);
        assert_eq!(said.code, 0, "{}", said.err);
        put(folder.path(), name, &said.out)
    };
    let (reader, sender) = (make("reader", "read"), make("sender", "ingest"));
    let hub = Process::start(
        &data,
        &[
            ("THREADLINE_TLS_CERT", shown(&cert)),
            ("THREADLINE_TLS_KEY", shown(&key)),
            ("THREADLINE_TLS_CLIENT_CA", shown(&authority)),
            ("THREADLINE_TLS_CLIENT_AUTH", "optional"),
        ],
    );
    let url = format!("https://localhost:{}", hub.api.port());
    let otlp = format!("https://localhost:{}", hub.http.port());
    let plain = format!("http://localhost:{}", hub.api.port());
    let trusted = ("THREADLINE_CA", shown(&authority));
    let by = |path: &'static str, file: &std::path::PathBuf| (path, shown(file).to_owned());
    let read = by("THREADLINE_TOKEN_FILE", &reader);
    let send = by("THREADLINE_TOKEN_FILE", &sender);
    let line = r#"{"service":"shop","msg":"over tls"}"#;
    let other = r#"{"service":"cart","msg":"over tls"}"#;
    let certificate = ["--cert", shown(&own_cert), "--key", shown(&own_key)];
    for (name, arguments, input, token, code, part) in [
        (
            "import by token",
            vec!["import", "-", "--otlp", &otlp, "--hub", &url],
            line,
            Some(&send),
            0,
            "1 log record",
        ),
        (
            "import by certificate",
            [&["import", "-", "--otlp", &otlp][..], &certificate].concat(),
            line,
            None,
            0,
            "1 log record",
        ),
        (
            "another's name",
            [&["import", "-", "--otlp", &otlp][..], &certificate].concat(),
            other,
            None,
            0,
            "may not write as",
        ),
        (
            "import by a reader",
            vec!["import", "-", "--otlp", &otlp],
            line,
            Some(&read),
            1,
            "needs the role ingest",
        ),
        ("search", vec!["search", "over", "--hub", &url, "-o", "ndjson"], "", Some(&read), 0, "over tls"),
        (
            "search by a sender",
            vec!["search", "over", "--hub", &url],
            "",
            Some(&send),
            1,
            "needs the role read",
        ),
        ("search by nobody", vec!["search", "over", "--hub", &url], "", None, 1, "this needs a token"),
        ("stats", vec!["stats", "--hub", &url], "", Some(&read), 0, ""),
        ("without TLS", vec!["stats", "--hub", &plain], "", Some(&read), 2, "use https://"),
    ] {
        let mut environment = vec![trusted];
        environment.extend(token.map(|(name, path)| (*name, path.as_str())));
        let said = run_with(&arguments, input, &environment);
        let all = format!("{}{}", said.out, said.err);
        assert_eq!(said.code, code, "{name}: {all}");
        assert!(all.contains(part), "{name}: no {part:?} in {all}");
    }
    // curl speaks HTTP/2 here, and sees the answer to a request whose body nobody wanted.
    for (token, want) in [(None, "401"), (Some(&reader), "403"), (Some(&sender), "200")] {
        for _ in 0..5 {
            assert_eq!(curl(&format!("{otlp}/v1/logs"), &authority, token), want);
        }
    }
    let said = run_with(&["stats", "--hub", &url], "", &[(read.0, &read.1)]);
    assert_eq!(said.code, 3, "who does not know the authority does not trust it: {}", said.err);
    hub.stop();
}

/// The status that curl sees, by HTTP/2.
fn curl(url: &str, authority: &Path, token: Option<&std::path::PathBuf>) -> String {
    let body = r#"{"resourceLogs":[]}"#;
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--http2",
        "--write-out",
        "%{http_code}",
        "--output",
        "/dev/null",
    ]);
    command.args(["--header", "content-type: application/json", "--data", body, "--cacert", shown(authority)]);
    if let Some(path) = token {
        let token = std::fs::read_to_string(path).unwrap();
        command.args(["--header", &format!("authorization: Bearer {}", token.trim())]);
    }
    let output = command.arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
