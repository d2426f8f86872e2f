//! Authorities and certificates, made for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// What a certificate is to be.
#[derive(Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) common: &'a str,
    pub(crate) dns: &'a [&'a str],
    pub(crate) uri: Option<&'a str>,
    pub(crate) expired: bool,
    pub(crate) serial: u64,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn issue(&self, wanted: &Wanted<'_>) -> Identity {
        let names: Vec<String> = wanted.dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, wanted.common);
        if let Some(uri) = wanted.uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        if wanted.serial > 0 {
            params.serial_number = Some(SerialNumber::from(wanted.serial));
        }
        if wanted.expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// The certificate of a hub on this machine.
    pub(crate) fn hub(&self) -> Identity {
        self.issue(&Wanted { common: "hub", dns: &["localhost", "127.0.0.1"], ..Wanted::default() })
    }

    /// That of a service.
    pub(crate) fn service(&self, name: &str) -> Identity {
        self.issue(&Wanted { common: name, ..Wanted::default() })
    }

    /// A list that revokes a serial number.
    pub(crate) fn revoke(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2125, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A client that trusts this authority and shows a certificate, if it has one.
    pub(crate) fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { cert, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

/// Writes files and returns their paths: certificate, key.
pub(crate) fn write(folder: &Path, name: &str, identity: &Identity) -> (PathBuf, PathBuf) {
    (put(folder, &format!("{name}.pem"), &identity.cert), put(folder, &format!("{name}.key"), &identity.key))
}

/// Writes a file as one that replaces another: all at once.
pub(crate) fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, beside) = (folder.join(name), folder.join(format!("{name}.new")));
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, &path).unwrap();
    path
}
