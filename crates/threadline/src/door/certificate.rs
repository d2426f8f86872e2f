//! What a client certificate says of its holder. Read only after TLS has verified it, or for the record of why not.

use sha2::{Digest as _, Sha256};
use x509_cert::Certificate as X509;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Characters of a name that is taken from a certificate.
const NAME_CHARS_MAX: usize = 256;
/// What stands before the name of a token where senders are named: no certificate passes for a token.
pub(super) const TOKEN: &str = "token:";
/// Alternative names that are looked at.
const NAMES_MAX: usize = 32;

/// A client certificate, as far as it is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Who holds it: its first URI (SPIFFE), else its first DNS name, else its subject's common name.
    pub(crate) identity: String,
    /// Names of services that the holder goes by: whole names, and the part that names a service in them.
    pub(crate) services: Vec<String>,
    /// Subject (RFC 4514).
    pub(crate) subject: String,
    /// Issuer (RFC 4514).
    pub(crate) issuer: String,
    /// SHA-256 of the certificate, hex.
    pub(crate) sha256: String,
    /// When it ends, RFC 3339.
    pub(crate) not_after: String,
}

impl Certificate {
    /// From its DER; what cannot be read of it stays empty, and without any name it has no identity.
    pub(crate) fn read(der: &[u8]) -> Certificate {
        let sha256 = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
        let mut read = Certificate {
            identity: String::new(),
            services: Vec::new(),
            subject: String::new(),
            issuer: String::new(),
            sha256,
            not_after: String::new(),
        };
        let Ok(certificate) = X509::from_der(der) else { return read };
        let certificate = certificate.tbs_certificate();
        read.subject = shown(&certificate.subject().to_string());
        read.issuer = shown(&certificate.issuer().to_string());
        read.not_after = certificate.validity().not_after.to_string();
        let (mut uris, mut names) = (Vec::new(), Vec::new());
        if let Ok(Some((_, SubjectAltName(alternatives)))) = certificate.get_extension::<SubjectAltName>() {
            for name in alternatives.iter().take(NAMES_MAX) {
                match name {
                    GeneralName::UniformResourceIdentifier(uri) => uris.push(shown(uri.as_ref())),
                    GeneralName::DnsName(name) => names.push(shown(name.as_ref())),
                    _ => {}
                }
            }
        }
        let common = certificate.subject().common_name().ok().flatten();
        let common = common.map(|name| shown(&name.value())).filter(|name| !name.is_empty());
        read.identity = uris.first().or(names.first()).or(common.as_ref()).cloned().unwrap_or_default();
        if read.identity.starts_with(TOKEN) {
            read.identity.insert_str(0, "certificate:");
        }
        let last = |uri: &String| uri.rsplit('/').next().map(str::to_owned);
        let label = |name: &String| name.split('.').next().map(str::to_owned);
        read.services = uris
            .iter()
            .cloned()
            .chain(uris.iter().filter_map(last))
            .chain(names.iter().cloned())
            .chain(names.iter().filter_map(label))
            .chain(common)
            .filter(|name| !name.is_empty() && name != "*")
            .collect();
        read
    }
}

/// A name as it goes into records.
fn shown(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common: &str, names: &[&str], uris: &[&str]) -> Certificate {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::read(made.der())
    }

    #[test]
    fn the_most_telling_name_is_the_identity() {
        for (common, names, uris, identity, services) in [
            ("shop", &[][..], &[][..], "shop", &["shop"][..]),
            ("x", &["cart.acme.internal"], &[], "cart.acme.internal", &["cart.acme.internal", "cart", "x"]),
            (
                "",
                &[],
                &["spiffe://acme/ns/prod/sa/pay"],
                "spiffe://acme/ns/prod/sa/pay",
                &["spiffe://acme/ns/prod/sa/pay", "pay"],
            ),
            ("", &[], &[], "", &[]),
            ("token:x", &[], &[], "certificate:token:x", &["token:x"]),
            ("a\nb", &[], &[], "a?b", &["a?b"]),
            ("", &["*.acme.internal"], &[], "*.acme.internal", &["*.acme.internal"]),
        ] {
            let read = certificate(common, names, uris);
            assert_eq!(
                (read.identity.as_str(), read.services),
                (identity, services.iter().map(|s| (*s).to_owned()).collect())
            );
            assert_eq!(read.sha256.len(), 64);
        }
        let read = certificate("shop", &[], &[]);
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("CN=shop", "CN=shop"));
        assert_eq!(Certificate::read(b"junk").identity, "");
    }
}
