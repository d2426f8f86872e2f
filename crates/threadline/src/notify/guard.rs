//! Where requests may go: an address that is not on the public internet is refused unless the receiver allows it.
//!
//! A hub stands where it reaches what others do not: other services, the machine's own, the metadata service of a cloud
//! with its credentials. Who can have a hub send somewhere must not reach these by it (server-side request forgery). The
//! check is made in the resolver of the HTTP client: the addresses that passed are those that are connected to, so that a
//! name which answers differently the second time (DNS rebinding) gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use threadline_query::lang::Network;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// What a receiver allows beyond the public internet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Allow {
    /// Loopback, private and link-local addresses; not those of metadata services, which only a network allows.
    pub(crate) private: bool,
    /// These networks, whatever they are.
    pub(crate) networks: Vec<Network>,
}

/// What an address is, when it is not on the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Loopback,
    Private,
    LinkLocal,
    /// A cloud's metadata service.
    Metadata,
    Multicast,
    /// Nothing that one could connect to, or that should not be connected to: unspecified, reserved, tunnels.
    Reserved,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Sort::Loopback => "of this machine (loopback)",
            Sort::Private => "of a private network",
            Sort::LinkLocal => "link-local",
            Sort::Metadata => "of a cloud's metadata service",
            Sort::Multicast => "multicast",
            Sort::Reserved => "reserved",
        }
    }
}

impl Allow {
    /// Whether an address may be connected to.
    ///
    /// # Errors
    /// What it is, and how to allow it.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), String> {
        let Some(sort) = sort(address) else { return Ok(()) };
        let private = matches!(sort, Sort::Loopback | Sort::Private | Sort::LinkLocal);
        if (self.private && private) || self.networks.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        let remedy = if private { "allow_private: true, or allow: [network]" } else { "allow: [network]" };
        Err(format!("{address} is {}: this receiver would need `{remedy}`", sort.name()))
    }
}

/// What an address is; `None`: on the public internet.
pub(crate) fn sort(address: IpAddr) -> Option<Sort> {
    match address {
        IpAddr::V4(v4) => sort_v4(v4),
        IpAddr::V6(v6) => sort_v6(v6),
    }
}

fn sort_v4(v4: Ipv4Addr) -> Option<Sort> {
    Some(match v4.octets() {
        // AWS, Azure, Google and others; Alibaba; Azure's agent; Oracle.
        [169, 254, 169, 254] | [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Sort::Metadata,
        // ECS and EKS credentials; Tencent.
        [169, 254, 170, 2 | 23] | [169, 254, 0, 23] => Sort::Metadata,
        [127, ..] => Sort::Loopback,
        [10, ..] | [192, 168, ..] => Sort::Private,
        [172, second, ..] if (16..32).contains(&second) => Sort::Private,
        // Between a carrier and its customers (RFC 6598).
        [100, second, ..] if (64..128).contains(&second) => Sort::Private,
        [169, 254, ..] => Sort::LinkLocal,
        [224..=239, ..] => Sort::Multicast,
        [0 | 240.., ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Sort::Reserved
        }
        [198, 18 | 19, ..] => Sort::Reserved,
        _ => return None,
    })
}

fn sort_v6(v6: Ipv6Addr) -> Option<Sort> {
    let segments = v6.segments();
    let [.., high, low] = segments;
    let tail = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    Some(match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Sort::Reserved,
        [0, 0, 0, 0, 0, 0, 0, 1] => Sort::Loopback,
        // What has an IPv4 address inside is what that is: mapped, compatible, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => return sort_v4(tail),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => return sort_v4(tail),
        [0x2002, first, second, ..] => {
            return sort_v4(Ipv4Addr::from((u32::from(first) << 16) | u32::from(second)));
        }
        // AWS, and its EKS credentials; Google; OpenStack.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe] => Sort::Metadata,
        [first, ..] if first & 0xfe00 == 0xfc00 => Sort::Private,
        [first, ..] if first & 0xffc0 == 0xfe80 => Sort::LinkLocal,
        [first, ..] if first & 0xffc0 == 0xfec0 => Sort::Private,
        [first, ..] if first & 0xff00 == 0xff00 => Sort::Multicast,
        // Only 2000::/3 is given out, and in it Teredo, documentation, benchmarks and others are not for this.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Sort::Reserved,
        [first, ..] if first & 0xe000 == 0x2000 => return None,
        _ => Sort::Reserved,
    })
}

/// Resolves names to addresses that may be connected to.
#[derive(Debug)]
pub(crate) struct GuardedResolver {
    allow: Allow,
    inner: DefaultResolver,
}

impl GuardedResolver {
    pub(crate) fn new(allow: Allow) -> GuardedResolver {
        GuardedResolver { allow, inner: DefaultResolver::default() }
    }
}

/// The guard said no.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = self.inner.resolve(uri, config, timeout)?;
        let mut passed = self.empty();
        let mut refused = None;
        for address in all.iter() {
            match self.allow.check(address.ip()) {
                Ok(()) => passed.push(*address),
                Err(why) => refused = Some(why),
            }
        }
        match refused {
            Some(why) if passed.is_empty() => Err(ureq::Error::Other(Box::new(Refused(why)))),
            _ => Ok(passed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_needs_no_leave() {
        for (address, want) in [
            ("8.8.8.8", None),
            ("2606:4700::1111", None),
            ("172.15.0.1", None),
            ("172.32.0.1", None),
            ("100.63.255.255", None),
            ("100.128.0.0", None),
            ("127.0.0.1", Some(Sort::Loopback)),
            ("127.255.0.9", Some(Sort::Loopback)),
            ("::1", Some(Sort::Loopback)),
            ("::ffff:127.0.0.1", Some(Sort::Loopback)),
            ("::127.0.0.1", Some(Sort::Loopback)),
            ("64:ff9b::7f00:1", Some(Sort::Loopback)),
            ("2002:7f00:1::", Some(Sort::Loopback)),
            ("10.1.2.3", Some(Sort::Private)),
            ("172.16.0.1", Some(Sort::Private)),
            ("172.31.255.255", Some(Sort::Private)),
            ("192.168.1.1", Some(Sort::Private)),
            ("100.64.0.1", Some(Sort::Private)),
            ("fd12::1", Some(Sort::Private)),
            ("fec0::1", Some(Sort::Private)),
            ("::ffff:10.0.0.1", Some(Sort::Private)),
            ("169.254.1.1", Some(Sort::LinkLocal)),
            ("fe80::1", Some(Sort::LinkLocal)),
            ("169.254.169.254", Some(Sort::Metadata)),
            ("169.254.170.2", Some(Sort::Metadata)),
            ("::ffff:169.254.169.254", Some(Sort::Metadata)),
            ("64:ff9b::a9fe:a9fe", Some(Sort::Metadata)),
            ("100.100.100.200", Some(Sort::Metadata)),
            ("168.63.129.16", Some(Sort::Metadata)),
            ("169.254.0.23", Some(Sort::Metadata)),
            ("fd00:ec2::254", Some(Sort::Metadata)),
            ("fd00:ec2::23", Some(Sort::Metadata)),
            ("fd20:ce::254", Some(Sort::Metadata)),
            ("fe80::a9fe:a9fe", Some(Sort::Metadata)),
            ("224.0.0.1", Some(Sort::Multicast)),
            ("ff02::1", Some(Sort::Multicast)),
            ("0.0.0.0", Some(Sort::Reserved)),
            ("255.255.255.255", Some(Sort::Reserved)),
            ("203.0.113.7", Some(Sort::Reserved)),
            ("198.18.0.1", Some(Sort::Reserved)),
            ("::", Some(Sort::Reserved)),
            ("2001:db8::1", Some(Sort::Reserved)),
            ("2001::1", Some(Sort::Reserved)),
            ("64:ff9b:1::1", Some(Sort::Reserved)),
        ] {
            assert_eq!(sort(address.parse().unwrap()), want, "{address}");
        }
    }

    #[test]
    fn what_a_receiver_allows() {
        let network = |text: &str| Network::new(text.parse().unwrap(), 32).unwrap();
        let private = Allow { private: true, networks: Vec::new() };
        let listed = Allow { private: false, networks: vec![network("169.254.169.254"), network("10.0.0.7")] };
        for (allow, address, passes) in [
            (&Allow::default(), "10.0.0.7", false),
            (&Allow::default(), "1.1.1.1", true),
            (&private, "10.0.0.7", true),
            (&private, "127.0.0.1", true),
            (&private, "169.254.169.254", false),
            (&private, "224.0.0.1", false),
            (&private, "0.0.0.0", false),
            (&listed, "169.254.169.254", true),
            (&listed, "10.0.0.7", true),
            (&listed, "10.0.0.8", false),
        ] {
            let checked = allow.check(address.parse().unwrap());
            assert_eq!(checked.is_ok(), passes, "{allow:?} {address}: {checked:?}");
        }
        assert!(Allow::default().check("10.0.0.7".parse().unwrap()).unwrap_err().contains("allow_private"));
    }
}
