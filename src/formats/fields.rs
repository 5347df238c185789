//! Named fields: which is the id, which the source; the rest is the payload.

use serde_json::Value;

use super::parsed::{Object, Parts};
use super::{BitOrder, ReadOptions, SourceKind, bad_row};
use crate::code::{Code, Width};
use crate::error::{Error, Result};
use crate::record::{RecordId, Source};

/// Takes id and source out of objects. The first object decides which fields are read; the others must
/// have them too.
pub(super) struct Fields {
    options: ReadOptions,
    layout: Option<Layout>,
}

/// The fields that are read.
#[derive(Clone)]
struct Layout {
    id: Option<String>,
    source: String,
    kind: SourceKind,
    payload: Option<String>,
}

impl Fields {
    pub fn new(options: &ReadOptions) -> Self {
        Self { options: options.clone(), layout: None }
    }

    /// The parts of one object. The outer error says that the first object lacks what every row
    /// needs.
    pub fn split(&mut self, object: Object) -> Result<Result<Parts>> {
        let layout = match &self.layout {
            Some(layout) => layout,
            None => self.layout.insert(layout(&self.options, &object)?),
        };
        Ok(split(layout, object))
    }
}

fn layout(options: &ReadOptions, object: &Object) -> Result<Layout> {
    let text = (options.text_field.as_deref(), "text", "--text-field");
    let vector = (options.vector_field.as_deref(), "vector", "--vector-field");
    let code = (options.code_field.as_deref(), "code", "--code-field");
    let has = |(named, default, _): (Option<&str>, &str, _)| {
        named.is_some() || object.contains_key(default)
    };
    let (field, kind) = match options.source {
        Some(kind @ SourceKind::Text) => (text, kind),
        Some(kind @ SourceKind::Vector) => (vector, kind),
        Some(kind @ SourceKind::Code { .. }) => (code, kind),
        // A field that was named goes before one that happens to be there.
        None if text.0.is_some() => (text, SourceKind::Text),
        None if vector.0.is_some() => (vector, SourceKind::Vector),
        None if has(text) => (text, SourceKind::Text),
        None if has(vector) => (vector, SourceKind::Vector),
        None if has(code) => {
            return Err(bad_row(
                "the rows hold codes, which go into a collection made with --codes",
            ));
        }
        None => (text, SourceKind::Text),
    };
    let (named, default, flag) = field;
    let source = named.unwrap_or(default).to_owned();
    require(object, &source, flag)?;
    let id = match &options.id_field {
        Some(id) => {
            require(object, id, "--id-field")?;
            Some(id.clone())
        }
        None => object.contains_key("id").then(|| "id".to_owned()),
    };
    // With labels from elsewhere theirs are looked at.
    let label = options.label_field.as_ref().filter(|_| options.labels.is_none());
    label.iter().try_for_each(|field| require(object, field, "--label-field"))?;
    let payload = options.payload_field.clone();
    payload.iter().try_for_each(|field| require(object, field, "--payload-field"))?;
    Ok(Layout { id, source, kind, payload })
}

/// An error that lists the fields there are, where `field` is not among them.
pub(super) fn require(object: &Object, field: &str, flag: &str) -> Result<()> {
    if object.contains_key(field) {
        return Ok(());
    }
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let shown: Vec<String> = names.iter().take(20).map(|name| format!("{name:?}")).collect();
    let more = if names.len() > 20 { ", ..." } else { "" };
    let advice = match nearest_name(field, names.iter().copied()) {
        Some(near) => format!("did you mean {flag} {near}?"),
        None => format!("name the right one with {flag}"),
    };
    Err(bad_row(format!(
        "there is no field {field:?}; the fields are {}{more}; {advice}",
        shown.join(", ")
    )))
}

fn split(layout: &Layout, mut object: Object) -> Result<Parts> {
    let mut take = |field: &str| {
        object
            .remove(field)
            .ok_or_else(|| Error::invalid(field, "the field is missing in this row"))
    };
    let id = match &layout.id {
        Some(field) => {
            Some(record_id(take(field)?).map_err(|message| Error::invalid(field, message))?)
        }
        None => None,
    };
    let value = take(&layout.source)?;
    let source = match layout.kind {
        SourceKind::Text => text(value),
        SourceKind::Vector => vector(&value),
        SourceKind::Code { width, bit_order } => code(&value, width, bit_order),
    };
    let source = source.map_err(|message| Error::invalid(&layout.source, message))?;
    let fields = match &layout.payload {
        None => object,
        Some(field) => match take(field)? {
            Value::Object(fields) => fields,
            other => {
                let message = format!("expected an object, got {}", brief(&other));
                return Err(Error::invalid(field, message));
            }
        },
    };
    Ok(Parts { id, source, fields })
}

/// An id from a string or an integer.
pub(super) fn record_id(value: Value) -> Result<RecordId, String> {
    let id = match value {
        Value::String(id) => id,
        Value::Number(id) if !id.is_f64() => id.to_string(),
        other => return Err(format!("expected a string or an integer, got {}", brief(&other))),
    };
    RecordId::new(id).map_err(|error| match error {
        Error::Invalid { message, .. } => message,
        other => other.to_string(),
    })
}

fn text(value: Value) -> Result<Source, String> {
    match value {
        Value::String(text) => Ok(Source::Text(text)),
        other => Err(format!("expected a string, got {}", brief(&other))),
    }
}

/// A vector from an array of numbers, or, as CSV holds it, from their text.
fn vector(value: &Value) -> Result<Source, String> {
    let numbers: Vec<f32> = match value {
        Value::Array(values) => values
            .iter()
            .enumerate()
            .map(|(column, x)| match x.as_f64() {
                Some(x) => Ok(x as f32),
                None => Err(format!("expected a number in column {column}, got {}", brief(x))),
            })
            .collect::<Result<_, _>>()?,
        Value::String(text) => text
            .trim()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
            .filter(|number| !number.is_empty())
            .enumerate()
            .map(|(column, x)| {
                x.parse().map_err(|_| {
                    format!("expected a number in column {column}, got {}", brief(&x.into()))
                })
            })
            .collect::<Result<_, _>>()?,
        other => return Err(format!("expected an array of numbers, got {}", brief(other))),
    };
    if numbers.is_empty() {
        return Err("expected numbers, got none".to_owned());
    }
    Ok(Source::Vector(numbers))
}

fn code(value: &Value, width: Width, bit_order: BitOrder) -> Result<Source, String> {
    let Value::String(text) = value else {
        return Err(format!("expected a code as hex, base64 or 0b..., got {}", brief(value)));
    };
    let code = match bit_order {
        // Binary digits are in the order of the bits, not of a byte's.
        BitOrder::Lsb if !text.starts_with("0b") => Width::new(8 * width.bytes())
            .and_then(|whole_bytes| Code::parse(text, whole_bytes))
            .and_then(|code| SourceKind::code(width, bit_order, &code.to_bytes())),
        _ => Code::parse(text, width),
    };
    code.map(Source::Code).map_err(|error| match error {
        Error::Invalid { message, .. } => message,
        other => other.to_string(),
    })
}

/// A value for a message: its kind, and its text where that is short.
fn brief(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "null".to_owned(),
        Value::Bool(_) => "the boolean",
        Value::Number(_) => "the number",
        Value::String(_) => "the string",
        Value::Array(values) => return format!("an array of {}", values.len()),
        Value::Object(_) => return "an object".to_owned(),
    };
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{kind} {}...", &text[..end]),
        None => format!("{kind} {text}"),
    }
}

/// The name that was most likely meant: the nearest by edits, if it is near at all.
///
/// ```
/// use nearbit::formats::nearest_name;
///
/// assert_eq!(nearest_name("txet", ["id", "text", "title"]), Some("text"));
/// assert_eq!(nearest_name("body", ["id", "text", "title"]), None);
/// ```
pub fn nearest_name<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (edits(&name, &candidate.to_lowercase()), candidate))
        .filter(|(edits, candidate)| *edits <= name.len().max(candidate.len()).div_ceil(3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The edit distance: insertions, deletions, substitutions, and swaps of neighbours.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    // cost[i][j] turns the first i characters of a into the first j of b.
    let mut cost = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            cost[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substitute = cost[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = substitute.min(cost[i - 1][j] + 1).min(cost[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(cost[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    cost[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("text", "text", 0),
            ("txet", "text", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }
}
