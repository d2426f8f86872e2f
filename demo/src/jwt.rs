//! The fleet's tokens: JSON web tokens under HMAC-SHA-256. Small, because what is shown here is the record of a refusal, not a
//! library for tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde_json::{Value, json};
use threadline_sdk::events::AuthnRejectedReason as Reason;

/// Who issues the fleet's tokens, and for whom.
pub(crate) const ISSUER: &str = "https://id.fleet.example";
pub(crate) const AUDIENCE: &str = "fleet";

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) user: String,
    pub(crate) scopes: Vec<String>,
}

/// Why a token was refused, and what it said of its issuer.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) issuer: Option<String>,
}

/// A token; `life_s` seconds from `now_s`, which may lie in the past.
pub(crate) fn issue(secret: &[u8], user: &str, scopes: &str, now_s: i64, life_s: i64) -> String {
    let head = BASE64.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "scope": scopes, "exp": now_s + life_s});
    let text = format!("{head}.{}", BASE64.encode(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", BASE64.encode(tag))
}

/// Looks at a token. The signature comes first: nothing of a forged token is believed, its issuer is only recorded.
pub(crate) fn verify(secret: &[u8], token: &str, now_s: i64) -> Result<Claims, Refused> {
    let malformed = || Refused { reason: Reason::Malformed, issuer: None };
    let (text, tag) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (head, claims) = text.split_once('.').ok_or_else(malformed)?;
    let decode = |part: &str| -> Option<Value> { serde_json::from_slice(&BASE64.decode(part).ok()?).ok() };
    let head = decode(head).ok_or_else(malformed)?;
    let claims = decode(claims).ok_or_else(malformed)?;
    let tag = BASE64.decode(tag).map_err(|_| malformed())?;
    let say = |key: &str| claims.get(key).and_then(Value::as_str).map(str::to_owned);
    let refuse = |reason| Refused { reason, issuer: say("iss") };
    if head.get("alg").and_then(Value::as_str) != Some("HS256") {
        return Err(refuse(Reason::UnknownKey));
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::verify(&key, text.as_bytes(), &tag).map_err(|_| refuse(Reason::BadSignature))?;
    if say("iss").as_deref() != Some(ISSUER) {
        return Err(refuse(Reason::WrongIssuer));
    }
    if say("aud").as_deref() != Some(AUDIENCE) {
        return Err(refuse(Reason::WrongAudience));
    }
    if claims.get("exp").and_then(Value::as_i64).is_none_or(|end| end <= now_s) {
        return Err(refuse(Reason::Expired));
    }
    let user = say("sub").ok_or_else(malformed)?;
    let scopes = say("scope").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    Ok(Claims { user, scopes })
}

/// A keyed hash of a token: tells tokens apart, and gives none away.
pub(crate) fn hash(secret: &[u8], token: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), token.as_bytes());
    tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_refused_for_the_right_reason() {
        let good = issue(b"key", "u-1", "a b", 1000, 60);
        let claims = verify(b"key", &good, 1010).unwrap();
        assert_eq!((claims.user.as_str(), claims.scopes.len()), ("u-1", 2));
        let none = format!("{}.{}.", BASE64.encode(r#"{"alg":"none"}"#), BASE64.encode("{}"));
        for (secret, token, now, want) in [
            (b"key", good.as_str(), 1060, "expired"),
            (b"yek", &good, 1010, "bad_signature"),
            (b"key", "x", 1010, "malformed"),
            (b"key", "a.b.c", 1010, "malformed"),
            (b"key", &none, 1010, "unknown_key"),
        ] {
            assert_eq!(verify(secret, token, now).unwrap_err().reason.as_str(), want, "{token}");
        }
    }
}
