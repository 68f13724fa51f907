//! Questions that the mesh can't answer, carried to the machine's own resolvers as they came.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

const PORT: u16 = 53;
/// The resolver library's own patience with one server.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 65_535;

/// How a question came, and so how it is carried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The resolvers of `/etc/resolv.conf`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolvers {
    servers: Vec<SocketAddr>,
    /// The first of the search domains, in lower case.
    search: String,
    is_parallel: bool,
}

impl Resolvers {
    /// Read the file's text; what is no address is passed over, as the system's own resolver does.
    pub(super) fn read(text: &str, is_parallel: bool) -> Self {
        let mut made = Self {
            is_parallel,
            ..Self::default()
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("nameserver"), Some(ip)) => {
                    if let Ok(ip) = ip.parse() {
                        made.servers.push(SocketAddr::new(ip, PORT));
                    }
                }
                (Some("search" | "domain"), Some(first)) => {
                    made.search = first.trim_end_matches('.').to_lowercase();
                }
                _ => {}
            }
        }
        made
    }

    /// The first search domain; "" if there is none.
    pub(super) fn first_search(&self) -> &str {
        &self.search
    }

    /// The first answer: server after server, or all at once.
    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let mut pending = Vec::new();
        for server in &self.servers {
            let mut asking = Box::pin(ask_one(*server, question, transport));
            if self.is_parallel {
                pending.push(asking);
            } else if let Some(answer) = asking.as_mut().await {
                return Some(answer);
            }
        }
        let mut pending = pin!(pending);
        std::future::poll_fn(|context| {
            let mut answered = None;
            pending.retain_mut(|asking| match asking.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(answer) => {
                    answered = answered.take().or(answer);
                    false
                }
            });
            match answered {
                Some(answer) => Poll::Ready(Some(answer)),
                None if pending.is_empty() => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }
}

async fn ask_one(server: SocketAddr, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let asked = async {
        match transport {
            Transport::Udp => ask_datagram(server, question).await,
            Transport::Tcp => ask_connection(server, question).await,
        }
    };
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!("resolver {server}: {error}");
            None
        }
        Err(_) => None,
    }
}

async fn ask_datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let here: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // A port of its own for each question: an answer can't be guessed, nor taken for another's.
    let socket = UdpSocket::bind((here, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MAX_ANSWER_BYTES];
    loop {
        let n_bytes = socket.recv(&mut buffer).await?;
        if buffer.first_chunk::<2>() == question.first_chunk::<2>()
            && n_bytes >= question.len().min(12)
        {
            buffer.truncate(n_bytes);
            return Ok(buffer);
        }
    }
}

async fn ask_connection(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, question).await?;
    read_framed(&mut stream).await
}

/// Read a message over TCP, which has its length before it.
pub(super) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Write a message over TCP, in one segment with its length.
pub(super) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidData, "a message of more than 64 KiB");
    let length = u16::try_from(message.len()).map_err(too_long)?;
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::{TcpListener, UdpSocket};

    use super::{Resolvers, Transport, read_framed, write_framed};

    const QUESTION: &[u8] = b"\x12\x34 a question of its own length";

    fn resolvers(servers: Vec<SocketAddr>, is_parallel: bool) -> Resolvers {
        Resolvers {
            servers,
            is_parallel,
            ..Resolvers::default()
        }
    }

    /// A resolver that answers each question by those messages.
    async fn datagrams(answers: Vec<&'static [u8]>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
                for answer in &answers {
                    socket.send_to(answer, peer).await.unwrap();
                }
            }
        });
        address
    }

    /// An address at which nobody answers.
    async fn closed() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_next_server_is_asked_where_one_is_away() {
        let servers = vec![closed().await, datagrams(vec![b"\x12\x34 an answer"]).await];
        let asked = resolvers(servers, false);
        let answer = asked.ask(QUESTION, Transport::Udp).await;
        assert_eq!(answer.unwrap(), b"\x12\x34 an answer");
        let nobody = resolvers(vec![closed().await], false);
        assert_eq!(nobody.ask(QUESTION, Transport::Udp).await, None);
        assert_eq!(nobody.ask(QUESTION, Transport::Tcp).await, None);
    }

    #[tokio::test]
    async fn all_at_once_the_first_to_answer_counts() {
        let servers = vec![
            datagrams(vec![]).await,
            datagrams(vec![b"\x12\x34 a quick one"]).await,
        ];
        let asked = resolvers(servers, true);
        let answer = asked.ask(QUESTION, Transport::Udp).await;
        assert_eq!(answer.unwrap(), b"\x12\x34 a quick one");
    }

    #[tokio::test]
    async fn an_answer_to_another_question_is_passed_over() {
        let server = datagrams(vec![b"\x99\x99 guessed ahead", b"\x12\x34 the answer"]).await;
        let asked = resolvers(vec![server], false);
        let answer = asked.ask(QUESTION, Transport::Udp).await;
        assert_eq!(answer.unwrap(), b"\x12\x34 the answer");
    }

    #[tokio::test]
    async fn what_came_over_tcp_goes_over_tcp_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = vec![7; 60_000];
        let told = long.clone();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let question = read_framed(&mut stream).await.unwrap();
            write_framed(&mut stream, &told).await.unwrap();
            question
        });
        let asked = resolvers(vec![address], false);
        let answer = asked.ask(QUESTION, Transport::Tcp).await;
        assert_eq!(answer.unwrap(), long);
        assert_eq!(served.await.unwrap(), QUESTION);
    }

    #[test]
    fn the_systems_file_is_read() {
        let text = "# made by hand\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver ::1\n\
            search Shop.svc.cluster.local. svc.cluster.local\noptions ndots:5\n";
        let made = Resolvers::read(text, false);
        let servers: Vec<_> = made.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[::1]:53"]);
        assert_eq!(made.first_search(), "shop.svc.cluster.local");
    }
}
