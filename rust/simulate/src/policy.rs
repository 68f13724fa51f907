//! Filters that refuse: who may, and which rule says so.

use std::net::IpAddr;

use navarch_envoy::envoy::config::core::v3::grpc_service::TargetSpecifier;
use navarch_envoy::envoy::config::core::v3::http_uri::HttpUpstreamType;
use navarch_envoy::envoy::config::core::v3::{GrpcService, HttpUri};
use navarch_envoy::envoy::config::rbac::v3::Rbac;
use navarch_envoy::envoy::config::rbac::v3::rbac::Action;
use navarch_envoy::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use navarch_envoy::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use navarch_envoy::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use navarch_envoy::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use navarch_envoy::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as TcpExtAuthz;
use navarch_envoy::envoy::extensions::filters::network::rbac::v3::Rbac as TcpRbac;
use navarch_envoy::envoy::r#type::matcher::v3::MetadataMatcher;
use navarch_envoy::{Any, any};
use serde_json::{Map, Value, json};

use crate::http::Stream;
use crate::jwt;
use crate::metadata_match;
use crate::outcome::{End, Stage, Step, closed, refused};
use crate::rbac::{self, Facts, Ruling, told_name};
use crate::walk::Walk;

/// Where the RBAC filters leave what they would do.
const HTTP_METADATA: &str = "envoy.filters.http.rbac";
const TCP_METADATA: &str = "envoy.filters.network.rbac";
/// What the rules of CUSTOM policies find goes by, so that the question is asked of what fits.
const CUSTOM_PREFIX: &str = "istio_ext_authz_";

/// Run a request through the filters that refuse, in their order.
pub(crate) fn run_http(
    walk: &mut Walk<'_>,
    stream: &mut Stream,
    remote: Option<IpAddr>,
) -> Result<(), End> {
    let filters = stream.filters.clone();
    for (name, config) in &filters {
        if let Some(tokens) = any::unpack::<JwtAuthentication>(config) {
            let step = jwt::verify(&tokens, walk.request, stream)?;
            walk.steps.push(step);
        } else if let Some(rbac) = any::unpack::<HttpRbac>(config) {
            let peer = walk.peer.clone();
            let facts = Facts {
                peer: &peer,
                remote,
                headers: Some(&stream.headers),
                metadata: &stream.metadata,
            };
            let sets = Sets {
                rules: rbac.rules.as_ref(),
                shadow_rules: rbac.shadow_rules.as_ref(),
                prefix: &rbac.shadow_rules_stat_prefix,
            };
            let found = sets.judge(walk, &facts);
            leave(&mut stream.metadata, HTTP_METADATA, found.shadow);
            if let Some(why) = found.refusal {
                return Err(refused(403, why));
            }
        } else if let Some(asking) = any::unpack::<ExtAuthz>(config) {
            ask_http(walk, &asking, &stream.metadata)?;
        } else {
            walk.note_unmodelled(name, config);
        }
    }
    Ok(())
}

/// Run a connection through one filter that may refuse it; whether it is one.
pub(crate) fn run_tcp(
    walk: &mut Walk<'_>,
    config: &Any,
    metadata: &mut Map<String, Value>,
) -> Result<bool, End> {
    if let Some(rbac) = any::unpack::<TcpRbac>(config) {
        let peer = walk.peer.clone();
        let facts = Facts {
            peer: &peer,
            remote: peer.source,
            headers: None,
            metadata,
        };
        let sets = Sets {
            rules: rbac.rules.as_ref(),
            shadow_rules: rbac.shadow_rules.as_ref(),
            prefix: &rbac.shadow_rules_stat_prefix,
        };
        let found = sets.judge(walk, &facts);
        leave(metadata, TCP_METADATA, found.shadow);
        return found.refusal.map_or(Ok(true), |why| Err(closed(why)));
    }
    if let Some(asking) = any::unpack::<TcpExtAuthz>(config) {
        let question = Question {
            whom: asking
                .grpc_service
                .as_ref()
                .map(of_grpc)
                .unwrap_or_default(),
            is_asked: is_asked(asking.filter_enabled_metadata.as_ref(), metadata),
            is_open: asking.failure_mode_allow,
        };
        let unanswered = question.ask(walk);
        return unanswered.map_or(Ok(true), |why| Err(closed(why)));
    }
    Ok(false)
}

/// What an RBAC filter enforces, and what it only tells of.
struct Sets<'a> {
    rules: Option<&'a Rbac>,
    shadow_rules: Option<&'a Rbac>,
    prefix: &'a str,
}

#[derive(Default)]
struct Found {
    refusal: Option<String>,
    shadow: Map<String, Value>,
}

impl Sets<'_> {
    fn judge(&self, walk: &mut Walk<'_>, facts: &Facts<'_>) -> Found {
        let mut found = Found::default();
        if let Some(rules) = self.shadow_rules {
            let ruling = rbac::judge(rules, facts);
            found.shadow = self.shadow_metadata(&ruling);
            walk.steps.push(self.shadow_step(rules.action(), ruling));
        }
        if let Some(rules) = self.rules {
            let ruling = rbac::judge(rules, facts);
            found.refusal = (!ruling.is_allowed).then(|| refusal(rules.action(), &ruling));
            walk.steps.push(enforced_step(rules.action(), ruling));
        }
        found
    }

    fn shadow_metadata(&self, ruling: &Ruling) -> Map<String, Value> {
        let mut made = Map::new();
        if let Some((name, _)) = &ruling.fitting {
            let key = format!("{}shadow_effective_policy_id", self.prefix);
            made.insert(key, json!(name));
        }
        let result = if ruling.is_allowed {
            "allowed"
        } else {
            "denied"
        };
        made.insert(
            format!("{}shadow_engine_result", self.prefix),
            json!(result),
        );
        made
    }

    fn shadow_step(&self, action: Action, ruling: Ruling) -> Step {
        let kind = if self.prefix == CUSTOM_PREFIX {
            "CUSTOM".to_owned()
        } else {
            format!("dry run of {}", action_name(action))
        };
        let is_custom = self.prefix == CUSTOM_PREFIX;
        let verdict = match (is_custom, ruling.is_allowed, &ruling.fitting) {
            (true, _, Some(_)) => "is to be asked about",
            (true, _, None) => "is not asked about",
            (false, true, _) => "would be allowed",
            (false, false, _) => "would be denied",
        };
        told(format!("{kind}: {verdict}"), action, ruling)
    }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Allow => "ALLOW",
        Action::Deny => "DENY",
        Action::Log => "AUDIT",
    }
}

fn enforced_step(action: Action, ruling: Ruling) -> Step {
    let verdict = match (action, ruling.is_allowed, &ruling.fitting) {
        (Action::Log, _, Some(_)) => "marked",
        (Action::Log, _, None) => "not marked",
        (_, true, _) => "allowed",
        (_, false, _) => "denied",
    };
    told(
        format!("{}: {verdict}", action_name(action)),
        action,
        ruling,
    )
}

fn told(chosen: String, action: Action, ruling: Ruling) -> Step {
    let why = match &ruling.fitting {
        Some((name, grounds)) => fits(name, grounds),
        None => format!("no rule of {} fits", action_name(action)),
    };
    Step::new(Stage::Policy, chosen, why).with_others(ruling.others)
}

fn fits(name: &str, grounds: &str) -> String {
    match grounds {
        "" => format!("{} fits everything", told_name(name)),
        grounds => format!("{} fits: {grounds}", told_name(name)),
    }
}

fn refusal(action: Action, ruling: &Ruling) -> String {
    if let Some((name, grounds)) = &ruling.fitting {
        return format!("denied, since {}", fits(name, grounds));
    }
    let tried = ruling
        .others
        .iter()
        .map(|o| format!("{} ({})", o.name, o.why));
    let tried: Vec<String> = tried.collect();
    format!(
        "denied, since no rule of {} fits: {}",
        action_name(action),
        tried.join("; ")
    )
}

fn leave(metadata: &mut Map<String, Value>, filter: &str, found: Map<String, Value>) {
    if found.is_empty() {
        return;
    }
    let of_filter = metadata.entry(filter).or_insert_with(|| json!({}));
    if let Some(of_filter) = of_filter.as_object_mut() {
        of_filter.extend(found);
    }
}

/// A question to an authorizer.
struct Question {
    /// The cluster; "" where it is not known.
    whom: String,
    is_asked: bool,
    /// Whether requests pass where it can't be asked.
    is_open: bool,
}

impl Question {
    /// Tell of the question; why the request ends here, if there is nobody to ask.
    fn ask(&self, walk: &mut Walk<'_>) -> Option<String> {
        if !self.is_asked {
            return None;
        }
        let is_known = walk.resources.cluster(&self.whom).is_some();
        let (why, note) = match (is_known, self.is_open) {
            (true, _) => (
                "a CUSTOM policy fits",
                "its answer is not simulated: taken to allow",
            ),
            (false, true) => (
                "the proxy has no such cluster",
                "who can't be asked lets pass (failOpen)",
            ),
            (false, false) => (
                "the proxy has no such cluster",
                "who can't be asked refuses",
            ),
        };
        let step = Step::new(Stage::Authorizer, format!("asks {}", self.whom), why);
        walk.steps.push(step.with_notes(vec![note.to_owned()]));
        let is_refused = !is_known && !self.is_open;
        is_refused.then(|| {
            format!(
                "the authorizer {} can't be asked: no such cluster",
                self.whom
            )
        })
    }
}

fn ask_http(
    walk: &mut Walk<'_>,
    asking: &ExtAuthz,
    metadata: &Map<String, Value>,
) -> Result<(), End> {
    let question = Question {
        whom: match &asking.services {
            Some(Services::GrpcService(service)) => of_grpc(service),
            Some(Services::HttpService(service)) => {
                service.server_uri.as_ref().map(of_uri).unwrap_or_default()
            }
            None => String::new(),
        },
        is_asked: is_asked(asking.filter_enabled_metadata.as_ref(), metadata),
        is_open: asking.failure_mode_allow,
    };
    let status = asking.status_on_error.as_ref().map(|status| status.code);
    let status = status.and_then(|code| u32::try_from(code).ok());
    match question.ask(walk) {
        Some(why) => Err(refused(status.unwrap_or(403), why)),
        None => Ok(()),
    }
}

fn is_asked(matcher: Option<&MetadataMatcher>, metadata: &Map<String, Value>) -> bool {
    matcher.is_none_or(|matcher| metadata_match::refusal(matcher, metadata).is_none())
}

fn of_grpc(service: &GrpcService) -> String {
    match &service.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy)) => envoy.cluster_name.clone(),
        Some(TargetSpecifier::GoogleGrpc(google)) => google.target_uri.clone(),
        None => String::new(),
    }
}

fn of_uri(uri: &HttpUri) -> String {
    match &uri.http_upstream_type {
        Some(HttpUpstreamType::Cluster(cluster)) => cluster.clone(),
        None => uri.uri.clone(),
    }
}
