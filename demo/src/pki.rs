//! The fleet's authority and certificates, made anew for each run: nothing secret is in the repository.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::Result;

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn wrong(error: impl std::fmt::Display) -> String {
    format!("a certificate could not be made: {error}")
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new()).map_err(wrong)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(wrong)?;
        let pem = params.self_signed(&key).map_err(wrong)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    /// Writes the authority's certificate.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        put(&folder.join("ca.pem"), &self.pem)
    }

    /// Writes `NAME.pem` and `NAME.key`: a certificate of the service `identity`, for both ends of a connection.
    pub(crate) fn issue(&self, folder: &Path, name: &str, identity: &str, expired: bool) -> Result<()> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).map_err(wrong)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, identity);
        let uri = format!("spiffe://fleet.example/sa/{identity}");
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().map_err(wrong)?));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // OpenSSL, which Python and Node have, is stricter than rustls: it wants the issuer's key named.
        params.use_authority_key_identifier_extension = true;
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().map_err(wrong)?;
        let pem = params.signed_by(&key, &self.issuer).map_err(wrong)?.pem();
        put(&folder.join(format!("{name}.pem")), &pem)?;
        put(&folder.join(format!("{name}.key")), &key.serialize_pem())?;
        Ok(())
    }
}

fn put(path: &Path, text: &str) -> Result<PathBuf> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.to_owned())
}
