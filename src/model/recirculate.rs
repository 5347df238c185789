//! Recirculation: a shallow autoencoder that learns without back-propagation.
//!
//! What a row becomes on its way round tells each layer its error, without a chain of derivatives
//! (Hinton and McClelland, *Learning representations by recirculation*, 1988):
//!
//! ```text
//! x0                        h0 = f(x0 w + b)
//! x1 = k x0 + (1 - k) x'    x' = the reconstruction from h0, k = 3/4
//! h1 = k h0 + (1 - k) f(x1 w + b)
//!
//! decoder changes by h0^T (x0 - x1)       encoder changes by x1^T (h0 - h1)
//! ```
//!
//! Where the decoder is nearly the encoder's transpose, h1 - h0 is nearly the slope of the
//! reconstruction's error: the changes then go downhill. So the two start as transposes. Adam takes
//! the changes in place of gradients; it looks at each weight alone, so learning stays local.

use candle_core::{Result, Tensor};

use super::code_layer::sigmoid;
use super::layer::sum_rows;
use super::network::Network;
use super::options::{Binarize, Loss};

/// How much of the row's old value stays when it comes round.
const REGRESSION: f64 = 0.75;

/// Makes the decoder the transpose of the encoder.
pub(super) fn tie(network: &Network) -> Result<()> {
    for (encoder, decoder) in network.encoder.iter().zip(&network.decoder) {
        decoder.weight.set(&encoder.weight.t()?.contiguous()?)?;
    }
    Ok(())
}

/// What each variable of `network` should change against, in the order of its variables. `x` has
/// shape (rows, columns).
pub(super) fn recirculate(
    network: &Network,
    x: &Tensor,
    how: Binarize,
    loss: Loss,
) -> Result<Vec<Option<Tensor>>> {
    let ([encoder], [decoder]) = (&network.encoder[..], &network.decoder[..]) else {
        candle_core::bail!("recirculation trains one layer each way")
    };
    let (w, b) = (encoder.weight.detach(), encoder.bias.detach());
    let (v, c) = (decoder.weight.detach(), decoder.bias.detach());
    let code = |a: &Tensor| if how.is_logistic() { sigmoid(a) } else { Ok(a.clone()) };
    let stay = |old: &Tensor, new: &Tensor| {
        old.affine(REGRESSION, 0.0)? + new.affine(1.0 - REGRESSION, 0.0)?
    };
    let h0 = code(&x.matmul(&w)?.broadcast_add(&b)?)?;
    let y = h0.matmul(&v)?.broadcast_add(&c)?;
    let mean = if loss == Loss::Bernoulli { sigmoid(&y)? } else { y };
    let x1 = stay(x, &mean)?;
    let h1 = stay(&h0, &code(&x1.matmul(&w)?.broadcast_add(&b)?)?)?;
    // Down, as a gradient is: the negative of the change.
    let rows = 1.0 / x.dims2()?.0 as f64;
    let (dx, dh) = ((x1.clone() - x)?.affine(rows, 0.0)?, (h1 - &h0)?.affine(rows, 0.0)?);
    let changes =
        [x1.t()?.matmul(&dh)?, sum_rows::<f32>(&dh)?, h0.t()?.matmul(&dx)?, sum_rows::<f32>(&dx)?];
    Ok(changes.into_iter().map(Some).collect())
}
