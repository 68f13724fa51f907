//! Who is let in: the ways to prove an identity, in order, and those who may not come in although they could.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use navarch_identity::SpiffeId;
use tokio::sync::watch;
use tonic::{Code, Status};

use super::caller::{Caller, Revocation};
use super::oidc::Issuers;
use super::peer::Peer;
use super::rate::RateLimit;
use super::reviews::{Answer, Question, ReviewDesk, TokenFacts};
use super::tokens::{MAX_TOKEN_BYTES, TokenReviews, peek};
use super::unproven::network_of;
use super::{join, wall_clock};

const BEARER: &str = "Bearer ";
/// How many refused proofs a second one network may have looked up at the platform or in the join tokens' records.
const REFUSALS_PER_SECOND: u32 = 20;

/// How callers prove themselves.
#[derive(Debug, Default)]
pub struct GateOptions {
    /// The mesh's trust domain first, then its aliases.
    pub trust_domains: Vec<String>,
    /// For whom service-account tokens must be; Istio's agents ask for `istio-ca`.
    pub token_audiences: Vec<String>,
    /// Whether somebody answers the desk's questions; without, service-account tokens are refused.
    pub has_reviewer: bool,
    /// Where the records of join tokens are.
    pub join_directory: Option<PathBuf>,
    /// The most requests for streams and certificates that one identity may make in a second; 0 for no limit.
    pub requests_per_second: u32,
}

/// What a caller wants, as far as it matters for how it may prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A certificate.
    Certificate,
    /// A stream of configuration.
    Discovery,
}

/// The one place where callers become identities.
#[derive(Debug)]
pub struct Gate {
    options: GateOptions,
    issuers: Issuers,
    tokens: TokenReviews,
    desk: Arc<ReviewDesk>,
    requests: RateLimit<SpiffeId>,
    refusals: RateLimit<IpAddr>,
    revocations: watch::Sender<Arc<[Revocation]>>,
}

impl Gate {
    /// A gate that nobody is turned away from by name.
    pub fn new(options: GateOptions, issuers: Issuers) -> Arc<Self> {
        let desk = Arc::new(ReviewDesk::default());
        Arc::new(Self {
            tokens: TokenReviews::new(Arc::clone(&desk), options.token_audiences.clone()),
            requests: RateLimit::new(options.requests_per_second),
            refusals: RateLimit::new(REFUSALS_PER_SECOND),
            revocations: watch::Sender::new(Arc::from([])),
            desk,
            issuers,
            options,
        })
    }

    /// Where the platform's questions lie.
    pub fn desk(&self) -> &Arc<ReviewDesk> {
        &self.desk
    }

    /// Turn these away from now on, and only these; open streams of theirs end.
    pub fn revoke(&self, revocations: Vec<Revocation>) {
        self.revocations.send_replace(revocations.into());
    }

    pub(super) fn watch_revocations(&self) -> watch::Receiver<Arc<[Revocation]>> {
        self.revocations.subscribe()
    }

    /// Whether a service account may read the Secrets of its namespace; `None` where there is no platform to ask.
    pub(super) async fn may_read_secrets(
        &self,
        identity: &SpiffeId,
    ) -> Result<Option<bool>, Status> {
        if !self.options.has_reviewer {
            return Ok(None);
        }
        let question = Question::ReadSecrets {
            namespace: identity.namespace().to_owned(),
            service_account: identity.service_account().to_owned(),
        };
        Ok(Some(self.desk.ask(question).await? == Answer::Allowed))
    }

    /// Let a caller in, or say why not.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        purpose: Purpose,
    ) -> Result<Caller, Status> {
        let proved = self.authenticate(headers, peer, purpose).await;
        let caller = proved.inspect_err(|status| {
            if status.code() == Code::Unauthenticated {
                self.refusals
                    .take(&network_of(peer.address.ip()), Instant::now());
            }
        })?;
        peer.prove();
        check_revoked(&self.revocations.borrow(), &caller.identity)?;
        // A fleet may stand behind one address: what counts is who calls, once that is known.
        if !self.requests.take(&caller.identity, Instant::now()) {
            return Err(Status::resource_exhausted(format!(
                "{} asks too often: try again later",
                caller.identity
            )));
        }
        Ok(caller)
    }

    /// That a proof which costs a look-up comes from where few were refused of late.
    fn check_refusals(&self, peer: &Peer) -> Result<(), Status> {
        let network = network_of(peer.address.ip());
        if self.refusals.has_left(&network, Instant::now()) {
            return Ok(());
        }
        Err(Status::resource_exhausted(
            "too many proofs from this address were refused: try again later",
        ))
    }

    async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        purpose: Purpose,
    ) -> Result<Caller, Status> {
        let now = wall_clock();
        if let Some(certificate) = &peer.certificate {
            let domain = certificate.identity.trust_domain();
            // A connection may outlive the certificate that it was opened with.
            if self.options.trust_domains.iter().any(|each| each == domain)
                && now < certificate.not_after
            {
                return Ok(Caller {
                    identity: certificate.identity.clone(),
                    expires_at: certificate.not_after,
                });
            }
        }
        let Some(token) = bearer(headers) else {
            return Err(Status::unauthenticated(
                "show a certificate of the mesh, or a token in the header `authorization: Bearer …`",
            ));
        };
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Status::unauthenticated("the token is too long to be one"));
        }
        let (facts, expires_at) = if token.starts_with(join::PREFIX) {
            self.check_refusals(peer)?;
            self.join(token, purpose, now).await?
        } else {
            self.verify(token, peer, now).await?
        };
        let identity = SpiffeId::new(
            self.options
                .trust_domains
                .first()
                .map_or("", String::as_str),
            &facts.namespace,
            &facts.service_account,
        );
        Ok(Caller {
            identity: identity.map_err(|e| Status::unauthenticated(e.to_string()))?,
            expires_at,
        })
    }

    async fn verify(
        &self,
        token: &str,
        peer: &Peer,
        now: i64,
    ) -> Result<(TokenFacts, i64), Status> {
        if let Some(claims) = peek(token)
            && self.issuers.has(&claims.iss)
        {
            let verified = self.issuers.verify(&claims.iss, token);
            return verified
                .map_err(|why| Status::unauthenticated(format!("the token is refused: {why}")));
        }
        if !self.options.has_reviewer {
            return Err(Status::unauthenticated(
                "the token is of no issuer that is configured, and there is no platform to ask",
            ));
        }
        if let Some(known) = self.tokens.find_remembered(token, now) {
            return Ok(known);
        }
        self.check_refusals(peer)?;
        self.tokens.review(token, now).await
    }

    /// A join token is good for a certificate alone: with that the caller proves itself from then on.
    async fn join(
        &self,
        token: &str,
        purpose: Purpose,
        now: i64,
    ) -> Result<(TokenFacts, i64), Status> {
        let (Purpose::Certificate, Some(directory)) = (purpose, &self.options.join_directory)
        else {
            return Err(Status::unauthenticated(
                "join tokens are good for a first certificate alone, where they are switched on",
            ));
        };
        let (directory, token) = (directory.clone(), token.to_owned());
        let redeemed =
            tokio::task::spawn_blocking(move || join::redeem(&directory, &token, now)).await;
        let record = redeemed
            .map_err(|_| Status::internal("redeeming the token failed"))?
            .map_err(Status::unauthenticated)?;
        let facts = TokenFacts {
            namespace: record.namespace,
            service_account: record.service_account,
        };
        Ok((facts, record.expires_at))
    }
}

/// Whether an identity has been turned away by name.
pub(super) fn check_revoked(revoked: &[Revocation], identity: &SpiffeId) -> Result<(), Status> {
    if revoked.iter().any(|each| each.covers(identity)) {
        return Err(Status::permission_denied(format!(
            "the rights of {identity} are revoked"
        )));
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let scheme = value.get(..BEARER.len())?;
    scheme
        .eq_ignore_ascii_case(BEARER)
        .then(|| value[BEARER.len()..].trim())
}
