//! Tests of the settings: sources, their order, and what wrong values are answered with.

use super::*;

fn load(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Effective, String> {
    Effective::load(Sources {
        file: (!file.is_empty()).then(|| (PathBuf::from("t.toml"), file.to_owned())),
        variable: &|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    })
    .map_err(|error| error.0)
}

fn shown(effective: &Effective, name: &str) -> String {
    let at = TABLE.iter().position(|setting| setting.name == name).unwrap();
    format!("{} ({})", TABLE[at].value(&effective.settings), effective.origins[at])
}

#[test]
fn the_nearer_source_wins() {
    let file = "queries_max = 2";
    let variable = [("THREADLINE_QUERIES_MAX", "3")];
    let flag = [("queries_max", "4")];
    for (file, variables, flags, want) in [
        ("", &[][..], &[][..], "16 (default)"),
        (file, &[], &[], "2 (t.toml)"),
        (file, &variable, &[], "3 (THREADLINE_QUERIES_MAX)"),
        (file, &variable, &flag, "4 (--queries-max)"),
        ("", &variable, &[], "3 (THREADLINE_QUERIES_MAX)"),
        ("", &[], &flag, "4 (--queries-max)"),
        (file, &[("THREADLINE_PORT", "tcp://10.0.0.1:7311")], &[], "2 (t.toml)"),
    ] {
        assert_eq!(shown(&load(file, variables, flags).unwrap(), "queries_max"), want);
    }
}

#[test]
fn values_are_written_as_people_write_them() {
    for (name, text, want) in [
        ("memory_bytes_max", "512MiB", "512MiB"),
        ("memory_bytes_max", "1048576", "1MiB"),
        ("memory_bytes_max", "1.5 GB", "1500000000"),
        ("memory_bytes_max", "64 kib", "64KiB"),
        ("sealed_bytes_max", "none", "none"),
        ("sealed_bytes_max", "2TiB", "2TiB"),
        ("query_timeout", "90s", "1m30s"),
        ("query_timeout", "1h 30m", "1h30m"),
        ("seal_after", "250ms", "250ms"),
        ("seal_after", "1w", "7d"),
        ("api_address", "localhost:1", "127.0.0.1:1"),
        ("api_address", "[::1]:80", "[::1]:80"),
        ("cors_origins", "https://a.example, https://b.example", "https://a.example,https://b.example"),
        ("maintenance_cpu_share", "1", "1"),
        ("relaxed", "true", "true"),
        (
            "retention",
            "service=a, age_max=30d; event=security.*,age_max=1w",
            "service=a,age_max=30d; event=security.*,age_max=7d",
        ),
        ("tls_cert", "", ""),
        ("environment", "prod-eu", "prod-eu"),
        ("senders", "identity=a, services=b  c-*;", "identity=a,services=b c-*"),
        ("trusted_proxies", "10.1.2.3/8, 192.0.2.1,2001:db8::/32", "10.0.0.0/8,192.0.2.1,2001:db8::/32"),
        ("audit_wait", "0s", "0s"),
    ] {
        let name = TABLE.iter().find(|setting| setting.name == name).unwrap().name;
        let effective = load("", &[], &[(name, text)]).unwrap_or_else(|error| panic!("{text}: {error}"));
        let shown = shown(&effective, name);
        assert_eq!(shown.split_once(" (--").unwrap().0, want, "{name} = {text}");
    }
}

#[test]
fn wrong_settings_say_what_is_wrong_and_where() {
    for (file, flags, want) in [
        ("qeries_max = 3", &[][..], "t.toml: there is no setting `qeries_max`, did you mean `queries_max`?"),
        ("zzz = 3", &[], "t.toml: there is no setting `zzz`; `threadline config reference` lists the settings"),
        ("queries_max = 0", &[], "t.toml: queries_max = `0`: write a whole number, at least 1"),
        ("relaxed = 1", &[], "t.toml: relaxed = `1`: write `true` or `false`"),
        ("[retention]\nage_max = \"1d\"", &[], "t.toml: retention: write `[[retention]]`, with two brackets"),
        (
            "[[retention]]\nage = \"1d\"",
            &[],
            "t.toml: retention = `age=1d`: a retention rule has no `age`; there are table, service, event, age_max",
        ),
        (
            "[[retention]]\nservise = \"x\"",
            &[],
            "t.toml: retention = `servise=x`: a retention rule has no `servise`, did you mean `service`?",
        ),
        (
            "[[retention]]\nservice = \"x\"",
            &[],
            "t.toml: retention = `service=x`: a retention rule needs `age_max`, such as `30d`",
        ),
        (
            "[[retention]]\nservice = \"x,age_max=1d\"",
            &[],
            "t.toml: retention: `x,age_max=1d` contains `,` or `;`",
        ),
        (
            "",
            &[("memory_bytes_max", "12XB")],
            "--memory-bytes-max: memory_bytes_max = `12XB`: write a size such as `512MiB`, `1.5GB` or `67108864`",
        ),
        (
            "",
            &[("query_timeout", "5")],
            "--query-timeout: query_timeout = `5`: write a duration such as `30s`, `250ms`, `1h30m` or `30d`",
        ),
        (
            "tls_client_auth = \"maybe\"",
            &[],
            "t.toml: tls_client_auth = `maybe`: write `required` or `optional`",
        ),
        ("[senders]\nidentity = \"a\"", &[], "t.toml: senders: write `[[senders]]`, with two brackets"),
        (
            "[[senders]]\nidentity = \"a\"",
            &[],
            "t.toml: senders = `identity=a`: a sender rule needs `identity` and `services`",
        ),
        (
            "environment = \"a b\"",
            &[],
            "t.toml: environment = `a b`: write at most 64 letters, digits, `-`, `_`, `.`",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/33\"]",
            &[],
            "t.toml: trusted_proxies = `10.0.0.0/33`: `10.0.0.0/33` is no network: write one such as `10.0.0.0/8` or \
             `192.0.2.1`",
        ),
        ("", &[("session_max", "0s")], "session_idle and session_max must be longer than 0s"),
        ("", &[("tls_cert", "c")], "tls_cert and tls_key belong together: set both or none"),
        ("", &[("tls_client_ca", "c")], "tls_client_ca needs TLS: set tls_cert and tls_key"),
        (
            "",
            &[("api_address", "127.0.0.1:4318")],
            "two addresses are 127.0.0.1:4318: each needs a port of its own",
        ),
        (
            "",
            &[("request_bytes_max", "1MiB")],
            "record_bytes_max is above request_bytes_max: no record of that size could come in",
        ),
    ] {
        assert_eq!(load(file, &[], flags).map(|_| ()).unwrap_err(), want);
    }
    assert!(load("a = ", &[], &[]).unwrap_err().starts_with("t.toml: TOML parse error at line 1"));
}

#[test]
fn a_file_sets_tables_and_lists() {
    let file = "cors_origins = [\"https://a.example\", \"https://b.example\"]\nmaintenance_cpu_share = 0.5\n\
                [[retention]]\ntable = \"logs\"\nservice = \"a\"\nage_max = \"30d\"\n[[retention]]\nage_max = \"1h\"\n";
    let settings = load(file, &[], &[]).unwrap().settings;
    assert_eq!(settings.cors_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(settings.maintenance_cpu_share, 0.5);
    let rule = |table, service: Option<&str>, hours: u64| RetentionRule {
        table,
        service: service.map(str::to_owned),
        event: None,
        age_max: Duration::from_secs(hours * 3600),
    };
    assert_eq!(
        settings.retention,
        [rule(Some(threadline_model::schema::Table::Logs), Some("a"), 720), rule(None, None, 1)]
    );
}

#[test]
fn every_default_reads_back_as_itself() {
    let defaults = Settings::default();
    for setting in TABLE {
        let text = setting.value(&defaults);
        let mut again = Settings::default();
        if setting.kind != Folder::NAME {
            (setting.set)(&mut again, &text).unwrap_or_else(|error| panic!("{}: {error}", setting.name));
        }
        assert_eq!(setting.value(&again), text, "{}", setting.name);
    }
}

#[test]
fn the_reference_is_committed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == reference(), "run `threadline config reference > docs/settings.md`");
}

#[test]
fn the_example_of_the_reference_is_a_settings_file() {
    let text = reference();
    let example = text.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(load(example, &[], &[]).unwrap().settings.retention.len(), 3);
}
