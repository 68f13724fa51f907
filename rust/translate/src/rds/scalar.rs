//! Durations and shares in Envoy's form.

use navarch_envoy::envoy::config::core::v3::RuntimeFractionalPercent;
use navarch_envoy::envoy::r#type::v3::FractionalPercent;
use navarch_envoy::envoy::r#type::v3::fractional_percent::DenominatorType;
use navarch_model::{Percent, Span};
use prost_types::Duration;

/// No timeout, said outright: left out, Envoy's own default of 15 s would hold.
pub(super) const NO_TIMEOUT: Duration = Duration {
    seconds: 0,
    nanos: 0,
};

/// A span as protobuf has it.
pub(super) const fn duration(span: Span) -> Duration {
    Duration {
        seconds: span.seconds,
        nanos: span.nanos,
    }
}

/// A share in millionths, as Istio writes `Percent` (cut, not rounded).
pub(super) fn fraction(percent: Percent) -> FractionalPercent {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0 to 100 percent"
    )]
    let numerator = (percent.value.0.clamp(0.0, 100.0) * 10_000.0) as u32;
    FractionalPercent {
        numerator,
        denominator: DenominatorType::Million.into(),
    }
}

/// A share in whole percent.
pub(super) fn whole_percent(numerator: u32) -> FractionalPercent {
    FractionalPercent {
        numerator,
        denominator: DenominatorType::Hundred.into(),
    }
}

/// A share without a runtime key.
pub(super) fn runtime(share: FractionalPercent) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(share),
        runtime_key: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use navarch_model::{Number, Percent};

    use super::fraction;

    #[test]
    fn shares_are_cut_to_millionths() {
        for (percent, numerator) in [
            (12.5, 125_000),
            (0.01, 100),
            (100.0, 1_000_000),
            (0.0, 0),
            (500.0, 1_000_000),
        ] {
            let value = Number(percent);
            assert_eq!(
                fraction(Percent { value }).numerator,
                numerator,
                "{percent}"
            );
        }
    }
}
