//! Values: what a filter compares fields with, and what it finds in them.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value as Json;

use super::Date;
use crate::error::{Error, Result};

/// A text, a number, a date or a truth value.
///
/// Two are equal where they mean the same: `1` and `1.0`, `"2024-05-01"` and
/// `"2024-05-01T02:00:00+02:00"`. A text that has the form of a [`Date`] is a date. Numbers are
/// compared exactly, integers beyond 2^53 with fractions too. Values of two kinds are never equal.
///
/// ```
/// use nearbit::filter::Value;
///
/// assert_eq!(Value::from(1), Value::number(1.0)?);
/// assert_eq!(Value::from("2024-05-01"), Value::from("2024-05-01T00:00:00Z"));
/// assert_ne!(Value::from("1"), Value::from(1));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value(pub(super) Kind);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Kind {
    Bool(bool),
    Number(Number),
    Date(Date),
    /// Never of the form of a date.
    Text(Box<str>),
}

impl Value {
    /// A number that may have a fraction.
    ///
    /// # Errors
    /// A number that is not finite: payloads have none such.
    pub fn number(number: f64) -> Result<Self> {
        match Number::new(number) {
            Some(number) => Ok(Self(Kind::Number(number))),
            None => Err(Error::invalid("value", format!("expected a finite number, got {number}"))),
        }
    }

    /// What a field of a payload holds; `None` for null, arrays and objects.
    pub(crate) fn of(json: &Json) -> Option<Self> {
        Some(match json {
            Json::Bool(value) => Self::from(*value),
            Json::String(text) => Self::from(text.as_str()),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => Self::from(integer),
                (_, Some(integer)) => Self::from(integer),
                _ => Self(Kind::Number(Number::new(number.as_f64()?)?)),
            },
            Json::Null | Json::Array(_) | Json::Object(_) => return None,
        })
    }

    /// The value as it is: what a match needs to turn it into another form.
    pub fn view(&self) -> View<'_> {
        match &self.0 {
            Kind::Bool(value) => View::Bool(*value),
            Kind::Number(Number::Integer(integer)) => View::Integer(*integer),
            Kind::Number(Number::Float(float)) => View::Float(*float),
            Kind::Date(date) => View::Date(*date),
            Kind::Text(text) => View::Text(text),
        }
    }

    /// Whether there are greater and smaller ones: a [`Point`].
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self.0, Kind::Number(_) | Kind::Date(_))
    }

    /// The kind as words: `a text`, `a number`, `a date`, `true or false`.
    pub(super) fn kind(&self) -> &'static str {
        match self.0 {
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Date(_) => "a date",
            Kind::Text(_) => "a text",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(Date::read(text).map_or_else(|| Kind::Text(text.into()), Kind::Date))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(Kind::Bool(value))
    }
}

impl From<Date> for Value {
    fn from(date: Date) -> Self {
        Self(Kind::Date(date))
    }
}

macro_rules! from_integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Value {
            fn from(integer: $integer) -> Self {
                Self(Kind::Number(Number::Integer(integer.into())))
            }
        }
    )*};
}

from_integers!(i32 u32 i64 u64);

impl fmt::Display for Value {
    /// As a filter's text has it: JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Number(number) => write!(f, "{number}"),
            Kind::Date(date) => write!(f, "\"{date}\""),
            Kind::Text(text) => write!(f, "{}", Json::from(&**text)),
        }
    }
}

/// What a [`Value`] is.
///
/// ```
/// use nearbit::filter::{Value, View};
///
/// assert_eq!(Value::from("abc").view(), View::Text("abc"));
/// assert_eq!(Value::number(2.0)?.view(), View::Integer(2));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum View<'a> {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction, or a whole one beyond an `i128`.
    Float(f64),
    /// A date.
    Date(Date),
    /// Any other text.
    Text(&'a str),
}

/// A number, in one form only: `Float` is no integer (or too large to be an `i128`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    fn new(number: f64) -> Option<Self> {
        let is_integer = number.fract() == 0.0 && number.abs() < 2f64.powi(127);
        number.is_finite().then_some(match is_integer {
            true => Self::Integer(number as i128),
            false => Self::Float(number),
        })
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        // No integer equals a float, so it stands below one exactly where it is not above its
        // whole part. A cast beyond the range of an i128 gives the end of it.
        let below = |integer: i128, float: f64| integer <= float.floor() as i128;
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Integer(a), Self::Float(b)) if below(*a, *b) => Ordering::Less,
            (Self::Integer(_), Self::Float(_)) => Ordering::Greater,
            (Self::Float(a), Self::Integer(b)) if below(*b, *a) => Ordering::Greater,
            (Self::Float(_), Self::Integer(_)) => Ordering::Less,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Integer(integer) => integer.hash(state),
            Self::Float(float) => float.to_bits().hash(state),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(integer) => write!(f, "{integer}"),
            Self::Float(float) => write!(f, "{}", Json::from(*float)),
        }
    }
}

/// A value that has an order: a number or a date.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Point(Value);

impl Point {
    /// The value.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// How `other` stands to it; `None` where the two are of different kinds.
    pub(super) fn compare(&self, other: &Value) -> Option<Ordering> {
        let same = std::mem::discriminant(&self.0.0) == std::mem::discriminant(&other.0);
        same.then(|| other.cmp(&self.0))
    }
}

impl TryFrom<Value> for Point {
    type Error = Error;

    /// # Errors
    /// A text or a truth value.
    fn try_from(value: Value) -> Result<Self> {
        if !value.is_ordered() {
            let message = format!("expected a number or a date, got {} {value}", value.kind());
            return Err(Error::invalid("value", message));
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(json: &str) -> Value {
        Value::of(&serde_json::from_str(json).unwrap()).unwrap()
    }

    /// Each stands above the one before.
    #[test]
    fn numbers_in_order() {
        let ascending = [
            "-1e300",
            "-170141183460469231731687303715884105729",
            "-9223372036854775808",
            "-9007199254740993",
            "-9007199254740992",
            "-1.5",
            "-1",
            "-0.5",
            "0",
            "5e-324",
            "0.5",
            "1",
            "1.0000000000000002",
            "2",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(of(a).cmp(&of(b)), i.cmp(&j), "{a} and {b}");
            }
        }
        assert_eq!(of("-0.0"), of("0"));
        assert_eq!(of("1e2"), of("100"));
        assert!(Value::number(f64::NAN).is_err() && Value::number(f64::INFINITY).is_err());
    }

    #[test]
    fn kinds_never_meet() {
        let values = ["true", "1", "\"1\"", "\"true\"", "\"2024-05-01\""].map(of);
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                assert_eq!(a == b, i == j, "{a} and {b}");
            }
        }
        let point = Point::try_from(Value::from(1)).unwrap();
        assert_eq!(point.compare(&Value::from("2024-05-01")), None);
        assert_eq!(point.compare(&Value::from(2)), Some(Ordering::Greater));
        for wrong in [Value::from("abc"), Value::from(true)] {
            assert!(Point::try_from(wrong).is_err());
        }
        for other in ["null", "[1]", "{}"] {
            assert_eq!(Value::of(&serde_json::from_str(other).unwrap()), None);
        }
    }

    proptest! {
        /// Against arithmetic in i128 of numbers scaled by 4.
        #[test]
        fn quarters_compare_exactly(a in -(1i64 << 50)..1 << 50, b in -(1i64 << 50)..1 << 50) {
            let quarter = |n: i64| Value::number(n as f64 / 4.0).unwrap();
            prop_assert_eq!(quarter(a).cmp(&quarter(b)), a.cmp(&b));
            prop_assert_eq!(Value::from(a).cmp(&quarter(b)), (4 * i128::from(a)).cmp(&b.into()));
        }

        #[test]
        fn what_is_printed_reads_the_same(x in any::<f64>(), i in any::<i64>(), u in any::<u64>()) {
            for value in [Value::number(x).ok(), Some(i.into()), Some(u.into())] {
                let Some(value) = value else { continue };
                prop_assert_eq!(of(&value.to_string()), value);
            }
        }
    }
}
