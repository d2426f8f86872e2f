//! Receivers: names with targets, and how they are told. They come from the section `receivers` of the alerts file
//! (`config.rs`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::guard::Allow;
use super::http::{Answer, Client};
use super::queue::Rules;
use super::target::{Outgoing, Target, Telling};
use super::template::Template;
use super::{Notice, mail};

/// A receiver.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Receiver {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) title: Template,
    pub(crate) text: Template,
    /// Messages per minute and at once, where the settings say so.
    pub(crate) per_minute: Option<u32>,
    /// How long an attempt may take.
    pub(crate) timeout: Duration,
    /// After so long in vain a notice is dead.
    pub(crate) dead_after: Duration,
    /// How often a watchdog is sent.
    pub(crate) watchdog: Option<Duration>,
    /// Where requests may go.
    pub(crate) allow: Allow,
    /// Authorities of the target's certificate, PEM.
    pub(crate) ca: Option<PathBuf>,
}

/// So often may a target deny us a notice.
const DENIALS_MAX: u32 = 10;

impl Receiver {
    /// The rules of its queue.
    pub(crate) fn rules(&self) -> Rules {
        let (rate, burst) = self.target.rate();
        let (rate, burst) = self.per_minute.map_or((rate, burst), |rate| (rate.max(1), burst.min(rate.max(1))));
        Rules {
            merges: self.target.merges(),
            gap_us: 60_000_000 / i64::from(rate.max(1)),
            burst,
            dead_after_us: i64::try_from(self.dead_after.as_micros()).unwrap_or(i64::MAX),
            denials_max: DENIALS_MAX,
        }
    }

    /// What tells one definition from another, without secrets.
    pub(crate) fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(format!("{self:?}").as_bytes())
    }

    /// A notice, rendered.
    pub(crate) fn telling<'a>(
        &self,
        notice: &'a Notice,
        hub_id: &'a str,
        now_us: i64,
        before: Option<&'a Notice>,
    ) -> Telling<'a> {
        let mut title = self.title.render(notice);
        if notice.kind == super::Kind::Test {
            title = format!("[TEST] {title}");
        }
        Telling { notice, title, text: self.text.render(notice), hub_id, now_us, before }
    }
}

/// Bytes of a file of authorities at most.
const CA_BYTES_MAX: u64 = 4 << 20;

/// A file of authorities, read at each attempt, so that it can be replaced while the hub runs.
pub(super) fn authorities(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(wrong)?.len();
    if bytes > CA_BYTES_MAX {
        return Err(format!("{} has {bytes} bytes: {CA_BYTES_MAX} at most", path.display()));
    }
    std::fs::read(path).map_err(wrong)
}

/// What sends for a receiver.
#[derive(Debug)]
pub(crate) struct Sender {
    receiver: Receiver,
    /// With the authorities that it trusts; made anew when these are others.
    client: Option<(Option<Vec<u8>>, Client)>,
}

impl Sender {
    pub(crate) fn new(receiver: Receiver) -> Sender {
        Sender { receiver, client: None }
    }

    /// Tells a notice.
    pub(crate) fn send(&mut self, telling: &Telling<'_>) -> Answer {
        let hidden = self.receiver.target.hidden();
        match self.receiver.target.outgoing(telling) {
            // A secret that is missing may come.
            Err(said) => Answer::Denied { said },
            Ok(Outgoing::Mail(mail)) => mail::send(&mail, &hidden, self.receiver.timeout),
            Ok(Outgoing::Http(call)) => match self.client() {
                Ok(client) => client.send(&call, &hidden, telling.now_us),
                Err(said) => Answer::Denied { said },
            },
        }
    }

    /// Says again what is open.
    pub(crate) fn again(&mut self, tellings: &[Telling<'_>], now_us: i64) -> Answer {
        let hidden = self.receiver.target.hidden();
        match self.receiver.target.again(tellings) {
            Err(said) => Answer::Denied { said },
            Ok(None) => Answer::Taken { said: String::new() },
            Ok(Some(call)) => match self.client() {
                Ok(client) => client.send(&call, &hidden, now_us),
                Err(said) => Answer::Denied { said },
            },
        }
    }

    fn client(&mut self) -> Result<&Client, String> {
        let Receiver { allow, ca, timeout, .. } = &self.receiver;
        let ca = ca.as_deref().map(authorities).transpose()?;
        if self.client.as_ref().is_some_and(|(of, _)| *of != ca) {
            self.client = None;
        }
        match &mut self.client {
            Some((_, client)) => Ok(client),
            empty => {
                let wrong = |what| format!("the ca_file cannot be used: {what}");
                let client = Client::new(allow.clone(), ca.as_deref(), *timeout).map_err(wrong)?;
                Ok(&empty.insert((ca, client)).1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use threadline_detect::incident::Reason;

    use super::*;
    use crate::notify::target::tests::{receiver, targets};
    use crate::notify::testing::notice;

    #[test]
    fn authorities_are_read_at_each_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = targets(&format!("https://{closed}"), folder.path()).remove(0);
        let ca = folder.path().join("ca.pem");
        let receiver = Receiver { ca: Some(ca.clone()), ..receiver("r", target) };
        let told = notice("r", 1, Reason::Trigger, 1);
        let mut sender = Sender::new(receiver.clone());
        let mut send = || sender.send(&receiver.telling(&told, "id", 5, None));
        let params = CertificateParams::new(vec!["ca".to_owned()]).unwrap();
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        for (text, want) in [
            (None, "cannot read"),
            (Some("garbage"), "no certificate"),
            (Some(pem.as_str()), "the connection failed"),
            (Some("garbage"), "no certificate"),
        ] {
            text.into_iter().for_each(|text| std::fs::write(&ca, text).unwrap());
            let answer = send();
            assert!(answer.said().contains(want), "{want}: {answer:?}");
        }
    }
}
