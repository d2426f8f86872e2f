//! Which services a sender may write as: a certificate as those it names, a token as those it is bound to, and either
//! as what the rules of the settings say. Nobody writes as the hub itself unless a rule says so.

use std::sync::Arc;

use threadline_model::sender::{Sender, Standing};

use super::caller::Caller;
use super::journal::SERVICE;
use super::pattern::fits;
use crate::settings::Settings;
use crate::settings::kind::{Mismatch, SenderRule};

/// Names that senders have who were told none: `unknown_service`, `unknown_service:java` (OpenTelemetry).
const UNNAMED: &str = "unknown_service";

/// The rules.
#[derive(Clone, Debug)]
pub(crate) struct Senders {
    rules: Arc<[SenderRule]>,
    mismatch: Mismatch,
}

impl Senders {
    /// Those of the settings.
    pub(crate) fn new(settings: &Settings) -> Senders {
        Senders { rules: settings.senders.clone().into(), mismatch: settings.sender_mismatch }
    }

    /// What is known of a caller as a sender.
    pub(crate) fn sender(&self, caller: &Caller) -> Sender {
        let name: Option<Arc<str>> = caller.sender().map(Into::into);
        let (senders, caller) = (self.clone(), caller.clone());
        Sender { name, judge: Arc::new(move |service| senders.judge(&caller, service)) }
    }

    /// Whether records of a service that a sender may not write as are refused.
    pub(crate) fn refuses(&self, service: &str) -> bool {
        service == SERVICE || self.mismatch == Mismatch::Refuse
    }

    fn judge(&self, caller: &Caller, service: &str) -> Standing {
        let sender = caller.sender();
        let ruled = sender.as_deref().is_some_and(|sender| {
            let of = |rule: &&SenderRule| fits(&rule.identity, sender);
            self.rules.iter().filter(of).any(|rule| rule.services.iter().any(|name| fits(name, service)))
        });
        if ruled {
            return Standing::Allowed;
        }
        if service == SERVICE {
            return Standing::Refused(format!("`{SERVICE}` is the hub's own name: name the service otherwise"));
        }
        if service.is_empty() || service.starts_with(UNNAMED) || own(caller, service) {
            return Standing::Allowed;
        }
        match self.mismatch {
            Mismatch::Flag => Standing::Flagged,
            Mismatch::Refuse => Standing::Refused(format!(
                "`{}` may not write as `{service}`: use a certificate or token of that service, or allow it with a \
                 [[senders]] rule at the hub",
                sender.unwrap_or_default()
            )),
        }
    }
}

/// Whether a service is the caller itself, or the caller is bound to none.
fn own(caller: &Caller, service: &str) -> bool {
    let token = caller.token.as_ref().map(|token| token.services.as_slice());
    let bound =
        token.is_none_or(|services| services.is_empty() || services.iter().any(|name| fits(name, service)));
    let named = caller.peer.certificate.as_ref().is_none_or(|c| c.services.iter().any(|name| name == service));
    bound && named
}

#[cfg(test)]
mod tests {
    use super::super::caller::Peer;
    use super::super::certificate::Certificate;
    use super::super::roles::{Role, Roles};
    use super::super::tokens::{NewToken, Tokens};
    use super::*;

    fn certificate(identity: &str, services: &[&str]) -> Arc<Certificate> {
        Arc::new(Certificate {
            identity: identity.to_owned(),
            services: services.iter().map(|s| (*s).to_owned()).collect(),
            subject: String::new(),
            issuer: String::new(),
            sha256: String::new(),
            not_after: String::new(),
        })
    }

    fn caller(certificate: Option<Arc<Certificate>>, bound_to: Option<&[&str]>) -> Caller {
        let token = bound_to.map(|services| {
            let services = services.iter().map(|s| (*s).to_owned()).collect();
            let roles = Roles::NONE.with(Role::Ingest);
            let new = NewToken { name: "t".to_owned(), roles, services, expires_us: None };
            Tokens::default().create(new, 1, &*threadline_store::Env::local().rng).unwrap().1
        });
        let peer = Peer { certificate, ..Peer::own() };
        Caller { peer: Arc::new(peer), token, roles: Roles::ALL, session: None }
    }

    #[test]
    fn a_sender_writes_as_itself_unless_a_rule_allows_more() {
        let rules = [("collector", "*"), ("gate*", "shop-*"), ("token:t", "extra"), ("twin", "threadline")];
        let rule = |(identity, services): (&str, &str)| SenderRule {
            identity: identity.to_owned(),
            services: vec![services.to_owned()],
        };
        let settings = Settings { senders: rules.map(rule).to_vec(), ..Settings::default() };
        let cert = |identity, services: &[&str]| caller(Some(certificate(identity, services)), None);
        let anonymous = caller(None, None);
        let shop = cert("shop.acme", &["shop.acme", "shop"]);
        let gate = cert("gate1", &["gate1"]);
        let token = caller(None, Some(&["shop", "cart-*"]));
        let free = caller(None, Some(&[]));
        let both = caller(Some(certificate("shop", &["shop"])), Some(&["cart"]));
        for (name, caller, service, want) in [
            ("anonymous", &anonymous, "shop", true),
            ("anonymous as the hub", &anonymous, "threadline", false),
            ("its own", &shop, "shop", true),
            ("its whole name", &shop, "shop.acme", true),
            ("another", &shop, "cart", false),
            ("none", &shop, "", true),
            ("not told", &shop, "unknown_service:java", true),
            ("as the hub", &shop, "threadline", false),
            ("a collector", &cert("collector", &["collector"]), "anything", true),
            ("a gateway", &gate, "shop-cart", true),
            ("a gateway beyond", &gate, "pay", false),
            ("another hub", &cert("twin", &["twin"]), "threadline", true),
            ("bound", &token, "cart-eu", true),
            ("bound beyond", &token, "pay", false),
            ("bound and ruled", &token, "extra", true),
            ("free", &free, "pay", true),
            ("both must agree", &both, "shop", false),
        ] {
            let standing = Senders::new(&settings).judge(caller, service);
            assert_eq!(standing == Standing::Allowed, want, "{name}: {standing:?}");
        }
        let flag = Settings { sender_mismatch: Mismatch::Flag, ..settings };
        assert_eq!(Senders::new(&flag).judge(&shop, "cart"), Standing::Flagged);
        assert!(matches!(Senders::new(&flag).judge(&shop, "threadline"), Standing::Refused(_)));
    }
}
