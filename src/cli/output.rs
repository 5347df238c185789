//! Forms of results: tables for people, JSON for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    /// Aligned columns
    Table,
    /// One JSON value: an object, or an array of them
    Json,
    /// One JSON object a line
    Jsonl,
}

/// The widest cell of a table, in characters.
const MAX_CELL: usize = 88;

/// Aligned columns. Columns of numbers stand to the right.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a header, which is not shown where every name is empty.
    pub fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Self {
        Self { header: header.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().map(|cell| shorten(&cell, MAX_CELL)).collect());
    }

    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let cell = |row: &Vec<String>, i: usize| row.get(i).cloned().unwrap_or_default();
        let columns: Vec<(usize, bool)> = (0..self.header.len())
            .map(|i| {
                let cells = || self.rows.iter().map(|row| cell(row, i));
                let width = cells().map(|c| c.chars().count()).max().unwrap_or(0);
                let numeric = cells().all(|c| c.parse::<f64>().is_ok() || c.is_empty() || c == "-");
                (width.max(self.header[i].chars().count()), numeric && !self.rows.is_empty())
            })
            .collect();
        let has_header = self.header.iter().any(|name| !name.is_empty());
        let header = has_header.then_some(&self.header);
        for row in header.into_iter().chain(&self.rows) {
            let cells =
                columns.iter().enumerate().map(|(i, &(width, right))| match right && i > 0 {
                    true => format!("{:>width$}", cell(row, i)),
                    false => format!("{:<width$}", cell(row, i)),
                });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A result: named values, which keep their order.
pub struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub fn new<const N: usize>(fields: [(&'static str, Value); N]) -> Self {
        Self(fields.into())
    }

    /// As a table: a field a line.
    pub fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new(["", ""]);
        self.0.iter().for_each(|(name, value)| table.push([(*name).to_owned(), plain(value)]));
        table.write(out)
    }

    /// As cells of a table: the values of the fields that `header` names.
    pub fn cells<const N: usize>(&self, header: [&str; N]) -> [String; N] {
        header.map(|name| {
            let field = self.0.iter().find(|(field, _)| *field == name);
            field.map(|(_, value)| plain(value)).unwrap_or_default()
        })
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A value as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(x) if number.is_f64() && x.abs() < 0.01 => format!("{x:.6}"),
            Some(x) if number.is_f64() => format!("{x:.4}"),
            _ => number.to_string(),
        },
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// The beginning of a text on one line, without what a terminal would obey.
pub fn shorten(text: &str, most: usize) -> String {
    let line = printable(&text.replace(['\n', '\r', '\t'], " "));
    match line.char_indices().nth(most) {
        Some(_) => line.chars().take(most.saturating_sub(3)).chain("...".chars()).collect(),
        None => line,
    }
}

/// Escapes control characters, and those that change the direction of what is around them: ids and
/// payloads come from anywhere.
fn printable(line: &str) -> String {
    let is_obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let escaped = |c: char| match is_obeyed(c) {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    };
    line.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["name", "bits", "of"]);
        table.push(["a".into(), "8".into(), "x\ny".into()]);
        table.push(["long".into(), "1024".into(), "z".repeat(200)]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["name  bits  of", "a        8  x y"]);
        assert!(lines[2].starts_with("long  1024  zzz") && lines[2].ends_with("z..."));
    }

    #[test]
    fn a_table_moves_no_cursor() {
        let mut table = Table::new(["id", "text"]);
        table.push(["\x1b[31mred\x07".into(), "\u{9b}2J\u{202e}é".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let row = "\\u{1b}[31mred\\u{7}  \\u{9b}2J\\u{202e}é";
        assert_eq!(text.lines().nth(1), Some(row));
    }
}
