//! Scalars of the mesh API in forms that hash: durations, percentages, wrapped integers.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, de};

/// A duration as protobuf has it: whole seconds and nanoseconds of the same sign.
///
/// Read from protobuf JSON (`"1.5s"`) and from Go's form (`"1h2m"`), which Istio's YAML also takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Span {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds below a second.
    pub nanos: i32,
}

impl Span {
    /// A span of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }

    /// A span of milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self {
            seconds: millis / 1000,
            nanos: (millis % 1000) as i32 * 1_000_000,
        }
    }

    /// In seconds, with what a double holds of the fraction.
    #[expect(
        clippy::cast_precision_loss,
        reason = "spans are far below 2^52 seconds"
    )]
    pub fn as_seconds(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }

    /// Whether the span is zero.
    pub const fn is_zero(self) -> bool {
        self.seconds == 0 && self.nanos == 0
    }

    /// Parse `"1.5s"`, `"300ms"`, `"1h2m3s"`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self::default());
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let n_number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(n_number);
            let n_unit = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(n_unit);
            total = total.checked_add(scale(number, nanos_of(unit)?)?)?;
            rest = tail;
        }
        let total = if negative { -total } else { total };
        Some(Self {
            seconds: i64::try_from(total / 1_000_000_000).ok()?,
            nanos: i32::try_from(total % 1_000_000_000).ok()?,
        })
    }
}

fn nanos_of(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` (decimal, with or without a fraction) times `unit`, cut to whole nanoseconds.
fn scale(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut total = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().ok()?
    };
    total = total.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total += i128::from(digit.checked_sub(b'0').filter(|d| *d < 10)?) * place;
    }
    Some(total)
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is no duration")))
    }
}

/// A floating-point number that hashes by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Number(pub f64);

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.to_bits());
    }
}

/// `{value: 12.5}` of the mesh API, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct Percent {
    /// 0 to 100.
    pub value: Number,
}

/// An integer that protobuf JSON may also write as a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wrapped<T>(pub T);

impl<'de, T> Deserialize<'de> for Wrapped<T>
where
    T: TryFrom<i64>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Integer(i64),
            Float(f64),
            Text(String),
        }
        let value = match Form::deserialize(deserializer)? {
            Form::Integer(value) => Some(value),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked to be whole and small"
            )]
            Form::Float(value) => {
                (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
            }
            Form::Text(text) => text.parse().ok(),
        };
        value
            .and_then(|value| T::try_from(value).ok())
            .map(Self)
            .ok_or_else(|| de::Error::custom("an integer in range is wanted"))
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn durations_are_read_in_both_forms() {
        for (text, seconds, nanos) in [
            ("1.5s", 1, 500_000_000),
            ("300ms", 0, 300_000_000),
            ("1h2m3s", 3723, 0),
            ("0s", 0, 0),
            ("0", 0, 0),
            ("-2s", -2, 0),
            ("0.000000001s", 0, 1),
        ] {
            assert_eq!(Span::parse(text), Some(Span { seconds, nanos }), "{text}");
        }
        for text in ["", "1", "s", "1x", "1.2.3s", "--1s"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
