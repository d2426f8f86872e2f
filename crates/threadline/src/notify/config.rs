//! The section `receivers` of the alerts file: receivers from YAML, with faults by line (docs/notify.md).

use std::path::{Path, PathBuf};
use std::time::Duration;

use threadline_model::yaml::{Fault, Kind, Node, Scalar};
use threadline_query::lang::Network;

use super::guard::Allow;
use super::mail::mailbox;
use super::receiver::Receiver;
use super::secret::Secret;
use super::target::{Address, JSM_URL, Login, Mailing, PAGERDUTY_URL, Protection, Target};
use super::template::{self, Template};

type Result<T> = std::result::Result<T, Fault>;

/// Receivers at most; each has a thread.
const RECEIVERS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;
const RECIPIENTS_MAX: usize = 50;
const NETWORKS_MAX: usize = 100;

/// Keys of a receiver that are no target.
const COMMON: [&str; 7] = ["name", "title", "text", "per_minute", "timeout", "dead_after", "watchdog"];
/// Kinds of targets.
const KINDS: [&str; 9] = [
    "pagerduty",
    "alertmanager",
    "alertmanager_webhook",
    "slack",
    "teams",
    "jira_service_management",
    "servicenow",
    "email",
    "webhook",
];
/// Keys of every target that is reached by HTTP.
const HTTP: [&str; 4] = ["allow_private", "allow", "allow_plain", "ca_file"];

/// A receiver that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Its name, where it has one.
    pub(crate) name: Option<String>,
    pub(crate) fault: Fault,
}

/// The receivers of a section, and those that cannot be used: one that is broken takes no other with it. Relative paths are
/// below a folder.
pub(crate) fn receivers(section: &Node, folder: &Path) -> (Vec<Receiver>, Vec<Broken>) {
    let (mut receivers, mut broken) = (Vec::<Receiver>::new(), Vec::new());
    let whole = |what: String| (Vec::new(), vec![Broken { name: None, fault: Fault::new(section.line, what) }]);
    let nodes = section.elements();
    if nodes.is_empty() && !section.is_null() && !matches!(section.kind, Kind::List(_)) {
        return whole("`receivers` must be a list: - name: …".to_owned());
    }
    if nodes.len() > RECEIVERS_MAX {
        return whole(format!("has {} receivers: {RECEIVERS_MAX} at most", nodes.len()));
    }
    for node in nodes {
        let read = receiver(node, folder).and_then(|receiver| {
            if receivers.iter().any(|known| known.name == receiver.name) {
                let what = format!("there are two receivers `{}`: give each its own name", receiver.name);
                return fault(node, what);
            }
            Ok(receiver)
        });
        match read {
            Ok(receiver) => receivers.push(receiver),
            Err(fault) => {
                let name = node.get("name").and_then(Node::text).map(str::to_owned);
                broken.push(Broken { name, fault });
            }
        }
    }
    (receivers, broken)
}

fn fault<T>(node: &Node, what: impl Into<String>) -> Result<T> {
    Err(Fault::new(node.line, what))
}

fn receiver(node: &Node, folder: &Path) -> Result<Receiver> {
    let keys: Vec<&str> = COMMON.iter().chain(&KINDS).copied().collect();
    node.only("a receiver", &keys)?;
    let name = need(node, "name")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
        return fault(
            node,
            format!("a `name` has letters, digits, - and _, {NAME_CHARS_MAX} at most: it is part of keys"),
        );
    }
    let kinds: Vec<&(String, Node)> =
        node.members().iter().filter(|(key, _)| KINDS.contains(&key.as_str())).collect();
    let [(kind, of)] = kinds.as_slice() else {
        return fault(node, format!("`{name}` needs exactly one target, one of {}", KINDS.join(", ")));
    };
    let file = File { of, kind, folder };
    let target = file.target()?;
    if let Err(reason) = target.check() {
        return fault(of, format!("`{name}`: {reason}"));
    }
    let (allow, ca) =
        if kind == "email" { (Allow::default(), None) } else { (file.allow()?, file.path("ca_file")?) };
    if let Some(ca) = &ca
        && let Err(error) = std::fs::metadata(ca)
    {
        return fault(of, format!("cannot read {}: {error}", ca.display()));
    }
    let template = |key: &str, default: &str| match node.get(key) {
        None => Template::parse(default).or_else(|reason| fault(node, reason)),
        Some(text) => {
            Template::parse(text.need_text(key)?).or_else(|reason| fault(text, format!("`{key}` {reason}")))
        }
    };
    Ok(Receiver {
        name: name.to_owned(),
        target,
        title: template("title", template::TITLE)?,
        text: template("text", template::TEXT)?,
        per_minute: number(node, "per_minute", 1, 10_000)?.and_then(|number| u32::try_from(number).ok()),
        timeout: duration(node, "timeout", (1, 60))?.unwrap_or(Duration::from_secs(10)),
        dead_after: duration(node, "dead_after", (60, 30 * 86_400))?.unwrap_or(Duration::from_secs(3 * 86_400)),
        watchdog: duration(node, "watchdog", (10, 7 * 86_400))?,
        allow,
        ca,
    })
}

fn need<'a>(node: &'a Node, key: &str) -> Result<&'a str> {
    match node.get(key) {
        Some(text) => text.need_text(key),
        None => fault(node, format!("needs `{key}`")),
    }
}

fn number(node: &Node, key: &str, min: i64, max: i64) -> Result<Option<i64>> {
    let Some(of) = node.get(key) else { return Ok(None) };
    match of.scalar() {
        Some(Scalar::Int(number)) if (min..=max).contains(&number) => Ok(Some(number)),
        _ => fault(of, format!("`{key}` must be a whole number from {min} to {max}")),
    }
}

/// A duration within bounds, seconds.
fn duration(node: &Node, key: &str, (min, max): (u64, u64)) -> Result<Option<Duration>> {
    let Some(of) = node.get(key) else { return Ok(None) };
    let parsed = crate::when::parse_duration(of.need_text(key)?);
    let duration = parsed.or_else(|reason| fault(of, format!("`{key}`: {reason}")))?;
    if duration < Duration::from_secs(min) || duration > Duration::from_secs(max) {
        return fault(of, format!("`{key}` must be from {min}s to {max}s"));
    }
    Ok(Some(duration))
}

/// The part of a target.
struct File<'a> {
    of: &'a Node,
    kind: &'a str,
    folder: &'a Path,
}

impl File<'_> {
    fn target(&self) -> Result<Target> {
        Ok(match self.kind {
            "pagerduty" => {
                self.only(&["url", "routing_key_file", "routing_key_env"])?;
                let url = self.url_or(PAGERDUTY_URL)?;
                Target::PagerDuty { url, routing_key: self.secret("routing_key")? }
            }
            "alertmanager" => {
                self.only(&[
                    "url",
                    "hold",
                    "bearer_token_file",
                    "bearer_token_env",
                    "user",
                    "password_file",
                    "password_env",
                ])?;
                let hold = duration(self.of, "hold", (60, 86_400))?.unwrap_or(Duration::from_secs(300));
                let hold_us = i64::try_from(hold.as_micros()).unwrap_or(i64::MAX);
                Target::Alertmanager { url: self.url()?, login: self.login()?, hold_us }
            }
            "alertmanager_webhook" => {
                self.only(&[
                    "url",
                    "url_file",
                    "url_env",
                    "bearer_token_file",
                    "bearer_token_env",
                    "user",
                    "password_file",
                    "password_env",
                ])?;
                Target::Webhook4 { url: self.address()?, login: self.login()? }
            }
            "slack" => {
                self.only(&["url_file", "url_env"])?;
                Target::Slack { url: self.secret_url()? }
            }
            "teams" => {
                self.only(&["url_file", "url_env"])?;
                Target::Teams { url: self.secret_url()? }
            }
            "jira_service_management" => {
                self.only(&["url", "api_key_file", "api_key_env"])?;
                Target::Jsm { url: self.url_or(JSM_URL)?, api_key: self.secret("api_key")? }
            }
            "servicenow" => {
                self.only(&[
                    "url",
                    "bearer_token_file",
                    "bearer_token_env",
                    "user",
                    "password_file",
                    "password_env",
                ])?;
                let login = self.login()?;
                if login == Login::None {
                    return fault(self.of, "needs `user` and `password_file`, or `bearer_token_file`");
                }
                Target::ServiceNow { url: self.url()?, login }
            }
            "webhook" => {
                self.only(&["url", "url_file", "url_env", "secret_file", "secret_env"])?;
                Target::Webhook { url: self.address()?, secrets: self.secret("secret")? }
            }
            _ => Target::Email(self.mailing()?),
        })
    }

    fn only(&self, keys: &[&str]) -> Result<()> {
        // The commonest mistake gets an answer of its own.
        for secret in ["routing_key", "api_key", "password", "bearer_token", "secret"] {
            if let Some(node) = self.of.get(secret) {
                return fault(
                    node,
                    format!(
                        "a secret does not stand in this file: write `{secret}_file: path` or `{secret}_env: VARIABLE`"
                    ),
                );
            }
        }
        if matches!(self.kind, "slack" | "teams")
            && let Some(node) = self.of.get("url")
        {
            return fault(
                node,
                "whoever has this address may post there: write `url_file: path` or `url_env: VARIABLE`",
            );
        }
        let keys: Vec<&str> = keys.iter().chain(&HTTP).copied().collect();
        self.of.only(self.kind, &keys)
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        self.of.get(key).map(|node| node.need_text(key)).transpose()
    }

    fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        Ok(self.text(key)?.map(|path| self.folder.join(path)))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.of.get(key).map_or(Ok(false), |node| node.need_bool(key))
    }

    fn maybe_secret(&self, key: &str) -> Result<Option<Secret>> {
        let (file, variable) = (self.path(&format!("{key}_file"))?, self.text(&format!("{key}_env"))?);
        match (file, variable) {
            (Some(_), Some(_)) => fault(self.of, format!("has `{key}_file` and `{key}_env`: keep one")),
            (Some(path), None) => Ok(Some(Secret::File(path))),
            (None, Some(name)) => Ok(Some(Secret::Env(name.to_owned()))),
            (None, None) => Ok(None),
        }
    }

    fn secret(&self, key: &str) -> Result<Secret> {
        match self.maybe_secret(key)? {
            Some(secret) => Ok(secret),
            None => fault(self.of, format!("needs `{key}_file` or `{key}_env`")),
        }
    }

    fn login(&self) -> Result<Login> {
        let (token, user) = (self.maybe_secret("bearer_token")?, self.text("user")?);
        let password = self.maybe_secret("password")?;
        match (token, user, password) {
            (None, None, None) => Ok(Login::None),
            (Some(token), None, None) => Ok(Login::Bearer(token)),
            (None, Some(user), Some(password)) => Ok(Login::Basic(user.to_owned(), password)),
            _ => fault(self.of, "takes `user` with `password_file`, or `bearer_token_file`, not parts of both"),
        }
    }

    fn checked(&self, url: &str) -> Result<()> {
        self.check_url(url).or_else(|reason| fault(self.of, reason))
    }

    fn check_url(&self, url: &str) -> std::result::Result<(), String> {
        let uri: http::Uri = url.parse().map_err(|_| "`url` is no URL: write https://host/path".to_owned())?;
        if uri.host().is_none_or(str::is_empty) {
            return Err("`url` has no host: write https://host/path".to_owned());
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("`url` has a name or password in it: set `user` and `password_file`".to_owned());
        }
        let plain = self.flag("allow_plain").map_err(|fault| fault.what)?;
        match uri.scheme_str() {
            Some("https") => Ok(()),
            Some("http") if plain => Ok(()),
            Some("http") => Err("`url` is without TLS: write https, or set `allow_plain: true`".to_owned()),
            _ => Err("`url` must begin with https://".to_owned()),
        }
    }

    fn url(&self) -> Result<String> {
        let url = need(self.of, "url")?;
        self.checked(url)?;
        Ok(url.to_owned())
    }

    fn url_or(&self, default: &str) -> Result<String> {
        if self.of.get("url").is_some() { self.url() } else { Ok(default.to_owned()) }
    }

    fn secret_url(&self) -> Result<Secret> {
        let secret = self.secret("url")?;
        match secret.read() {
            Ok(url) => self.checked(&url)?,
            Err(reason) => return fault(self.of, reason),
        }
        Ok(secret)
    }

    fn address(&self) -> Result<Address> {
        if self.of.get("url").is_some() {
            if self.maybe_secret("url")?.is_some() {
                return fault(self.of, "has `url` twice: keep `url` or `url_file`");
            }
            return Ok(Address::Open(self.url()?));
        }
        self.secret_url().map(Address::Secret)
    }

    fn allow(&self) -> Result<Allow> {
        let mut networks = Vec::new();
        let nodes = self.of.get("allow").map_or(&[][..], Node::one_or_many);
        if nodes.len() > NETWORKS_MAX {
            return fault(self.of, format!("`allow` has more than {NETWORKS_MAX} networks: make them wider"));
        }
        for node in nodes {
            let text = node.need_text("allow")?;
            let (address, bits) = text.split_once('/').unwrap_or((text, ""));
            let address: std::result::Result<std::net::IpAddr, _> = address.parse();
            let network = address.ok().and_then(|address| {
                let all = if address.is_ipv4() { 32 } else { 128 };
                let bits = if bits.is_empty() { Some(all) } else { bits.parse().ok() };
                Network::new(address, bits?)
            });
            match network {
                Some(network) => networks.push(network),
                None => return fault(node, format!("`{text}` is no network: write 10.1.0.0/16 or an address")),
            }
        }
        Ok(Allow { private: self.flag("allow_private")?, networks })
    }

    fn mailing(&self) -> Result<Mailing> {
        if let Some(node) = self.of.get("password") {
            return fault(node, "a secret does not stand in this file: write `password_file: path`");
        }
        let keys = [
            "host",
            "port",
            "tls",
            "ca_file",
            "user",
            "password_file",
            "password_env",
            "from",
            "to",
            "allow_plain",
        ];
        self.of.only(self.kind, &keys)?;
        let (tls, port) = match self.text("tls")?.unwrap_or("starttls") {
            "starttls" => (Protection::StartTls, 587),
            "tls" => (Protection::Implicit, 465),
            "none" if self.flag("allow_plain")? => (Protection::None, 25),
            "none" => return fault(self.of, "`tls: none` sends in the clear: set `allow_plain: true`, too"),
            _ => return fault(self.of, "`tls` is starttls, tls or none"),
        };
        let login = match (self.text("user")?, self.maybe_secret("password")?) {
            (None, None) => None,
            (Some(_), Some(_)) if tls == Protection::None => {
                return fault(self.of, "a password is not sent in the clear: set `tls`");
            }
            (Some(user), Some(password)) => Some((user.to_owned(), password)),
            _ => return fault(self.of, "`user` and `password_file` belong together"),
        };
        let address = |node: &Node, text: &str| match mailbox(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(reason) => fault(node, reason),
        };
        let from = address(self.of, need(self.of, "from")?)?;
        let nodes = self.of.get("to").map_or(&[][..], Node::one_or_many);
        if nodes.is_empty() || nodes.len() > RECIPIENTS_MAX {
            return fault(self.of, format!("`to` needs 1 to {RECIPIENTS_MAX} addresses"));
        }
        let to = nodes.iter().map(|node| address(node, node.need_text("to")?)).collect::<Result<Vec<_>>>()?;
        let port =
            number(self.of, "port", 1, 65_535)?.and_then(|port| u16::try_from(port).ok()).unwrap_or(port);
        Ok(Mailing {
            host: need(self.of, "host")?.to_owned(),
            port,
            tls,
            ca: self.path("ca_file")?,
            login,
            from,
            to,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, folder: &Path) -> Result<Vec<Receiver>> {
        let trees = threadline_model::yaml::read(text)?;
        let (receivers, broken) = receivers(trees.first().unwrap().get("receivers").unwrap(), folder);
        broken.into_iter().next().map_or(Ok(receivers), |broken| Err(broken.fault))
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("key", "s3cret-key"),
            ("slack", "https://hooks.slack.com/services/T/B/s3cret"),
            ("plain", "http://hooks.example/s3cret"),
            ("hmac", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("short", "whsec_c2hvcnQ="),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// The example of the documentation is read, and has each kind.
    #[test]
    fn the_documented_example_is_read() {
        let docs = include_str!("../../../../docs/notify.md");
        let example = docs.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut text = example.to_owned();
        for (name, secret) in [
            ("pagerduty-key", "0123456789abcdef0123456789abcdef"),
            ("slack-url", "https://hooks.slack.com/services/T0/B0/x"),
            ("teams-url", "https://prod-1.westeurope.logic.azure.com/workflows/x"),
            ("jsm-key", "x"),
            ("servicenow-password", "x"),
            ("smtp-password", "x"),
            ("webhook-secrets", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("inside-ca.pem", "x"),
        ] {
            assert!(text.contains(name), "{name}");
            std::fs::write(folder.path().join(name), secret).unwrap();
            text = text.replace(&format!("/etc/threadline/{name}"), name);
        }
        let receivers = read(&text, folder.path()).unwrap();
        let kinds: Vec<&str> = receivers.iter().map(|receiver| receiver.target.kind()).collect();
        assert_eq!(kinds, KINDS);
        let shown = format!("{receivers:?}");
        assert!(
            !shown.contains("0123456789abcdef") && !shown.contains("whsec_") && !shown.contains("hooks.slack")
        );
    }

    #[test]
    fn faults_say_where_and_what_to_do() {
        let folder = folder();
        let one = |target: &str| format!("receivers:\n  - name: a\n    {target}\n");
        for (text, want) in [
            (one("slack: { url: 'https://x' }"), "url_file"),
            (one("slack: { url_file: nowhere }"), "cannot read"),
            (one("slack: { url_file: plain }"), "without TLS"),
            (one("slack: { url_file: slack, url_env: X }"), "keep one"),
            (one("pagerduty: { routing_key: abc }"), "routing_key_file"),
            (one("pagerduty: {}"), "needs `routing_key_file`"),
            (one("pagerduty: { routing_key_file: key, uri: x }"), "no key `uri`"),
            (one("webhook: { url: 'http://x/', secret_file: hmac }"), "allow_plain"),
            (one("webhook: { url: 'ftp://x/', secret_file: hmac }"), "https://"),
            (one("webhook: { url: 'https://u:p@x/', secret_file: hmac }"), "password in it"),
            (one("webhook: { url: 'https://x/', secret_file: key }"), "whsec_"),
            (one("webhook: { url: 'https://x/', secret_file: short }"), "24 to 64"),
            (one("webhook: { url: 'https://x/', secret_file: hmac, allow: [10.0.0.0/33] }"), "no network"),
            (one("webhook: { url: 'https://x/', secret_file: hmac, ca_file: nowhere }"), "cannot read"),
            (one("alertmanager: { url: 'https://x/', user: me }"), "parts of both"),
            (one("servicenow: { url: 'https://x/' }"), "needs `user`"),
            (one("email: { host: h, from: a@b.c, to: x, tls: none }"), "allow_plain"),
            (one("email: { host: h, from: a@b.c, to: nobody }"), "no address"),
            (one("email: { host: h, from: a@b.c, to: [] }"), "1 to 50"),
            (one("email: { host: h, from: a@b.c, to: x@y.z, tls: ssl }"), "starttls"),
            (one("email: { host: h, from: a@b.c, to: x@y.z, user: u }"), "belong together"),
            (one("slack: { url_file: slack }\n    title: '{nope}'"), "there is no field {nope}"),
            (one("slack: { url_file: slack }\n    timeout: 5m"), "from 1s to 60s"),
            (one("slack: { url_file: slack }\n    per_minute: 0"), "from 1 to 10000"),
            (one("slack: { url_file: slack }\n    teams: { url_file: slack }"), "exactly one target"),
            (one("title: x"), "exactly one target"),
            ("receivers:\n  - slack: { url_file: slack }\n".to_owned(), "needs `name`"),
            ("receivers:\n  - name: a.b\n    slack: { url_file: slack }\n".to_owned(), "letters, digits"),
            ("receivers: 5\n".to_owned(), "must be a list"),
            (
                "receivers:\n  - name: a\n    slack: { url_file: slack }\n  - name: a\n    slack: { url_file: slack }\n"
                    .to_owned(),
                "two receivers",
            ),
        ] {
            let found = read(&text, folder.path());
            let Err(fault) = found else { panic!("{text} is read") };
            assert!(fault.what.contains(want) && fault.line > 0, "{text}: {fault}");
            assert!(!fault.what.contains("s3cret"), "{fault}");
        }
        let two = "receivers:\n  - name: a\n    slack: {}\n  - name: b\n    slack: { url_file: slack }\n";
        let trees = threadline_model::yaml::read(two).unwrap();
        let (good, broken) = receivers(trees[0].get("receivers").unwrap(), folder.path());
        assert_eq!((good.len(), good[0].name.as_str(), broken[0].name.as_deref()), (1, "b", Some("a")));
        let many: String =
            (0..65).map(|n| format!("  - name: r{n}\n    slack: {{ url_file: slack }}\n")).collect();
        assert!(read(&format!("receivers:\n{many}"), folder.path()).unwrap_err().what.contains("64 at most"));
    }
}
