//! What every object carries beside its specification.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels or annotations, in key order.
pub type Labels = BTreeMap<String, String>;

/// Whether `labels` has every pair of `selector`; an empty selector selects everything.
pub fn is_selected(selector: &Labels, labels: &Labels) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// The part of an object's metadata that the mesh reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
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
    #[serde(deserialize_with = "rfc3339_seconds", serialize_with = "write_rfc3339")]
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

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn write_rfc3339<S: Serializer>(seconds: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    seconds.map(to_rfc3339).serialize(serializer)
}

/// `2023-11-14T22:13:20Z` of seconds since 1970.
fn to_rfc3339(seconds: i64) -> String {
    let (year, month, day) = civil_from_days(seconds.div_euclid(86400));
    let of_day = seconds.rem_euclid(86400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day since 1970-01-01 (same source as [`days_from_civil`]).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
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
    use super::{parse_rfc3339, to_rfc3339};

    #[test]
    fn creation_times_are_seconds_since_1970() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(
            parse_rfc3339("2023-11-15T00:13:20.5+02:00"),
            Some(1_700_000_000)
        );
        assert_eq!(parse_rfc3339("yesterday"), None);
        for seconds in (-100_000_i64..3_000_000_000).step_by(1_234_567) {
            assert_eq!(parse_rfc3339(&to_rfc3339(seconds)), Some(seconds));
        }
        assert_eq!(to_rfc3339(1_709_164_800), "2024-02-29T00:00:00Z");
    }
}
