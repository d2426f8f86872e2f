//! Who a request comes from when a proxy stands in between: `X-Forwarded-For` and `Forwarded` (RFC 7239), believed only of
//! proxies that the settings name.
//!
//! Each proxy adds whom it got the request from on the right. So the list is read from the right, for as long as the
//! addresses are of trusted proxies; the next one is the client. What stands further left anybody may have written.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};
use threadline_query::lang::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Hops that are looked at.
const HOPS_MAX: usize = 32;

/// What a trusted proxy says of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// The client; `None` when no proxy says, or when the two headers say different things.
    pub(crate) client: Option<IpAddr>,
    /// The client speaks TLS to the proxy.
    pub(crate) https: bool,
}

/// What is said of a request that comes from `peer`.
pub(crate) fn forwarded(headers: &HeaderMap, proxies: &[Network], peer: IpAddr) -> Forwarded {
    let trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    if proxies.is_empty() || !trusted(peer) {
        return Forwarded::default();
    }
    let simple = hops(headers, &X_FORWARDED_FOR);
    let standard = hops(headers, &FORWARDED);
    let said_for = |hop: &str| parameter(hop, "for").map(str::to_owned);
    let by_simple =
        simple.as_ref().map(|hops| client(hops.iter().rev().map(|hop| Some(hop.clone())), &trusted));
    let by_standard =
        standard.as_ref().map(|hops| client(hops.iter().rev().map(|hop| said_for(hop)), &trusted));
    let found = match (by_simple, by_standard) {
        // A proxy writes one of them and lets the other pass as it came: then it is not known which is true.
        (Some(a), Some(b)) => a.filter(|_| a == b),
        (a, b) => a.or(b).flatten(),
    };
    let last = |hops: Option<Vec<String>>| hops.and_then(|mut hops| hops.pop());
    let proto = match last(standard) {
        Some(hop) => parameter(&hop, "proto").map(str::to_owned),
        None => last(hops(headers, &X_FORWARDED_PROTO)),
    };
    Forwarded { client: found, https: proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https")) }
}

/// The entries of a header that is a list, over all its lines; `None` when it is not there.
fn hops(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    // A line that is no text is there all the same, and so is what a proxy has written behind a client's bytes.
    let lines: Vec<_> =
        headers.get_all(name).into_iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    (!lines.is_empty()).then(|| {
        let all = lines.iter().flat_map(|line| line.split(','));
        all.map(|hop| hop.trim().to_owned()).collect()
    })
}

/// The value of a parameter of an entry of `Forwarded`.
fn parameter<'a>(hop: &'a str, name: &str) -> Option<&'a str> {
    hop.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The first hop from the right that is of no trusted proxy; the leftmost when all are. `None` at one that is no address.
fn client(hops: impl Iterator<Item = Option<String>>, trusted: &dyn Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut found = None;
    for hop in hops.take(HOPS_MAX) {
        let address = address(&hop?)?;
        found = Some(address);
        if !trusted(address) {
            break;
        }
    }
    found
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        let network = |text: &str, bits| Network::new(text.parse().unwrap(), bits).unwrap();
        let proxies = [network("10.0.0.0", 8), network("2001:db8:ff::", 48)];
        let x = "x-forwarded-for";
        for (name, peer, headers, want) in [
            ("no header", "10.0.0.1", &[][..], None),
            ("a stranger", "192.0.2.9", &[(x, "203.0.113.1")], None),
            ("one proxy", "10.0.0.1", &[(x, "203.0.113.1")], Some("203.0.113.1")),
            ("a client that lies", "10.0.0.1", &[(x, "127.0.0.1, 203.0.113.1")], Some("203.0.113.1")),
            ("two proxies", "10.0.0.1", &[(x, "1.1.1.1, 203.0.113.1, 10.2.3.4")], Some("203.0.113.1")),
            ("two lines", "10.0.0.1", &[(x, "1.1.1.1"), (x, "203.0.113.1, 10.2.3.4")], Some("203.0.113.1")),
            ("all are proxies", "10.0.0.1", &[(x, "10.9.9.9, 10.2.3.4")], Some("10.9.9.9")),
            ("with a port", "10.0.0.1", &[(x, "203.0.113.1:4711")], Some("203.0.113.1")),
            ("no address", "10.0.0.1", &[(x, "203.0.113.1, unknown")], None),
            ("empty", "10.0.0.1", &[(x, "")], None),
            ("bytes before what a proxy wrote", "10.0.0.1", &[(x, "\u{ff}, 203.0.113.1")], Some("203.0.113.1")),
            (
                "bytes, and the other one set by a client",
                "10.0.0.1",
                &[(x, "\u{ff}"), ("forwarded", "for=127.0.0.1")],
                None,
            ),
            ("mapped", "::ffff:10.0.0.1", &[(x, "::ffff:203.0.113.1")], Some("203.0.113.1")),
            (
                "the standard's",
                "2001:db8:ff::1",
                &[("forwarded", "for=1.1.1.1;proto=http, For=\"[2001:db8::7]:80\";proto=https")],
                Some("2001:db8::7"),
            ),
            ("obfuscated", "10.0.0.1", &[("forwarded", "for=_gazonk")], None),
            (
                "both agree",
                "10.0.0.1",
                &[(x, "203.0.113.1"), ("forwarded", "for=203.0.113.1")],
                Some("203.0.113.1"),
            ),
            (
                "one of them passed through",
                "10.0.0.1",
                &[(x, "203.0.113.1"), ("forwarded", "for=127.0.0.1")],
                None,
            ),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let got = forwarded(&map, &proxies, peer.parse().unwrap());
            assert_eq!(got.client, want.map(|want| want.parse().unwrap()), "{name}");
            assert_eq!(got.https, name == "the standard's", "{name}");
            assert_eq!(forwarded(&map, &[], peer.parse().unwrap()), Forwarded::default());
        }
    }
}
