//! What one step of a training makes small: the parts of the loss that the options ask for, of one
//! batch.
//!
//! ```text
//! rows --corrupted--> encoder --> a --code layer--> z --decoder--> reconstruction of the rows
//!                                                                 reconstruction of their partners
//!                                 a of rows and partners           InfoNCE
//!                                 bits of both, and the rows       similarity
//!                                 a, or a hidden layer             sparsity, contraction, divergence
//! ```
//!
//! Where codes are nested, what is asked of a code is asked of its prefixes (see [`nested`](super::nested)).

use candle_core::{Device, Result, Tensor};

use super::code_layer::{code, sigmoid, top};
use super::contrast::info_nce;
use super::corrupt::corrupt;
use super::layer::Rows;
use super::loss::{Block, Target, numbers_of};
use super::nested::{drawn, prefix, widths};
use super::network::{Dropout, Encoded, Network};
use super::options::{Binarize, Sparsity, TrainOptions};
use super::penalty::{SMALL_STEP, contraction, contraction_seen, perturb, sparsity};
use super::random::{Purpose, stream};
use super::similarity::similarity;
use super::spread::Spread;
use super::variational::{of_bits, of_normals};
use crate::input::Features;

/// The loss that some options ask for, of rows like those that it was made for.
pub(super) struct Objective<'a> {
    options: &'a TrainOptions,
    pub blocks: Vec<Block>,
    /// What a code is judged at: its own width, and those of the prefixes that are to be codes.
    widths: Vec<usize>,
    /// The smallest and the largest feature.
    extremes: (f32, f32),
    /// A step that is small beside the features.
    small: f64,
}

/// What a batch is looked at for.
#[derive(Clone, Copy)]
pub(super) enum Look {
    /// To learn from it, in this step; `done` is the share of the training that is over.
    Learn { step: u64, done: f64 },
    /// To judge the training: no corruption, no dropout, and hard bits in place of noisy ones. A
    /// variational code is drawn here too, as its bound is an expectation.
    Judge { batch: u64 },
}

impl Look {
    fn stream(self, seed: u64, purpose: Purpose) -> rand_chacha::ChaCha8Rng {
        match self {
            Self::Learn { step, .. } => stream(seed, purpose, step),
            // Counted from the end, where no training gets to.
            Self::Judge { batch } => stream(seed, purpose, u64::MAX - batch),
        }
    }
}

impl<'a> Objective<'a> {
    /// The objective of training on rows of `cols` features that are as large as `spread` says.
    ///
    /// # Errors
    /// A mix of losses for another number of columns.
    pub fn new(
        options: &'a TrainOptions,
        cols: usize,
        spread: &Spread,
    ) -> crate::error::Result<Self> {
        let size = spread.size();
        Ok(Self {
            options,
            blocks: Block::all(options, cols)?,
            widths: widths(options),
            extremes: spread.extremes,
            small: SMALL_STEP * if size > 0.0 { size } else { 1.0 },
        })
    }

    /// The loss of the rows of a batch, and their values before the code's sigmoid. `partners` has a row
    /// for each, where neighbours are used.
    pub fn loss(
        &self,
        network: &Network,
        own: &Features,
        partners: Option<&Features>,
        look: Look,
    ) -> Result<(Tensor, Tensor)> {
        let options = self.options;
        let n = own.rows();
        let mut clean = own.clone();
        if let Some(partners) = partners {
            clean.append(partners);
        }
        let x = Rows::new(&self.shown(&clean, look))?;
        let mut dropout = self.dropout(look);
        let mut encoded = network.encode::<f32>(&x, &mut dropout)?;
        if let Some(Sparsity::Top(active)) = options.sparsity {
            encoded.code = top::<f32>(&encoded.code, active)?;
        }
        let a = encoded.code.narrow(0, 0, n)?;
        let mut terms = Vec::new();
        let share = 1.0 / self.widths.len() as f64;
        let mut targets = vec![Target { rows: own, weight: options.reconstruction }];
        if let (Some(neighbours), Some(partners)) = (options.neighbours, partners) {
            let p = sigmoid(&encoded.code)?;
            for &width in &self.widths {
                let p = p.narrow(1, 0, width)?;
                let (own, partner) = (p.narrow(0, 0, n)?, p.narrow(0, n, n)?);
                let contrast = info_nce::<f32>(&own, &partner, neighbours.temperature)?;
                terms.push(contrast.affine(neighbours.contrast * share, 0.0)?);
            }
            targets.push(Target { rows: partners, weight: neighbours.reconstruction });
        }
        targets.retain(|target| target.weight > 0.0);
        if !targets.is_empty() {
            let (how, done) = self.code_layer(look);
            let own_variance = encoded.log_variance.as_ref().map(|v| v.narrow(0, 0, n));
            let own_variance = own_variance.transpose()?;
            let mut rng = look.stream(options.seed, Purpose::Bits);
            let z = code::<f32>(&a, own_variance.as_ref(), how, done, &mut rng)?;
            let widths = self.given_back_from(look);
            let share = 1.0 / widths.len() as f64;
            for width in widths {
                let z = prefix(&z, width)?;
                let loss =
                    network.reconstruction::<f32>(&z, &self.blocks, &targets, &mut dropout)?;
                terms.push(loss.affine(share, 0.0)?);
                if options.prior > 0.0 {
                    let variance = own_variance.as_ref().map(|v| v.narrow(1, 0, width));
                    let loss =
                        self.divergence(&a.narrow(1, 0, width)?, variance.transpose()?, own)?;
                    terms.push(loss.affine(share, 0.0)?);
                }
            }
        }
        if let (Some(how), Features::Dense(rows)) = (options.similarity, &clean) {
            for &width in &self.widths {
                let code = encoded.code.narrow(1, 0, width)?;
                let loss = similarity::<f32>(&code, rows, how.temperature)?;
                let wide = width as f64 / 128.0;
                terms.push(loss.affine(how.weight * wide * wide * share, 0.0)?);
            }
        }
        self.add_penalties(&mut terms, network, &x, &encoded, look)?;
        let mut terms = terms.into_iter();
        let Some(first) = terms.next() else { candle_core::bail!("an objective has a part") };
        let loss = terms.try_fold(first, |sum, term| sum + term)?;
        Ok((loss, a))
    }

    /// The rows as the encoder gets to see them.
    fn shown(&self, rows: &Features, look: Look) -> Features {
        match (self.options.corruption, look) {
            (Some(how), Look::Learn { .. }) => {
                let mut rng = look.stream(self.options.seed, Purpose::Corruption);
                corrupt(rows, how, self.extremes, &mut rng)
            }
            _ => rows.clone(),
        }
    }

    /// The widths that a batch is given back from: one that is drawn to learn, all of them to judge.
    fn given_back_from(&self, look: Look) -> Vec<usize> {
        match look {
            Look::Learn { .. } => {
                let mut rng = look.stream(self.options.seed, Purpose::Width);
                vec![drawn(&self.widths, &mut rng)]
            }
            Look::Judge { .. } => self.widths.clone(),
        }
    }

    fn dropout(&self, look: Look) -> Dropout {
        let share = match look {
            Look::Learn { .. } => self.options.dropout,
            Look::Judge { .. } => 0.0,
        };
        Dropout { share, rng: look.stream(self.options.seed, Purpose::Dropout) }
    }

    fn code_layer(&self, look: Look) -> (Binarize, f64) {
        let how = self.options.binarize;
        match (look, how) {
            (Look::Learn { done, .. }, _) => (how, done),
            (_, Binarize::Noise { .. }) => (Binarize::Round, 1.0),
            (_, Binarize::Sample) if self.options.prior == 0.0 => (Binarize::Round, 1.0),
            _ => (how, 1.0),
        }
    }

    /// The weighted divergence from the prior, mean over the rows, in the unit of the reconstruction.
    fn divergence(
        &self,
        a: &Tensor,
        log_variance: Option<Tensor>,
        rows: &Features,
    ) -> Result<Tensor> {
        let each = match log_variance {
            Some(log_variance) => of_normals(a, &log_variance)?,
            None => of_bits(a)?,
        };
        let scale = |row| self.options.prior / numbers_of(&self.blocks, rows, row) as f64;
        let scales: Vec<f32> = (0..rows.rows()).map(|row| scale(row) as f32).collect();
        (each * Tensor::from_vec(scales, rows.rows(), &Device::Cpu)?)?.mean_all()
    }

    /// Sparsity and contraction of all rows that were encoded.
    fn add_penalties(
        &self,
        terms: &mut Vec<Tensor>,
        network: &Network,
        x: &Rows,
        encoded: &Encoded,
        look: Look,
    ) -> Result<()> {
        let options = self.options;
        let activations = |a: &Tensor| match options.binarize.is_logistic() {
            true => sigmoid(a),
            false => Ok(a.clone()),
        };
        if let Some(how) = options.sparsity {
            let hidden = options.sparse_layer.and_then(|layer| encoded.hidden::<f32>(layer - 1));
            let h = hidden.unwrap_or_else(|| activations(&encoded.code))?;
            terms.extend(sparsity(&h, how)?);
        }
        if options.contraction == 0.0 {
            return Ok(());
        }
        let norm = match (&network.encoder[..], x) {
            ([layer], _) => {
                contraction(&encoded.code, &layer.weight, options.binarize.is_logistic())?
            }
            (_, Rows::Dense(x)) => {
                let mut rng = look.stream(options.seed, Purpose::Perturbation);
                let moved = Rows::Dense(perturb::<f32>(x, self.small, &mut rng)?);
                let mut none = Dropout { share: 0.0, rng };
                let moved = network.encode::<f32>(&moved, &mut none)?.code;
                contraction_seen(&activations(&encoded.code)?, &activations(&moved)?, self.small)?
            }
            (_, Rows::Sparse(_)) => candle_core::bail!("bags of words are not perturbed"),
        };
        terms.push(norm.affine(options.contraction, 0.0)?);
        Ok(())
    }
}
