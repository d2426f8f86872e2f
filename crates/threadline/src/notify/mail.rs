//! Sends e-mail.

use std::time::{Duration, Instant, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{Certificate, CertificateStore, SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;

use super::http::Answer;
use super::receiver::authorities;
use super::secret::Hidden;
use super::target::{Mail, Mailing, Protection};
use super::text::{cut, one_line};

/// Replies that say that it is us whom the server does not take (RFC 4954).
const DENIALS: [u16; 4] = [530, 534, 535, 538];
/// The server ends the connection (RFC 5321, 4.2.3).
const CLOSING: u16 = 421;
const SAID_CHARS_MAX: usize = 400;

/// Sends a message. It is taken when the server takes it for one of those that it is for; who was refused is said.
pub(crate) fn send(mail: &Mail, hidden: &Hidden, timeout: Duration) -> Answer {
    let said = |text: &str| cut(&one_line(&hidden.hide(text)), SAID_CHARS_MAX);
    // What is set is wrong, which somebody may put right.
    let message = match message(mail) {
        Ok(message) => message,
        Err(wrong) => return Answer::Denied { said: said(&wrong) },
    };
    let mut session = match Session::open(&mail.mailing, timeout) {
        Ok(session) => session,
        Err(Failed::Settings(wrong)) => return Answer::Denied { said: said(&wrong) },
        Err(Failed::Smtp(error)) => return failure(&error, said(&words(&error)), false),
    };
    let answer = match session.send(&message) {
        Ok((response, refused)) => {
            let mut text = format!("SMTP {}", words_of(&response));
            for (address, error) in refused {
                text = format!("{text}; {address} was refused: {}", words(&error));
            }
            Answer::Taken { said: said(&text) }
        }
        Err((error, text)) => failure(&error, said(&text), true),
    };
    let _ = session.connection.quit();
    answer
}

/// What a failure means; before the message is begun it is the server's, not the message's.
fn failure(error: &Error, said: String, is_begun: bool) -> Answer {
    match code_of(error) {
        Some(code) if DENIALS.contains(&code) => Answer::Denied { said },
        Some(code) if error.is_transient() => {
            // A mailbox may be busy; all else is the server's.
            Answer::Later { whole: !is_begun || code == CLOSING, retry_after: None, said }
        }
        Some(_) if error.is_permanent() && is_begun => Answer::Refused { said },
        Some(_) if error.is_permanent() => Answer::Denied { said },
        _ if error.is_client() => Answer::Denied { said },
        _ => Answer::Later { whole: true, retry_after: None, said },
    }
}

fn code_of(error: &Error) -> Option<u16> {
    error.status().map(|code| code.to_string().parse().unwrap_or(0))
}

fn words(error: &Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

fn words_of(response: &Response) -> String {
    format!("{}: {}", response.code(), response.message().collect::<Vec<_>>().join(" "))
}

enum Failed {
    Settings(String),
    Smtp(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Smtp(error)
    }
}

/// A connection with a login.
struct Session {
    connection: SmtpConnection,
    until: Instant,
}

impl Session {
    fn open(mailing: &Mailing, timeout: Duration) -> Result<Session, Failed> {
        let until = Instant::now() + timeout;
        let tls = match mailing.tls {
            Protection::None => None,
            Protection::StartTls | Protection::Implicit => Some(parameters(mailing).map_err(Failed::Settings)?),
        };
        let credentials = match &mailing.login {
            None => None,
            Some((user, password)) => {
                Some(Credentials::new(user.clone(), password.read().map_err(Failed::Settings)?))
            }
        };
        let name = ClientId::default();
        let wrapper = tls.as_ref().filter(|_| mailing.tls == Protection::Implicit);
        let server = (mailing.host.as_str(), mailing.port);
        let connection = SmtpConnection::connect(server, Some(timeout), &name, wrapper, None)?;
        let mut session = Session { connection, until };
        session.hurry();
        if let Some(tls) = tls.as_ref().filter(|_| mailing.tls == Protection::StartTls) {
            session.connection.starttls(tls, &name)?;
            session.hurry();
        }
        if let Some(credentials) = credentials {
            session.connection.auth(DEFAULT_MECHANISMS, &credentials)?;
        }
        Ok(session)
    }

    /// What comes next has the rest of the time.
    fn hurry(&mut self) {
        let left = self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        // Where it cannot be set, what was set before holds.
        let _ = self.connection.set_timeout(Some(left));
    }

    /// Sends a message to all who are taken. What the server said, and who was refused.
    fn send(&mut self, message: &Message) -> Result<(Response, Vec<(String, Error)>), (Error, String)> {
        let plain = |error: Error| {
            let text = words(&error);
            (error, text)
        };
        let envelope = message.envelope();
        let bytes = message.formatted();
        let mut parameters = Vec::new();
        if envelope.to().iter().chain(envelope.from()).any(|address| !address.to_string().is_ascii()) {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !bytes.is_ascii() && self.connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        self.hurry();
        self.connection.command(MailFrom::new(envelope.from().cloned(), parameters)).map_err(plain)?;
        let mut refused: Vec<(String, Error)> = Vec::new();
        for to in envelope.to() {
            self.hurry();
            match self.connection.command(Rcpt::new(to.clone(), Vec::new())) {
                Ok(_) => {}
                // A reply: the connection goes on.
                Err(error) if code_of(&error).is_some_and(|code| code != CLOSING) => {
                    refused.push((to.to_string(), error));
                }
                Err(error) => return Err(plain(error)),
            }
        }
        if refused.len() == envelope.to().len() {
            let text = refused.iter().map(|(to, error)| format!("{to} was refused: {}", words(error)));
            let text = text.collect::<Vec<_>>().join("; ");
            // One that may be taken later is reason enough to try again.
            let at = refused.iter().position(|(_, error)| error.is_transient()).unwrap_or(0);
            if at < refused.len() {
                return Err((refused.swap_remove(at).1, text));
            }
        }
        self.hurry();
        self.connection.command(Data).map_err(plain)?;
        self.hurry();
        let response = self.connection.message(&bytes).map_err(plain)?;
        Ok((response, refused))
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

fn parameters(mailing: &Mailing) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(mailing.host.clone());
    if let Some(ca) = &mailing.ca {
        let pem = authorities(ca)?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|_| format!("{} has no certificate: it must be PEM", ca.display()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| format!("TLS cannot be set up: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::notify::secret::Secret;

    /// A mail server of one conversation, which answers the first words of commands so; all that it was sent.
    fn talk(replies: &'static [(&str, &str)], to: &[&str], login: Option<Secret>) -> (Answer, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut heard = String::new();
            let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
            let find = |line: &str| replies.iter().find(|(begin, _)| line.starts_with(begin));
            let mut goes_on = say(find("(hello)").map_or("220 here", |(_, reply)| reply));
            while goes_on {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                heard.push_str(&line);
                goes_on = match find(&line) {
                    Some((_, reply)) => say(reply),
                    None if line.starts_with("EHLO") => say("250-here\r\n250 AUTH PLAIN"),
                    None if line.starts_with("AUTH") => say("235 yes"),
                    None if line.starts_with("DATA") => {
                        let mut line = String::new();
                        let said = say("354 go on");
                        while line != ".\r\n" && reader.read_line(&mut line).unwrap_or(0) > 0 {
                            if line != ".\r\n" {
                                heard.push_str(&std::mem::take(&mut line));
                            }
                        }
                        said && say("250 queued")
                    }
                    None if line.starts_with("QUIT") => {
                        say("221 bye");
                        false
                    }
                    None => say("250 fine"),
                };
            }
            heard
        });
        let mailing = Mailing {
            host: "127.0.0.1".to_owned(),
            port,
            tls: Protection::None,
            ca: None,
            login: login.map(|secret| ("hub".to_owned(), secret)),
            from: "Hub <hub@example.com>".to_owned(),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
        };
        let mut hidden = Hidden::default();
        mailing.login.iter().for_each(|(_, secret)| hidden.add(secret));
        let mail = Mail {
            mailing,
            subject: "Incident".to_owned(),
            text: "Überall.\n.\n".to_owned(),
            id: "<k-1@example.com>".to_owned(),
            thread: None,
            key: "k".to_owned(),
            date_s: 1_790_000_000,
        };
        let answer = send(&mail, &hidden, Duration::from_secs(5));
        (answer, server.join().unwrap())
    }

    #[test]
    fn one_who_is_refused_does_not_keep_the_message_from_the_others() {
        let all = ["ann@example.com", "gone@example.com", "full@example.com"];
        let replies = &[
            ("RCPT TO:<gone@example.com>", "550 no such mailbox"),
            ("RCPT TO:<full@example.com>", "452 mailbox full"),
        ];
        let (answer, heard) = talk(replies, &all, None);
        let Answer::Taken { said } = &answer else { panic!("{answer:?}") };
        for part in ["SMTP 250", "gone@example.com was refused", "550", "full@example.com was refused", "452"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(heard.contains("Message-ID: <k-1@example.com>"), "{heard}");
        let (answer, heard) = talk(replies, &["gone@example.com"], None);
        assert!(matches!(&answer, Answer::Refused { said } if said.contains("gone@example.com")), "{answer:?}");
        assert!(!heard.contains("DATA"));
        let (answer, _) = talk(replies, &["gone@example.com", "full@example.com"], None);
        assert!(matches!(answer, Answer::Later { whole: false, .. }), "{answer:?}");
    }

    #[test]
    fn replies_and_what_they_mean() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "p4ssw0rd").unwrap();
        let whole = |answer: &Answer| matches!(answer, Answer::Later { whole: true, .. });
        let denied = |answer: &Answer| matches!(answer, Answer::Denied { .. });
        type Is = fn(&Answer) -> bool;
        let cases: &[(&'static [(&str, &str)], Is)] = &[
            (&[("AUTH", "454 temporary authentication failure of p4ssw0rd")], whole),
            (&[("AUTH", "535 no p4ssw0rd")], denied),
            (&[("(hello)", "554 no service")], denied),
            (&[("(hello)", "421 busy")], whole),
            (&[("MAIL", "451 later")], |answer| matches!(answer, Answer::Later { whole: false, .. })),
            (&[("MAIL", "530 log in")], denied),
            (&[("RCPT", "421 closing")], whole),
            (&[("DATA", "554 no")], |answer| matches!(answer, Answer::Refused { .. })),
        ];
        for (replies, is) in cases {
            let (answer, _) = talk(replies, &["ann@example.com"], Some(Secret::File(path.clone())));
            assert!(is(&answer), "{replies:?}: {answer:?}");
            assert!(!answer.said().contains("p4ssw0rd"), "{answer:?}");
        }
    }
}
