//! Durations as Istio's environment and protobuf JSON write them: `45s`, `1.5s`, `100ms`, `1h30m`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer};

const UNITS: [(&str, f64); 6] = [
    ("ms", 1e-3),
    ("us", 1e-6),
    ("ns", 1e-9),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// Read a duration; `None` if the text is none.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, factor) = UNITS
            .iter()
            .find(|(unit, _)| rest[end..].starts_with(unit))?;
        seconds += number * factor;
        rest = &rest[end + unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no duration, such as 45s")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_duration;

    #[test]
    fn durations_are_read_as_go_and_protobuf_write_them() {
        let seconds = |text| parse_duration(text).map(|d: Duration| d.as_secs_f64());
        assert_eq!(seconds("45s"), Some(45.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("100ms"), Some(0.1));
        assert_eq!(seconds("1h30m0s"), Some(5400.0));
        for text in ["", "5", "s", "5x", "-1s", "1..2s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
