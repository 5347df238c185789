//! What one epoch's steps add up to.

#[derive(Default)]
pub(super) struct Tally {
    steps: usize,
    loss: f64,
    rows: usize,
    saturated: usize,
    /// How often each bit was 1.
    ones: Vec<usize>,
}

impl Tally {
    pub fn add(&mut self, loss: f64, before_sigmoid: &[f32], bits: usize) {
        // sigmoid(x) is within 0.1 of 0 or 1 beyond ln 9.
        let saturated = 9f32.ln();
        self.steps += 1;
        self.loss += loss;
        self.rows += before_sigmoid.len() / bits;
        self.saturated += before_sigmoid.iter().filter(|x| x.abs() > saturated).count();
        self.ones.resize(bits, 0);
        for row in before_sigmoid.chunks_exact(bits) {
            self.ones.iter_mut().zip(row).for_each(|(ones, &x)| *ones += usize::from(x > 0.0));
        }
    }

    pub fn mean_loss(&self) -> f64 {
        self.loss / self.steps.max(1) as f64
    }

    pub fn balance(&self) -> f64 {
        let rarer = |ones: &usize| (*ones).min(self.rows - ones) as f64 / self.rows as f64;
        2.0 * self.ones.iter().map(rarer).sum::<f64>() / self.ones.len() as f64
    }

    pub fn saturation(&self) -> f64 {
        self.saturated as f64 / (self.rows * self.ones.len()) as f64
    }
}
