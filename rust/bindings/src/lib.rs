//! The Python extension `navarch._core`: values in, values out, the GIL released in between.
//!
//! **In:** batches of `(kind, namespace, name, bytes or None)`, nodes, addresses.
//! **Out:** diagnostics, JSON documents, metrics text, exceptions by name.
//! **Never:** a decision about meshes, a callback into Python, a panic that crosses the border.

mod authority;
mod bootstrap;
mod boundary;
mod convert;
mod core;
mod error;
mod secure;
mod simulation;
mod status;
mod wire;

/// For Rust's allocations alone: its symbols have a prefix, and Python keeps its own allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The module's contents, as `_core.pyi` describes them.
#[pyo3::pymodule(name = "_core")]
mod extension {
    #[pymodule_export]
    use super::authority::{
        Authority, find_authority, make_authority, renew_authority, write_authority,
    };
    #[pymodule_export]
    use super::bootstrap::{build_bootstrap, build_node};
    #[pymodule_export]
    use super::core::{Core, mint_join_token};
    #[pymodule_export]
    use super::error::{
        AuthorityError, BindError, BootstrapError, CoreError, NodeError, RequestError,
        UnknownProxyError,
    };
    #[pymodule_export]
    use super::wire::{read_list_page, read_watch_lines};
}
