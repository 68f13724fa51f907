//! Faults injected per route.

use navarch_envoy::envoy::extensions::filters::common::fault::v3::FaultDelay;
use navarch_envoy::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use navarch_envoy::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;
use navarch_envoy::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault};
use navarch_model::HttpFaultInjection;

use super::scalar::{duration, fraction, whole_percent};

/// The settings of `envoy.filters.http.fault` for one route (istio route.go `TranslateFault`).
///
/// `None` when neither a fixed delay nor an HTTP or gRPC status is asked for; Envoy has no other faults.
pub(super) fn build_fault(fault: &HttpFaultInjection) -> Option<HttpFault> {
    let out = HttpFault {
        delay: fault.delay.as_ref().and_then(build_delay),
        abort: fault.abort.as_ref().and_then(build_abort),
        ..HttpFault::default()
    };
    (out.delay.is_some() || out.abort.is_some()).then_some(out)
}

fn build_delay(delay: &navarch_model::FaultDelay) -> Option<FaultDelay> {
    let deprecated = || whole_percent(u32::try_from(delay.percent).unwrap_or(0));
    Some(FaultDelay {
        percentage: Some(delay.percentage.map_or_else(deprecated, fraction)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(delay.fixed_delay?))),
    })
}

fn build_abort(abort: &navarch_model::FaultAbort) -> Option<FaultAbort> {
    let status = abort
        .http_status
        .and_then(|status| u32::try_from(status).ok());
    let error = match (status, abort.grpc_status.as_deref()) {
        (Some(status), _) => ErrorType::HttpStatus(status),
        (None, Some(name)) => ErrorType::GrpcStatus(grpc_status(name)?),
        (None, None) => return None,
    };
    Some(FaultAbort {
        percentage: abort.percentage.map(fraction),
        error_type: Some(error),
    })
}

/// The number of a gRPC status, given by name (grpc/grpc doc/statuscodes.md).
fn grpc_status(name: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let number = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use navarch_model::{FaultAbort, FaultDelay, HttpFaultInjection};

    use super::{build_fault, grpc_status};

    #[test]
    fn grpc_statuses_are_known_by_name() {
        assert_eq!(grpc_status("UNAVAILABLE"), Some(14));
        assert_eq!(grpc_status("14"), None);
    }

    #[test]
    fn faults_that_envoy_does_not_have_are_left_out() {
        let fault = HttpFaultInjection {
            delay: Some(FaultDelay::default()),
            abort: Some(FaultAbort {
                http2_error: Some("REFUSED_STREAM".to_owned()),
                ..FaultAbort::default()
            }),
        };
        assert_eq!(build_fault(&fault), None);
    }
}
