//! `fleet run`: starts everything, drives load and attacks, stops everything, reports.

use std::fs::{DirBuilder, Permissions};
use std::io::{IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use threadline_contract::registry::{base_layers, load};
use threadline_contract::render::{Lang, Service, render};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::attacks::{Attack, Field};
use crate::hub::Hub;
use crate::load::{self, Journal, Others};
use crate::mesh::{Mesh, identity};
use crate::pki::Authority;
use crate::process::{PATIENCE, Process};
use crate::receiver::Receiver;
use crate::report::{self, Sent};
use crate::{Result, careless, edge};

/// The services in Rust.
const RUST: [&str; 4] = ["payment", "catalogue", "orders", "edge"];
/// Requests a second on an ordinary day, and in a burst.
const RATES: [u64; 2] = [12, 60];

/// What was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) hub: PathBuf,
    pub(crate) time: Option<Duration>,
    pub(crate) python: Option<PathBuf>,
    pub(crate) node: Option<PathBuf>,
    /// nginx, to be the edge; else the Rust edge is.
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) folder: Option<PathBuf>,
    /// Ordinary days only.
    pub(crate) quiet: bool,
}

fn options(arguments: &[&str]) -> Result<Options> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if *word == "--quiet" {
            options.quiet = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match *word {
            "--hub" => options.hub = value.into(),
            "--for" => options.time = Some(seconds(value)?),
            "--python" => options.python = Some(value.into()),
            "--node" => options.node = Some(value.into()),
            "--nginx" => options.nginx = Some(value.into()),
            "--folder" => options.folder = Some(value.into()),
            other => return Err(format!("{other}: unknown\n{}", crate::USAGE)),
        }
    }
    if options.hub.as_os_str().is_empty() {
        return Err(format!("--hub names the hub's binary\n{}", crate::USAGE));
    }
    Ok(options)
}

fn seconds(text: &str) -> Result<Duration> {
    let number = text.strip_suffix('s').unwrap_or(text).parse::<u64>();
    let number = number.ok().filter(|number| (10..=86_400).contains(number));
    number.map(Duration::from_secs).ok_or_else(|| format!("--for {text}: from 10s to 86400s, as in 60s"))
}

/// Processes of the fleet, in the order they were started; dropping it ends them.
pub(crate) struct Fleet {
    pub(crate) children: Vec<Process>,
}

impl Fleet {
    /// Asks them to stop, the edge first, and waits.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        self.children.drain(..).rev().filter_map(|mut child| child.stop()).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether somebody wants it to end: the first Ctrl-C (or SIGTERM) ends the load, the second everything.
#[derive(Clone)]
struct Asked(watch::Receiver<u32>);

impl Asked {
    fn listen() -> Result<Asked> {
        let (sender, receiver) = watch::channel(0);
        let listen = |kind| signal(kind).map_err(|error| error.to_string());
        let (mut ended, mut hung_up) = (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    asked = tokio::signal::ctrl_c() => if asked.is_err() { return },
                    _ = ended.recv() => {}
                    // Nobody sees a table any more.
                    _ = hung_up.recv() => sender.send_modify(|times| *times += 1),
                }
                sender.send_modify(|times| *times += 1);
            }
        });
        Ok(Asked(receiver))
    }

    /// Waits until it was asked for so often.
    async fn times(&mut self, least: u32) {
        if self.0.wait_for(|times| *times >= least).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = options(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(drive(&options))
}

async fn drive(options: &Options) -> Result<()> {
    let asked = Asked::listen()?;
    // Only its owner may read it: keys are in it.
    let mut made = tempfile::Builder::new();
    let made = made.prefix("threadline-fleet-").permissions(Permissions::from_mode(0o700));
    let (folder, temporary) = match &options.folder {
        Some(folder) => (new_folder(folder)?, None),
        None => {
            let made = made.tempdir().map_err(|error| format!("a folder for the fleet: {error}"))?;
            (made.path().to_owned(), Some(made))
        }
    };
    let secret = prepare(&folder)?;
    let mut twice = asked.clone();
    let outcome = tokio::select! {
        outcome = in_folder(options, &folder, secret, asked) => outcome,
        () = twice.times(2) => Err("ended by a second Ctrl-C; nothing was counted".to_owned()),
    };
    match temporary {
        Some(made) if outcome.is_ok() => drop(made),
        other => {
            let _ = other.map(tempfile::TempDir::keep);
            println!("What the fleet wrote is in {}", folder.display());
        }
    }
    outcome
}

/// A folder that nobody else has: it is made, or it is empty.
fn new_folder(folder: &Path) -> Result<PathBuf> {
    let wrong = |reason: &dyn std::fmt::Display| format!("--folder {}: {reason}", folder.display());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| wrong(&error))?;
    if std::fs::read_dir(folder).map_err(|error| wrong(&error))?.next().is_some() {
        return Err(wrong(&"it is not empty: a run has a folder of its own"));
    }
    folder.canonicalize().map_err(|error| wrong(&error))
}

async fn in_folder(options: &Options, folder: &Path, secret: Vec<u8>, mut asked: Asked) -> Result<()> {
    let mut ports = free_ports(9)?.into_iter();
    let mut port = || ports.next().ok_or_else(|| "no free port".to_owned());
    say("Starting the hub and the fleet; all speak TLS, with certificates made just now.");
    let receiver = Receiver::start(folder).await?;
    receiver.write_alerts_file(folder)?;
    let mut hub = Hub::start(&options.hub, folder, [port()?, port()?, port()?]).await?;
    let mut names: Vec<&'static str> = RUST.to_vec();
    if options.node.is_some() {
        names.insert(0, "notify");
    }
    if options.python.is_some() {
        names.insert(0, "recommend");
    }
    let mut places = Vec::new();
    for name in &names {
        places.push((*name, port()?));
    }
    let mut fleet = Fleet { children: Vec::new() };
    for (name, _) in &places {
        configure(folder, name, &hub.otlp, options)?;
        if is_nginx(name, options) {
            // It is stopped after nginx, and sends what is left.
            let command = edge::follower(&options.hub, folder, &hub.otlp);
            let child = start("the follower of nginx", &folder.join(name).join("follower.log"), command)?;
            fleet.children.push(Process::new("the follower of nginx", child));
        }
        fleet.children.push(Process::new(name, spawn(folder, name, &places, options)?));
    }
    let mesh = Mesh::new(&identity(folder, "load"))?;
    for (name, port) in &places {
        ready(&mut fleet, &mesh, name, *port, folder).await?;
    }
    let url = |name: &str| {
        let port = places.iter().find(|(known, _)| *known == name).map_or(0, |(_, port)| *port);
        format!("https://localhost:{port}")
    };
    println!("  hub       {} (API), {} (OTLP)", hub.api, hub.otlp);
    for (name, port) in &places {
        let nginx = if is_nginx(name, options) { "  (nginx)" } else { "" };
        println!("  {name:<10}https://localhost:{port}{nginx}");
    }
    println!("  authority {}", folder.join("pki/ca.pem").display());
    println!(
        "  told      http://127.0.0.1:{}/… hears of incidents, by signed webhooks: pager, front, shop, console",
        receiver.port
    );
    let field = Field {
        folder: folder.into(),
        mesh: mesh.clone(),
        address: Ipv4Addr::LOCALHOST,
        edge: url("edge"),
        payment: url("payment"),
        orders: places.iter().find(|(name, _)| *name == "orders").map_or(0, |(_, port)| *port),
        secret: secret.clone(),
    };
    let others = Others { recommend: options.python.is_some(), notify: options.node.is_some() };
    let customers = load::customers(&identity(folder, "load"))?;
    let journal = Arc::new(Journal::default());
    let driver = tokio::spawn(load::run(customers, url("edge"), secret, others, RATES, Arc::clone(&journal)));
    let attacks = schedule(options, &field, &journal, &mut asked).await;
    journal.stop();
    let _ = driver.await;
    let careless = careless::send(folder, &hub.otlp).await?;
    say("Stopping the services: what they still have is sent.");
    let mut faults = fleet.stop();
    let sent = Sent {
        journeys: journal.journeys(),
        lost: journal.lost.load(Ordering::Relaxed),
        uncounted: journal.uncounted.load(Ordering::Relaxed),
        attacks: attacks?,
        careless,
        services: names.iter().rev().copied().collect(),
    };
    let reported = report::report(&hub, &sent, &receiver).await;
    faults.extend(hub.child.stop());
    receiver.write_notices(folder)?;
    reported?;
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Makes attacks one after another over the time that there is, or every ten seconds until somebody ends it.
async fn schedule(
    options: &Options,
    field: &Field,
    journal: &Arc<Journal>,
    asked: &mut Asked,
) -> Result<Vec<(Attack, Option<u64>)>> {
    let attacks = if options.quiet { &[][..] } else { &Attack::ALL[..] };
    let time = options.time;
    let steps = attacks.len() as u32 + 1;
    let pause = time.map_or(Duration::from_secs(10), |time| time / steps);
    if !attacks.is_empty() {
        say("The schedule, beside the load:");
    }
    for (at, attack) in attacks.iter().enumerate() {
        println!("  {:>5.0} s  {}", (pause * (at as u32 + 1)).as_secs_f64(), attack.name());
    }
    let started = Instant::now();
    let mut made = Vec::new();
    for (at, &attack) in attacks.iter().enumerate() {
        let due = started + pause * (at as u32 + 1);
        if wait(due, started, journal, asked).await {
            return Ok(made);
        }
        progress(started, journal, Some(attack.name()));
        made.push((attack, field.make(attack).await.map_err(|error| format!("{}: {error}", attack.name()))?));
    }
    let end = time.map_or_else(|| started + Duration::from_secs(365 * 86_400), |time| started + time);
    if time.is_none() {
        say("The schedule is through; the load goes on until Ctrl-C.");
    }
    wait(end, started, journal, asked).await;
    println!();
    Ok(made)
}

/// Waits, showing how it goes; true when somebody ends it.
async fn wait(due: Instant, started: Instant, journal: &Arc<Journal>, asked: &mut Asked) -> bool {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(Duration::from_secs(1))) => progress(started, journal, None),
            () = asked.times(1) => return true,
        }
    }
}

/// On a terminal one line that changes; elsewhere a line per attack.
fn progress(started: Instant, journal: &Journal, attack: Option<&str>) {
    let line = format!(
        "{:>5} s {:>7} requests, {:>3} a second",
        started.elapsed().as_secs(),
        journal.count(),
        journal.rate.load(Ordering::Relaxed)
    );
    match attack {
        Some(attack) => println!("\r{line}  {attack}"),
        None if std::io::stdout().is_terminal() => {
            print!("\r{line}  ");
            let _ = std::io::stdout().flush();
        }
        None => {}
    }
}

fn say(text: &str) {
    println!("\n{text}");
}

/// Makes certificates and the key of the tokens.
pub(crate) fn prepare(folder: &Path) -> Result<Vec<u8>> {
    let pki = folder.join("pki");
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&pki).map_err(wrong)?;
    let ours = Authority::new("Fleet CA")?;
    ours.write(&pki)?;
    for name in ["hub", "load", careless::NAME, "recommend", "notify"].into_iter().chain(RUST) {
        ours.issue(&pki, name, name, false)?;
    }
    ours.issue(&pki, "expired", "old-partner", true)?;
    Authority::new("Somebody's CA")?.issue(&pki, "stranger", "stranger", false)?;
    let mut secret = vec![0; 32];
    let random = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&random, &mut secret).map_err(|_| "no random bytes".to_owned())?;
    std::fs::write(folder.join("tokens.key"), &secret).map_err(wrong)?;
    Ok(secret)
}

/// Whether it is nginx.
fn is_nginx(name: &str, options: &Options) -> bool {
    name == edge::NAME && options.nginx.is_some()
}

/// The language of a service.
fn lang(name: &str, options: &Options) -> Lang {
    match name {
        _ if is_nginx(name, options) => Lang::Nginx,
        "recommend" => Lang::Python,
        "notify" => Lang::Node,
        _ => Lang::Rust,
    }
}

/// Writes a service's files, as `threadline contract render` does; the fleet has no others.
pub(crate) fn configure(folder: &Path, name: &str, otlp: &str, options: &Options) -> Result<()> {
    let place = folder.join(name);
    let files = identity(folder, name);
    let service = Service {
        version: "1.0.0".to_owned(),
        namespace: "fleet".to_owned(),
        environment: "demo".to_owned(),
        endpoint: otlp.to_owned(),
        ca: files.ca.display().to_string(),
        cert: files.cert.display().to_string(),
        key: files.key.display().to_string(),
        ..Service::new(name)
    };
    let registry = load(&base_layers()).map_err(|problems| problems.to_string())?;
    for (path, text) in render(&registry, &service, lang(name, options))? {
        let path = place.join(path);
        let parent = path.parent().unwrap_or(&place);
        std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        write(&path, &text)?;
    }
    Ok(())
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Variables of a file of `NAME=value` lines.
fn variables(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

pub(crate) fn spawn(
    folder: &Path,
    name: &str,
    places: &[(&'static str, u16)],
    options: &Options,
) -> Result<Child> {
    let place = folder.join(name);
    let mut command = match (name, &options.python, &options.node, &options.nginx) {
        (edge::NAME, _, _, Some(nginx)) => edge::nginx(nginx, folder, places)?,
        ("recommend", Some(python), ..) => {
            write(&place.join("recommend.py"), include_str!("../python/recommend.py"))?;
            let mut command = Command::new(python);
            command.arg(place.join("recommend.py"));
            command
        }
        ("notify", _, Some(node), _) => {
            // Node looks for packages beside the script.
            std::fs::copy(place.join("telemetry.mjs"), node.join("telemetry.mjs"))
                .map_err(|error| format!("{}: {error}", node.display()))?;
            write(&node.join("notify.mjs"), include_str!("../node/notify.mjs"))?;
            let mut command = Command::new("node");
            command.arg(node.join("notify.mjs"));
            command
        }
        _ => {
            let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
            command.args(["serve", name]);
            command
        }
    };
    command
        .current_dir(&place)
        .env("FLEET_FOLDER", folder)
        .env("FLEET_TELEMETRY", &place)
        .env_remove("RUST_LOG");
    command.envs(variables(&place.join("otel.env")));
    for (name, port) in places {
        command.env(format!("FLEET_{}_PORT", name.to_uppercase()), port.to_string());
    }
    start(name, &place.join("output.log"), command)
}

/// Starts a process of the fleet, which writes into this log.
fn start(name: &str, log: &Path, mut command: Command) -> Result<Child> {
    let output = std::fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let second = output.try_clone().map_err(|error| error.to_string())?;
    // A Ctrl-C is for the fleet, which stops them one after another.
    let spawned = command.stdin(Stdio::null()).stdout(output).stderr(second).process_group(0).spawn();
    spawned.map_err(|error| format!("{name} could not be started: {error}"))
}

/// Waits until a service answers at all.
pub(crate) async fn ready(fleet: &mut Fleet, mesh: &Mesh, name: &str, port: u16, folder: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = Request::get(format!("https://localhost:{port}/ready")).body(Body::empty());
        if mesh.send(request.map_err(|error| error.to_string())?).await.is_ok() {
            return Ok(());
        }
        let child = fleet.children.iter_mut().find(|child| child.name == name);
        let ended = child.is_none_or(Process::has_ended);
        if ended || Instant::now() > deadline {
            let log = folder.join(name).join("output.log");
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{name} did not start; it said:\n{said}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Ports that are free now.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: std::io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let listeners = listeners.map_err(|error| error.to_string())?;
    let ports: std::io::Result<Vec<u16>> =
        listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
    ports.map_err(|error| error.to_string())
}
