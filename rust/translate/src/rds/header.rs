//! Header operations.

use std::collections::BTreeMap;

use navarch_envoy::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use navarch_envoy::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use navarch_model::{HeaderOperations, Headers};

/// Header operations in Envoy's form.
#[derive(Debug, Default)]
pub(super) struct HeaderMutations {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    /// The value for the Host header, which is rewritten in another way.
    pub(super) authority: Option<String>,
}

impl HeaderMutations {
    /// Add those of a destination; the route's own Host comes first.
    pub(super) fn add(&mut self, others: Self) {
        self.request_add.extend(others.request_add);
        self.request_remove.extend(others.request_remove);
        self.response_add.extend(others.response_add);
        self.response_remove.extend(others.response_remove);
        self.authority = self.authority.take().or(others.authority);
    }
}

/// Header operations of a route or destination (istio route.go `TranslateHeadersOperations`).
///
/// Envoy refuses to touch pseudo headers and Host here, so those are dropped.
pub(super) fn build_header_mutations(headers: Option<&Headers>) -> HeaderMutations {
    let Some(headers) = headers else {
        return HeaderMutations::default();
    };
    let nothing = HeaderOperations::default();
    let request = headers.request.as_ref().unwrap_or(&nothing);
    let response = headers.response.as_ref().unwrap_or(&nothing);
    HeaderMutations {
        request_add: additions(request),
        request_remove: removals(request),
        response_add: additions(response),
        response_remove: removals(response),
        authority: authority(&request.set).or_else(|| authority(&request.add)),
    }
}

fn additions(operations: &HeaderOperations) -> Vec<HeaderValueOption> {
    let with = |headers: &BTreeMap<String, String>, action: HeaderAppendAction| -> Vec<_> {
        headers
            .iter()
            .filter(|(key, _)| !is_internal(key))
            .map(|(key, value)| header_option(key, value, action))
            .collect()
    };
    let mut out = with(&operations.set, HeaderAppendAction::OverwriteIfExistsOrAdd);
    out.extend(with(
        &operations.add,
        HeaderAppendAction::AppendIfExistsOrAdd,
    ));
    out
}

fn header_option(key: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}

fn removals(operations: &HeaderOperations) -> Vec<String> {
    let keys = operations.remove.iter();
    keys.filter(|key| !is_internal(key)).cloned().collect()
}

fn authority(headers: &BTreeMap<String, String>) -> Option<String> {
    headers
        .iter()
        .rfind(|(key, value)| {
            !value.is_empty()
                && (key.eq_ignore_ascii_case(":authority") || key.eq_ignore_ascii_case("host"))
        })
        .map(|(_, value)| value.clone())
}

fn is_internal(key: &str) -> bool {
    key.starts_with(':') || key.eq_ignore_ascii_case("host")
}

#[cfg(test)]
mod tests {
    use navarch_model::{HeaderOperations, Headers};

    use super::build_header_mutations;

    #[test]
    fn host_becomes_the_authority_and_pseudo_headers_are_dropped() {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let request = HeaderOperations {
            set: map(&[("Host", "a.example"), (":path", "/x"), ("x-set", "1")]),
            add: map(&[("x-add", "2"), (":authority", "b.example")]),
            remove: vec![":method".to_owned(), "x-gone".to_owned()],
        };
        let out = build_header_mutations(Some(&Headers {
            request: Some(request),
            response: None,
        }));
        assert_eq!(out.authority.as_deref(), Some("a.example"));
        assert_eq!(out.request_remove, ["x-gone"]);
        let keys = out.request_add.iter().filter_map(|h| h.header.as_ref());
        assert_eq!(
            keys.map(|h| &*h.key).collect::<Vec<_>>(),
            ["x-set", "x-add"]
        );
    }
}
