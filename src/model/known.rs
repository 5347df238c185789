//! Losses that find their gradient together with their value, as operations of candle.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::real::Real;
use super::slot::Found;

/// A number whose gradient by its arguments was found together with its value.
pub(super) struct Known<T, const N: usize> {
    pub value: T,
    pub gradients: [Tensor; N],
    /// Those of layers that had a part in it.
    pub of_layers: Vec<Found>,
}

impl<T: Real, const N: usize> Known<T, N> {
    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        Ok((T::to_cpu_storage_owned(vec![self.value]), ().into()))
    }

    fn gradients(&self, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        let factor = T::to_f64(grad.to_scalar::<T>()?);
        let mut scaled = [const { None }; N];
        for (scaled, gradient) in scaled.iter_mut().zip(&self.gradients) {
            let whole = if factor == 1.0 { gradient.clone() } else { (gradient * factor)? };
            *scaled = Some(whole);
        }
        self.of_layers.iter().try_for_each(|found| found.times(factor)?.keep())?;
        Ok(scaled)
    }
}

impl<T: Real> CustomOp1 for Known<T, 1> {
    fn name(&self) -> &'static str {
        "reconstruction"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.gradients(grad).map(|[a]| a)
    }
}

impl<T: Real> CustomOp2 for Known<T, 2> {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(grad).map(|[a, b]| (a, b))
    }
}
