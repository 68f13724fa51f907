//! Which of Envoy's statistics are kept, and under which tags.
//!
//! Source: istio `tools/packaging/common/envoy_bootstrap.json`, `pkg/bootstrap/config.go`.

use serde_json::{Value, json};

use crate::plan::AgentPlan;

/// Statistics by name that operators' dashboards and the agent itself read.
const PREFIXES: [&str; 8] = [
    "reporter=",
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "component",
    "istio",
    "wasm",
];
const SUFFIXES: [&str; 5] = [
    "rbac.allowed",
    "rbac.denied",
    "shadow_allowed",
    "shadow_denied",
    "downstream_cx_active",
];
/// Tags by regular expressions over a statistic's name.
const TAGS: [(&str, &str); 14] = [
    (
        "cluster_name",
        r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)",
    ),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "http_conn_manager_prefix",
        r"^http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "listener_address",
        r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    (
        "mongo_prefix",
        r"^mongo\.(.+?)\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$",
    ),
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
    ("tag", r"(tag\.(.+?);\.)"),
    ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
];

pub(crate) fn build_stats_config(agent: &AgentPlan) -> Value {
    let tag = |name: &str, regex: &str| json!({ "tag_name": name, "regex": regex });
    let mut tags: Vec<Value> = TAGS.iter().map(|(name, regex)| tag(name, regex)).collect();
    tags.push(tag("authz_dry_run_result", r"(\.shadow_(allowed|denied))"));
    let extra = agent.extra_stat_tags.iter();
    tags.extend(extra.map(|name| tag(name, &format!(r"({name}=\.=(.*?);\.;)"))));
    json!({
        "use_all_default_tags": false,
        "stats_tags": tags,
        "stats_matcher": { "inclusion_list": { "patterns": patterns(agent) } },
    })
}

fn patterns(agent: &AgentPlan) -> Vec<Value> {
    let told = |texts: &'_ [String]| texts.to_vec();
    let fixed = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let prefixes = [fixed(&PREFIXES), told(&agent.stats_prefixes)].concat();
    let suffixes = [fixed(&SUFFIXES), told(&agent.stats_suffixes)].concat();
    let mut made: Vec<Value> = prefixes
        .iter()
        .map(|text| json!({ "prefix": text }))
        .collect();
    made.extend(suffixes.iter().map(|text| json!({ "suffix": text })));
    let regexes = agent.stats_regexes.iter();
    made.extend(regexes.map(|text| json!({ "safe_regex": { "regex": text } })));
    made
}
