//! Answers of the API server, taken apart outside the GIL.

use navarch_model::{Kind, WireEvent, read_page, read_watch};
use pyo3::types::PyBytes;
use pyo3::{Bound, PyErr, Python, pyfunction};

use crate::boundary::cross;
use crate::error::Failure;

/// `(type, namespace, name, resource_version, revision, generation, payload)`.
type EventRow<'py> = (
    &'static str,
    String,
    String,
    String,
    String,
    i64,
    Bound<'py, PyBytes>,
);

/// Read whole lines of a watch of a kind, which need not be one that the core reads.
#[pyfunction]
pub(crate) fn read_watch_lines<'py>(
    py: Python<'py>,
    kind: &str,
    lines: &[u8],
) -> Result<Vec<EventRow<'py>>, PyErr> {
    let kind = Kind::from_name(kind);
    let events = cross(py, || read_watch(kind, lines).map_err(Failure::Wire))?;
    Ok(events.into_iter().map(|event| row(py, event)).collect())
}

/// Read a page of a list; return the list's version, the token of the next page, and the objects.
#[pyfunction]
pub(crate) fn read_list_page<'py>(
    py: Python<'py>,
    kind: &str,
    body: &[u8],
) -> Result<(String, String, Vec<EventRow<'py>>), PyErr> {
    let kind = Kind::from_name(kind);
    let page = cross(py, || read_page(kind, body).map_err(Failure::Wire))?;
    let rows = page.items.into_iter().map(|event| row(py, event)).collect();
    Ok((page.resource_version, page.continue_token, rows))
}

fn row(py: Python<'_>, event: WireEvent) -> EventRow<'_> {
    let event_type = match (&*event.event_type, event.is_initial_end) {
        ("BOOKMARK", true) => "LISTED",
        ("BOOKMARK", false) => "BOOKMARK",
        ("ADDED", _) => "ADDED",
        ("MODIFIED", _) => "MODIFIED",
        ("DELETED", _) => "DELETED",
        _ => "ERROR",
    };
    (
        event_type,
        event.namespace,
        event.name,
        event.resource_version,
        event.revision,
        event.generation,
        PyBytes::new(py, &event.payload),
    )
}
