//! The two precisions a network computes in: `f32` to train, `f64` to check its gradients.

use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, WithDType, bail};

use crate::error::Error;

/// A real number that candle tensors can hold and our own operations compute with.
pub(super) trait Real: WithDType {
    fn from_f32(x: f32) -> Self;
    fn exp(self) -> Self;
    fn ln_1p(self) -> Self;
    fn tanh(self) -> Self;
    /// The values of a storage, to write to.
    fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

macro_rules! real {
    ($type:ident, $variant:ident) => {
        impl Real for $type {
            fn from_f32(x: f32) -> Self {
                Self::from(x)
            }

            fn exp(self) -> Self {
                self.exp()
            }

            fn ln_1p(self) -> Self {
                self.ln_1p()
            }

            fn tanh(self) -> Self {
                self.tanh()
            }

            fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(values) => Ok(values),
                    _ => bail!("expected a tensor of {}", stringify!($type)),
                }
            }
        }
    };
}

real!(f32, F32);
real!(f64, F64);

/// Calls `f` with the values of a contiguous tensor, row after row, without copying them.
pub(super) fn with_values<T: Real, R>(tensor: &Tensor, f: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { bail!("expected a tensor on the CPU") };
    let values = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(f(&values[start..end])),
        None => bail!("expected a contiguous tensor"),
    }
}

/// Calls `f` with the values of a contiguous tensor that nothing else reads meanwhile, to write
/// to. Back-propagation does not see the change.
pub(super) fn update_values<T: Real>(tensor: &Tensor, f: impl FnOnce(&mut [T])) -> Result<()> {
    // candle hands an in-place operation `&self`, so what is called once is taken out of a lock.
    struct Update<F, T>(Mutex<Option<F>>, std::marker::PhantomData<T>);

    impl<T: Real, F: FnOnce(&mut [T])> InplaceOp1 for Update<F, T> {
        fn name(&self) -> &'static str {
            "update"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
            let values = T::slice_mut(storage)?;
            let Some((start, end)) = layout.contiguous_offsets() else {
                bail!("expected a contiguous tensor")
            };
            if let Some(f) = self.0.lock().ok().and_then(|mut f| f.take()) {
                f(&mut values[start..end]);
            }
            Ok(())
        }
    }

    tensor.inplace_op1(&Update(Mutex::new(Some(f)), std::marker::PhantomData))
}

/// An error of candle's, which shapes that were checked cannot cause.
pub(super) fn internal(error: candle_core::Error) -> Error {
    Error::invalid("network", format!("{error}; this is a defect of nearbit, please report it"))
}
