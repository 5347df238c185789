//! The deep autoencoder: an encoder of fully connected layers, a code layer that is brought to 0
//! and 1, a decoder.
//!
//! ```text
//! x --encoder--> a --sigmoid, binarized--> z in 0..1 --decoder--> y --loss--> a number
//! ```
//!
//! Weights start as He's or Glorot's normal numbers from our own seeded stream: candle's random
//! numbers cannot be seeded on the CPU. This file is about shapes; a layer's product is in
//! [`layer`](super::layer), how z is made of a in [`code_layer`](super::code_layer), what y is
//! judged by in [`loss`](super::loss).

use candle_core::{Device, Result, Tensor, Var};
use rand_chacha::ChaCha8Rng;

use super::chain::{Step, given};
use super::layer::{Layer, Rows};
use super::loss::{self, Block, Target};
use super::options::{Activation, Binarize, TrainOptions};
use super::random::{Purpose, normal, stream, uniform};
use super::real::Real;
use super::slot::Slot;
use crate::input::{Features, Matrix};

/// Rows that are encoded together where nothing is learned from them.
const TOGETHER: usize = 2048;

/// An autoencoder in training.
#[derive(Clone)]
pub(super) struct Network {
    /// From the input to the values before the code's sigmoid.
    pub encoder: Vec<Layer>,
    /// Beside the encoder's last layer: the logarithm of the code's variance, where that is learned.
    pub variance: Option<Layer>,
    /// From the code to the values that the loss reads.
    pub decoder: Vec<Layer>,
}

/// What the encoder makes of some rows.
pub(super) struct Encoded {
    /// The way through the hidden layers.
    hidden: Vec<Step>,
    /// The values before the code's sigmoid: shape (rows, bits).
    pub code: Tensor,
    /// The logarithms of their variances, where those are learned.
    pub log_variance: Option<Tensor>,
}

impl Encoded {
    /// What hidden layer `layer` gives, counted from 0, before dropout: shape (rows, units). `None` where
    /// there are not so many.
    pub fn hidden<T: Real>(&self, layer: usize) -> Option<Result<Tensor>> {
        self.hidden.get(..=layer).map(|steps| given::<T>(steps.to_vec()))
    }
}

/// Which hidden units a step leaves out: each with probability `share`; the others count for more
/// in return, so that sums keep their size (Srivastava et al., *Dropout*, 2014).
pub(super) struct Dropout {
    pub share: f64,
    pub rng: ChaCha8Rng,
}

impl Dropout {
    /// What each number of `h` is multiplied by; `None` where nothing is left out.
    fn mask<T: Real>(&mut self, h: &Tensor) -> Result<Option<Tensor>> {
        if self.share == 0.0 {
            return Ok(None);
        }
        let kept = T::from_f64(1.0 / (1.0 - self.share));
        let draws = uniform(&mut self.rng, h.elem_count()).into_iter();
        let mask = draws.map(|x| if x < self.share { T::from_f64(0.0) } else { kept }).collect();
        Tensor::from_vec::<_, T>(mask, h.shape(), h.device()).map(Some)
    }
}

impl Network {
    /// A network for rows of `cols` numbers with the sizes of `options`, freshly drawn.
    pub fn new<T: Real>(cols: usize, options: &TrainOptions) -> Result<Self> {
        let bits = options.bits.bits();
        let mut encoder = vec![cols];
        encoder.extend(&options.hidden);
        let before_code = *encoder.last().unwrap_or(&cols);
        encoder.push(bits);
        let mut decoder = vec![bits];
        decoder.extend(options.decoder_hidden());
        decoder.push(cols);
        let draw = |sizes: &[usize], first: usize| -> Result<Vec<Layer>> {
            let last = sizes.len() - 2;
            (0..=last)
                .map(|i| {
                    let activation =
                        if i == last { Activation::Linear } else { options.activation };
                    draw_layer::<T>(sizes[i], sizes[i + 1], activation, options.seed, first + i)
                })
                .collect()
        };
        let layers = encoder.len() + decoder.len() - 2;
        let variance = match options.binarize {
            Binarize::Gaussian => {
                let seed = options.seed;
                Some(draw_layer::<T>(before_code, bits, Activation::Linear, seed, layers)?)
            }
            _ => None,
        };
        let (encoder, decoder) = (draw(&encoder, 0)?, draw(&decoder, encoder.len() - 1)?);
        Ok(Self { encoder, variance, decoder })
    }

    /// What the encoder makes of `rows`.
    pub fn encode<T: Real>(&self, rows: &Rows, dropout: &mut Dropout) -> Result<Encoded> {
        let Some((last, before)) = self.encoder.split_last() else {
            candle_core::bail!("an encoder has a last layer")
        };
        let hidden = steps::<T>(before, rows.clone(), dropout)?;
        let rows = match hidden.last() {
            Some(step) => Rows::Dense(step.next::<T>()?),
            None => rows.clone(),
        };
        let head = |layer: &Layer| {
            let own = Step::new::<T>(layer, rows.clone(), |_| Ok(None))?;
            given::<T>([&hidden[..], &[own]].concat())
        };
        let (code, log_variance) = (head(last)?, self.variance.as_ref().map(head).transpose()?);
        Ok(Encoded { hidden, code, log_variance })
    }

    /// The values before the code's sigmoid of all `rows`, without dropout: shape (rows, bits).
    pub fn values(&self, rows: &Features) -> Result<Matrix> {
        let mut none = Dropout { share: 0.0, rng: stream(0, Purpose::Dropout, 0) };
        let all: Vec<usize> = (0..rows.rows()).collect();
        let (mut values, mut bits) = (Vec::new(), 0);
        for batch in all.chunks(TOGETHER) {
            let code = self.encode::<f32>(&Rows::new(&rows.select(batch))?, &mut none)?.code;
            bits = code.dims2()?.1;
            values.extend(code.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Matrix::new(rows.rows(), bits, values))
    }

    /// The weighted reconstruction loss of codes `z`, mean over the batch.
    pub fn reconstruction<T: Real>(
        &self,
        z: &Tensor,
        blocks: &[Block],
        targets: &[Target<'_>],
        dropout: &mut Dropout,
    ) -> Result<Tensor> {
        let Some((last, before)) = self.decoder.split_last() else {
            candle_core::bail!("a decoder has a last layer")
        };
        let steps = steps::<T>(before, Rows::Dense(z.detach()), dropout)?;
        loss::reconstruction::<T>(z, &steps, last, blocks, targets)
    }

    /// What each variable should change against to make `loss` smaller, in their order.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let store = loss.backward()?;
        let mut gradients = Vec::new();
        for (_, layers) in self.parts() {
            for layer in layers {
                gradients.extend(layer.gradients(&store)?);
            }
        }
        Ok(gradients)
    }

    /// The layers, encoder first.
    fn parts(&self) -> [(&'static str, &[Layer]); 3] {
        let variance = self.variance.as_slice();
        [("encoder", &self.encoder), ("variance", variance), ("decoder", &self.decoder)]
    }

    /// Every variable, encoder first, with its name in a model file.
    pub fn variables(&self) -> Vec<(String, Var)> {
        let mut variables = Vec::new();
        for (part, layers) in self.parts() {
            for (i, layer) in layers.iter().enumerate() {
                variables.push((format!("{part}.{i}.weight"), layer.weight.clone()));
                variables.push((format!("{part}.{i}.bias"), layer.bias.clone()));
            }
        }
        variables
    }
}

/// The way of `rows` through hidden layers.
fn steps<T: Real>(layers: &[Layer], mut rows: Rows, dropout: &mut Dropout) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(layers.len());
    for layer in layers {
        let step = Step::new::<T>(layer, rows, |h| dropout.mask::<T>(h))?;
        rows = Rows::Dense(step.next::<T>()?);
        steps.push(step);
    }
    Ok(steps)
}

/// Normal weights whose variance keeps the size of the signal (2 / inputs before a ReLU or GELU,
/// which halve it: He et al. 2015; else 2 / (inputs + outputs): Glorot and Bengio 2010), no bias.
fn draw_layer<T: Real>(
    inputs: usize,
    outputs: usize,
    activation: Activation,
    seed: u64,
    number: usize,
) -> Result<Layer> {
    let variance = match activation {
        Activation::Relu | Activation::Gelu => 2.0 / inputs as f64,
        _ => 2.0 / (inputs + outputs) as f64,
    };
    let mut rng = stream(seed, Purpose::Weights, number as u64);
    let weight = normal(&mut rng, inputs * outputs)
        .into_iter()
        .map(|x| T::from_f64(x * variance.sqrt()))
        .collect();
    Ok(Layer {
        weight: Var::from_vec::<_, T>(weight, (inputs, outputs), &Device::Cpu)?,
        bias: Var::from_vec(vec![T::from_f64(0.0); outputs], outputs, &Device::Cpu)?,
        activation,
        slot: Slot::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Width;
    use crate::model::code_layer::{code, sigmoid};
    use crate::model::contrast::info_nce;
    use crate::model::gradient_check::check_layers;
    use crate::model::options::Loss;

    fn none() -> Dropout {
        Dropout { share: 0.0, rng: stream(1, Purpose::Dropout, 0) }
    }

    fn options(binarize: Binarize) -> TrainOptions {
        TrainOptions {
            bits: Width::new(3).unwrap(),
            hidden: vec![4],
            activation: Activation::Gelu,
            binarize,
            ..TrainOptions::default()
        }
    }

    #[test]
    fn every_variable_has_the_gradient_that_finite_differences_give() {
        let x: Vec<f32> = (0..20).map(|i| (i as f32 * 0.37).sin().abs()).collect();
        let target = Features::Dense(Matrix::new(4, 5, x.clone()));
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        let rows = Rows::Dense(Tensor::from_vec(x, (4, 5), &Device::Cpu).unwrap());
        let blocks = [Block { columns: 0..5, loss: Loss::Bernoulli }];
        for (how, expected) in
            [(Binarize::Noise { start: 0.5, end: 1.0 }, 8), (Binarize::Gaussian, 10)]
        {
            let network = Network::new::<f64>(5, &options(how)).unwrap();
            let f = || {
                let mut dropout = Dropout { share: 0.3, ..none() };
                let encoded = network.encode::<f64>(&rows, &mut dropout).unwrap();
                let mut rng = stream(1, Purpose::Bits, 0);
                let variance = encoded.log_variance.as_ref();
                let z = code::<f64>(&encoded.code, variance, how, 0.5, &mut rng).unwrap();
                let targets = [Target { rows: &target, weight: 1.0 }];
                let loss = network.reconstruction::<f64>(&z, &blocks, &targets, &mut dropout);
                let p = sigmoid(&encoded.code).unwrap();
                let (own, partner) = (p.narrow(0, 0, 2).unwrap(), p.narrow(0, 2, 2).unwrap());
                (loss.unwrap() + info_nce::<f64>(&own, &partner, 0.5).unwrap()).unwrap()
            };
            let layers: Vec<&Layer> = network.parts().into_iter().flat_map(|(_, l)| l).collect();
            assert_eq!((network.variables().len(), 2 * layers.len()), (expected, expected));
            check_layers(&layers, &[], f);
        }
    }

    #[test]
    fn dropout_leaves_out_its_share_and_keeps_the_size_of_sums() {
        let h = Tensor::ones((100, 200), candle_core::DType::F64, &Device::Cpu).unwrap();
        assert!(none().mask::<f64>(&h).unwrap().is_none());
        let kept = Dropout { share: 0.25, ..none() }.mask::<f64>(&h).unwrap().unwrap();
        let kept: Vec<f64> = kept.flatten_all().unwrap().to_vec1().unwrap();
        assert!(kept.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-12));
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
