//! A start for deep networks: restricted Boltzmann machines, one layer upon another.
//!
//! A Boltzmann machine of visible units v and hidden units h without connections inside a side has
//!
//! ```text
//! P(h_j = 1 | v) = sigmoid(b_j + v w_j)      mean of v_i given h = A'(c_i + w_i h)
//! ```
//!
//! where A' is the sigmoid for visible units of 0 and 1 and the identity for normal ones. It learns by
//! contrastive divergence with one step, CD-1 (Hinton, *Training products of experts by minimizing
//! contrastive divergence*, 2002):
//!
//! ```text
//! v0 data;  h0 drawn from P(h | v0);  v1 = mean given h0;  h1 = P(h | v1)
//! w changes by v0^T P(h | v0) - v1^T h1,  b by P(h | v0) - h1,  c by v0 - v1,  mean over the batch
//! ```
//!
//! Its hidden probabilities are the data of the next machine. Unrolled, the machines are the
//! network: w goes up and its transpose goes down (Hinton and Salakhutdinov, *Reducing the
//! dimensionality of data with neural networks*, 2006). Then the whole is trained as ever.

use candle_core::{Device, Result, Tensor, Var};

use super::adam::Adam;
use super::code_layer::sigmoid;
use super::layer::sum_rows;
use super::network::Network;
use super::options::{Loss, Pretraining, TrainOptions};
use super::random::{Purpose, normal, permutation, stream, uniform};
use crate::input::Matrix;

/// One Boltzmann machine.
struct Machine {
    /// Shape (visible, hidden).
    w: Var,
    /// Of the hidden units.
    b: Var,
    /// Of the visible units.
    c: Var,
    /// Whether visible units are 0 or 1, with a probability in between.
    is_logistic: bool,
}

impl Machine {
    /// P(h | v), shape (rows, hidden).
    fn up(&self, v: &Tensor) -> Result<Tensor> {
        sigmoid(&v.matmul(&self.w.detach())?.broadcast_add(&self.b.detach())?)
    }

    /// The mean of v given h, shape (rows, visible).
    fn down(&self, h: &Tensor) -> Result<Tensor> {
        let y = h.matmul(&self.w.detach().t()?)?.broadcast_add(&self.c.detach())?;
        if self.is_logistic { sigmoid(&y) } else { Ok(y) }
    }

    /// CD-1's changes of w, b and c, to go against.
    fn divergence(&self, v0: &Tensor, draws: Vec<f64>) -> Result<Vec<Option<Tensor>>> {
        let p0 = self.up(v0)?;
        let draws: Vec<f32> = draws.into_iter().map(|x| x as f32).collect();
        let h0 =
            p0.gt(&Tensor::from_vec(draws, p0.shape(), &Device::Cpu)?)?.to_dtype(p0.dtype())?;
        let v1 = self.down(&h0)?;
        let p1 = self.up(&v1)?;
        let per_row = 1.0 / v0.dims2()?.0 as f64;
        let w = (v1.t()?.matmul(&p1)? - v0.t()?.matmul(&p0)?)?;
        let (b, c) = (sum_rows::<f32>(&(p1 - p0)?)?, sum_rows::<f32>(&(v1 - v0)?)?);
        [w, b, c].into_iter().map(|x| x.affine(per_row, 0.0).map(Some)).collect()
    }
}

/// Sets the layers of `network`, a mirrored one of sigmoid units, to those of machines trained on
/// `rows`.
pub(super) fn pretrain(
    network: &Network,
    rows: &Matrix,
    options: &TrainOptions,
    how: Pretraining,
) -> Result<()> {
    let mut data = Tensor::from_slice(rows.values(), (rows.rows(), rows.cols()), &Device::Cpu)?;
    let layers = network.encoder.iter().zip(network.decoder.iter().rev()).enumerate();
    for (number, (encoder, decoder)) in layers {
        let (visible, hidden) = encoder.weight.dims2()?;
        let mut rng = stream(options.seed, Purpose::Pretraining, (number as u64) << 32);
        let small = normal(&mut rng, visible * hidden).into_iter().map(|x| 0.01 * x as f32);
        let machine = Machine {
            w: Var::from_vec(small.collect(), (visible, hidden), &Device::Cpu)?,
            b: Var::from_vec(vec![0f32; hidden], hidden, &Device::Cpu)?,
            c: Var::from_vec(vec![0f32; visible], visible, &Device::Cpu)?,
            is_logistic: number > 0 || options.loss == Loss::Bernoulli,
        };
        learn(&machine, &data, options, how, number as u64)?;
        encoder.weight.set(&machine.w)?;
        encoder.bias.set(&machine.b)?;
        decoder.weight.set(&machine.w.t()?.contiguous()?)?;
        decoder.bias.set(&machine.c)?;
        data = machine.up(&data)?;
    }
    Ok(())
}

fn learn(
    machine: &Machine,
    data: &Tensor,
    options: &TrainOptions,
    how: Pretraining,
    number: u64,
) -> Result<()> {
    let (n, hidden) = (data.dims2()?.0, machine.b.elem_count());
    let mut adam =
        Adam::new(vec![machine.w.clone(), machine.b.clone(), machine.c.clone()], options);
    for epoch in 0..how.epochs {
        let step = (number << 32) + epoch as u64 + 1;
        let mut rng = stream(options.seed, Purpose::Pretraining, step);
        let order = permutation(&mut rng, n);
        for batch in order.chunks(options.batch) {
            let index: Vec<u32> = batch.iter().map(|&row| row as u32).collect();
            let v0 = data.index_select(&Tensor::new(index, &Device::Cpu)?, 0)?;
            let draws = uniform(&mut rng, batch.len() * hidden);
            adam.step(&machine.divergence(&v0, draws)?, how.learning_rate)?;
        }
    }
    Ok(())
}
