//! Progress bars: on standard error, and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use nearbit::formats::Rows;
use nearbit::model::{Progress, Stage};

use super::console::Console;

fn bar(console: &Console, length: Option<u64>, template: &str) -> ProgressBar {
    if console.is_quiet() {
        return ProgressBar::hidden();
    }
    // indicatif draws nothing where standard error is no terminal.
    let bar = ProgressBar::new(length.unwrap_or(0));
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The reading of a file: bytes where their number is known, with the rate of rows beside them.
pub struct Reading {
    bar: ProgressBar,
    rows: u64,
    bytes: Option<nearbit::formats::Progress>,
}

impl Reading {
    pub fn new(console: &Console, verb: &str, rows: &Rows) -> Self {
        let progress = rows.progress();
        let bytes = progress.total().map(|_| progress.clone());
        let (total, unit) = match (rows.total_rows(), progress.total()) {
            (Some(rows), _) => (Some(rows), "{pos}/{len} rows, {per_sec}, {eta} left"),
            (None, Some(bytes)) => (Some(bytes), "{bytes}/{total_bytes}, {msg}, {eta} left"),
            (None, None) => (None, "{pos} rows, {per_sec}, {elapsed}"),
        };
        let bar_part = if total.is_some() { " [{bar:28}]" } else { "" };
        let template = format!("{verb} {}{bar_part} {unit}", rows.name().replace(['{', '}'], ""));
        let bytes = bytes.filter(|_| rows.total_rows().is_none());
        Self { bar: bar(console, total, &template), rows: 0, bytes }
    }

    /// So many more rows are done.
    pub fn advance(&mut self, rows: u64) {
        self.rows += rows;
        match &self.bytes {
            Some(bytes) => {
                self.bar.set_position(bytes.read());
                let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
                let rate = self.rows as f64 / seconds;
                self.bar.set_message(format!("{} rows, {rate:.0}/s", self.rows));
            }
            None => self.bar.set_position(self.rows),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A training: loss, bit balance, time left.
pub struct Training {
    bar: ProgressBar,
}

impl Training {
    pub fn new(console: &Console) -> Self {
        Self { bar: bar(console, None, "training [{bar:28}] {msg}") }
    }

    /// A message above the bar.
    pub fn note(&self, console: &Console, message: &str) {
        self.bar.suspend(|| console.note(message));
    }

    pub fn show(&self, progress: &Progress) {
        let message = match progress.stage {
            Stage::Features => "turning rows into numbers".to_owned(),
            Stage::Neighbours => "finding each row's neighbours".to_owned(),
            Stage::Pretraining => "training one layer after the other".to_owned(),
            Stage::Network => {
                let mut parts = vec![format!("epoch {}/{}", progress.epoch, progress.epochs)];
                parts.extend(progress.loss.map(|loss| format!("loss {loss:.4}")));
                let validation = progress.validation_loss;
                parts.extend(validation.map(|loss| format!("validation {loss:.4}")));
                parts.extend(progress.balance.map(|balance| format!("balance {balance:.2}")));
                parts.extend(progress.saturation.map(|share| format!("saturated {share:.2}")));
                parts.extend((progress.scratch_bytes > 0).then(|| "streamed".to_owned()));
                parts.extend(progress.seconds_left.map(|left| format!("{left:.0} s left")));
                parts.join(", ")
            }
        };
        self.bar.set_length(progress.steps);
        self.bar.set_position(progress.step);
        self.bar.set_message(message);
    }
}

impl Drop for Training {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
