//! Python's rows to the core's values and back.

use std::sync::Arc;

use navarch_model::{ConfigKey, Diagnostic, Kind};
use navarch_serve::ProxyRejection;
use navarch_snapshot::{Batch, Change};

/// `(kind, namespace, name, payload, cluster)`; a cluster of "" is the mesh's own.
pub(crate) type ChangeRow = (String, String, String, Option<Vec<u8>>, String);
/// `(kind, namespace, name, code, severity, field_path, message)`.
pub(crate) type DiagnosticRow = (String, String, String, String, String, String, String);

/// A batch from rows, and what is of remote clusters apart; kinds that the core does not read are left out.
pub(crate) fn batch_from_rows(rows: Vec<ChangeRow>) -> (Batch, Vec<(Arc<str>, Change)>) {
    let (mut own, mut remote) = (Vec::new(), Vec::new());
    for (kind, namespace, name, payload, cluster) in rows {
        let Some(kind) = Kind::from_name(&kind) else {
            continue;
        };
        let key = ConfigKey::new(kind, &namespace, &name);
        let change = Change { key, payload };
        if cluster.is_empty() {
            own.push(change);
        } else {
            remote.push((cluster.into(), change));
        }
    }
    (own, remote)
}

/// A row, without an object, from what a proxy rejected.
pub(crate) fn row_from_rejection(rejected: ProxyRejection) -> DiagnosticRow {
    let rejection = rejected.rejection;
    let message = format!(
        "proxy {} rejected version {} and keeps what it had: {}",
        rejected.proxy_id, rejection.version, rejection.message
    );
    (
        String::new(),
        String::new(),
        rejected.proxy_id.to_string(),
        "rejected-by-proxy".to_owned(),
        "error".to_owned(),
        rejection.type_url.short_name().to_owned(),
        message,
    )
}

/// Rows from diagnostics.
pub(crate) fn rows_from_diagnostics(diagnostics: Vec<Diagnostic>) -> Vec<DiagnosticRow> {
    diagnostics
        .into_iter()
        .map(|diagnostic| {
            (
                diagnostic.key.kind.as_str().to_owned(),
                diagnostic.key.namespace.to_string(),
                diagnostic.key.name.to_string(),
                diagnostic.code.to_owned(),
                diagnostic.severity.as_str().to_owned(),
                diagnostic.field_path,
                diagnostic.message,
            )
        })
        .collect()
}
