//! Where the gradients of a layer wait for the step that they are for.

use std::sync::{Arc, Mutex};

use candle_core::{Result, Tensor};

/// The gradients of one layer's weight and bias, once a way back has found them.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<[Tensor; 2]>>>);

impl Slot {
    /// What was found since the last call.
    pub fn take(&self) -> Option<[Tensor; 2]> {
        self.0.lock().ok().and_then(|mut slot| slot.take())
    }
}

/// Gradients of weight and bias, and where they belong.
pub(super) struct Found {
    pub slot: Slot,
    pub gradients: [Tensor; 2],
}

impl Found {
    /// Puts them where they belong, on top of what is there.
    pub fn keep(&self) -> Result<()> {
        let Ok(mut slot) = self.slot.0.lock() else {
            candle_core::bail!("a training broke off while it kept gradients")
        };
        let [weight, bias] = &self.gradients;
        *slot = Some(match slot.take() {
            Some([w, b]) => [(w + weight)?, (b + bias)?],
            None => [weight.clone(), bias.clone()],
        });
        Ok(())
    }

    /// The same times `factor`.
    pub fn times(&self, factor: f64) -> Result<Self> {
        let [weight, bias] = &self.gradients;
        let gradients = match factor == 1.0 {
            true => [weight.clone(), bias.clone()],
            false => [(weight * factor)?, (bias * factor)?],
        };
        Ok(Self { slot: self.slot.clone(), gradients })
    }
}
