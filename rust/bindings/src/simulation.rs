//! A simulation as one call: JSON in, JSON out.

use navarch_model::{InterceptionMode, Proxy, ProxyKind};
use navarch_serve::MeshEpochs;
use navarch_simulate::{Request, Sender, simulate, simulate_received};
use serde_json::{Value, json};

use crate::error::Failure;

/// `{"landing", "steps", "received", "is_delivered", "text"}`.
pub(crate) fn run(
    epochs: &MeshEpochs,
    sender: &Proxy,
    request_json: &[u8],
    receiver: Option<&Proxy>,
) -> Result<String, Failure> {
    let request = read(request_json, sender).map_err(Failure::Request)?;
    let mut outcome = simulate(&epochs.translate(sender).0, &sender.namespace, &request);
    if let Some(receiver) = receiver {
        let own = sender_of(epochs, sender);
        outcome = simulate_received(outcome, (&request, &own), &epochs.translate(receiver).0);
    }
    let mut answer = json!(outcome);
    answer["is_delivered"] = outcome.is_delivered().into();
    answer["text"] = outcome.to_string().into();
    Ok(answer.to_string())
}

/// Who a proxy is to those that it sends to; one without an agent has no name.
fn sender_of(epochs: &MeshEpochs, proxy: &Proxy) -> Sender {
    let trust_domain = &epochs.mesh().mesh_config.trust_domain;
    let (namespace, account) = (&proxy.namespace, &proxy.metadata.service_account);
    let account = if account.is_empty() {
        "default"
    } else {
        account
    };
    let first = proxy.ip_addresses.first();
    Sender {
        principal: format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}"),
        address: first.map(ToString::to_string).unwrap_or_default(),
    }
}

/// Whether connections are captured follows from the node, unless the request says.
fn read(request_json: &[u8], sender: &Proxy) -> Result<Request, serde_json::Error> {
    let mut request: Value = serde_json::from_slice(request_json)?;
    if let Some(fields) = request.as_object_mut() {
        let is_captured = sender.kind == ProxyKind::Sidecar
            && sender.interception_mode() != InterceptionMode::None;
        fields
            .entry("is_captured")
            .or_insert_with(|| is_captured.into());
    }
    serde_json::from_value(request)
}
