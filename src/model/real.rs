//! The two precisions a network computes in: `f32` to train, `f64` to check its gradients.

use std::sync::Mutex;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, WithDType, bail};

use crate::error::Error;
use crate::numeric::exp;

/// A real number that candle tensors can hold and our own operations compute with.
pub(super) trait Real: WithDType {
    fn from_f32(x: f32) -> Self;
    fn exp(self) -> Self;
    fn tanh(self) -> Self;
    /// The values of a storage, to write to.
    fn slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

macro_rules! real {
    ($type:ident, $variant:ident, $exp:expr) => {
        impl Real for $type {
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                Self::from(x)
            }

            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
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

real!(f32, F32, exp);
real!(f64, F64, f64::exp);

/// Joins what `each` makes of the values, in 16 lanes side by side so that a loop over it becomes
/// vectors, and then the lanes in their order.
#[inline(always)]
pub(super) fn fold<T: Copy>(
    values: &[T],
    start: T,
    each: impl Fn(T) -> T,
    join: impl Fn(T, T) -> T,
) -> T {
    let mut lanes = [start; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &value)| *lane = join(*lane, each(value)));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &value)| *lane = join(*lane, each(value)));
    lanes.into_iter().fold(start, join)
}

/// The sum, by [`fold`].
#[inline(always)]
pub(super) fn sum<T: Real>(values: &[T]) -> T {
    fold(values, T::from_f32(0.0), |value| value, |sum, value| sum + value)
}

/// The sum of squares, by [`fold`].
#[inline(always)]
pub(super) fn squares<T: Real>(values: &[T]) -> T {
    fold(values, T::from_f32(0.0), |value| value * value, |sum, square| sum + square)
}

/// The larger of `start` and the largest value, by [`fold`].
#[inline(always)]
pub(super) fn largest<T: Real>(start: T, values: &[T]) -> T {
    fold(values, start, |value| value, |top, value| if value > top { value } else { top })
}

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
