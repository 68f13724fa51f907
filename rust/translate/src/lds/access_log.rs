//! Access logs from the mesh's settings.
//!
//! Sources: istio `pilot/pkg/networking/core/accesslog.go`, `pilot/pkg/model/telemetry_logging.go`.

use navarch_envoy::any::pack;
use navarch_envoy::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ResponseFlagFilter, access_log::ConfigType,
    access_log_filter::FilterSpecifier,
};
use navarch_envoy::envoy::config::core::v3::{
    ApiVersion, DataSource, GrpcService, JsonFormatOptions, SubstitutionFormatString,
    TypedExtensionConfig, data_source,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
    substitution_format_string,
};
use navarch_envoy::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use navarch_envoy::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use std::collections::BTreeMap;

use navarch_model::{JsonValue, MeshConfig, parse_json_object};
use prost_types::{Any, ListValue, Struct, Value, value::Kind};

/// Istio's line of text.
const TEXT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% ",
    "%CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ",
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" ",
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

/// Istio's object, by key.
const JSON_FORMAT: &[(&str, &str)] = &[
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// An operator that an extension of Envoy brings.
const REQ_WITHOUT_QUERY: &str = "%REQ_WITHOUT_QUERY";
/// The bootstrap's cluster of an access log service.
const SERVICE_CLUSTER: &str = "envoy_accesslog_service";
/// What Istio's metadata exchange leaves for the service to log.
const PEER_STATE: &[&str] = &[
    "upstream_peer",
    "downstream_peer",
    "wasm.upstream_peer",
    "wasm.upstream_peer_id",
    "wasm.downstream_peer",
    "wasm.downstream_peer_id",
];

/// How a file's entries look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Format {
    /// One line each, closed by a newline.
    Text(String),
    /// One object each.
    Json(BTreeMap<String, JsonValue>),
}

/// What the mesh says of access logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AccessLogFacts {
    file: String,
    format: Format,
    has_service: bool,
    is_off_for_listeners: bool,
}

impl AccessLogFacts {
    /// The part of the mesh's settings.
    pub(super) fn new(mesh: &MeshConfig) -> Self {
        let format = &mesh.access_log_format;
        Self {
            file: mesh.access_log_file.clone(),
            format: if mesh.access_log_encoding == "JSON" {
                // What is no object gives Istio's, as an empty text does.
                Format::Json(parse_json_object(format).unwrap_or_else(default_json))
            } else {
                Format::Text(text(format))
            },
            has_service: mesh.enable_envoy_access_log_service,
            is_off_for_listeners: mesh.disable_envoy_listener_log,
        }
    }
}

/// The logs of a TCP proxy.
pub(super) fn build(facts: &AccessLogFacts) -> Vec<AccessLog> {
    let mut logs: Vec<_> = file(facts).into_iter().collect();
    if facts.has_service {
        logs.push(tcp_service("tcp_envoy_accesslog"));
    }
    logs
}

/// The logs of a connection manager.
pub(super) fn build_http(facts: &AccessLogFacts) -> Vec<AccessLog> {
    let mut logs: Vec<_> = file(facts).into_iter().collect();
    if facts.has_service {
        let config = HttpGrpcAccessLogConfig {
            common_config: Some(common("http_envoy_accesslog")),
            ..HttpGrpcAccessLogConfig::default()
        };
        logs.push(log("envoy.access_loggers.http_grpc", pack(&config)));
    }
    logs
}

/// The logs of a listener: only of connections that no chain took.
pub(super) fn build_listener(facts: &AccessLogFacts) -> Vec<AccessLog> {
    if facts.is_off_for_listeners {
        return Vec::new();
    }
    let mut logs: Vec<_> = file(facts).into_iter().collect();
    if facts.has_service {
        logs.push(tcp_service("listener_envoy_accesslog"));
    }
    for log in &mut logs {
        log.filter = Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
                flags: vec!["NR".to_owned()],
            })),
        });
    }
    logs
}

fn log(name: &str, config: Any) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..AccessLog::default()
    }
}

fn file(facts: &AccessLogFacts) -> Option<AccessLog> {
    if facts.file.is_empty() {
        return None;
    }
    let format = match &facts.format {
        Format::Json(fields) => SubstitutionFormatString {
            format: Some(substitution_format_string::Format::JsonFormat(object(
                fields,
            ))),
            json_format_options: Some(JsonFormatOptions::default()),
            formatters: formatters(&facts.format),
            ..SubstitutionFormatString::default()
        },
        Format::Text(line) => SubstitutionFormatString {
            format: Some(substitution_format_string::Format::TextFormatSource(
                DataSource {
                    specifier: Some(data_source::Specifier::InlineString(line.clone())),
                    ..DataSource::default()
                },
            )),
            formatters: formatters(&facts.format),
            ..SubstitutionFormatString::default()
        },
    };
    let config = FileAccessLog {
        path: facts.file.clone(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    Some(log("envoy.access_loggers.file", pack(&config)))
}

/// Extensions that the operators of a format need; all others are Envoy's own.
fn formatters(format: &Format) -> Vec<TypedExtensionConfig> {
    let is_needed = match format {
        Format::Text(line) => line.contains(REQ_WITHOUT_QUERY),
        Format::Json(fields) => fields.values().any(needs_formatter),
    };
    let formatter = TypedExtensionConfig {
        name: "envoy.formatter.req_without_query".to_owned(),
        typed_config: Some(Any {
            type_url: "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"
                .to_owned(),
            value: Vec::new(),
        }),
    };
    is_needed.then_some(formatter).into_iter().collect()
}

fn needs_formatter(json: &JsonValue) -> bool {
    match json {
        JsonValue::Text(text) => text.contains(REQ_WITHOUT_QUERY),
        JsonValue::List(items) => items.iter().any(needs_formatter),
        JsonValue::Object(fields) => fields.values().any(needs_formatter),
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) => false,
    }
}

/// The operator's line, closed by a newline, or Istio's.
fn text(format: &str) -> String {
    match format {
        "" => TEXT_FORMAT.to_owned(),
        closed if closed.ends_with('\n') => closed.to_owned(),
        open => format!("{open}\n"),
    }
}

fn default_json() -> BTreeMap<String, JsonValue> {
    let fields = JSON_FORMAT.iter();
    fields
        .map(|(key, format)| ((*key).to_owned(), JsonValue::Text((*format).to_owned())))
        .collect()
}

fn object(fields: &BTreeMap<String, JsonValue>) -> Struct {
    let fields = fields.iter();
    Struct {
        fields: fields.map(|(key, v)| (key.clone(), value(v))).collect(),
    }
}

fn value(json: &JsonValue) -> Value {
    let kind = match json {
        JsonValue::Null => Kind::NullValue(0),
        JsonValue::Bool(value) => Kind::BoolValue(*value),
        JsonValue::Number(number) => Kind::NumberValue(number.0),
        JsonValue::Text(text) => Kind::StringValue(text.clone()),
        JsonValue::List(items) => Kind::ListValue(ListValue {
            values: items.iter().map(value).collect(),
        }),
        JsonValue::Object(fields) => Kind::StructValue(object(fields)),
    };
    Value { kind: Some(kind) }
}

fn tcp_service(log_name: &str) -> AccessLog {
    let config = TcpGrpcAccessLogConfig {
        common_config: Some(common(log_name)),
    };
    log("envoy.tcp_grpc_access_log", pack(&config))
}

fn common(log_name: &str) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: log_name.to_owned(),
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: SERVICE_CLUSTER.to_owned(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }),
        transport_api_version: ApiVersion::V3 as i32,
        filter_state_objects_to_log: PEER_STATE.iter().map(ToString::to_string).collect(),
        ..CommonGrpcAccessLogConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::MeshConfig;

    use super::{AccessLogFacts, Format, build, build_listener, formatters, text};

    #[test]
    fn logs_are_off_until_a_file_is_named() {
        let mut mesh = MeshConfig::default();
        assert!(build(&AccessLogFacts::new(&mesh)).is_empty());
        mesh.access_log_file = "/dev/stdout".into();
        assert_eq!(build(&AccessLogFacts::new(&mesh)).len(), 1);
        assert!(
            build_listener(&AccessLogFacts::new(&mesh))[0]
                .filter
                .is_some()
        );
        mesh.disable_envoy_listener_log = true;
        assert!(build_listener(&AccessLogFacts::new(&mesh)).is_empty());
    }

    #[test]
    fn a_json_format_of_the_operators_own_replaces_istios() {
        let mut mesh = MeshConfig {
            access_log_file: "/dev/stdout".into(),
            access_log_encoding: "JSON".into(),
            ..MeshConfig::default()
        };
        let n_fields = |mesh: &MeshConfig| match AccessLogFacts::new(mesh).format {
            Format::Json(fields) => fields.len(),
            Format::Text(_) => 0,
        };
        assert_eq!(n_fields(&mesh), 24);
        mesh.access_log_format = r#"{"path": "%REQ_WITHOUT_QUERY(:PATH)%"}"#.into();
        assert_eq!(n_fields(&mesh), 1);
        assert_eq!(formatters(&AccessLogFacts::new(&mesh).format).len(), 1);
    }

    #[test]
    fn a_line_ends_in_a_newline() {
        assert_eq!(text("a"), "a\n");
        assert_eq!(text("a\n"), "a\n");
        assert!(text("").starts_with("[%START_TIME%]"));
    }
}
