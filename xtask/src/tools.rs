//! Programs and folders that the tasks need: finding them, and saying plainly how to get what is missing.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program the tests need beside cargo.
pub(crate) struct Tool {
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// A command that succeeds when it is there and new enough.
    probe: &'static [&'static str],
    /// How to get it.
    pub(crate) remedy: &'static str,
}

/// What building the hub needs.
pub(crate) const BUILD: &[Tool] = &[CC];

const CC: Tool = Tool {
    purpose: "a C compiler (zstd and TLS are built from source)",
    probe: &["cc", "--version"],
    remedy: "apt-get install build-essential",
};

const PYTHON: Tool = Tool {
    purpose: "Python 3.11 or newer (senders, comparison, a service of the demo)",
    probe: &["python3", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
    remedy: "apt-get install python3",
};

const VENV: Tool = Tool {
    purpose: "Python's venv and ensurepip (senders, comparison, a service of the demo)",
    probe: &["python3", "-c", "import venv, ensurepip"],
    remedy: "apt-get install python3-venv",
};

/// As old as the tools of the page allow.
const NODE: Tool = Tool {
    purpose: "Node 20.19, 22.12 or newer (the page, senders, a service of the demo)",
    probe: &[
        "node",
        "-e",
        "const [a, b] = process.versions.node.split('.').map(Number); \
         process.exit(a > 22 || a === 22 && b >= 12 || a === 20 && b >= 19 ? 0 : 1)",
    ],
    remedy: "https://nodejs.org, or apt-get install nodejs where that is new enough",
};

const NPM: Tool = Tool {
    purpose: "npm (the page, senders, a service of the demo)",
    probe: &["npm", "--version"],
    remedy: "it comes with Node; apt-get install npm",
};

/// What a service of the demo is left away without.
pub(crate) const DEMO_PYTHON: &[Tool] = &[PYTHON, VENV];
/// What the page and a service of the demo are left away without.
pub(crate) const DEMO_NODE: &[Tool] = &[NODE, NPM];

/// What `cargo xtask test` needs.
pub(crate) const NEEDED: &[Tool] = &[
    CC,
    Tool {
        purpose: "a C++ compiler (to build Python packages without a wheel for this machine)",
        probe: &["g++", "--version"],
        remedy: "apt-get install g++",
    },
    Tool {
        purpose: "git (tidy asks it for the files)",
        probe: &["git", "--version"],
        remedy: "apt-get install git",
    },
    Tool { purpose: "rustfmt", probe: &["cargo", "fmt", "--version"], remedy: "rustup component add rustfmt" },
    Tool { purpose: "clippy", probe: &["cargo", "clippy", "--version"], remedy: "rustup component add clippy" },
    PYTHON,
    VENV,
    NODE,
    NPM,
    Tool { purpose: "curl (a sender)", probe: &["curl", "--version"], remedy: "apt-get install curl" },
];

/// Those of `tools` that are not here.
pub(crate) fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    tools.iter().filter(|tool| !succeeds(tool.probe)).collect()
}

/// Says what of `tools` is missing and how to get it, if anything is.
pub(crate) fn check(tools: &'static [Tool]) -> crate::Result<()> {
    match missing(tools).first() {
        Some(tool) => Err(format!("missing: {}\nto get it: {}", tool.purpose, tool.remedy)),
        None => Ok(()),
    }
}

/// Whether a command can be started and succeeds; what it writes is not shown.
pub(crate) fn succeeds(words: &[&str]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(crate::root());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    command
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .map(|folder| if folder.is_absolute() { folder } else { crate::root().join(folder) })
        .unwrap_or_else(|| crate::root().join("target"))
}

/// The third-party test data, when it lies beside the repository.
pub(crate) fn train_ticket() -> Option<PathBuf> {
    let folder = crate::root().join("../shared/data/trainticket").canonicalize().ok()?;
    folder.join("logs.ndjson.zst").is_file().then_some(folder)
}

/// Rules and events of others, when they lie beside the repository.
pub(crate) fn shared_data() -> Option<PathBuf> {
    let folder = crate::root().join("../shared/data").canonicalize().ok()?;
    (folder.join("sigma").is_dir() && folder.join("panther/events.ndjson").is_file()).then_some(folder)
}
