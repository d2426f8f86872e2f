//! `threadline token`: makes, lists and revokes API tokens in the token file of a data folder. A hub that runs on the
//! folder notices within a second or two.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use threadline_store::Env;

use super::args::{Format, OutputArgs, Screen};
use super::failure::Failure;
use super::output::{Table, write_csv};
use crate::door::roles::{Role, Roles};
use crate::door::tokens::{NewToken, Token as Entry, TokenFile, write_time};
use crate::when;

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a token and print it. It is shown once and kept nowhere.
    Create(Create),
    /// Show all tokens, without their secrets, and when each was used last, to a minute or so.
    List(List),
    /// Revoke a token by its id or name.
    Revoke(Revoke),
}

/// Where the token file lies.
#[derive(Debug, Args)]
struct FolderArgs {
    /// The hub's data folder; the hub may run.
    #[arg(long, value_name = "DIR", env = "THREADLINE_DATA_DIR", default_value = "./threadline-data")]
    data: PathBuf,
}

#[derive(Debug, Args)]
struct Create {
    /// What people call it, such as `checkout` or `grafana`; it is in the record of what is done with the token.
    name: String,
    /// What it is good for; several with commas.
    #[arg(long, value_enum, value_delimiter = ',', required = true, value_name = "ROLE,…")]
    role: Vec<RoleName>,
    /// Services that it may send records of, with `*`; any without this.
    #[arg(long, value_name = "NAME")]
    service: Vec<String>,
    /// How long it is good, such as `90d`; `never` for ever.
    #[arg(long, value_name = "DURATION", default_value = "365d")]
    expires: String,
    /// Print the token and what is kept of it as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    /// Send records.
    Ingest,
    /// Ask for records.
    Read,
    /// See how the hub itself is.
    Operate,
    /// Everything, and what cannot be undone.
    Admin,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Revoke {
    /// Id or name.
    token: String,
    #[command(flatten)]
    folder: FolderArgs,
}

impl Token {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.what {
            What::Create(create) => create.run(),
            What::List(list) => list.run(),
            What::Revoke(revoke) => revoke.run(),
        }
    }
}

impl RoleName {
    fn role(self) -> Role {
        match self {
            RoleName::Ingest => Role::Ingest,
            RoleName::Read => Role::Read,
            RoleName::Operate => Role::Operate,
            RoleName::Admin => Role::Admin,
        }
    }
}

impl Create {
    fn run(self) -> Result<ExitCode, Failure> {
        let now_us = Env::local().clock.now_us();
        let expires_us = match self.expires.as_str() {
            "never" => None,
            text => Some(end(text, now_us).map_err(|reason| Failure::Usage(format!("--expires: {reason}")))?),
        };
        let roles: Roles = self.role.iter().map(|role| role.role()).collect();
        let new = NewToken { name: self.name, roles, services: self.service, expires_us };
        let rng = Env::local().rng;
        let file = TokenFile::of(&self.folder.data);
        let (text, entry) = file.change(|tokens| tokens.create(new, now_us, &*rng)).map_err(Failure::Failed)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut shown = shown(&entry, None, now_us);
            if let Some(object) = shown.as_object_mut() {
                object.insert("token".to_owned(), text.into());
            }
            writeln!(out, "{shown}")?;
        } else {
            writeln!(out, "{text}")?;
            let until = entry
                .expires_us
                .map_or_else(|| "for ever".to_owned(), |end| format!("until {}", write_time(end)));
            eprintln!("token {} ({}), {}, {until}; it is not shown again", entry.name, entry.id, entry.roles);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn end(text: &str, now_us: i64) -> Result<i64, String> {
    let after: Duration = when::parse_duration(text)?;
    let after = i64::try_from(after.as_micros()).map_err(|_| "it is too long".to_owned())?;
    now_us.checked_add(after).ok_or_else(|| "it is too long".to_owned())
}

fn state(entry: &Entry, now_us: i64) -> &'static str {
    if entry.revoked_us.is_some() {
        "revoked"
    } else if entry.expires_us.is_some_and(|end| end <= now_us) {
        "expired"
    } else {
        "good"
    }
}

fn shown(entry: &Entry, used_us: Option<i64>, now_us: i64) -> serde_json::Value {
    json!({
        "id": entry.id,
        "name": entry.name,
        "roles": entry.roles.iter().map(Role::name).collect::<Vec<_>>(),
        "services": entry.services,
        "created": write_time(entry.created_us),
        "expires": entry.expires_us.map(write_time),
        "revoked": entry.revoked_us.map(write_time),
        "used": used_us.map(write_time),
        "state": state(entry, now_us),
    })
}

const HEAD: [&str; 8] = ["id", "name", "roles", "services", "created", "expires", "state", "used"];

fn cells(entry: &Entry, used_us: Option<i64>, now_us: i64) -> [String; 8] {
    [
        entry.id.clone(),
        entry.name.clone(),
        entry.roles.to_string(),
        entry.services.join(" "),
        write_time(entry.created_us),
        entry.expires_us.map_or_else(|| "never".to_owned(), write_time),
        state(entry, now_us).to_owned(),
        used_us.map_or_else(|| "never".to_owned(), write_time),
    ]
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let now_us = Env::local().clock.now_us();
        let file = TokenFile::of(&self.folder.data);
        let tokens = file.read().map_err(Failure::Failed)?;
        // A list without them is better than none.
        let uses = file.read_uses().unwrap_or_else(|reason| {
            eprintln!("warning: it is not known when tokens were used last: {reason}");
            Default::default()
        });
        let used = |entry: &Entry| uses.get(&entry.id).copied();
        let list = tokens.list();
        let mut out = std::io::stdout().lock();
        match self.output.output {
            Format::Json => {
                let all: Vec<_> = list.iter().map(|entry| shown(entry, used(entry), now_us)).collect();
                writeln!(out, "{}", json!({"tokens": all}))?;
            }
            Format::Ndjson => {
                for entry in &list {
                    writeln!(out, "{}", shown(entry, used(entry), now_us))?;
                }
            }
            Format::Table | Format::Csv => {
                let mut table = Table::new(&HEAD);
                let rows: Vec<_> = list.iter().map(|entry| cells(entry, used(entry), now_us)).collect();
                if self.output.output == Format::Csv {
                    write_csv(&mut out, &HEAD, rows.into_iter())?;
                } else {
                    rows.into_iter().for_each(|row| table.row(row));
                    table.write(&mut out, Screen::detect())?;
                }
            }
        }
        Ok(ExitCode::from(u8::from(self.output.fail_empty && list.is_empty())))
    }
}

impl Revoke {
    fn run(self) -> Result<ExitCode, Failure> {
        let now_us = Env::local().clock.now_us();
        let file = TokenFile::of(&self.folder.data);
        let entry = file.change(|tokens| tokens.revoke(&self.token, now_us)).map_err(Failure::Failed)?;
        eprintln!("token {} ({}) is revoked", entry.name, entry.id);
        Ok(ExitCode::SUCCESS)
    }
}
