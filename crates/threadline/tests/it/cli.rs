//! The commands as people type them: against a hub, on its folder, and when something is wrong.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Process, skip};

/// Lines that a test imports: two services, a trace over both, a blank line, and lines that cannot be taken.
const LINES: &str = r#"{"ts":"2023-01-29T08:42:09.5Z","level":"error","service":"shop","msg":"token, expired","trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d","n":7}
{"ts":"2023-01-29T08:42:10Z","level":"info","service":"cart","msg":"two\nlines","trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"aea06c5b784cbd1d"}

no JSON
{"trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d","service":"shop","name":"GET /","kind":"server","start_time":1674981729,"duration_ms":1500}
{"trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"aea06c5b784cbd1d","parent_span_id":"dea06c5b784cbd1d","service":"cart","name":"add","kind":"server","start_time":1674981729.2,"duration_ms":800}
{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"pay"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1674981731000000000","severityNumber":13,"body":{"stringValue":"slow"}}]}]}]}
[1]
"#;

const TRACE: &str = "e8a3352051e85c13136b27945b8cab5b";

pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

fn run(arguments: &[&str], input: &str) -> Said {
    run_with(arguments, input, &[])
}

/// Runs a command with its own environment, so that what is set outside does not matter.
pub(crate) fn run_with(arguments: &[&str], input: &str, environment: &[(&str, &str)]) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_threadline"))
        .args(arguments)
        .env_clear()
        .env("TZ", "UTC")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn expect(arguments: &[&str], source: &[&str], code: i32, wanted: &[&str]) -> Said {
    let said = run(&[arguments, source].concat(), "");
    assert_eq!(said.code, code, "{arguments:?} {source:?}: {}{}", said.out, said.err);
    let all = format!("{}{}", said.out, said.err);
    for part in wanted {
        assert!(all.contains(part), "{arguments:?} {source:?}: no {part:?} in:\n{all}");
    }
    said
}

/// Commands whose answers must be the same from a hub and from its folder.
const SAME: &[&[&str]] = &[
    &["search", "-o", "ndjson"],
    &["search", "severity>=error", "-o", "json"],
    &["search", "--table", "spans", "-o", "csv"],
    &["search", "service:shop"],
    &["search", "--histogram", "--by", "service", "-o", "csv"],
    &["sql", "SELECT service, count(*) AS n FROM logs GROUP BY service ORDER BY service"],
    &["traces", "-o", "json"],
    &["trace", TRACE],
    &["services", "-o", "json"],
];

#[test]
fn commands_answer_the_same_from_a_hub_and_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let hub = Process::start(&data, &[]);
    let url = format!("http://{}", hub.api);
    let at_hub = ["--hub", url.as_str()];
    let said = run(&["import", "-", "--hub", &url], LINES);
    assert_eq!(said.code, 0, "{}", said.err);
    for part in [
        "7 lines, 3 log records and 2 spans kept",
        "1 rejected: not JSON; first -:4:",
        "1 rejected: no JSON object",
    ] {
        assert!(said.out.contains(part), "no {part:?} in {}", said.out);
    }
    let rows = expect(&["search", "-o", "ndjson"], &at_hub, 0, &["\"body\":\"two\\nlines\"", "\"n\":7"]);
    assert_eq!(rows.out.lines().count(), 3);
    expect(
        &["search", "expired"],
        &at_hub,
        0,
        &["2023-01-29 08:42:09.500 error shop             e8a33520 token, expired\n"],
    );
    expect(&["search", "expired", "-o", "csv"], &at_hub, 0, &["time,severity,", ",\"token, expired\","]);
    expect(&["search", "gone"], &at_hub, 0, &[]);
    expect(&["search", "gone", "--fail-empty"], &at_hub, 1, &[]);
    expect(&["search", "service:shop )"], &at_hub, 2, &["error: ", "\n  service:shop )\n               ^\n"]);
    expect(&["search", "--since", "soon"], &at_hub, 2, &["error: since: "]);
    expect(&["sql", "SELEC 1"], &at_hub, 2, &["error: "]);
    expect(&["trace", "xyz"], &at_hub, 2, &["`xyz` is no trace id"]);
    expect(&["trace", TRACE], &at_hub, 0, &["shop", "cart", "GET /"]);
    expect(&["stats"], &at_hub, 0, &["tables.logs.rows", "addresses.otlp_http"]);
    let counts = expect(SAME[5], &at_hub, 0, &[]);
    assert_eq!(counts.out, "service  n\ncart     1\npay      1\nshop     1\n");

    let answers: Vec<Said> = SAME.iter().map(|arguments| expect(arguments, &at_hub, 0, &[])).collect();
    hub.stop();
    let path = data.display().to_string();
    for (arguments, want) in SAME.iter().zip(answers) {
        let got = expect(arguments, &["--data", &path], 0, &[]);
        assert_eq!(got.out, want.out, "{arguments:?}");
    }
    expect(&["search", "--follow"], &["--data", &path], 2, &["follow a hub"]);
    expect(&["search"], &at_hub, 3, &["no hub answers at http://127.0.0.1:"]);
    expect(&["import", "-"], &at_hub, 3, &["no hub answers at http://127.0.0.1:"]);
    expect(&["verify"], &["--data", &path], 0, &["intact"]);
}

#[test]
fn files_are_imported_into_a_folder_without_a_hub() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let file = folder.path().join("lines.ndjson.zst");
    std::fs::write(&file, zstd::encode_all(LINES.as_bytes(), 1).unwrap()).unwrap();
    let file = file.display().to_string();
    let into = ["--data", data.as_str()];
    expect(&["import", &file], &into, 0, &["7 lines, 3 log records and 2 spans kept"]);
    expect(&["import", &file], &into, 0, &["5 of them were kept before and were not added again"]);
    let rows = expect(&["search", "-o", "ndjson"], &into, 0, &[]);
    assert_eq!(rows.out.lines().count(), 3);
    expect(&["import", "/gone"], &into, 1, &["/gone: No such file"]);
    expect(&["erase", "service:shop", "--table", "logs", "--reason", "r"], &into, 2, &["--who"]);
}

/// One day of a real shop, when it is there: the first lines of both files.
#[test]
fn the_trainticket_shapes_need_no_mapping() {
    let Some((logs, spans)) = trainticket() else {
        return skip("TrainTicket import", "../shared/data/trainticket is not there");
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let (logs, spans) = (first_lines(&logs, 2000), first_lines(&spans, 3000));
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let files = [file("logs.ndjson", &logs), file("spans.ndjson", &spans)];
    let into = ["--data", data.as_str()];
    let want = "5,000 lines, 2,000 log records and 3,000 spans kept";
    let said = expect(&["import", &files[0], &files[1]], &into, 0, &[want]);
    assert!(!said.out.contains("rejected") && !said.out.contains("could not be read"), "{}", said.out);
    // Counted from the lines themselves, without the code under test.
    let errors = logs.lines().filter(|line| line.contains(r#""severity":"ERROR""#)).count();
    let rows = expect(&["search", "severity:error", "-n", "10000", "-o", "ndjson"], &into, 0, &[]);
    assert_eq!(rows.out.lines().count(), errors);
    let sent = expect(&["search", "-n", "10000", "-o", "ndjson"], &into, 0, &[]);
    for line in logs.lines().take(20) {
        let absurd = line.split('"').nth(3).filter(|time| time.starts_with('-'));
        assert!(absurd.is_none_or(|time| sent.out.contains(time)), "{line}");
    }
}

fn trainticket() -> Option<(PathBuf, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/trainticket");
    let (logs, spans) = (folder.join("logs.ndjson.zst"), folder.join("spans.ndjson.zst"));
    (logs.exists() && spans.exists()).then_some((logs, spans))
}

fn first_lines(file: &Path, count: usize) -> String {
    let mut bytes = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(std::fs::File::open(file).unwrap()).unwrap();
    decoder.take(8 << 20).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).lines().take(count).map(|line| format!("{line}\n")).collect()
}

#[test]
fn wrong_command_lines_and_settings_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    std::fs::write(&file, "qeries_max = 3\n").unwrap();
    let file = file.display().to_string();
    for (arguments, code, wanted) in [
        (&["--version"][..], 0, "threadline "),
        (&["nonsense"], 2, "unrecognized subcommand"),
        (&["config", "--queries-max", "3"], 0, "--queries-max"),
        (&["config", "--config", &file], 2, "did you mean `queries_max`?"),
        (&["config", "--config", "/gone.toml"], 2, "/gone.toml: No such file"),
        (&["config", "--query-timeout", "5"], 2, "write a duration such as"),
        (&["serve", "--api-address", "nowhere"], 2, "write an IP address and a port"),
        (&["import", "x", "--map", "time"], 2, "`time` is not `NAME=FIELD`"),
        (&["verify", "--data", "/gone"], 1, "error: "),
        (&["erase", "", "--table", "logs", "--reason", "r", "--who", "w", "--yes"], 2, "an empty search"),
    ] {
        expect(arguments, &[], code, &[wanted]);
    }
}
