//! The real resolver against a small DNS server: `POND_RESOLVER` is asked, for both families, and nobody else is.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use pond_core::outbound::{Host, Purpose, Refused};
use pond_worker::net::{DialError, Dialer, DialerSettings, DnsResolver, LookupError, Resolve};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Knows a few names; records what it was asked.
struct DnsServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl DnsServer {
    async fn start(zone: &'static [(&'static str, &'static str)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let answer = answer(&question, zone, &record);
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        Self { address, asked, task }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(question: &Message, zone: &[(&str, &str)], asked: &Mutex<Vec<String>>) -> Message {
    let query = question.queries[0].clone();
    let name = query.name().to_string();
    asked.lock().unwrap().push(name.clone());
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    let known: Vec<IpAddr> = zone
        .iter()
        .filter(|(known, _)| *known == name)
        .map(|(_, address)| address.parse().unwrap())
        .collect();
    answer.metadata.response_code = if known.is_empty() {
        ResponseCode::NXDomain
    } else {
        ResponseCode::NoError
    };
    for ip in known {
        let data = match ip {
            IpAddr::V4(ip) if query.query_type() == RecordType::A => RData::A(ip.into()),
            IpAddr::V6(ip) if query.query_type() == RecordType::AAAA => RData::AAAA(ip.into()),
            _ => continue,
        };
        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
    }
    answer.add_query(query);
    answer
}

const ZONE: &[(&str, &str)] = &[
    ("both.test.", "192.0.2.1"),
    ("both.test.", "2001:db8::1"),
    ("sly.test.", "8.8.8.8"),
    ("sly.test.", "::ffff:127.0.0.1"),
    ("good.test.", "8.8.8.8"),
    ("localhost.", "8.8.4.4"),
];

#[tokio::test]
async fn the_given_server_is_asked_for_both_families() {
    let server = DnsServer::start(ZONE).await;
    let resolver = DnsResolver::at(server.address).unwrap();

    let mut found = resolver.resolve("both.test").await.unwrap();
    found.sort();
    assert_eq!(
        found,
        ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]
    );
    assert!(matches!(
        resolver.resolve("missing.test").await,
        Err(LookupError::NotFound)
    ));
    assert!(matches!(resolver.resolve("bare").await, Err(LookupError::NotFound)));
    let asked = server.asked.lock().unwrap().clone();
    assert!(
        asked
            .iter()
            .all(|name| ["both.test.", "missing.test.", "bare."].contains(&name.as_str())),
        "{asked:?}"
    );
}

#[tokio::test]
async fn one_bad_address_of_either_family_refuses_the_name() {
    let server = DnsServer::start(ZONE).await;
    let dialer = Dialer::new(DialerSettings {
        resolver: Some(server.address),
        ..DialerSettings::default()
    })
    .unwrap();
    let addresses = async |name: &str| dialer.addresses(Purpose::Tool, &Host::parse(name).unwrap(), 443).await;

    assert_eq!(addresses("good.test").await.unwrap(), ["8.8.8.8:443".parse().unwrap()]);
    let sly = addresses("sly.test").await;
    assert!(
        matches!(
            sly,
            Err(DialError::Refused {
                why: Refused::Loopback,
                ..
            })
        ),
        "{sly:?}"
    );
    let missing = addresses("missing.test").await;
    assert!(matches!(missing, Err(DialError::NotFound { .. })), "{missing:?}");
    // Whatever this name is taken for, it is never dialled as this host.
    if let Ok(found) = addresses("localhost").await {
        assert!(found.iter().all(|address| !address.ip().is_loopback()), "{found:?}");
    }
}

#[tokio::test]
async fn the_system_resolver_knows_this_host_and_the_rule_refuses_it() {
    let dialer = Dialer::new(DialerSettings::default()).expect("this host has resolver settings");
    let result = dialer
        .connect(Purpose::Tool, &Host::parse("localhost").unwrap(), 443)
        .await;
    assert!(
        matches!(
            result,
            Err(DialError::Refused {
                why: Refused::Loopback,
                ..
            })
        ),
        "{result:?}"
    );
}
