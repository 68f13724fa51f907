//! Envoy's bootstrap as two calls: JSON in, JSON out.

use navarch_bootstrap as bootstrap;
use pyo3::{PyErr, pyfunction};
use serde_json::json;

use crate::error::Failure;

/// A bootstrap as protobuf JSON, from a plan.
#[pyfunction]
pub(crate) fn build_bootstrap(plan_json: &[u8]) -> Result<String, PyErr> {
    let plan: bootstrap::Plan = serde_json::from_slice(plan_json).map_err(Failure::Plan)?;
    let made = bootstrap::build(&plan).map_err(Failure::Bootstrap)?;
    Ok(serde_json::to_string(&made).map_err(Failure::Plan)?)
}

/// The node of a bootstrap alone.
#[pyfunction]
pub(crate) fn build_node(node_json: &[u8]) -> Result<String, PyErr> {
    let node: bootstrap::Node = serde_json::from_slice(node_json).map_err(Failure::Plan)?;
    let made = bootstrap::build_node(&node).map_err(Failure::Bootstrap)?;
    Ok(json!(made).to_string())
}
