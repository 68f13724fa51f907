//! The authenticated port at the border: its options, and the questions that Python answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use navarch_serve::secure::{
    Answer, Gate, GateOptions, Issuer, Issuers, Question, Revocation, TokenFacts,
};
use navarch_snapshot::MeshSnapshot;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Failure;

/// What Python tells of the port.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    server_names: Vec<String>,
    trust_domains: Vec<String>,
    token_audiences: Vec<String>,
    has_reviewer: bool,
    join_directory: Option<PathBuf>,
    requests_per_second: u32,
    issuers: Vec<IssuerForm>,
    revocations: Vec<(String, Option<String>)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerForm {
    issuer: String,
    audiences: Vec<String>,
    jwks: Value,
}

/// Where to listen, the server's names and who is let in, from JSON.
pub(crate) fn read_options(
    address: &str,
    options_json: &[u8],
    mesh: &MeshSnapshot,
) -> Result<(SocketAddr, Vec<String>, Arc<Gate>), Failure> {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| Failure::Address(address.to_owned()))?;
    let options: Options = serde_json::from_slice(options_json).map_err(Failure::Options)?;
    let issuers: Vec<Issuer> = options
        .issuers
        .into_iter()
        .map(|each| Issuer {
            issuer: each.issuer,
            audiences: each.audiences,
            jwks_json: each.jwks.to_string(),
        })
        .collect();
    let gate = Gate::new(
        GateOptions {
            trust_domains: trust_domains(options.trust_domains, mesh),
            token_audiences: options.token_audiences,
            has_reviewer: options.has_reviewer,
            join_directory: options.join_directory,
            requests_per_second: options.requests_per_second,
        },
        Issuers::new(&issuers)?,
    );
    gate.revoke(read_revocations(options.revocations));
    Ok((address, options.server_names, gate))
}

/// What was told, or else what the mesh configuration says.
fn trust_domains(told: Vec<String>, mesh: &MeshSnapshot) -> Vec<String> {
    if !told.is_empty() {
        return told;
    }
    let own = [mesh.mesh_config.trust_domain.clone()].into_iter();
    own.chain(mesh.mesh_config.trust_domain_aliases.iter().cloned())
        .collect()
}

/// A question as JSON.
pub(crate) fn question_json(question: Question) -> String {
    match question {
        Question::Token { token, audiences } => {
            json!({"kind": "token", "token": token, "audiences": audiences})
        }
        Question::ReadSecrets {
            namespace,
            service_account,
        } => {
            json!({"kind": "read-secrets", "namespace": namespace, "service_account": service_account})
        }
    }
    .to_string()
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum AnswerForm {
    Token {
        namespace: String,
        service_account: String,
    },
    Allowed {},
    Denied {
        why: String,
    },
    Failed {
        why: String,
    },
}

/// An answer from JSON.
pub(crate) fn read_answer(answer_json: &[u8]) -> Result<Answer, Failure> {
    let form = serde_json::from_slice(answer_json).map_err(Failure::Options)?;
    Ok(match form {
        AnswerForm::Token {
            namespace,
            service_account,
        } => Answer::Token(TokenFacts {
            namespace,
            service_account,
        }),
        AnswerForm::Allowed {} => Answer::Allowed,
        AnswerForm::Denied { why } => Answer::Denied(why),
        AnswerForm::Failed { why } => Answer::Failed(why),
    })
}

/// Revocations from rows of `(namespace, service account or None)`.
pub(crate) fn read_revocations(rows: Vec<(String, Option<String>)>) -> Vec<Revocation> {
    rows.into_iter()
        .map(|(namespace, service_account)| Revocation {
            namespace,
            service_account,
        })
        .collect()
}
