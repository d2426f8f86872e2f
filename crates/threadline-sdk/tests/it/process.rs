//! A program of its own: what it has recorded is there however it ends.

use std::process::{Command, Stdio};

use crate::sink::Sink;

/// Runs this test binary again as a small service that ends in the way that the variable says.
#[test]
fn child() {
    let Ok(way) = std::env::var("THREADLINE_SDK_CHILD") else { return };
    let telemetry = threadline_sdk::init!().unwrap();
    tracing::info!("ready");
    match way.as_str() {
        "return" => {}
        "panic" => panic!("the shelf is empty"),
        "thread" => {
            let thread = std::thread::spawn(|| panic!("only one shelf is empty"));
            assert!(thread.join().is_err());
        }
        "graceful" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let stopped = telemetry.stopped();
            println!("listening");
            runtime.block_on(stopped);
            tracing::info!("goodbye");
        }
        "signal" => {
            println!("listening");
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
        other => panic!("{other}"),
    }
    drop(telemetry);
}

#[test]
fn however_it_ends_its_records_are_there() {
    use std::io::{BufRead as _, BufReader};
    for (way, signal, expected) in [
        ("return", false, &["service.started", "service.stopping"][..]),
        ("panic", false, &["service.started", "exception", "service.stopping"]),
        ("thread", false, &["service.started", "exception", "service.stopping"]),
        ("signal", true, &["service.started", "service.stopping"]),
        ("graceful", true, &["service.started", "service.stopping"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let sink = Sink::start();
        let config = "[service]\nname = 'child'\nversion = '7'\nenvironment = 'test'\n";
        std::fs::write(folder.path().join("threadline.toml"), config).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["process::child", "--exact", "--nocapture"])
            .current_dir(folder.path())
            .env("THREADLINE_SDK_CHILD", way)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", sink.address))
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.version=8,team=shop")
            // It waits for its records at the end, not before.
            .env("OTEL_BLRP_SCHEDULE_DELAY", "60000")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        if signal {
            assert!(lines.any(|line| line.unwrap().contains("listening")), "{way}");
            let id = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        }
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let status = child.wait().unwrap();
        use std::os::unix::process::ExitStatusExt as _;
        match way {
            "signal" => assert_eq!(status.signal(), Some(15), "{rest:?}"),
            "panic" => assert!(!status.success()),
            _ => assert!(status.success(), "{way}: {rest:?}"),
        }
        let logs = sink.logs();
        let events: Vec<&str> =
            logs.iter().map(|log| log.event.as_str()).filter(|event| !event.is_empty()).collect();
        assert_eq!(events, expected, "{way}");
        assert_eq!(logs.iter().filter(|log| log.body == "ready").count(), 1, "{way}");
        assert_eq!(logs.iter().filter(|log| log.body == "goodbye").count(), usize::from(way == "graceful"));
        let resource = &logs[0].resource;
        assert_eq!(
            [&*resource["service.name"], &*resource["service.version"], &*resource["team"]],
            ["child", "8", "shop"]
        );
        if let Some(panic) = sink.events("exception").first() {
            assert!(panic.get("exception.message").contains("empty"), "{panic:?}");
            assert!(panic.get("exception.stacktrace").contains("process::child"), "{panic:?}");
        }
    }
}
