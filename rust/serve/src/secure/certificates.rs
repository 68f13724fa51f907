//! `istio.v1.auth.IstioCertificateService`: the caller's certificate, for the caller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use navarch_authority::{Authority, AuthorityError};
use navarch_identity::certificate_service::{
    IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService,
};
use prost_types::value::Kind;
use tonic::{Request, Response, Status};

use super::figures::Figures;
use super::gate::{Gate, Purpose};
use super::peer::Peer;
use super::wall_clock;

/// Keys of a request's metadata by which Istio's clients ask for what navarch does not give.
const IMPERSONATED: &str = "ImpersonatedIdentity";
const CERTIFICATE_SIGNER: &str = "CertSigner";

/// Signs for whom the gate lets in.
pub(super) struct Certificates {
    pub(super) authority: Arc<Authority>,
    pub(super) gate: Arc<Gate>,
    pub(super) figures: Figures,
}

#[tonic::async_trait]
impl IstioCertificateService for Certificates {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let began = Instant::now();
        let answer = self.answer(request).await;
        let refusal = answer.as_ref().err();
        self.figures.count_request(began.elapsed(), refusal);
        if let Some(status) = refusal {
            self.figures.count_refused(status);
        }
        answer
    }
}

impl Certificates {
    async fn answer(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let Some(peer) = extensions.get::<Peer>() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let headers = metadata.into_headers();
        let caller = self
            .gate
            .admit(&headers, peer, Purpose::Certificate)
            .await?;
        check_metadata(&request)?;
        let seconds = request.validity_duration.try_into().map_err(|_| {
            Status::invalid_argument("validity_duration is below zero: give seconds, or 0")
        })?;
        let authority = Arc::clone(&self.authority);
        // A signature takes up to a millisecond (RSA), in which other connections are not to wait.
        let signed = tokio::task::spawn_blocking(move || {
            let lifetime = Duration::from_secs(seconds);
            authority.sign_workload(&request.csr, &caller.identity, lifetime, wall_clock())
        });
        let issued = signed
            .await
            .map_err(|_| Status::internal("signing failed"))?
            .map_err(|error| {
                self.figures.count_unsigned(&error);
                status_of(&error)
            })?;
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: issued.chain,
        }))
    }
}

/// Refuse what would be another identity or another signer; to pass it over would let the client believe in it.
fn check_metadata(request: &IstioCertificateRequest) -> Result<(), Status> {
    let fields = request.metadata.as_ref().map(|metadata| &metadata.fields);
    let is_asked = |key: &str| {
        let value = fields.and_then(|fields| fields.get(key));
        let kind = value.and_then(|value| value.kind.as_ref());
        kind.is_some_and(|kind| !matches!(kind, Kind::StringValue(text) if text.is_empty()))
    };
    if is_asked(IMPERSONATED) {
        return Err(Status::unauthenticated(
            "nobody is given another's identity (ImpersonatedIdentity)",
        ));
    }
    if is_asked(CERTIFICATE_SIGNER) {
        return Err(Status::invalid_argument(
            "there are no other signers (CertSigner)",
        ));
    }
    Ok(())
}

fn status_of(error: &AuthorityError) -> Status {
    match error {
        AuthorityError::Request(_) | AuthorityError::Lifetime { .. } => {
            Status::invalid_argument(error.to_string())
        }
        _ => Status::unavailable(error.to_string()),
    }
}
