//! The types of columns: CSV and TSV hold nothing but text.

use std::str::FromStr;

use serde_json::Value;

use super::{ReadOptions, nearest_name};
use crate::error::{Error, Result};

/// What the cells of a column of CSV or TSV are; an empty one is then no field at all.
///
/// ```
/// use nearbit::formats::ColumnType;
///
/// assert_eq!("integer".parse::<ColumnType>()?, ColumnType::Integer);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnType {
    /// Text, as every column is of which nothing is said.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
}

impl ColumnType {
    const ALL: [Self; 4] = [Self::Text, Self::Integer, Self::Number, Self::Bool];

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Bool => "bool",
        }
    }

    /// What a cell that is not empty says.
    pub(super) fn value(self, cell: &str) -> Result<Value, String> {
        let trimmed = cell.trim();
        let integer = || {
            let signed = trimmed.parse::<i64>().ok().map(Value::from);
            signed.or_else(|| trimmed.parse::<u64>().ok().map(Value::from))
        };
        let number = || trimmed.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::from);
        let value = match self {
            Self::Text => Some(Value::from(cell)),
            Self::Integer => integer(),
            Self::Number => integer().or_else(number),
            Self::Bool => trimmed.to_ascii_lowercase().parse::<bool>().ok().map(Value::from),
        };
        value.ok_or_else(|| {
            let expected = match self {
                Self::Bool => "true or false",
                Self::Integer => "an integer",
                _ => "a number",
            };
            let shown: String = cell.chars().take(40).collect();
            format!("expected {expected}, as --field-type says, got {shown:?}")
        })
    }
}

impl FromStr for ColumnType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::invalid("column type", format!("expected one of {known}, got {name:?}"))
        })
    }
}

/// An error where there is no table for a delimiter, or a type is given to a column that is in none of
/// the tables, or twice.
pub(super) fn check(options: &ReadOptions, tables: [&[String]; 2], file: &str) -> Result<()> {
    if options.delimiter.is_some() && tables.iter().all(|columns| columns.is_empty()) {
        let message = "--delimiter goes with CSV and TSV, and this is neither; leave it out";
        return Err(Error::invalid(file, message));
    }
    let types = &options.column_types;
    let columns = || tables.into_iter().flatten().map(String::as_str);
    for (i, (column, _)) in types.iter().enumerate() {
        if types[..i].iter().any(|(before, _)| before == column) {
            let message = format!("--field-type names the column {column:?} twice");
            return Err(Error::invalid(file, message));
        }
        if columns().any(|name| name == column) {
            continue;
        }
        let message = match (columns().next(), nearest_name(column, columns())) {
            (None, _) => {
                "--field-type goes with CSV and TSV, and this is neither: values of other \
                          formats have their types"
                    .to_owned()
            }
            (_, Some(near)) => {
                format!("there is no column {column:?}; did you mean --field-type {near}=TYPE?")
            }
            _ => {
                let names: Vec<&str> = columns().take(20).collect();
                format!("there is no column {column:?}; the columns are {names:?}")
            }
        };
        return Err(Error::invalid(file, message));
    }
    Ok(())
}
