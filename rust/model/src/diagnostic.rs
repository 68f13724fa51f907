//! Things to tell an operator about one object.

use crate::ConfigKey;

/// How much harm a diagnostic tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The object, or the part named, is not in force.
    Error,
    /// In force, but not as it was probably meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// `error`, `warning` or `info`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing to tell an operator about one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The object.
    pub key: ConfigKey,
    /// Stable, kebab-case; listed in docs/diagnostics.md.
    pub code: &'static str,
    /// How much harm.
    pub severity: Severity,
    /// Dotted with indexes, such as `spec.http[0].route[1].weight`; "" for the whole object.
    pub field_path: String,
    /// What is wrong and the remedy.
    pub message: String,
}
