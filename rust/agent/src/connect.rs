//! Connections to the control plane: HTTP/2 over TLS, each by fresh addresses, fresh roots and fresh credentials.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::body::Body;

use crate::proof::Credentials;
use crate::workload::Workload;

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Istio's keepalive towards its control plane (`pkg/keepalive/options.go`).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a stream may be on its way; what Envoy does not take is not held here.
const WINDOW_BYTES: u32 = 256 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The address is no `HOST:PORT`, or its host is unknown.
    #[error("{address} can't be resolved: {fault}")]
    Resolve {
        /// The address.
        address: String,
        /// The resolver's word.
        fault: String,
    },
    /// No address takes a connection.
    #[error("{address} takes no connection: {fault}")]
    Refused {
        /// The address.
        address: String,
        /// What the last one tried said.
        fault: String,
    },
    /// A file of certificates is missing or holds none.
    #[error("{file}: {fault}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// The workload's own certificate can't be shown.
    #[error("the certificate to show can't be used: {0}")]
    Identity(String),
    /// The control plane's certificate is not trusted, or it speaks no TLS.
    #[error("{address}: {fault}")]
    Tls {
        /// The address.
        address: String,
        /// What rustls says.
        fault: String,
    },
}

/// Whom to reach, and how it is known.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// The name in its certificate; the host if `None`.
    pub(crate) server_name: Option<String>,
    /// Its roots; plaintext if `None`.
    pub(crate) root_file: Option<PathBuf>,
    /// Whether the roots that the authority told with the last certificate count too: a machine whose file nobody
    /// renews then outlives the replacement of a root.
    pub(crate) is_known_by_authority: bool,
}

/// One HTTP/2 connection, on which requests are made; it ends when the last of them has.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    origin: Uri,
    bearer: Option<HeaderValue>,
}

impl Connection {
    /// Connect to any of an upstream's addresses, in no fixed order.
    ///
    /// # Errors
    /// What failed at the last address that was tried.
    pub(crate) async fn open(
        upstream: &Upstream,
        shown: &Credentials,
    ) -> Result<Self, ConnectError> {
        let stream = dial(&upstream.address).await?;
        let (host, _) = split_address(&upstream.address)?;
        let authority = &upstream.address;
        let (scheme, sender) = match &upstream.root_file {
            None => ("http", handshake(stream, authority).await?),
            Some(roots) => {
                let name = upstream.server_name.as_deref().unwrap_or(host);
                let more = shown
                    .held
                    .as_ref()
                    .filter(|_| upstream.is_known_by_authority);
                let config = client_config(
                    roots,
                    more.map_or(&[], |held| held.roots()),
                    shown.certificate.as_deref(),
                )?;
                let tls = encrypt(stream, name, config, authority);
                ("https", handshake(tls.await?, authority).await?)
            }
        };
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(authority.as_str())
            .path_and_query("/")
            .build()
            .map_err(|e| refused(authority, &e))?;
        Ok(Self {
            sender,
            origin,
            bearer: shown.bearer.clone(),
        })
    }

    /// Make a request to this connection's host, with its token.
    ///
    /// # Errors
    /// The connection broke, or the peer reset the stream before it answered.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(bearer) = &self.bearer {
            let headers = request.headers_mut();
            headers.insert(http::header::AUTHORIZATION, bearer.clone());
        }
        self.sender.send_request(request).await
    }
}

impl tower_service::Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}

fn refused(address: &str, fault: &dyn ToString) -> ConnectError {
    ConnectError::Refused {
        address: address.to_owned(),
        fault: fault.to_string(),
    }
}

/// Host without brackets, and port.
pub(crate) fn split_address(address: &str) -> Result<(&str, u16), ConnectError> {
    let fault = || ConnectError::Resolve {
        address: address.to_owned(),
        fault: "it must be HOST:PORT, such as istiod.istio-system.svc:15012".to_owned(),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(fault)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host, port.parse().map_err(|_| fault())?))
}

/// Names are resolved at each connection, so that replicas that come and go are found.
async fn dial(address: &str) -> Result<TcpStream, ConnectError> {
    let target = split_address(address)?;
    let found = tokio::net::lookup_host(target).await;
    let mut addresses: Vec<SocketAddr> = found
        .map_err(|e| ConnectError::Resolve {
            address: address.to_owned(),
            fault: e.to_string(),
        })?
        .collect();
    fastrand::shuffle(&mut addresses);
    let mut fault = "no address".to_owned();
    for each in addresses {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(each)).await {
            Ok(Ok(stream)) => {
                // A failure leaves a connection that works, with delays.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => fault = error.to_string(),
            Err(_) => fault = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        }
    }
    Err(refused(address, &fault))
}

async fn encrypt(
    stream: TcpStream,
    name: &str,
    config: ClientConfig,
    address: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let tls = |fault: String| ConnectError::Tls {
        address: address.to_owned(),
        fault,
    };
    let name = ServerName::try_from(name.to_owned()).map_err(|e| tls(e.to_string()))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(done) => done.map_err(|e| tls(e.to_string())),
        Err(_) => Err(tls("no TLS handshake in time".to_owned())),
    }
}

/// TLS 1.2 and 1.3 with the roots of a file and more, and the workload's certificate if it is to be shown.
fn client_config(
    root_file: &Path,
    more_roots: &[String],
    own: Option<&Workload>,
) -> Result<ClientConfig, ConnectError> {
    let fault = |fault: String| ConnectError::File {
        file: root_file.to_owned(),
        fault,
    };
    let mut roots = RootCertStore::empty();
    for pem in more_roots {
        let read = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
        roots.add_parsable_certificates(read);
    }
    let found = CertificateDer::pem_file_iter(root_file).map_err(|e| fault(e.to_string()))?;
    roots.add_parsable_certificates(found.flatten());
    if roots.is_empty() {
        return Err(fault("holds no certificate".to_owned()));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ConnectError::Identity(e.to_string()))?
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let unusable = |e: &dyn ToString| ConnectError::Identity(e.to_string());
            let chain = CertificateDer::pem_slice_iter(own.chain_pem().as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| unusable(&e))?;
            let key = PrivateKeyDer::from_pem_slice(own.key_pem().as_bytes())
                .map_err(|e| unusable(&e))?;
            let made = builder.with_client_auth_cert(chain, key);
            made.map_err(|e| unusable(&e))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn handshake<S>(stream: S, address: &str) -> Result<SendRequest<Body>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| refused(address, &e))?;
    let address = address.to_owned();
    tokio::spawn(async move {
        // Whoever waits for an answer is told too.
        if let Err(error) = connection.await {
            tracing::debug!("connection to {address}: {error}");
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::split_address;

    #[test]
    fn addresses_are_split_with_and_without_brackets() {
        assert_eq!(split_address("a.b:15012").unwrap(), ("a.b", 15012));
        assert_eq!(split_address("[::1]:15012").unwrap(), ("::1", 15012));
        assert!(split_address("a.b").is_err());
        assert!(split_address("a.b:x").is_err());
    }
}
