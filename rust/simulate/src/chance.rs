//! Envoy's dice: weights and fractions.

use navarch_envoy::envoy::r#type::v3::FractionalPercent;
use navarch_envoy::envoy::r#type::v3::fractional_percent::DenominatorType;

use crate::outcome::{Other, Stage, Step};

/// A fraction as a percentage.
pub(crate) fn percentage(fraction: FractionalPercent) -> f64 {
    let per = match fraction.denominator() {
        DenominatorType::Hundred => 100.0,
        DenominatorType::TenThousand => 10_000.0,
        DenominatorType::Million => 1_000_000.0,
    };
    f64::from(fraction.numerator) * 100.0 / per
}

/// Whether a fraction's branch is followed: by the dice, or else the likelier one.
pub(crate) fn is_hit(percentage: f64, percent: Option<f64>) -> bool {
    match percent {
        Some(percent) => percent < percentage,
        None => percentage >= 50.0,
    }
}

/// The place of the weight that the dice pick, else of the first of the largest; `None` if all are 0.
pub(crate) fn pick(weights: &[u32], percent: Option<f64>) -> Option<usize> {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let largest = weights
        .iter()
        .copied()
        .max()
        .filter(|largest| *largest > 0)?;
    let Some(percent) = percent else {
        return weights.iter().position(|weight| *weight == largest);
    };
    let mut passed = 0.0;
    let hit = weights.iter().position(|weight| {
        passed += f64::from(*weight) * 100.0 / total;
        *weight > 0 && percent < passed
    });
    // Rounding may leave the last interval a hair short of 100.
    hit.or_else(|| weights.iter().rposition(|weight| *weight > 0))
}

/// One of weighted clusters, with the step that tells of it.
pub(crate) fn choose_cluster(
    clusters: &[(String, u32)],
    percent: Option<f64>,
) -> Option<(usize, Step)> {
    let weights: Vec<u32> = clusters.iter().map(|(_, weight)| *weight).collect();
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let at = pick(&weights, percent)?;
    let share = |weight: u32| format!("{} % of requests", round(f64::from(weight) * 100.0 / total));
    let others = clusters
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != at);
    let others = others
        .map(|(_, (name, weight))| Other::new(name.clone(), share(*weight)))
        .collect();
    let why = match percent {
        Some(percent) => format!("{}: dice at {}", share(weights[at]), round(percent)),
        None => format!("{}, none gets more", share(weights[at])),
    };
    Some((
        at,
        Step::new(Stage::Cluster, clusters[at].0.clone(), why).with_others(others),
    ))
}

/// A number without more digits than people read.
pub(crate) fn round(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{is_hit, pick, round};

    #[test]
    fn dice_pick_by_cumulated_shares() {
        let weights = [90, 0, 10];
        assert_eq!(pick(&weights, None), Some(0));
        assert_eq!(pick(&weights, Some(89.9)), Some(0));
        assert_eq!(pick(&weights, Some(90.0)), Some(2));
        assert_eq!(pick(&weights, Some(100.0)), Some(2));
        assert_eq!(pick(&[0, 0], Some(1.0)), None);
    }

    #[test]
    fn without_dice_the_likelier_branch_is_followed() {
        assert!(is_hit(50.0, None) && !is_hit(49.0, None));
        assert!(is_hit(10.0, Some(9.0)) && !is_hit(10.0, Some(10.0)));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(round(33.333_33), "33.33");
        assert_eq!(round(50.0), "50");
    }
}
