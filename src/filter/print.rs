//! Filters as text. What is printed parses to the same tree, but for lists of one filter, which
//! are printed as that filter, and the empty lists, which are `true` and `false`.

use std::fmt::{self, Display, Formatter, Result};

use super::parse::{KEYWORDS, is_word};
use super::{Comparison, Condition, Field, Filter};
use crate::record::RecordId;

/// What a filter stands within, and so whether it needs parentheses.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    Any,
    All,
    Not,
}

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write(self, Within::Nothing, f)
    }
}

fn write(filter: &Filter, within: Within, f: &mut Formatter<'_>) -> Result {
    match filter {
        Filter::All(filters) | Filter::Any(filters) if filters.len() == 1 => {
            write(&filters[0], within, f)
        }
        Filter::All(filters) => match within {
            _ if filters.is_empty() => f.write_str("true"),
            Within::Nothing | Within::Any => list(filters, " and ", Within::All, f),
            Within::All | Within::Not => write!(f, "({filter})"),
        },
        Filter::Any(filters) => match within {
            _ if filters.is_empty() => f.write_str("false"),
            Within::Nothing => list(filters, " or ", Within::Any, f),
            Within::Any | Within::All | Within::Not => write!(f, "({filter})"),
        },
        Filter::Not(inner) => match &**inner {
            Filter::Ids(ids) => one_or_many("id", ["!=", "not in"], &quoted(ids), f),
            Filter::Field(field, Condition::In(values)) => {
                one_or_many(field, ["!=", "not in"], values, f)
            }
            inner => {
                f.write_str("not ")?;
                write(inner, Within::Not, f)
            }
        },
        Filter::Ids(ids) => one_or_many("id", ["==", "in"], &quoted(ids), f),
        Filter::Field(field, condition) => match condition {
            Condition::Exists => write!(f, "{field} exists"),
            Condition::IsNull => write!(f, "{field} is null"),
            Condition::In(values) => one_or_many(field, ["==", "in"], values, f),
            Condition::Compare(comparison, point) => write!(f, "{field} {comparison} {point}"),
            Condition::ContainsAny(values) => {
                one_or_many(field, ["contains", "contains any"], values, f)
            }
            Condition::ContainsAll(values) => {
                write!(f, "{field} contains all ")?;
                array(values, f)
            }
        },
    }
}

fn list(filters: &[Filter], between: &str, within: Within, f: &mut Formatter<'_>) -> Result {
    for (i, filter) in filters.iter().enumerate() {
        f.write_str(if i > 0 { between } else { "" })?;
        write(filter, within, f)?;
    }
    Ok(())
}

/// `name one value`, or `name many [values]`.
fn one_or_many<T: Display>(
    name: impl Display,
    [one, many]: [&str; 2],
    values: &[T],
    f: &mut Formatter<'_>,
) -> Result {
    match values {
        [value] => write!(f, "{name} {one} {value}"),
        values => {
            write!(f, "{name} {many} ")?;
            array(values, f)
        }
    }
}

fn array<T: Display>(values: &[T], f: &mut Formatter<'_>) -> Result {
    f.write_str("[")?;
    for (i, value) in values.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(f, "{comma}{value}")?;
    }
    f.write_str("]")
}

fn quoted(ids: &[RecordId]) -> Vec<serde_json::Value> {
    ids.iter().map(|id| id.as_str().into()).collect()
}

pub(super) fn field(field: &Field, f: &mut Formatter<'_>) -> Result {
    for (i, name) in field.names().iter().enumerate() {
        f.write_str(if i > 0 { "." } else { "" })?;
        match is_word(name) && !KEYWORDS.contains(&name.as_str()) {
            true => f.write_str(name)?,
            false => write!(f, "{}", serde_json::Value::from(name.as_str()))?,
        }
    }
    Ok(())
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        })
    }
}
