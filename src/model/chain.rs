//! Layers one upon another, as one operation whose way back is walked by hand.
//!
//! candle adds every gradient to zeros that it makes first, and sums of 65,536 numbers and more go to
//! threads of its own that go on spinning beside ours. Weights and hidden layers are that large; so
//! their gradients never meet candle. A chain's operation takes its last layer's weights, to be part of
//! the graph, remembers what every layer took and gave, and puts the gradients into the layers'
//! [`slot`](super::slot)s.

use std::marker::PhantomData;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::layer::{Layer, Rows, multiply};
use super::real::{Real, with_values};
use super::slot::Found;

/// A layer on its way: what it took and what it gave.
#[derive(Clone)]
pub(super) struct Step {
    layer: Layer,
    x: Rows,
    y: Tensor,
    /// What each number of y was multiplied by before the next layer took it.
    kept: Option<Tensor>,
}

impl Step {
    /// Sends rows through a layer; `kept` makes the mask of what comes out.
    pub fn new<T: Real>(
        layer: &Layer,
        x: Rows,
        kept: impl FnOnce(&Tensor) -> Result<Option<Tensor>>,
    ) -> Result<Self> {
        let y = layer.apply::<T>(&x)?;
        let kept = kept(&y)?;
        Ok(Self { layer: layer.clone(), x, y, kept })
    }

    /// What the next layer takes.
    pub fn next<T: Real>(&self) -> Result<Tensor> {
        match &self.kept {
            Some(kept) => multiply::<T>(&self.y, kept),
            None => Ok(self.y.clone()),
        }
    }
}

/// Walks back through `steps` from the gradient of what the last one gave, after its mask: every
/// layer's gradients, the last first, and that of what the first layer took, where it is asked for.
pub(super) fn back<T: Real>(
    steps: &[Step],
    mut grad: Tensor,
    is_asked: bool,
) -> Result<(Vec<Found>, Tensor)> {
    let mut found = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate().rev() {
        if let Some(kept) = &step.kept {
            grad = multiply::<T>(&grad, kept)?;
        }
        let (g, gradients) = step.layer.back::<T>(&step.x, &step.y, &grad)?;
        found.push(Found { slot: step.layer.slot.clone(), gradients });
        if i > 0 || is_asked {
            grad = g.matmul(&step.layer.weight.detach().t()?)?;
        }
    }
    Ok((found, grad))
}

/// What the last of `steps` gave, before its mask, as a part of candle's graph. The rows that went
/// into the first one are data.
pub(super) fn given<T: Real>(steps: Vec<Step>) -> Result<Tensor> {
    let Some(last) = steps.last() else { candle_core::bail!("a chain has a layer") };
    let (weight, bias) = (last.layer.weight.clone(), last.layer.bias.clone());
    weight.apply_op2(&bias, Chain::<T> { steps, real: PhantomData })
}

struct Chain<T> {
    steps: Vec<Step>,
    real: PhantomData<T>,
}

impl<T: Real> CustomOp2 for Chain<T> {
    fn name(&self) -> &'static str {
        "layers"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = &self.steps[self.steps.len() - 1].y;
        let values = with_values::<T, Vec<T>>(y, <[T]>::to_vec)?;
        Ok((T::to_cpu_storage_owned(values), y.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut steps = self.steps.clone();
        // The gradient is that of what was given, before the mask.
        steps.iter_mut().rev().take(1).for_each(|last| last.kept = None);
        let (found, _) = back::<T>(&steps, grad.contiguous()?, false)?;
        found.iter().try_for_each(Found::keep)?;
        Ok((None, None))
    }
}
