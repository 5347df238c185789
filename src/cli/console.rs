//! Where results and messages go.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use super::exit::Failure;
use super::output::{Fields, Output, Table};

/// What the flags that every command has say.
pub struct Console {
    output: Output,
    quiet: bool,
}

impl Console {
    pub fn new(output: Option<Output>, quiet: bool) -> Self {
        let default = if io::stdout().is_terminal() { Output::Table } else { Output::Jsonl };
        Self { output: output.unwrap_or(default), quiet }
    }

    pub fn is_table(&self) -> bool {
        self.output == Output::Table
    }

    /// Whether to show neither messages nor progress.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A message for people.
    pub fn note(&self, message: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", message.as_ref());
        }
    }

    /// What to do next.
    pub fn next(&self, command: impl AsRef<str>) {
        self.note(format!("next: {}", command.as_ref()));
    }

    /// One result.
    pub fn result(&self, fields: &Fields) -> Result<(), Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        match self.output {
            Output::Table => fields.write_table(&mut out)?,
            Output::Json => writeln!(out, "{}", json(fields, serde_json::to_string_pretty)?)?,
            Output::Jsonl => writeln!(out, "{}", json(fields, serde_json::to_string)?)?,
        }
        Ok(out.flush()?)
    }

    /// Results of one kind: all of each, or a table of the fields that `header` names.
    pub fn results<const N: usize>(
        &self,
        header: [&str; N],
        results: impl IntoIterator<Item = Fields>,
    ) -> Result<(), Failure> {
        let mut stream = self.stream();
        let mut table = Table::new(header);
        for result in results {
            match self.is_table() {
                true => table.push(result.cells(header)),
                false => stream.json(&result)?,
            }
        }
        if self.is_table() {
            table.write(stream.text())?;
        }
        stream.finish()
    }

    /// Results that are JSON on a terminal too.
    pub fn json_stream(&self) -> Stream {
        let output = if self.is_table() { Output::Jsonl } else { self.output };
        Stream { output, ..self.stream() }
    }

    /// Results that come one after the other; [`Stream::finish`] ends them.
    pub fn stream(&self) -> Stream {
        Stream { output: self.output, out: BufWriter::new(io::stdout()), written: 0 }
    }
}

/// Results that come one after the other: lines, or the elements of one JSON array.
pub struct Stream {
    output: Output,
    out: BufWriter<io::Stdout>,
    written: u64,
}

impl Stream {
    /// Writes one result as JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let before = match (self.output, self.written) {
            (Output::Json, 0) => "[\n",
            (Output::Json, _) => ",\n",
            _ => "",
        };
        let after = if self.output == Output::Json { "" } else { "\n" };
        let value = json(value, serde_json::to_string)?;
        write!(self.out, "{before}{value}{after}")?;
        self.written += 1;
        Ok(())
    }

    /// Where a table is written to.
    pub fn text(&mut self) -> &mut impl Write {
        &mut self.out
    }

    pub fn finish(mut self) -> Result<(), Failure> {
        match (self.output, self.written) {
            (Output::Json, 0) => writeln!(self.out, "[]")?,
            (Output::Json, _) => writeln!(self.out, "\n]")?,
            _ => {}
        }
        Ok(self.out.flush()?)
    }
}

fn json<T>(value: &T, write: impl Fn(&T) -> serde_json::Result<String>) -> io::Result<String> {
    write(value).map_err(io::Error::from)
}
