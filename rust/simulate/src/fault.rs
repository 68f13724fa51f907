//! Faults that the fault filter injects.

use std::collections::BTreeMap;

use navarch_envoy::envoy::config::route::v3::FilterConfig;
use navarch_envoy::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use navarch_envoy::envoy::extensions::filters::http::fault::v3::HttpFault;
use navarch_envoy::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use navarch_envoy::{Any, any};

use crate::chance;
use crate::header_match;
use crate::http::Stream;
use crate::outcome::{End, Landing, Stage, Step};
use crate::rewrite::seconds;
use crate::walk::{Walk, is_type};

/// Per-filter configuration, the most specific first.
pub(crate) type Overrides<'a> = [Option<&'a BTreeMap<String, Any>>];

/// Inject what the fault filter is configured to; the delay in seconds if there is one.
pub(crate) fn inject(
    walk: &mut Walk<'_>,
    stream: &Stream,
    overrides: &Overrides<'_>,
) -> Result<Option<f64>, End> {
    let Some((name, own)) = stream
        .filters
        .iter()
        .find(|(_, config)| is_type::<HttpFault>(config))
    else {
        return Ok(None);
    };
    let told = overrides
        .iter()
        .flatten()
        .find_map(|configs| configs.get(name))
        .unwrap_or(own);
    let Some(fault) = unwrap_fault(told) else {
        return Ok(None);
    };
    if fault
        .headers
        .iter()
        .any(|matcher| header_match::refusal(matcher, &stream.headers).is_some())
    {
        return Ok(None);
    }
    let percent = walk.request.percent;
    let delay = delay(&fault).filter(|(_, percentage)| chance::is_hit(*percentage, percent));
    if let Some((seconds, percentage)) = delay {
        let why = format!("{} % of requests", chance::round(percentage));
        walk.steps.push(Step::new(
            Stage::Fault,
            format!("delay of {seconds} s"),
            why,
        ));
    }
    if let Some((status, percentage)) = abort(&fault) {
        let why = format!("{} % of requests", chance::round(percentage));
        if chance::is_hit(percentage, percent) {
            walk.steps.push(Step::new(
                Stage::Fault,
                format!("abort with {status}"),
                why.clone(),
            ));
            return Err(Box::new(Landing::Response {
                status,
                location: None,
                body: Some("fault filter abort".to_owned()),
                is_configured: true,
                why: format!("an injected fault aborts {why}"),
            }));
        }
        walk.steps.push(Step::new(
            Stage::Fault,
            "no abort",
            format!("it aborts {why}, and not this one"),
        ));
    }
    Ok(delay.map(|(seconds, _)| seconds))
}

/// The settings, also within the wrapper that switches filters per route.
fn unwrap_fault(config: &Any) -> Option<HttpFault> {
    if let Some(wrapped) = any::unpack::<FilterConfig>(config) {
        let inner = wrapped.config.filter(|_| !wrapped.disabled)?;
        return any::unpack(&inner);
    }
    any::unpack(config)
}

fn delay(fault: &HttpFault) -> Option<(f64, f64)> {
    let delay = fault.delay.as_ref()?;
    match delay.fault_delay_secifier.as_ref()? {
        FaultDelaySecifier::FixedDelay(duration) => Some((
            seconds(duration),
            delay.percentage.map_or(0.0, chance::percentage),
        )),
        FaultDelaySecifier::HeaderDelay(_) => None,
    }
}

fn abort(fault: &HttpFault) -> Option<(u32, f64)> {
    let abort = fault.abort.as_ref()?;
    let percentage = abort.percentage.map_or(0.0, chance::percentage);
    match abort.error_type.as_ref()? {
        ErrorType::HttpStatus(status) => Some((*status, percentage)),
        // The gRPC status goes in a trailer of a response with HTTP's 200.
        ErrorType::GrpcStatus(_) => Some((200, percentage)),
        ErrorType::HeaderAbort(_) => None,
    }
}
