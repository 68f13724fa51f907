//! The other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use navarch_identity::{CertificateFacts, SpiffeId};
use rustls::pki_types::CertificateDer;

use super::unproven::Place;
use crate::line::Line;

/// What a connection tells of its other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Of the certificate that TLS has verified; `None` without one, or if it names no workload.
    pub(super) certificate: Option<PeerCertificate>,
    /// By which its streams can be cut.
    pub(super) line: Line,
    place: Arc<Place>,
}

#[derive(Debug, Clone)]
pub(super) struct PeerCertificate {
    pub(super) identity: SpiffeId,
    pub(super) not_after: i64,
}

impl Peer {
    pub(super) fn new(
        (address, line): (SocketAddr, Line),
        chain: Option<&[CertificateDer<'_>]>,
        place: Place,
    ) -> Self {
        let leaf = chain.and_then(|chain| chain.first());
        let certificate = leaf.and_then(|leaf| {
            let facts = CertificateFacts::read(leaf).ok()?;
            Some(PeerCertificate {
                identity: facts.spiffe_id()?,
                not_after: facts.not_after,
            })
        });
        Self {
            address,
            certificate,
            line,
            place: Arc::new(place),
        }
    }

    /// The connection is a known caller's.
    pub(super) fn prove(&self) {
        self.place.leave();
    }
}
