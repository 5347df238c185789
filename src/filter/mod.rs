//! Filters: conditions on records, which say whom a search may find.
//!
//! A filter is a tree, and a line of text that says the same; [`Filter::parse`] and `Display` turn
//! one into the other. This is all there is:
//!
//! ```text
//! label == "sci.space"            the field is there and equal; != is "not equal, or not there"
//! year >= 1990                    < <= > >= for numbers and dates
//! published < "2024-05-01"        ISO 8601 dates are compared as moments
//! label in ["a", "b"]             one of these; not in: none of these, or not there
//! tags contains "x"               the field is an array, and this one of its elements
//! tags contains any ["x", "y"]    one of these
//! tags contains all ["x", "y"]    each of these
//! author.name exists              the field is there, whatever it holds
//! author.name is null             it is there and null
//! id in ["x", "y"]                the record's own id; also id == "x", !=, not in
//! a == 1 and (b == 2 or not c exists)
//! true                            every record; false: none
//! ```
//!
//! ```text
//! filter    = all { "or" all }                            all binds closer than any,
//! all       = negated { "and" negated }                   and "not" closest
//! negated   = { "not" } ( "(" filter ")" | "true" | "false" | "id" ids | field condition )
//! ids       = ( "==" | "!=" ) string | [ "not" ] "in" strings
//! condition = ( "==" | "!=" ) value | ( "<" | "<=" | ">" | ">=" ) ( number | date )
//!           | [ "not" ] "in" values | "exists" | "is" "null"
//!           | "contains" ( value | ( "any" | "all" ) values )
//! field     = name { "." name }                           a path into nested objects
//! name      = word | string                               a word: letters, digits, _ and -
//! values    = "[" [ value { "," value } ] "]"
//! value     = string | number | "true" | "false"          as in JSON
//! ```
//!
//! A field whose name is none of these words, such as `first name` or `in`, is written as a
//! string: `"first name" == "Ada"`. Two values are equal where they mean the same (see [`Value`]);
//! what holds another kind of value than a condition asks for does not meet it, so `year >= 1990`
//! passes over a record whose year is `"unknown"`.

mod bounds;
mod date;
mod evaluate;
mod fields;
mod parse;
mod print;
mod sorted;
#[cfg(test)]
mod tests;
mod value;
mod values;

use std::fmt;
use std::str::FromStr;

pub(crate) use bounds::{Bounds, Known};
pub use date::Date;
pub(crate) use fields::{Content, FieldIndex};
pub use value::{Point, Value, View};

use crate::error::{Error, Result};
use crate::record::RecordId;

/// Which records match.
///
/// ```
/// use nearbit::filter::{Comparison, Condition, Field, Filter, Point, Value};
/// use nearbit::{Payload, RecordId};
///
/// let filter = Filter::parse(r#"label == "sci.space" and year >= 1990"#)?;
/// let year = Point::try_from(Value::from(1990))?;
/// assert_eq!(
///     filter,
///     Filter::All(vec![
///         Filter::Field(Field::parse("label")?, Condition::In(vec!["sci.space".into()])),
///         Filter::Field(Field::parse("year")?, Condition::Compare(Comparison::AtLeast, year)),
///     ])
/// );
/// let payload = Payload::from_json(r#"{"label": "sci.space", "year": 1993}"#)?;
/// assert!(filter.matches(&RecordId::new("a")?, &payload));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Filter {
    /// Those that match each of these; every record where there is none.
    All(Vec<Filter>),
    /// Those that match one of these or more; no record where there is none.
    Any(Vec<Filter>),
    /// Those that do not match this.
    Not(Box<Filter>),
    /// Those with one of these ids.
    Ids(Vec<RecordId>),
    /// Those whose payload has such a field.
    Field(Field, Condition),
}

impl Filter {
    /// How deep filters may stand in one another.
    pub const MAX_DEPTH: usize = 32;
    /// The longest text of a filter, in bytes.
    pub const MAX_BYTES: usize = 1 << 20;

    /// An error where filters stand deeper in one another than [`Filter::MAX_DEPTH`]; a filter that
    /// was parsed never does.
    ///
    /// # Errors
    /// A tree that is too deep.
    pub fn check(&self) -> Result<()> {
        if self.is_deeper_than(Self::MAX_DEPTH) {
            let message = format!("expected at most {} filters in one another", Self::MAX_DEPTH);
            return Err(Error::invalid("filter", message));
        }
        Ok(())
    }

    fn is_deeper_than(&self, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return true };
        match self {
            Self::All(filters) | Self::Any(filters) => {
                filters.iter().any(|filter| filter.is_deeper_than(depth))
            }
            Self::Not(filter) => filter.is_deeper_than(depth),
            Self::Ids(_) | Self::Field(..) => false,
        }
    }
}

/// What a field is to be like. A field that is not there meets none of these.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    /// It is there, be it null.
    Exists,
    /// It is there and null.
    IsNull,
    /// It is equal to one of these.
    In(Vec<Value>),
    /// It is of the same kind and stands so to this.
    Compare(Comparison, Point),
    /// It is an array, and one of these among its elements.
    ContainsAny(Vec<Value>),
    /// It is an array, and each of these among its elements.
    ContainsAll(Vec<Value>),
}

/// How a field stands to a [`Point`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// The place of a value in a payload: the names of the objects it is nested in, and its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Field(Vec<String>);

impl Field {
    /// The most names of a path.
    pub const MAX_NAMES: usize = 32;

    /// A field by its names, from the outermost object inwards.
    ///
    /// # Errors
    /// No name, or more than [`Field::MAX_NAMES`].
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        match names.len() {
            1..=Self::MAX_NAMES => Ok(Self(names)),
            len => {
                let message = format!("expected 1 to {} names, got {len}", Self::MAX_NAMES);
                Err(Error::invalid("field", message))
            }
        }
    }

    /// A field as filters write it: `author.name`, `"first name"`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self> {
        parse::field(text)
    }

    /// The names, from the outermost object inwards.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Field {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::field(self, f)
    }
}
