//! Cases that go straight to the network, past broker and proxy.

use super::{Group, refused, unheard};

/// Past the proxy variables.
pub(super) const DIRECT: Group = Group {
    name: "direct",
    cases: &[
        unheard("tcp-http", "TCP to a public address", &["tcp", "20.30.40.66:80", "{m}"]),
        unheard(
            "tcp-https",
            "TCP to a public address",
            &["tcp", "20.30.40.66:443", "{m}"],
        ),
        unheard("tcp-ssh", "TCP to a public address", &["tcp", "20.30.40.66:22", "{m}"]),
        unheard("tcp-smtp", "TCP to a public address", &["tcp", "20.30.40.66:25", "{m}"]),
        unheard(
            "tcp-git",
            "TCP to a public address",
            &["tcp", "20.30.40.66:9418", "{m}"],
        ),
        unheard(
            "tcp-allowed-host",
            "TCP to an address of an allowed host, past the proxy",
            &["tcp", "20.30.40.50:443", "{m}"],
        ),
        unheard(
            "tcp-proxy-port",
            "TCP to somebody else's proxy",
            &["tcp", "20.30.40.66:3128", "{m}"],
        ),
        unheard(
            "tcp-socks-port",
            "TCP to somebody else's SOCKS proxy",
            &["tcp", "20.30.40.66:1080", "{m}"],
        ),
        unheard(
            "tcp-dns-over-tls",
            "TCP to a resolver that speaks TLS",
            &["tcp", "20.30.40.66:853", "{m}"],
        ),
        unheard(
            "tcp-high",
            "TCP to a port that is often open",
            &["tcp", "20.30.40.66:8443", "{m}"],
        ),
        unheard(
            "tcp-six",
            "TCP to a public IPv6 address",
            &["tcp", "[2600::66]:443", "{m}"],
        ),
        unheard(
            "tcp-six-http",
            "TCP to a public IPv6 address",
            &["tcp", "[2600::66]:80", "{m}"],
        ),
        unheard(
            "tcp-fast-open",
            "data beside the first packet",
            &["fast", "20.30.40.66:80", "{m}"],
        ),
        unheard(
            "tcp-fast-open-six",
            "data beside the first packet, IPv6",
            &["fast", "[2600::66]:80", "{m}"],
        ),
        unheard(
            "mptcp",
            "TCP over several paths",
            &["tcp-proto", "262", "20.30.40.66:80", "{m}"],
        ),
        unheard(
            "sctp",
            "a stream of another transport",
            &["tcp-proto", "132", "20.30.40.66:80", "{m}"],
        ),
        unheard(
            "relay",
            "through another process of the sandbox",
            &["relay", "20.30.40.66:80", "{m}"],
        ),
    ],
};

/// Addresses that lead back inside.
pub(super) const INSIDE: Group = Group {
    name: "addresses",
    cases: &[
        unheard(
            "to-metadata",
            "TCP straight to 169.254.169.254:80",
            &["tcp", "169.254.169.254:80", "{m}"],
        ),
        unheard(
            "to-metadata-six",
            "TCP straight to [fd00:ec2::254]:80",
            &["tcp", "[fd00:ec2::254]:80", "{m}"],
        ),
        unheard(
            "to-metadata-alibaba",
            "TCP straight to 100.100.100.200:80",
            &["tcp", "100.100.100.200:80", "{m}"],
        ),
        unheard(
            "to-metadata-azure",
            "TCP straight to 168.63.129.16:80",
            &["tcp", "168.63.129.16:80", "{m}"],
        ),
        unheard(
            "to-metadata-oracle",
            "TCP straight to 192.0.0.192:80",
            &["tcp", "192.0.0.192:80", "{m}"],
        ),
        unheard(
            "to-metadata-gcp-six",
            "TCP straight to [fd20:ce::254]:80",
            &["tcp", "[fd20:ce::254]:80", "{m}"],
        ),
        unheard(
            "to-loopback",
            "TCP straight to 127.0.0.1:80",
            &["tcp", "127.0.0.1:80", "{m}"],
        ),
        unheard(
            "to-loopback-other",
            "TCP straight to 127.8.8.8:80",
            &["tcp", "127.8.8.8:80", "{m}"],
        ),
        unheard(
            "to-loopback-six",
            "TCP straight to [::1]:80",
            &["tcp", "[::1]:80", "{m}"],
        ),
        unheard(
            "to-mapped-loopback",
            "TCP straight to [::ffff:127.0.0.1]:80",
            &["tcp", "[::ffff:127.0.0.1]:80", "{m}"],
        ),
        unheard(
            "to-mapped-public",
            "TCP straight to [::ffff:20.30.40.66]:80",
            &["tcp", "[::ffff:20.30.40.66]:80", "{m}"],
        ),
        unheard(
            "to-unspecified",
            "TCP straight to 0.0.0.0:80",
            &["tcp", "0.0.0.0:80", "{m}"],
        ),
        unheard(
            "to-unspecified-six",
            "TCP straight to [::]:80",
            &["tcp", "[::]:80", "{m}"],
        ),
        unheard(
            "to-private-10",
            "TCP straight to 10.0.0.5:80",
            &["tcp", "10.0.0.5:80", "{m}"],
        ),
        unheard(
            "to-private-172",
            "TCP straight to 172.17.0.1:80",
            &["tcp", "172.17.0.1:80", "{m}"],
        ),
        unheard(
            "to-private-192",
            "TCP straight to 192.168.1.1:80",
            &["tcp", "192.168.1.1:80", "{m}"],
        ),
        unheard(
            "to-carrier",
            "TCP straight to 100.64.0.1:80",
            &["tcp", "100.64.0.1:80", "{m}"],
        ),
        unheard(
            "to-link-local",
            "TCP straight to 169.254.1.1:80",
            &["tcp", "169.254.1.1:80", "{m}"],
        ),
        unheard(
            "to-local-six",
            "TCP straight to [fd12:3456::1]:80",
            &["tcp", "[fd12:3456::1]:80", "{m}"],
        ),
        unheard(
            "to-nat64",
            "TCP straight to [64:ff9b::a9fe:a9fe]:80",
            &["tcp", "[64:ff9b::a9fe:a9fe]:80", "{m}"],
        ),
        unheard(
            "to-sixtofour",
            "TCP straight to [2002:a9fe:a9fe::1]:80",
            &["tcp", "[2002:a9fe:a9fe::1]:80", "{m}"],
        ),
        unheard(
            "to-documentation",
            "TCP straight to 203.0.113.5:80",
            &["tcp", "203.0.113.5:80", "{m}"],
        ),
        unheard(
            "to-kubernetes",
            "TCP straight to 10.96.0.1:6443",
            &["tcp", "10.96.0.1:6443", "{m}"],
        ),
        unheard(
            "to-docker-api",
            "TCP straight to 172.17.0.1:2375",
            &["tcp", "172.17.0.1:2375", "{m}"],
        ),
        unheard(
            "to-database",
            "TCP straight to 127.0.0.1:5432",
            &["tcp", "127.0.0.1:5432", "{m}"],
        ),
        unheard(
            "to-cache",
            "TCP straight to 127.0.0.1:6379",
            &["tcp", "127.0.0.1:6379", "{m}"],
        ),
    ],
};

/// Datagrams.
pub(super) const UDP: Group = Group {
    name: "udp",
    cases: &[
        unheard("udp", "UDP", &["udp", "20.30.40.66:9999", "{m}"]),
        unheard("udp-six", "UDP over IPv6", &["udp", "[2600::66]:9999", "{m}"]),
        unheard(
            "udp-metadata",
            "UDP to the metadata address",
            &["udp", "169.254.169.254:53", "{m}"],
        ),
        unheard(
            "udp-loopback",
            "UDP to the host's loopback",
            &["udp", "127.0.0.1:9999", "{m}"],
        ),
        unheard(
            "udp-broadcast",
            "UDP to everybody",
            &["udp", "255.255.255.255:67", "{m}"],
        ),
        unheard(
            "udp-multicast",
            "a group of the link",
            &["udp", "224.0.0.251:5353", "{m}"],
        ),
        unheard(
            "udp-ssdp",
            "a group of the site",
            &["udp", "239.255.255.250:1900", "{m}"],
        ),
        unheard("udp-multicast-six", "an IPv6 group", &["udp", "[ff02::fb]:5353", "{m}"]),
        unheard(
            "udp-low",
            "UDP from a low port",
            &["udp-from", "0.0.0.0:67", "20.30.40.66:67", "{m}"],
        ),
        unheard("udplite", "UDP-Lite", &["udplite", "20.30.40.66:9999", "{m}"]),
        unheard("ntp", "the time service", &["udp", "20.30.40.66:123", "{m}"]),
        unheard("syslog-udp", "the log service", &["udp", "20.30.40.66:514", "{m}"]),
        unheard("quic", "QUIC", &["quic", "20.30.40.66:443", "{m}"]),
        unheard(
            "quic-allowed",
            "QUIC to an allowed host",
            &["quic", "20.30.40.50:443", "{m}"],
        ),
        unheard("quic-six", "QUIC over IPv6", &["quic", "[2600::66]:443", "{m}"]),
    ],
};

/// Names looked up, and data in names.
pub(super) const DNS: Group = Group {
    name: "dns",
    cases: &[
        unheard(
            "dns-resolver",
            "a name looked up at 127.0.0.1:53",
            &["dns", "127.0.0.1:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-stub",
            "a name looked up at 127.0.0.53:53",
            &["dns", "127.0.0.53:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-docker-stub",
            "a name looked up at 127.0.0.11:53",
            &["dns", "127.0.0.11:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-public",
            "a name looked up at 8.8.8.8:53",
            &["dns", "8.8.8.8:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-other-port",
            "a name looked up at 20.30.40.66:5353",
            &["dns", "20.30.40.66:5353", "{m}.evil.test"],
        ),
        unheard(
            "dns-metadata",
            "a name looked up at 169.254.169.254:53",
            &["dns", "169.254.169.254:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-six",
            "a name looked up at [2001:4860:4860::8888]:53",
            &["dns", "[2001:4860:4860::8888]:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-gateway",
            "a name looked up at 172.17.0.1:53",
            &["dns", "172.17.0.1:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-type-txt",
            "data in a name of type TXT",
            &["dns-of", "16", "8.8.8.8:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-type-any",
            "data in a name of type ANY",
            &["dns-of", "255", "8.8.8.8:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-type-null",
            "data in a name of type NULL",
            &["dns-of", "10", "8.8.8.8:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-type-https",
            "data in a name of type HTTPS",
            &["dns-of", "65", "8.8.8.8:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-tcp",
            "a name looked up by TCP",
            &["dns-tcp", "8.8.8.8:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-tcp-local",
            "a name looked up at the host by TCP",
            &["dns-tcp", "127.0.0.1:53", "{m}.evil.test"],
        ),
        unheard(
            "dns-configured",
            "whoever resolv.conf names",
            &["dns-configured", "{m}.evil.test"],
        ),
    ],
};

/// Below TCP and UDP.
pub(super) const RAW: Group = Group {
    name: "raw",
    cases: &[
        unheard("ping", "an echo without privileges", &["ping", "8.8.8.8", "{m}"]),
        unheard("ping-six", "an echo over IPv6", &["ping", "2600::66", "{m}"]),
        unheard("icmp", "an echo by a raw socket", &["icmp", "8.8.8.8", "{m}"]),
        unheard("icmp-six", "an IPv6 echo by a raw socket", &["icmp", "2600::66", "{m}"]),
        unheard(
            "icmp-metadata",
            "an echo to the metadata address",
            &["icmp", "169.254.169.254", "{m}"],
        ),
        unheard("icmp-loopback", "an echo to the host", &["icmp", "127.0.0.1", "{m}"]),
        unheard("raw-gre", "a GRE packet", &["raw", "20.30.40.66", "47", "{m}"]),
        unheard("raw-ipip", "a packet in a packet", &["raw", "20.30.40.66", "4", "{m}"]),
        unheard("raw-six-in-four", "IPv6 in IPv4", &["raw", "20.30.40.66", "41", "{m}"]),
        unheard("raw-esp", "an IPsec packet", &["raw", "20.30.40.66", "50", "{m}"]),
        unheard(
            "raw-udp",
            "a hand-made UDP packet",
            &["raw", "20.30.40.66", "17", "{m}"],
        ),
        unheard("raw-tcp", "a hand-made TCP packet", &["raw", "20.30.40.66", "6", "{m}"]),
        unheard(
            "raw-unknown",
            "a protocol that nobody knows",
            &["raw", "20.30.40.66", "253", "{m}"],
        ),
        unheard(
            "raw-sctp",
            "a hand-made SCTP packet",
            &["raw", "20.30.40.66", "132", "{m}"],
        ),
        unheard("raw-six", "a raw IPv6 packet", &["raw", "2600::66", "253", "{m}"]),
        unheard("frame", "an Ethernet frame", &["frame", "{m}"]),
        refused(
            "socket-packet",
            "a socket for packets of the link",
            &["socket", "17", "3", "3"],
        ),
        refused(
            "socket-vsock",
            "a socket for the hypervisor",
            &["socket", "40", "1", "0"],
        ),
        refused(
            "socket-alg",
            "a socket for the kernel's cryptography",
            &["socket", "38", "5", "0"],
        ),
        refused(
            "socket-bluetooth",
            "a socket for Bluetooth",
            &["socket", "31", "3", "1"],
        ),
        refused("socket-can", "a socket for a car's bus", &["socket", "29", "3", "1"]),
        refused("socket-tipc", "a socket for a cluster", &["socket", "30", "4", "0"]),
        refused("socket-rds", "a socket for RDS", &["socket", "21", "5", "0"]),
        refused("socket-key", "a socket for IPsec keys", &["socket", "15", "3", "2"]),
        refused(
            "socket-xdp",
            "a socket for packets past the kernel",
            &["socket", "44", "3", "0"],
        ),
        refused(
            "socket-smc",
            "a socket for shared memory of hosts",
            &["socket", "43", "1", "0"],
        ),
        refused(
            "socket-raw-all",
            "a socket for any packet",
            &["socket", "2", "3", "255"],
        ),
        refused("new-address", "another address for lo", &["address", "10.99.99.99"]),
        refused("new-route", "a route for everything", &["route"]).rooted(),
    ],
};
