//! The samples: their files, how their packages are had, how they are started.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use threadline_contract::render::Lang;

/// A sample service, by its language; or the nginx before one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// FastAPI under the rendered ASGI middleware.
    Python,
    /// express under the rendered middleware.
    Node,
    /// net/http with the rendered setup of otelconf and slog.
    Go,
    /// The JDK's HTTP server under OpenTelemetry's agent with the rendered options.
    Java,
    /// nginx as an edge: JSON lines, a trace for each request, failed handshakes.
    Nginx,
}

impl Sample {
    /// All of them.
    pub const ALL: [Sample; 5] = [Sample::Python, Sample::Node, Sample::Go, Sample::Java, Sample::Nginx];

    /// What files are rendered for it.
    pub const fn lang(self) -> Lang {
        match self {
            Sample::Python => Lang::Python,
            Sample::Node => Lang::Node,
            Sample::Go => Lang::Go,
            Sample::Java => Lang::Java,
            Sample::Nginx => Lang::Nginx,
        }
    }

    /// The one of a language.
    ///
    /// # Errors
    /// Why there is none.
    pub fn of(lang: Lang) -> Result<Sample, String> {
        let found = Sample::ALL.into_iter().find(|sample| sample.lang() == lang);
        found.ok_or_else(|| match lang {
            Lang::Rust => {
                let how = "`cargo test -p threadline-sdk` runs a service with the SDK against a host";
                format!("rust has no sample here: {how}")
            }
            other => {
                let names: Vec<&str> = Sample::ALL.iter().map(|sample| sample.lang().name()).collect();
                format!("{other} has no sample that is run; {} have", names.join(", "))
            }
        })
    }

    /// Whether the rendered files themselves leave `request.finished`, number records and say when the service starts and stops. The
    /// others configure the SDK, and their sample does what a team's own middleware would.
    pub(crate) const fn has_middleware(self) -> bool {
        matches!(self, Sample::Python | Sample::Node)
    }

    /// What runs it, and packages, as people are told.
    pub(crate) const fn packages(self) -> &'static str {
        match self {
            Sample::Python => "python3 -m venv, pip install (pinned, with hashes)",
            Sample::Node => "npm ci (by its lock file)",
            Sample::Go => "go build (pinned by go.mod and go.sum)",
            Sample::Java => "mvn dependency:copy-dependencies (pinned by pom.xml), javac",
            Sample::Nginx => "none",
        }
    }

    /// Its own files.
    pub(crate) const fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Sample::Python => &[
                ("service.py", include_str!("../samples/python/service.py")),
                ("requirements.txt", include_str!("../../../demo/python/requirements.txt")),
            ],
            Sample::Node => &[
                ("service.mjs", include_str!("../samples/node/service.mjs")),
                ("package.json", include_str!("../../../demo/node/package.json")),
                ("package-lock.json", include_str!("../../../demo/node/package-lock.json")),
            ],
            Sample::Go => &[
                ("main.go", include_str!("../samples/go/main.go")),
                ("go.mod", include_str!("../samples/go/go.mod")),
                ("go.sum", include_str!("../samples/go/go.sum")),
            ],
            Sample::Java => &[
                ("Sample.java", include_str!("../samples/java/Sample.java")),
                ("pom.xml", include_str!("../samples/java/pom.xml")),
            ],
            Sample::Nginx => &[],
        }
    }

    /// Has its packages in the folder, and compiles what must be.
    pub(crate) fn install(self, folder: &Path, installed: Option<&Path>) -> Result<(), String> {
        let run = |program: &str, arguments: &[&str]| finish(Command::new(program).args(arguments), folder);
        match (self, installed) {
            (Sample::Python, Some(_)) | (Sample::Nginx, _) => Ok(()),
            (Sample::Python, None) => {
                run("python3", &["-m", "venv", "venv"])?;
                let pip =
                    ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"];
                let python = python(folder, None).display().to_string();
                run(&python, &[&pip[..], &["--prefer-binary", "-r", "requirements.txt"]].concat())
            }
            (Sample::Node, Some(packages)) => {
                let link = folder.join("node_modules");
                std::os::unix::fs::symlink(packages.join("node_modules"), &link)
                    .map_err(|error| format!("{}: {error}", link.display()))
            }
            (Sample::Node, None) => {
                run("npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            }
            (Sample::Go, _) => {
                let mut go = Command::new("go");
                go.args(["build", "-o", "service", "."]).env("GOFLAGS", "-mod=readonly").env("GOWORK", "off");
                finish(&mut go, folder)
            }
            (Sample::Java, _) => {
                const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
                run("mvn", &["-q", "-B", COPY, "-DoutputDirectory=lib"])?;
                agent(folder)?;
                run("javac", &["-cp", "lib/*", "-d", ".", "Sample.java"])
            }
        }
    }

    /// How it is started.
    pub(crate) fn command(self, folder: &Path, installed: Option<&Path>, port: u16) -> Command {
        let port = port.to_string();
        let (program, arguments) = match self {
            Sample::Python => (python(folder, installed), vec!["service.py"]),
            Sample::Node => (PathBuf::from("node"), vec!["service.mjs"]),
            Sample::Go => (folder.join("service"), vec![]),
            Sample::Java => (PathBuf::from("java"), vec!["@jvm.options", "-cp", ".:lib/*", "Sample"]),
            Sample::Nginx => (PathBuf::from("nginx"), vec![]),
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(port);
        command
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.lang().name())
    }
}

fn python(folder: &Path, installed: Option<&Path>) -> PathBuf {
    installed.map_or_else(|| folder.join("venv/bin/python"), Path::to_owned)
}

/// Puts the agent where the rendered options look for it, and off the class path.
fn agent(folder: &Path) -> Result<(), String> {
    let lib = folder.join("lib");
    let wrong = |error: std::io::Error| format!("{}: {error}", lib.display());
    for entry in std::fs::read_dir(&lib).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("opentelemetry-javaagent") {
            return std::fs::rename(&path, folder.join("opentelemetry-javaagent.jar")).map_err(wrong);
        }
    }
    Err(format!("{}: OpenTelemetry's agent was not copied", lib.display()))
}

/// Runs a command to its end in the folder.
fn finish(command: &mut Command, folder: &Path) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.current_dir(folder).stdin(Stdio::null()).output().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{program} is not there: install it, or put it on PATH"),
            _ => format!("{program}: {error}"),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{program} ended with {}; it said:\n{}", output.status, tail(&String::from_utf8_lossy(&said))))
}

/// The last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(30)..).unwrap_or(&lines).join("\n")
}
