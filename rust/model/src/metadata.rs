//! What every object carries beside its specification.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Labels or annotations, in key order.
pub type Labels = BTreeMap<String, String>;

/// Whether `labels` has every pair of `selector`; an empty selector selects everything.
pub fn is_selected(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// The part of an object's metadata that the mesh reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// Unique within kind and namespace.
    pub name: String,
    /// "" for cluster-scoped kinds.
    pub namespace: String,
    /// Labels.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: Labels,
    /// Annotations.
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: Labels,
    /// Seconds since 1970, UTC; `None` counts as oldest.
    #[serde(deserialize_with = "rfc3339_seconds")]
    pub creation_timestamp: Option<i64>,
}

impl Metadata {
    /// Order of age: oldest first, then by name, then by namespace (istio `sortConfigByCreationTime`).
    pub fn age(&self) -> (i64, &str, &str) {
        (
            self.creation_timestamp.unwrap_or(i64::MIN),
            &self.name,
            &self.namespace,
        )
    }
}

/// Read `null` as the empty value, as the API server writes absent maps and lists.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn rfc3339_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.as_deref().and_then(parse_rfc3339))
}

/// Seconds since 1970 of `2023-11-14T22:13:20Z` (with an offset or a fraction, too).
fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let zone = text
        .get(19..)?
        .trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset_seconds = match zone.chars().next()? {
        'Z' | 'z' => 0,
        sign @ ('+' | '-') => {
            let of = |from: usize, to: usize| zone.get(from..to)?.parse::<i64>().ok();
            (of(1, 3)? * 3600 + of(4, 6)? * 60) * if sign == '+' { 1 } else { -1 }
        }
        _ => return None,
    };
    Some(
        days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
            - offset_seconds,
    )
}

/// Days since 1970-01-01 in the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse_rfc3339;

    #[test]
    fn creation_times_are_seconds_since_1970() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(
            parse_rfc3339("2023-11-15T00:13:20.5+02:00"),
            Some(1_700_000_000)
        );
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
