//! Diagnostics of one VirtualService.

use navarch_model::{ConfigKey, Diagnostic, Kind, Severity, VirtualService};

/// Collects what is to be told of one VirtualService.
pub(super) struct Report<'a> {
    virtual_service: &'a VirtualService,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        virtual_service: &'a VirtualService,
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self {
            virtual_service,
            diagnostics,
        }
    }

    /// Add a warning about the field at `field_path`.
    pub(super) fn warn(&mut self, code: &'static str, field_path: String, message: String) {
        let metadata = &self.virtual_service.metadata;
        let (key, field_path) = match self.virtual_service.sources.first() {
            None => {
                let kind = Kind::VirtualService;
                let key = ConfigKey::new(kind, &metadata.namespace, &metadata.name);
                (key, field_path)
            }
            // The path is one of the rule that was made, which nobody can see.
            Some(source) => (source.clone(), String::new()),
        };
        self.diagnostics.push(Diagnostic {
            key,
            code,
            severity: Severity::Warning,
            field_path,
            message,
        });
    }
}
