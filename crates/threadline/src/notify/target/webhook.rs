//! Anything, by the Standard Webhooks specification: a body of less than 20 kB, signed with HMAC-SHA256 (`v1`) or
//! Ed25519 (`v1a`); while a secret is replaced, with the old and the new one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::{Telling, time};
use crate::notify::http::Call;
use crate::notify::text::cut;

const BODY_BYTES_MAX: usize = 20_000;
/// Secrets in use at once.
const SECRETS_MAX: usize = 8;
/// Bytes of a secret of HMAC.
const HMAC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that signs.
enum Key {
    Hmac(Vec<u8>),
    Ed25519(Box<SigningKey>),
}

pub(super) fn call(url: &str, secrets: &str, told: &Telling<'_>) -> Result<Call, String> {
    let body = body(told);
    let id = told.message_key();
    let timestamp = told.now_us.div_euclid(1_000_000).to_string();
    let signed = format!("{id}.{timestamp}.{body}");
    let signatures: Vec<String> = keys(secrets)?.iter().map(|key| key.sign(signed.as_bytes())).collect();
    let call = Call { url: url.to_owned(), content_type: "application/json", headers: Vec::new(), body };
    Ok(call
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signatures.join(" ")))
}

/// Whether secrets can be used.
pub(super) fn check(secrets: &str) -> Result<(), String> {
    keys(secrets).map(drop)
}

/// A signature with one secret.
#[cfg(test)]
pub(super) fn sign(secret: &str, signed: &[u8]) -> Result<String, String> {
    key(secret).map(|key| key.sign(signed))
}

fn keys(secrets: &str) -> Result<Vec<Key>, String> {
    let keys: Vec<Key> = secrets.split_whitespace().take(SECRETS_MAX + 1).map(key).collect::<Result<_, _>>()?;
    match keys.len() {
        0 => Err("there is no secret: write one per line".to_owned()),
        len if len > SECRETS_MAX => Err(format!("there are more than {SECRETS_MAX} secrets: remove old ones")),
        _ => Ok(keys),
    }
}

fn key(secret: &str) -> Result<Key, String> {
    let decode = |text: &str| {
        STANDARD.decode(text).map_err(|_| "a secret is no base64 after its prefix: copy it anew".to_owned())
    };
    if let Some(text) = secret.strip_prefix("whsec_") {
        let bytes = decode(text)?;
        if !HMAC_BYTES.contains(&bytes.len()) {
            return Err(format!("a secret for HMAC has {} bytes: it must have 24 to 64", bytes.len()));
        }
        return Ok(Key::Hmac(bytes));
    }
    let Some(text) = secret.strip_prefix("whsk_") else {
        return Err("a secret begins with whsec_ (HMAC) or whsk_ (Ed25519), then base64".to_owned());
    };
    let bytes = decode(text)?;
    // A seed, or a seed with the public key after it.
    let seed = bytes.get(..32).and_then(|seed| <[u8; 32]>::try_from(seed).ok());
    let Some(seed) = seed.filter(|_| matches!(bytes.len(), 32 | 64)) else {
        return Err(format!("a key for Ed25519 has {} bytes: it must have 32 or 64", bytes.len()));
    };
    let key = SigningKey::from_bytes(&seed);
    match bytes.get(32..) {
        Some(public) if !public.is_empty() && public != key.verifying_key().as_bytes() => {
            Err("the public half of a key for Ed25519 does not belong to the secret half".to_owned())
        }
        _ => Ok(Key::Ed25519(Box::new(key))),
    }
}

impl Key {
    fn sign(&self, signed: &[u8]) -> String {
        match self {
            Key::Ed25519(key) => format!("v1a,{}", STANDARD.encode(key.sign(signed).to_bytes())),
            Key::Hmac(secret) => {
                // A key of any length is one.
                let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
                mac.update(signed);
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            }
        }
    }
}

/// The body; what is longest is left out when it would be too large.
fn body(told: &Telling<'_>) -> String {
    let data = told.details();
    for (chars, left_out) in [
        (usize::MAX, &[][..]),
        (2000, &[][..]),
        (500, &["entities"][..]),
        (200, &["entities", "group", "rules", "services", "summary", "url"][..]),
    ] {
        let kept = data.iter().filter(|(name, _)| !left_out.contains(&name.as_str()));
        let mut kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        kept.insert("key".to_owned(), json!(told.key()));
        kept.insert("title".to_owned(), json!(cut(&told.title, chars)));
        kept.insert("text".to_owned(), json!(cut(&told.text, chars)));
        let kind = match told.notice.kind {
            crate::notify::Kind::Incident => format!("incident.{}", told.notice.reason.name()),
            other => other.name().to_owned(),
        };
        let body = json!({"type": kind, "timestamp": time(told.notice.at_us), "data": kept}).to_string();
        if body.len() < BODY_BYTES_MAX {
            return body;
        }
    }
    json!({"type": "incident", "timestamp": time(told.notice.at_us), "data": {"key": told.key()}}).to_string()
}
