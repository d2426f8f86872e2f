//! Every sample, with its language's real SDK: all that the contract wants is shown.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use threadline_contract::Contract;
use threadline_contract::registry::{base_layers, load};
use threadline_verify::{Options, Sample, verify};

fn check(sample: Sample, installed: Option<&str>) {
    let contract = Contract::new(load(&base_layers()).unwrap(), Default::default());
    let options = Options { sample, keep: None, installed: installed.map(Into::into) };
    let report = verify(&options, contract, &mut |line| println!("{line}")).unwrap();
    assert!(report.is_whole(), "{sample}: {report:#?}");
    for row in &report.rows {
        println!("{}: {}", row.what, row.detail);
    }
    let rows = match sample {
        Sample::Python | Sample::Node => 14,
        Sample::Go | Sample::Java => 10,
        Sample::Nginx => 13,
    };
    assert_eq!(report.rows.len(), rows);
    assert_eq!(report.folder, None, "a temporary folder is gone when nothing is missing");
}

/// Notes that a test cannot be made here.
fn skip(test: &str, variable: &str) {
    let why = format!("{variable} is not set; `cargo xtask test` sets it");
    assert!(std::env::var("CI").ok().as_deref() != Some("true"), "{test}: {why}");
    eprintln!("skipped: {test}: {why}");
    if let Ok(path) = std::env::var("THREADLINE_TEST_SKIPS") {
        use std::io::Write as _;
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}

#[test]
fn python() {
    const VARIABLE: &str = "THREADLINE_TEST_FLEET_PYTHON";
    let Ok(python) = std::env::var(VARIABLE) else { return skip("rendered files of Python", VARIABLE) };
    check(Sample::Python, Some(&python));
}

#[test]
fn node() {
    const VARIABLE: &str = "THREADLINE_TEST_FLEET_NODE";
    let Ok(node) = std::env::var(VARIABLE) else { return skip("rendered files of Node", VARIABLE) };
    check(Sample::Node, Some(&node));
}

/// Where Go and Java are, which Threadline itself does not need.
fn has(language: &str) -> bool {
    let named = std::env::var("THREADLINE_TEST_VERIFY").unwrap_or_default();
    let has = named.split(',').any(|named| named == language);
    if !has {
        println!(
            "not run: THREADLINE_TEST_VERIFY does not name {language}; `cargo xtask test` does where it is installed"
        );
    }
    has
}

#[test]
fn go() {
    if has("go") {
        check(Sample::Go, None);
    }
}

#[test]
fn java() {
    if has("java") {
        check(Sample::Java, None);
    }
}

#[test]
fn nginx() {
    const VARIABLE: &str = "THREADLINE_TEST_NGINX";
    let Ok(nginx) = std::env::var(VARIABLE) else { return skip("rendered files of nginx", VARIABLE) };
    check(Sample::Nginx, Some(&nginx));
}

#[test]
fn what_cannot_be_run_is_said() {
    use threadline_contract::render::Lang;
    for (lang, want) in
        [(Lang::Rust, "cargo test -p threadline-sdk"), (Lang::Dotnet, "python, node, go, java, nginx have")]
    {
        let error = Sample::of(lang).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
    let contract = || Contract::new(load(&base_layers()).unwrap(), Default::default());
    let full = tempfile::tempdir().unwrap();
    std::fs::write(full.path().join("x"), "").unwrap();
    let keep = Some(full.path().to_owned());
    let options = Options { sample: Sample::Python, keep, installed: Some("/nowhere/python".into()) };
    let error = verify(&options, contract(), &mut |_| ()).unwrap_err();
    assert!(error.contains("it is not empty"), "{error}");
    let options = Options { keep: Some(full.path().join("new")), ..options };
    let error = verify(&options, contract(), &mut |_| ()).unwrap_err();
    assert!(error.contains("/nowhere/python could not be started"), "{error}");
}
