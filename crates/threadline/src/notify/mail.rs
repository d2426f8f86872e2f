//! Sends e-mail.

use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls as SmtpTls, TlsParameters};
use lettre::{SmtpTransport, Transport as _};

use super::http::Answer;
use super::target::{Mail, Mailing, Protection};
use super::text::{cut, one_line};

/// Replies that say that it is us whom the server does not take (RFC 4954).
const DENIALS: [u16; 5] = [530, 534, 535, 538, 454];
const SAID_CHARS_MAX: usize = 400;

/// Sends a message.
pub(crate) fn send(mail: &Mail, timeout: Duration) -> Answer {
    let (transport, message) = match (transport(&mail.mailing, timeout), message(mail)) {
        (Ok(transport), Ok(message)) => (transport, message),
        // What is set is wrong, which somebody may put right.
        (Err(said), _) | (_, Err(said)) => return Answer::Denied { said },
    };
    match transport.send(&message) {
        Ok(response) => {
            let said = response.message().collect::<Vec<_>>().join(" ");
            Answer::Taken {
                said: format!("SMTP {}: {}", response.code(), cut(&one_line(&said), SAID_CHARS_MAX)),
            }
        }
        Err(error) => {
            let mut said = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                said = format!("{said}: {error}");
                cause = error.source();
            }
            let said = cut(&one_line(&said), SAID_CHARS_MAX);
            let code = error.status().map(|code| code.to_string().parse().unwrap_or(0_u16));
            match code {
                Some(code) if DENIALS.contains(&code) => Answer::Denied { said },
                _ if error.is_permanent() => Answer::Refused { said },
                _ if error.is_client() => Answer::Denied { said },
                // A mailbox may be busy; all else is the server's.
                _ => Answer::Later { whole: !error.is_transient(), retry_after: None, said },
            }
        }
    }
}

/// An address as it stands in settings.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|_| format!("`{text}` is no address: write hub@example.com or Hub <hub@example.com>"))
}

fn message(mail: &Mail) -> Result<Message, String> {
    let mut builder = Message::builder()
        .from(mailbox(&mail.mailing.from)?)
        .date(UNIX_EPOCH + Duration::from_secs(mail.date_s))
        .message_id(Some(mail.id.clone()))
        .subject(mail.subject.clone())
        .header(ContentType::TEXT_PLAIN);
    for to in &mail.mailing.to {
        builder = builder.to(mailbox(to)?);
    }
    if let Some(first) = &mail.thread {
        builder = builder.in_reply_to(first.clone()).references(first.clone());
    }
    for (name, value) in [("Auto-Submitted", "auto-generated"), ("X-Threadline-Key", &mail.key)] {
        let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|error| error.to_string())?;
        builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
    }
    builder.body(mail.text.clone()).map_err(|error| format!("the message cannot be built: {error}"))
}

fn transport(mailing: &Mailing, timeout: Duration) -> Result<SmtpTransport, String> {
    let tls = match mailing.tls {
        Protection::None => SmtpTls::None,
        Protection::StartTls => SmtpTls::Required(parameters(mailing)?),
        Protection::Implicit => SmtpTls::Wrapper(parameters(mailing)?),
    };
    let mut builder = SmtpTransport::builder_dangerous(mailing.host.clone())
        .port(mailing.port)
        .timeout(Some(timeout))
        .tls(tls);
    if let Some((user, password)) = &mailing.login {
        builder = builder.credentials(Credentials::new(user.clone(), password.read()?));
    }
    Ok(builder.build())
}

fn parameters(mailing: &Mailing) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(mailing.host.clone());
    if let Some(ca) = &mailing.ca {
        let pem = std::fs::read(ca).map_err(|error| format!("cannot read {}: {error}", ca.display()))?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|_| format!("{} has no certificate: it must be PEM", ca.display()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| format!("TLS cannot be set up: {error}"))
}
