//! Ensembles: a wide code is made of narrower ones, each learned alone, side by side.
//!
//! ```text
//! encoder   | member 0 | member 1 | ...       columns of the weights
//! decoder   the mean of what the members give back
//! ```
//!
//! Bits that are learned together make the same mistakes together. Members differ in all that is
//! random: first weights, order, pairs, and so in their mistakes, which then cancel out in part, as
//! those of averaged networks do (Hansen and Salamon, *Neural network ensembles*, 1990). Layers without
//! hidden ones between are linear, so that the members make one encoder and one decoder, no larger than
//! those of a code that was learned whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::checkpoint::{set_weights, weights};
use super::file::Array;
use super::network::Network;
use super::options::TrainOptions;
use super::real::internal;
use super::report::Report;
use crate::code::Width;
use crate::error::Result;

/// Which member a training is of, counted from 0, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub member: usize,
    pub members: usize,
}

/// The trainings of the members, one after the other: of a code that is learned whole that of
/// `options`. The widths differ by a bit at most.
pub(super) fn members(options: &TrainOptions) -> Result<Vec<TrainOptions>> {
    let (bits, count) = (options.bits.bits(), options.members());
    if count == 1 {
        return Ok(vec![options.clone()]);
    }
    (0..count)
        .map(|member| {
            Ok(TrainOptions {
                bits: Width::new(bits / count + usize::from(member < bits % count))?,
                member_bits: None,
                seed: seed_of(options.seed, member),
                checkpoint: options.checkpoint.as_ref().map(|path| checkpoint_of(path, member)),
                ..options.clone()
            })
        })
        .collect()
}

/// The seed of a member: the first has that of the whole, so far from the others' that trainings with
/// seeds in a row have no member in common.
pub(super) fn seed_of(seed: u64, member: usize) -> u64 {
    seed.wrapping_add((member as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Each member has a checkpoint of its own; the first has the name that was given.
fn checkpoint_of(path: &Path, member: usize) -> PathBuf {
    if member == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{member}"));
    name.into()
}

/// The network of all members, and what there is to report of them: their epochs, one after the other.
pub(super) fn join(
    trained: Vec<(Network, Report)>,
    cols: usize,
    options: &TrainOptions,
) -> Result<(Network, Report)> {
    let (networks, reports): (Vec<Network>, Vec<Report>) = trained.into_iter().unzip();
    let mut report = Report::default();
    for of_member in reports {
        let mut epochs = std::mem::take(&mut report.epochs);
        let best_epoch = epochs.len() + of_member.best_epoch;
        epochs.extend(of_member.epochs.iter().cloned());
        report = Report { epochs, best_epoch, ..of_member };
    }
    let networks = match <[Network; 1]>::try_from(networks) {
        Ok([network]) => return Ok((network, report)),
        Err(networks) => networks,
    };
    let networks: Vec<BTreeMap<String, Array>> =
        networks.iter().map(weights).collect::<Result<_>>()?;
    let joined = Network::new::<f32>(cols, options).map_err(internal)?;
    let join = |name: &str, how: fn(&[&Array]) -> Array| {
        let arrays: Vec<&Array> = networks.iter().filter_map(|arrays| arrays.get(name)).collect();
        (name.to_owned(), how(&arrays))
    };
    let arrays = BTreeMap::from([
        join("encoder.0.weight", side_by_side),
        join("encoder.0.bias", side_by_side),
        join("decoder.0.weight", below_one_another),
        join("decoder.0.bias", mean),
    ]);
    set_weights(&joined, &arrays)?;
    Ok((joined, report))
}

/// The rows of each array behind those of the one before; a list is one row.
fn side_by_side(arrays: &[&Array]) -> Array {
    let cols = |array: &Array| array.shape.last().copied().unwrap_or(0);
    let rows = arrays.first().map_or(0, |array| array.values.len() / cols(array).max(1));
    let row =
        |array: &Array, i: usize| array.values[i * cols(array)..(i + 1) * cols(array)].to_vec();
    let values =
        (0..rows).flat_map(|i| arrays.iter().flat_map(move |array| row(array, i))).collect();
    let mut shape = arrays.first().map_or_else(Vec::new, |array| array.shape.clone());
    if let Some(last) = shape.last_mut() {
        *last = arrays.iter().map(|array| cols(array)).sum();
    }
    Array { shape, values }
}

/// All rows, those of each array divided by the number of arrays.
fn below_one_another(arrays: &[&Array]) -> Array {
    let share = 1.0 / arrays.len() as f32;
    let values = arrays.iter().flat_map(|array| &array.values).map(|w| w * share).collect();
    let rows = arrays.iter().map(|array| array.shape[0]).sum();
    Array { shape: vec![rows, arrays.first().map_or(0, |array| array.shape[1])], values }
}

/// The mean of lists of one length.
fn mean(arrays: &[&Array]) -> Array {
    let (len, share) =
        (arrays.first().map_or(0, |array| array.values.len()), 1.0 / arrays.len() as f32);
    let sum = |i: usize| arrays.iter().map(|array| array.values[i]).sum::<f32>();
    Array { shape: vec![len], values: (0..len).map(|i| sum(i) * share).collect() }
}
