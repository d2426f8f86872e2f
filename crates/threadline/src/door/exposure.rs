//! A hub that others can reach needs TLS and must know who they are: checked before anything listens.

use std::net::SocketAddr;

use super::roles::Port;
use crate::settings::Settings;

/// Refuses to listen beyond this machine without TLS and authentication, unless told so.
///
/// # Errors
/// What is missing at which address, and what to do.
pub(super) fn check(settings: &Settings, has_tokens: bool) -> Result<(), String> {
    if settings.insecure {
        return Ok(());
    }
    for (port, setting, address) in [
        (Port::Grpc, "otlp_grpc_address", settings.otlp_grpc_address),
        (Port::Http, "otlp_http_address", settings.otlp_http_address),
        (Port::Api, "api_address", settings.api_address),
    ] {
        check_port(settings, port, setting, address, has_tokens)?;
    }
    Ok(())
}

fn check_port(
    settings: &Settings,
    port: Port,
    setting: &str,
    address: SocketAddr,
    has_tokens: bool,
) -> Result<(), String> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let mut missing = Vec::new();
    if settings.tls_cert.is_none() {
        missing.push("TLS: set tls_cert and tls_key");
    }
    let by_certificate = port.takes_records() && settings.tls_client_ca.is_some();
    if !has_tokens && !by_certificate {
        missing.push(match port {
            Port::Api => "authentication: make a token with `threadline token create`",
            Port::Grpc | Port::Http => {
                "authentication: make a token with `threadline token create`, or set tls_client_ca"
            }
        });
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{setting} is {address}, which others can reach, and the {} port lacks {}. docs/security.md shows how to set \
         this up; `--insecure` listens without it",
        port.name(),
        missing.join("; and it lacks ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_this_machine_a_port_needs_tls_and_authentication() {
        let open: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let base = Settings::default();
        let tls = Settings { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..base.clone() };
        let mutual = Settings { tls_client_ca: Some("a".into()), ..tls.clone() };
        for (name, settings, tokens, want) in [
            ("loopback", base.clone(), false, &[][..]),
            (
                "all v6",
                Settings { api_address: "[::]:0".parse().unwrap(), ..base.clone() },
                false,
                &["api_address", "tls_cert", "token create"][..],
            ),
            (
                "mapped loopback",
                Settings { api_address: "[::ffff:127.0.0.1]:0".parse().unwrap(), ..base.clone() },
                false,
                &[],
            ),
            (
                "plain with tokens",
                Settings { otlp_http_address: open, ..base.clone() },
                true,
                &["otlp_http_address", "tls_cert", "--insecure"],
            ),
            (
                "tls alone",
                Settings { otlp_grpc_address: open, ..tls.clone() },
                false,
                &["otlp_grpc_address", "tls_client_ca"],
            ),
            (
                "tls and tokens",
                Settings { otlp_grpc_address: open, api_address: open, ..tls.clone() },
                true,
                &[],
            ),
            ("certificates for senders", Settings { otlp_grpc_address: open, ..mutual.clone() }, false, &[]),
            (
                "certificates are no good for the API",
                Settings { api_address: open, ..mutual },
                false,
                &["api_address", "token create"],
            ),
            ("told so", Settings { api_address: open, insecure: true, ..base }, false, &[]),
        ] {
            match check(&settings, tokens) {
                Ok(()) => assert!(want.is_empty(), "{name}"),
                Err(said) => {
                    assert!(!want.is_empty() && want.iter().all(|part| said.contains(part)), "{name}: {said}");
                }
            }
        }
    }
}
