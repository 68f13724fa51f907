//! Requests over HTTP/1.1 to what runs on this machine: Envoy's admin page, the application.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// The largest answer that is put together; larger ones are streamed.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Make a request; its URI is absolute: `http://127.0.0.1:15000/ready`.
///
/// # Errors
/// What failed, in words.
pub(crate) async fn send(
    request: Request<Full<Bytes>>,
    timeout: Duration,
) -> Result<Response<Incoming>, String> {
    let sent = tokio::time::timeout(timeout, send_now(request)).await;
    sent.unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs_f64())))
}

async fn send_now(mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or("the address has no host")?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|e| e.to_string())?;
    if !request.headers().contains_key(header::HOST)
        && let Some(authority) = uri.authority()
        && let Ok(value) = authority.as_str().parse()
    {
        request.headers_mut().insert(header::HOST, value);
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path
        .parse()
        .map_err(|_| "the path can't be sent".to_owned())?;
    if is_tls {
        let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
        let connector = TlsConnector::from(Arc::new(unverified()?));
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())?;
        return exchange(stream, request).await;
    }
    exchange(stream, request).await
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|e| e.to_string())?;
    // It ends with the answer's body; an error is told to whoever reads that.
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())
}

/// Make a request and read the whole answer: its status and text.
///
/// # Errors
/// What failed, in words.
pub(crate) async fn fetch(
    method: &str,
    uri: &str,
    timeout: Duration,
) -> Result<(http::StatusCode, String), String> {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .body(Full::default());
    let request = request.map_err(|e| e.to_string())?;
    let fetched = tokio::time::timeout(timeout, async {
        let response = send(request, timeout).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let body = body.collect().await.map_err(|e| e.to_string())?;
        Ok((
            status,
            String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        ))
    });
    fetched
        .await
        .unwrap_or_else(|_| Err("no whole answer in time".to_owned()))
}

/// TLS that takes any certificate: the kubelet, in whose place application probes are asked, verifies none either.
fn unverified() -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let made = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(made)
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
