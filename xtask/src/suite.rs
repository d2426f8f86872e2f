//! `cargo xtask test`: every check of the project, in steps, with one summary at the end.
//!
//! A *step* counts as one check unless it counts its own (cargo's tests do). A *skip* is a check that could not be
//! made here; with `CI=true` a skip is a failure. Tests report theirs by a line in the file that
//! `THREADLINE_TEST_SKIPS` names. The last line is `N passed, N failed`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Result, compare, demo, packages, run, sigma, tidy, tools, web};

/// How the tests are run.
struct Options {
    nightly: bool,
    ci: bool,
    filters: Vec<String>,
    /// Where tests report skips.
    skips: PathBuf,
}

/// What a step has counted.
#[derive(Clone, Copy, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// A part of the whole.
struct Step {
    name: &'static str,
    run: fn(&Options) -> Result<Counts>,
}

const STEPS: &[Step] = &[
    Step { name: "format", run: format },
    Step { name: "tidy", run: tidy },
    Step { name: "web", run: page },
    Step { name: "unit", run: unit },
    Step { name: "fuzz", run: fuzz },
    Step { name: "compare", run: compare_answers },
    Step { name: "sigma", run: sigma_rules },
    Step { name: "demo", run: demo_fleet },
    Step { name: "browser", run: browser },
    Step { name: "lint", run: lint },
    Step { name: "deny", run: deny },
];

/// Runs the command.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = options(arguments)?;
    let started = Instant::now();
    let mut total = Counts::default();
    let mut lines = Vec::new();
    let missing = missing_tools(&options);
    if options.ci {
        total.failed += missing;
    }
    // What is installed is installed before an hour of tests, or it is said now that it is not there.
    if chosen(&options).iter().any(|step| step.name == "browser")
        && let Err(remedy) = packages::chromium()
    {
        println!("missing: {remedy}");
    }
    if chosen(&options).iter().any(|step| step.name == "unit")
        && let Err(remedy) = packages::alertmanager()
    {
        println!("missing: {remedy}");
    }
    for step in chosen(&options) {
        println!("\n=== {}", step.name);
        let began = Instant::now();
        let (counts, error) = match (step.run)(&options) {
            Ok(counts) => (counts, None),
            Err(error) => (Counts { failed: 1, ..Counts::default() }, Some(error)),
        };
        let counts = with_reported_skips(counts, &options);
        if let Some(error) = &error {
            eprintln!("{error}");
        }
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.skipped += counts.skipped;
        let Counts { passed, failed, skipped } = counts;
        let seconds = began.elapsed().as_secs();
        lines.push(format!(
            "{:<12}{passed:>6} passed {failed:>4} failed {skipped:>4} skipped {seconds:>6} s",
            step.name
        ));
    }
    println!("\n=== summary ({} s)\n{}", started.elapsed().as_secs(), lines.join("\n"));
    if missing > 0 {
        println!("{missing} programs are missing, see above");
    }
    if options.ci && total.skipped > 0 {
        println!("nothing may be skipped where CI=true: {} skips count as failures", total.skipped);
        total.failed += total.skipped;
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 { Err(String::new()) } else { Ok(()) }
}

fn options(arguments: &[&str]) -> Result<Options> {
    let unknown = arguments.iter().find(|word| word.starts_with('-') && **word != "--nightly");
    if let Some(word) = unknown {
        return Err(format!("{word}: unknown; usage: cargo xtask test [--nightly] [FILTER…]"));
    }
    let filters =
        arguments.iter().filter(|word| !word.starts_with('-')).map(|word| (*word).to_owned()).collect();
    let ci = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let skips = tools::target().join("xtask-skips.txt");
    // What an earlier run left is not ours; there may be nothing.
    let _ = std::fs::remove_file(&skips);
    Ok(Options { nightly: arguments.contains(&"--nightly"), ci, filters, skips })
}

/// All steps; those that the filters name; or, when they name none, the tests alone.
fn chosen(options: &Options) -> Vec<&'static Step> {
    let named = |step: &&Step| options.filters.iter().any(|filter| filter == step.name);
    if options.filters.is_empty() {
        STEPS.iter().collect()
    } else if STEPS.iter().any(|step| named(&step)) {
        STEPS.iter().filter(named).collect()
    } else {
        STEPS.iter().filter(|step| step.name == "unit").collect()
    }
}

fn missing_tools(options: &Options) -> u64 {
    let missing = tools::missing(tools::NEEDED);
    for tool in &missing {
        println!("missing: {}\n         to get it: {}", tool.purpose, tool.remedy);
    }
    if !missing.is_empty() && !options.ci {
        println!("What needs them is skipped or fails.");
    }
    missing.len() as u64
}

/// Adds the skips that tests have written down since the last look.
fn with_reported_skips(mut counts: Counts, options: &Options) -> Counts {
    let reported = std::fs::read_to_string(&options.skips).unwrap_or_default();
    for line in reported.lines() {
        println!("skipped: {line}");
        counts.skipped += 1;
    }
    let _ = std::fs::remove_file(&options.skips);
    counts
}

const ONE: Counts = Counts { passed: 1, failed: 0, skipped: 0 };

/// A step that cannot be made here.
fn skipped(why: &str) -> Counts {
    println!("skipped: {why}");
    Counts { passed: 0, failed: 0, skipped: 1 }
}

fn format(_: &Options) -> Result<Counts> {
    run::show(tools::cargo().args(["fmt", "--all", "--check"])).map(|()| ONE)
}

fn tidy(_: &Options) -> Result<Counts> {
    tidy::run(&[]).map(|()| ONE)
}

/// The page's types, units and build. Before the hub's tests, so that the hub has the page.
fn page(_: &Options) -> Result<Counts> {
    web::check().map(|passed| Counts { passed, ..Counts::default() })
}

/// The page in a real browser; it counts in the words of cargo's tests.
fn browser(_: &Options) -> Result<Counts> {
    let mut counts = Counts::default();
    let result = web::browse(&mut |line| {
        if let Some(found) = test_result(line) {
            counts = found;
        }
    });
    match result {
        Err(error) if counts.failed == 0 => Err(error),
        Ok(()) if counts.passed == 0 => Err("no test was run".to_owned()),
        _ => Ok(counts),
    }
}

/// Clippy over all crates and targets at once: a part of them would have other features and be built apart.
fn lint(_: &Options) -> Result<Counts> {
    if !tools::succeeds(&["cargo", "clippy", "--version"]) {
        return Ok(skipped("clippy is not installed: rustup component add clippy"));
    }
    let mut cargo = tools::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    run::show(&mut cargo).map(|()| ONE)
}

/// Cargo's tests: of units, at public boundaries, of the real binary (senders, kills), of documentation.
fn unit(options: &Options) -> Result<Counts> {
    let mut cargo = tools::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast", "--"]).env("THREADLINE_TEST_SKIPS", &options.skips);
    // The name of a step chooses the step, not tests.
    cargo.args(options.filters.iter().filter(|filter| !STEPS.iter().any(|step| filter == &step.name)));
    // A test that misses one of these says so, and counts as skipped.
    match packages::python() {
        Ok(python) => drop(cargo.env("THREADLINE_TEST_PYTHON", python)),
        Err(error) => eprintln!("{error}"),
    }
    match packages::node() {
        Ok(folder) => drop(cargo.env("THREADLINE_TEST_NODE", folder)),
        Err(error) => eprintln!("{error}"),
    }
    match packages::fleet_python() {
        Ok(python) => drop(cargo.env("THREADLINE_TEST_FLEET_PYTHON", python)),
        Err(error) => eprintln!("{error}"),
    }
    match packages::fleet_node() {
        Ok(folder) => drop(cargo.env("THREADLINE_TEST_FLEET_NODE", folder)),
        Err(error) => eprintln!("{error}"),
    }
    match packages::notify_python() {
        Ok(python) => drop(cargo.env("THREADLINE_TEST_NOTIFY_PYTHON", python)),
        Err(error) => eprintln!("{error}"),
    }
    match packages::ocsf_python() {
        Ok(python) => drop(cargo.env("THREADLINE_TEST_OCSF_PYTHON", python)),
        Err(error) => eprintln!("{error}"),
    }
    match packages::alertmanager() {
        Ok(folder) => drop(cargo.env("THREADLINE_TEST_ALERTMANAGER", folder)),
        Err(error) => eprintln!("{error}"),
    }
    match packages::nginx() {
        Ok(path) => drop(cargo.env("THREADLINE_TEST_NGINX", path)),
        Err(error) => eprintln!("{error}"),
    }
    // Threadline itself needs neither.
    let found = [("go", &["go", "version"][..]), ("java", &["mvn", "--version"])];
    let found: Vec<&str> =
        found.iter().filter(|(_, command)| tools::succeeds(command)).map(|(language, _)| *language).collect();
    cargo.env("THREADLINE_TEST_VERIFY", found.join(","));
    if options.nightly {
        cargo.env("THREADLINE_SIM_SEEDS", "10000");
    }
    let limit = Duration::from_secs(if options.nightly { 6 * 3600 } else { 70 * 60 });
    count_tests(&mut cargo, limit)
}

/// Runs `cargo test` and adds up what its binaries report.
fn count_tests(cargo: &mut Command, limit: Duration) -> Result<Counts> {
    let mut counts = Counts::default();
    let result = run::watch(cargo, limit, &mut |line| {
        if let Some(found) = test_result(line) {
            counts.passed += found.passed;
            counts.failed += found.failed;
            counts.skipped += found.skipped;
        }
    });
    match result {
        // It failed, but no test did: it did not compile, or a test binary died.
        Err(error) if counts.failed == 0 => {
            eprintln!("{error}");
            counts.failed = 1;
        }
        Err(error) => eprintln!("{error}"),
        Ok(()) if counts.passed == 0 => return Err("no test was run".to_owned()),
        Ok(()) => {}
    }
    Ok(counts)
}

/// The counts in a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; …`.
fn test_result(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    let count = |word: &str| {
        let part = rest.split(';').map(str::trim).find_map(|part| part.strip_suffix(word))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

/// Seconds that each fuzz target runs.
const FUZZ_S: u64 = 20;
const FUZZ_NIGHTLY_S: u64 = 1800;

/// Bounded fuzzing as `fuzz/README.md` has it: first the canary, which must be found to panic, then every target.
fn fuzz(options: &Options) -> Result<Counts> {
    let folder = crate::root().join("fuzz");
    let host = run::output(Command::new("rustc").arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc -vV names no host")?;
    let target = tools::target().join("fuzz");
    let mut cargo = tools::cargo();
    // Its own flags, from its own folder: coverage counters in the targets, not in build scripts.
    cargo.current_dir(&folder).env_remove("CARGO_TARGET_DIR").args(["build", "--release", "--locked"]);
    run::show(cargo.args(["--target", host, "--target-dir"]).arg(&target))?;
    let binaries = target.join(host).join("release");
    let scratch = compare::Scratch::new("fuzz")?;
    let seconds = if options.nightly { FUZZ_NIGHTLY_S } else { FUZZ_S };
    let mut counts = Counts::default();
    for name in fuzz_targets(&folder)? {
        let found = if name == "canary" {
            canary(&binaries, &scratch.0)
        } else {
            fuzz_target(&name, &binaries, &scratch.0, seconds)
        };
        match found {
            Ok(()) => counts.passed += 1,
            Err(error) => {
                eprintln!("{error}");
                counts.failed += 1;
            }
        }
    }
    Ok(counts)
}

/// The targets: the binaries that `fuzz/Cargo.toml` declares.
fn fuzz_targets(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join("Cargo.toml");
    let manifest = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let binaries = manifest.split("[[bin]]").skip(1);
    let name = |binary: &str| {
        let line = binary.lines().find_map(|line| line.trim().strip_prefix("name = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    Ok(binaries.filter_map(name).collect())
}

fn canary(binaries: &Path, scratch: &Path) -> Result<()> {
    let mut command = Command::new(binaries.join("canary"));
    command.args(["-seed=1", "-runs=5000000"]).arg(artifacts(scratch, "canary")).arg(scratch);
    let output = command.output().map_err(|error| format!("fuzz canary: {error}"))?;
    // What libFuzzer ends with when the target has crashed.
    let found = output.status.code() == Some(77);
    found
        .then_some(())
        .ok_or_else(|| "fuzz canary: its panic was not found: coverage does not guide".to_owned())
}

fn fuzz_target(name: &str, binaries: &Path, scratch: &Path, seconds: u64) -> Result<()> {
    // New inputs go to the first folder, seeds are read from the second.
    let new = scratch.join(name);
    std::fs::create_dir_all(&new).map_err(|error| format!("{}: {error}", new.display()))?;
    let kept = tools::target().join("fuzz-artifacts");
    std::fs::create_dir_all(&kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    let mut command = Command::new(binaries.join(name));
    command.current_dir(crate::root().join("fuzz")).arg(format!("-max_total_time={seconds}"));
    command.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"]);
    if name.starts_with("otlp_json") {
        command.arg("-dict=otlp_json.dict");
    }
    command.arg(artifacts(&kept, name)).arg(&new).arg(Path::new("corpus").join(name));
    run::output(&mut command).map_err(|error| {
        let lines: Vec<&str> = error.lines().collect();
        let end = lines.get(lines.len().saturating_sub(30)..).unwrap_or(&lines);
        format!("{}\nfuzz {name}: the input is in {}", end.join("\n"), kept.display())
    })?;
    println!("fuzz {name}: {seconds} s, nothing found");
    Ok(())
}

/// Where libFuzzer writes the input that ended it.
fn artifacts(folder: &Path, name: &str) -> String {
    format!("-artifact_prefix={}/{name}-", folder.display())
}

fn compare_answers(_: &Options) -> Result<Counts> {
    compare::run().map(|()| ONE)
}

fn sigma_rules(_: &Options) -> Result<Counts> {
    sigma::run().map(|()| ONE)
}

fn demo_fleet(_: &Options) -> Result<Counts> {
    demo::test_rust_edge()?;
    demo::test().map(|_| Counts { passed: 2, ..Counts::default() })
}

/// Licences, advisories, bans. cargo-deny is no part of Rust and takes minutes to build, so it is used where it is.
fn deny(_: &Options) -> Result<Counts> {
    if !tools::succeeds(&["cargo", "deny", "--version"]) {
        println!("not checked: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(Counts::default());
    }
    run::show(tools::cargo().args(["deny", "check"])).map(|()| ONE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_of_tests_are_read() {
        let cases = [
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
                [3, 0, 1],
            ),
            ("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", [10, 2, 0]),
        ];
        for (line, expected) in cases {
            let counts = super::test_result(line).unwrap();
            assert_eq!([counts.passed, counts.failed, counts.skipped], expected, "{line}");
        }
        assert!(super::test_result("test tidy::tests::x ... ok").is_none());
    }
}
