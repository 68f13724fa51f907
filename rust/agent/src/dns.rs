//! DNS for the workload: hosts of the mesh from the name table, all else from the machine's own resolvers.
//!
//! Source: istio `pkg/dns/client`.

mod forward;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use navarch_envoy::istio::networking::nds::v1::NameTable;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use crate::connect::split_address;
use crate::metrics::{DnsOutcome, Metrics};
use crate::settings::Dns;
use forward::{Resolvers, Transport};
use table::{Found, Table};

/// Clients that keep answers must not miss an address for long (istio `defaultTTLInSeconds`).
const TTL_SECONDS: u32 = 30;
/// What a client without EDNS takes over UDP.
const PLAIN_UDP_BYTES: usize = 512;
/// More is cut into fragments on its way, or lost.
const MAX_UDP_BYTES: usize = 4096;
/// Questions that are worked on at a time; more wait in the socket.
const MAX_AT_A_TIME: usize = 1024;
/// A TCP connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// The sockets, before anything is served: an address that is taken is told at the start.
pub(crate) struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Listen on all addresses of the host, over UDP and TCP.
pub(crate) async fn listen(address: &str) -> io::Result<Sockets> {
    let invalid = |fault: String| io::Error::new(io::ErrorKind::InvalidInput, fault);
    let (host, port) = split_address(address).map_err(|e| invalid(e.to_string()))?;
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    let mut fault = invalid(format!("{address} has no address"));
    for each in tokio::net::lookup_host((host, port)).await? {
        // A name may stand for addresses that this machine lacks, as `localhost` for ::1.
        match (UdpSocket::bind(each).await, TcpListener::bind(each).await) {
            (Ok(datagrams), Ok(connections)) => {
                udp.push(datagrams);
                tcp.push(connections);
            }
            (Err(error), _) | (_, Err(error)) => fault = error,
        }
    }
    if udp.is_empty() {
        return Err(fault);
    }
    Ok(Sockets { udp, tcp })
}

/// Who answers.
pub(crate) struct Server {
    table: watch::Receiver<Option<Arc<Table>>>,
    resolvers: Resolvers,
    metrics: Arc<Metrics>,
    limit: Arc<Semaphore>,
}

/// Answer for ever, by the newest of the tables that come.
pub(crate) async fn serve(
    sockets: Sockets,
    told: Dns,
    mut names: watch::Receiver<Option<Arc<NameTable>>>,
    metrics: Arc<Metrics>,
) {
    let (sender, table) = watch::channel(None);
    let resolv = std::fs::read_to_string(&told.resolv_file).unwrap_or_else(|error| {
        tracing::warn!(
            "{}: {error}: only the mesh's names are answered",
            told.resolv_file.display()
        );
        String::new()
    });
    let server = Arc::new(Server {
        table,
        resolvers: Resolvers::read(&resolv, told.is_parallel),
        metrics,
        limit: Arc::new(Semaphore::new(MAX_AT_A_TIME)),
    });
    for socket in sockets.udp {
        tokio::spawn(serve_datagrams(Arc::new(socket), Arc::clone(&server)));
    }
    for listener in sockets.tcp {
        tokio::spawn(serve_connections(listener, Arc::clone(&server)));
    }
    while names.changed().await.is_ok() {
        let newest = names.borrow_and_update().clone();
        if let Some(newest) = newest {
            let table = Table::build(&newest, &told.namespace, &told.domain);
            tracing::debug!("{} names are answered", table.len());
            sender.send_replace(Some(Arc::new(table)));
        }
    }
}

async fn serve_datagrams(socket: Arc<UdpSocket>, server: Arc<Server>) {
    let mut buffer = [0; MAX_UDP_BYTES];
    loop {
        let Ok((n_bytes, peer)) = socket.recv_from(&mut buffer).await else {
            // An answer that a client no longer waited for comes back as an error of the next read.
            continue;
        };
        let Ok(permit) = Arc::clone(&server.limit).acquire_owned().await else {
            return;
        };
        let question = buffer[..n_bytes].to_vec();
        let (socket, server) = (Arc::clone(&socket), Arc::clone(&server));
        tokio::spawn(async move {
            answer_datagram(&socket, &server, &question, peer).await;
            drop(permit);
        });
    }
}

async fn answer_datagram(socket: &UdpSocket, server: &Server, question: &[u8], peer: SocketAddr) {
    if let Some(answer) = server.answer(question, Transport::Udp).await {
        // A client that has left needs none.
        let _ = socket.send_to(&answer, peer).await;
    }
}

async fn serve_connections(listener: TcpListener, server: Arc<Server>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&server.limit).acquire_owned().await else {
            return;
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &server).await {
                tracing::debug!("a connection for DNS ended: {error}");
            }
            drop(permit);
        });
    }
}

/// Answer a connection's questions one after the other.
async fn converse(mut stream: TcpStream, server: &Server) -> io::Result<()> {
    loop {
        let Ok(read) = tokio::time::timeout(IDLE, forward::read_framed(&mut stream)).await else {
            return Ok(());
        };
        let Some(answer) = server.answer(&read?, Transport::Tcp).await else {
            return Ok(());
        };
        forward::write_framed(&mut stream, &answer).await?;
    }
}

impl Server {
    /// The answer to a question; `None` if it is none that could be answered.
    async fn answer(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        if asked.metadata.message_type != MessageType::Query {
            return None;
        }
        let table = self.table.borrow().clone();
        let Some(table) = table else {
            // Before the first table nothing is known to be of the mesh, or not.
            self.metrics.count_dns(DnsOutcome::Failed);
            return fail(&asked);
        };
        if let Some(found) = find(&asked, &table, self.resolvers.first_search()) {
            self.metrics.count_dns(DnsOutcome::Known);
            return respond(&asked, found, transport);
        }
        if let Some(answer) = self.resolvers.ask(question, transport).await {
            self.metrics.count_dns(DnsOutcome::Forwarded);
            return Some(answer);
        }
        self.metrics.count_dns(DnsOutcome::Failed);
        fail(&asked)
    }
}

/// What the mesh knows of a question, if it is one for addresses of a host that it knows.
fn find(asked: &Message, table: &Table, search: &str) -> Option<Found> {
    let query = asked.queries.first()?;
    let is_address = matches!(query.query_type, RecordType::A | RecordType::AAAA);
    if asked.metadata.op_code != OpCode::Query || !is_address {
        return None;
    }
    let name = query.name.to_lowercase().to_ascii();
    table.find(name.trim_end_matches('.'), search)
}

fn reply(asked: &Message) -> Message {
    let mut made = Message::response(asked.metadata.id, asked.metadata.op_code);
    made.metadata.recursion_desired = asked.metadata.recursion_desired;
    made.metadata.recursion_available = true;
    made.queries.clone_from(&asked.queries);
    made
}

/// An answer with the addresses in an order that differs each time, as clients take the first.
///
/// A host without an address of the family asked for gets an empty answer: "no such name" would hold for both families.
fn respond(asked: &Message, found: Found, transport: Transport) -> Option<Vec<u8>> {
    let query = asked.queries.first()?;
    let mut made = reply(asked);
    made.metadata.authoritative = true;
    let mut name = query.name.clone();
    let mut data: Vec<RData> = match query.query_type {
        RecordType::A => found
            .addresses
            .v4
            .iter()
            .map(|ip| RData::A((*ip).into()))
            .collect(),
        _ => found
            .addresses
            .v6
            .iter()
            .map(|ip| RData::AAAA((*ip).into()))
            .collect(),
    };
    if let Some(target) = found.target.filter(|_| !data.is_empty()) {
        let target = Name::from_ascii(format!("{target}.")).ok()?;
        let alias = RData::CNAME(hickory_proto::rr::rdata::CNAME(target.clone()));
        made.add_answer(Record::from_rdata(name, TTL_SECONDS, alias));
        name = target;
    }
    fastrand::shuffle(&mut data);
    for each in data {
        made.add_answer(Record::from_rdata(name.clone(), TTL_SECONDS, each));
    }
    let limit = match (transport, &asked.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => PLAIN_UDP_BYTES,
        (Transport::Udp, Some(_)) => usize::from(asked.max_payload()).min(MAX_UDP_BYTES),
    };
    let bytes = made.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    // The client is to come again over TCP.
    made.answers.clear();
    made.metadata.truncation = true;
    made.to_vec().ok()
}

fn fail(asked: &Message) -> Option<Vec<u8>> {
    let mut made = reply(asked);
    made.metadata.response_code = ResponseCode::ServFail;
    made.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RecordType};
    use navarch_envoy::istio::networking::nds::v1::{NameTable, name_table::NameInfo};

    use super::forward::Transport;
    use super::table::Table;
    use super::{fail, find, respond};

    fn table(n_addresses: u8) -> Table {
        let info = NameInfo {
            ips: (0..n_addresses).map(|i| format!("10.0.0.{i}")).collect(),
            registry: "Kubernetes".into(),
            shortname: "web".into(),
            namespace: "shop".into(),
            ..NameInfo::default()
        };
        let host = "web.shop.svc.cluster.local".to_owned();
        let names = NameTable {
            table: [(host, info)].into(),
        };
        Table::build(&names, "shop", "svc.cluster.local")
    }

    fn ask(name: &str, kind: RecordType, n_addresses: u8, transport: Transport) -> Option<Message> {
        let mut asked = Message::query();
        asked.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let found = find(&asked, &table(n_addresses), "shop.svc.cluster.local")?;
        let answer = respond(&asked, found, transport).unwrap();
        Some(Message::from_vec(&answer).unwrap())
    }

    proptest::proptest! {
        /// A damaged or invented packet gets an answer with its own number, or none.
        #[test]
        fn no_packet_breaks_it(changes: Vec<(u8, u8)>, noise: Vec<u8>, is_noise: bool) {
            let mut asked = Message::query();
            let name = Name::from_ascii("web.shop.").unwrap();
            asked.add_query(Query::query(name, RecordType::A));
            let mut packet = asked.to_vec().unwrap();
            for (at, byte) in changes {
                let at = usize::from(at) % packet.len();
                packet[at] = byte;
            }
            let packet = if is_noise { noise } else { packet };
            let Ok(asked) = Message::from_vec(&packet) else {
                return Ok(());
            };
            let found = find(&asked, &table(3), "shop.svc.cluster.local");
            let answer = found.and_then(|found| respond(&asked, found, Transport::Udp));
            if let Some(answer) = answer.or_else(|| fail(&asked)) {
                proptest::prop_assert_eq!(&answer[..2], &packet[..2]);
            }
        }
    }

    #[test]
    fn a_known_host_is_answered_for_both_families() {
        let answer = ask("WEB.shop.", RecordType::A, 2, Transport::Udp).unwrap();
        assert_eq!(answer.answers.len(), 2);
        assert!(answer.metadata.authoritative);
        let answer = ask("web.shop.", RecordType::AAAA, 2, Transport::Udp).unwrap();
        assert_eq!(answer.answers.len(), 0);
    }

    #[test]
    fn other_questions_go_to_the_resolvers() {
        assert!(ask("example.com.", RecordType::A, 1, Transport::Udp).is_none());
        assert!(ask("web.shop.", RecordType::TXT, 1, Transport::Udp).is_none());
    }

    #[test]
    fn a_searched_name_is_answered_with_the_name_that_is_meant() {
        let name = "web.shop.svc.shop.svc.cluster.local.";
        let answer = ask(name, RecordType::A, 1, Transport::Udp).unwrap();
        let kinds: Vec<_> = answer
            .answers
            .iter()
            .map(hickory_proto::rr::Record::record_type)
            .collect();
        assert_eq!(kinds, [RecordType::CNAME, RecordType::A]);
    }

    #[test]
    fn an_answer_too_large_for_udp_is_cut() {
        let answer = ask("web.", RecordType::A, 200, Transport::Udp).unwrap();
        assert!(answer.metadata.truncation);
        assert_eq!(answer.answers.len(), 0);
        let answer = ask("web.", RecordType::A, 200, Transport::Tcp).unwrap();
        assert_eq!(answer.answers.len(), 200);
    }
}
