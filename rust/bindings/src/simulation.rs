//! A simulation as one call: JSON in, JSON out.

use navarch_model::{InterceptionMode, Proxy, ProxyKind};
use navarch_serve::MeshEpochs;
use navarch_simulate::{Request, simulate, simulate_received};
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
        outcome = simulate_received(outcome, &request, &epochs.translate(receiver).0);
    }
    let mut answer = json!(outcome);
    answer["is_delivered"] = outcome.is_delivered().into();
    answer["text"] = outcome.to_string().into();
    Ok(answer.to_string())
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
