//! Which addresses may be dialled: public unicast ones, and nothing that leads back inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address may not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// `0.0.0.0` or `::`, which many systems take for this host.
    #[error("the unspecified address")]
    Unspecified,
    /// This host.
    #[error("a loopback address")]
    Loopback,
    /// RFC 1918, or a unique local IPv6 address.
    #[error("a private address")]
    Private,
    /// One link, reached without a router.
    #[error("a link-local address")]
    LinkLocal,
    /// RFC 6598, shared between a carrier and its customers.
    #[error("a carrier's shared address")]
    CarrierShared,
    /// A group.
    #[error("a multicast address")]
    Multicast,
    /// Everybody on the link.
    #[error("the broadcast address")]
    Broadcast,
    /// Kept for documentation, measurements, protocols or the future.
    #[error("a reserved address")]
    Reserved,
    /// Where a cloud gives a machine its own credentials.
    #[error("a cloud metadata address")]
    Metadata,
}

/// Cloud metadata services. One of them (168.63.129.16) is in public address space, so no range below holds it.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Judges one address; an IPv6 address that carries an IPv4 one is as good as that one.
pub fn judge(ip: IpAddr) -> Result<(), Refused> {
    match ip {
        IpAddr::V4(ip) => judge_v4(ip),
        IpAddr::V6(ip) => judge_v6(ip),
    }
}

fn judge_v4(ip: Ipv4Addr) -> Result<(), Refused> {
    if METADATA_V4.contains(&ip) {
        return Err(Refused::Metadata);
    }
    Err(match ip.octets() {
        [0, 0, 0, 0] => Refused::Unspecified,
        [0, ..] => Refused::Reserved,
        [127, ..] => Refused::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Refused::Private,
        [169, 254, ..] => Refused::LinkLocal,
        [100, 64..=127, ..] => Refused::CarrierShared,
        // Protocol assignments, documentation (three), the withdrawn 6to4 relay, benchmarks.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Refused::Reserved,
        [192, 88, 99, _] | [198, 18 | 19, ..] => Refused::Reserved,
        [224..=239, ..] => Refused::Multicast,
        [255, 255, 255, 255] => Refused::Broadcast,
        [240..=255, ..] => Refused::Reserved,
        _ => return Ok(()),
    })
}

fn judge_v6(ip: Ipv6Addr) -> Result<(), Refused> {
    if METADATA_V6.contains(&ip) {
        return Err(Refused::Metadata);
    }
    if ip.is_unspecified() {
        return Err(Refused::Unspecified);
    }
    if ip.is_loopback() {
        return Err(Refused::Loopback);
    }
    for embedded in embedded(ip) {
        judge_v4(embedded)?;
    }
    match ip.segments() {
        // Mapped and well-known NAT64 addresses lead to the IPv4 address judged above.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Ok(()),
        [0xfc00..=0xfdff, ..] => Err(Refused::Private),
        [0xfe80..=0xfebf, ..] => Err(Refused::LinkLocal),
        [0xff00..=0xffff, ..] => Err(Refused::Multicast),
        // 2001::/32 was judged by what it embeds; the rest of 2001::/23 is protocol assignments.
        [0x2001, 0, ..] => Ok(()),
        [0x2001, 1..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Err(Refused::Reserved),
        // Global unicast. All that remains was never given out, is withdrawn (::/96, fec0::/10), discards (100::/64) or
        // belongs to one site (64:ff9b:1::/48).
        [0x2000..=0x3fff, ..] => Ok(()),
        _ => Err(Refused::Reserved),
    }
}

/// The IPv4 addresses that an IPv6 address may be turned into on its way.
fn embedded(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let s = ip.segments();
    let at = |high: usize| {
        let [a, b] = s[high].to_be_bytes();
        let [c, d] = s[high + 1].to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        // IPv4-compatible, mapped, translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![at(6)],
        // NAT64, well-known prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![at(6)],
        // 6to4.
        [0x2002, ..] => vec![at(1)],
        // Teredo: the server in clear, the client with all bits flipped.
        [0x2001, 0, ..] => vec![at(2), Ipv4Addr::from_bits(!at(6).to_bits())],
        // ISATAP interface identifiers, under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![at(6)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(text: &str) -> Result<(), Refused> {
        judge(text.parse().expect("a literal address"))
    }

    #[test]
    fn each_kind_of_address_is_told_apart() {
        for (text, why) in [
            ("0.0.0.0", Refused::Unspecified),
            ("0.1.2.3", Refused::Reserved),
            ("127.0.0.1", Refused::Loopback),
            ("127.255.255.254", Refused::Loopback),
            ("10.0.0.1", Refused::Private),
            ("172.16.0.1", Refused::Private),
            ("172.31.255.255", Refused::Private),
            ("192.168.1.1", Refused::Private),
            ("169.254.1.1", Refused::LinkLocal),
            ("169.254.169.254", Refused::Metadata),
            ("100.64.0.1", Refused::CarrierShared),
            ("100.127.255.255", Refused::CarrierShared),
            ("100.100.100.200", Refused::Metadata),
            ("168.63.129.16", Refused::Metadata),
            ("192.0.0.8", Refused::Reserved),
            ("192.0.2.1", Refused::Reserved),
            ("192.88.99.1", Refused::Reserved),
            ("198.18.0.1", Refused::Reserved),
            ("198.19.255.255", Refused::Reserved),
            ("198.51.100.7", Refused::Reserved),
            ("203.0.113.7", Refused::Reserved),
            ("224.0.0.1", Refused::Multicast),
            ("239.255.255.255", Refused::Multicast),
            ("240.0.0.1", Refused::Reserved),
            ("255.255.255.255", Refused::Broadcast),
            ("::", Refused::Unspecified),
            ("::1", Refused::Loopback),
            ("::127.0.0.1", Refused::Loopback),
            ("::8.8.8.8", Refused::Reserved),
            ("::ffff:127.0.0.1", Refused::Loopback),
            ("::ffff:0:127.0.0.1", Refused::Loopback),
            ("64:ff9b::10.0.0.1", Refused::Private),
            ("64:ff9b:1::8.8.8.8", Refused::Reserved),
            ("2002:7f00:1::", Refused::Loopback),
            ("2002:a9fe:a9fe::1", Refused::Metadata),
            // Teredo: the client 127.0.0.1, then the server 10.0.0.1.
            ("2001:0:808:808::80ff:fffe", Refused::Loopback),
            ("2001:0:a00:1::f7f7:f7f7", Refused::Private),
            ("2606:4700::5efe:10.0.0.1", Refused::Private),
            ("2001:20::1", Refused::Reserved),
            ("2001:db8::1", Refused::Reserved),
            ("3fff:1::1", Refused::Reserved),
            ("100::1", Refused::Reserved),
            ("5f00::1", Refused::Reserved),
            ("fc00::1", Refused::Private),
            ("fd00:ec2::254", Refused::Metadata),
            ("fd20:ce::254", Refused::Metadata),
            ("fe80::1", Refused::LinkLocal),
            ("febf::1", Refused::LinkLocal),
            ("fec0::1", Refused::Reserved),
            ("ff02::1", Refused::Multicast),
        ] {
            assert_eq!(verdict(text), Err(why), "{text}");
        }
    }

    #[test]
    fn public_addresses_pass_also_embedded() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2606:4700:4700::1111",
        ] {
            assert_eq!(verdict(text), Ok(()), "{text}");
        }
    }

    /// Each way in which an IPv6 address can stand for the IPv4 address `ip`.
    fn carriers(ip: Ipv4Addr) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = ip.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        vec![
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0xf7f7, 0xf7f7),
            Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
            Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, high, low),
            Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0x200, 0x5efe, high, low),
        ]
    }

    fn refused_v4() -> impl Strategy<Value = Ipv4Addr> {
        prop_oneof![
            Just(Ipv4Addr::new(169, 254, 169, 254)),
            Just(Ipv4Addr::new(168, 63, 129, 16)),
            (0u32..1 << 24).prop_map(|low| Ipv4Addr::from_bits(127 << 24 | low)),
            (0u32..1 << 24).prop_map(|low| Ipv4Addr::from_bits(10 << 24 | low)),
            (0u32..1 << 22).prop_map(|low| Ipv4Addr::from_bits(0x6440_0000 | low)),
            (0xe000_0000u32..=u32::MAX).prop_map(Ipv4Addr::from_bits),
            any::<u32>()
                .prop_map(Ipv4Addr::from_bits)
                .prop_filter("refused", |ip| judge_v4(*ip).is_err()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

        #[test]
        fn a_refused_v4_is_refused_in_every_v6_that_carries_it(ip in refused_v4()) {
            prop_assert!(judge(ip.into()).is_err());
            for carrier in carriers(ip) {
                prop_assert!(judge(carrier.into()).is_err(), "{carrier} carries {ip}");
            }
        }

        #[test]
        fn a_refused_v4_is_refused_in_every_spelling(ip in refused_v4()) {
            let bits = ip.to_bits();
            let [a, b, c, d] = ip.octets();
            for text in [
                format!("{bits}"),
                format!("0x{bits:x}"),
                format!("0X{bits:X}"),
                format!("0{bits:o}"),
                format!("{a}.{}", bits & 0xff_ffff),
                format!("{a}.{b}.{}", bits & 0xffff),
                format!("0x{a:x}.0{b:o}.{c}.0x{d:x}"),
                format!("{ip}."),
                format!("[::ffff:{ip}]"),
                format!("[::FFFF:{:x}:{:x}]", bits >> 16, bits & 0xffff),
            ] {
                let host = crate::outbound::Host::parse(&text);
                let Ok(crate::outbound::Host::Address(address)) = host else {
                    return Err(TestCaseError::fail(format!("{text} is {host:?}")));
                };
                prop_assert!(judge(address).is_err(), "{text} stands for {ip}");
            }
        }
    }
}
