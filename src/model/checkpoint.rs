//! Checkpoints: what a training needs to go on as if it had never stopped.
//!
//! Weights, Adam's moments and count, the report so far, and the best weights where early stopping
//! keeps them. There is no generator to save: random streams are keyed by the step. A checkpoint
//! bears a fingerprint of the data and the options, so that it cannot be continued with others.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::adam::{Adam, Moments};
use super::file::{self, Array, Parts};
use super::network::Network;
use super::options::TrainOptions;
use super::real::internal;
use super::report::Report;
use crate::error::{Error, Result};
use crate::input::Features;

const KIND: &str = "nearbit-checkpoint";

/// What a training carries from epoch to epoch beside weights and moments.
pub(super) struct State {
    pub report: Report,
    /// The weights of the best epoch, where early stopping wants them.
    pub best: Option<BTreeMap<String, Array>>,
}

/// A hash of the features and of all options that have a say in the result.
pub(super) struct Fingerprint(blake3::Hasher);

impl Fingerprint {
    /// Of no row yet.
    pub fn new(cols: usize, options: &TrainOptions) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let options = serde_json::to_string(options)
            .map_err(|e| Error::invalid("options", format!("cannot be written as JSON: {e}")))?;
        hasher.update(options.as_bytes()).update(&(cols as u64).to_le_bytes());
        Ok(Self(hasher))
    }

    /// Adds rows.
    pub fn add(&mut self, features: &Features) {
        for row in 0..features.rows() {
            let (columns, values) = match features {
                Features::Dense(dense) => (&[][..], dense.row(row)),
                Features::Sparse(sparse) => sparse.row(row),
            };
            let columns = columns.iter().flat_map(|column| column.to_le_bytes());
            let values = values.iter().flat_map(|value| value.to_le_bytes());
            let bytes: Vec<u8> = columns.chain(values).collect();
            self.0.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        }
    }

    pub fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// The network's weights by name.
pub(super) fn weights(network: &Network) -> Result<BTreeMap<String, Array>> {
    network
        .variables()
        .into_iter()
        .map(|(name, var)| {
            let values = var.flatten_all().and_then(|var| var.to_vec1()).map_err(internal)?;
            Ok((name, Array { shape: var.dims().to_vec(), values }))
        })
        .collect()
}

/// Sets the network's weights to those of [`weights`].
pub(super) fn set_weights(network: &Network, weights: &BTreeMap<String, Array>) -> Result<()> {
    for (name, var) in network.variables() {
        let Some(array) = weights.get(&name) else { continue };
        let tensor = Tensor::from_slice(&array.values, array.shape.as_slice(), &Device::Cpu);
        tensor.and_then(|tensor| var.set(&tensor)).map_err(internal)?;
    }
    Ok(())
}

/// Writes a checkpoint to `path`, replacing the one before.
pub(super) fn save(
    path: &Path,
    fingerprint: &str,
    network: &Network,
    adam: &Adam,
    state: &State,
) -> Result<()> {
    let mut parts = Parts { arrays: weights(network)?, ..Parts::default() };
    parts.put("fingerprint", &fingerprint)?;
    parts.put("steps", &adam.steps)?;
    parts.put("report", &state.report)?;
    for ((name, var), moments) in network.variables().iter().zip(&adam.moments) {
        for (moment, values) in [("mean", &moments.m), ("square", &moments.v)] {
            let array = Array { shape: var.dims().to_vec(), values: values.clone() };
            parts.arrays.insert(format!("{moment}.{name}"), array);
        }
    }
    for (name, array) in state.best.iter().flatten() {
        parts.arrays.insert(format!("best.{name}"), array.clone());
    }
    file::write(path, &parts.to_bytes(KIND))
}

/// Reads a checkpoint into `network` and `adam`.
pub(super) fn load(
    path: &Path,
    fingerprint: &str,
    network: &Network,
    adam: &mut Adam,
) -> Result<State> {
    let mut parts = Parts::from_bytes(&file::read(path, KIND)?, KIND, path)?;
    let found: String = parts.get("fingerprint", path)?;
    if found != fingerprint {
        return Err(Error::invalid(
            path.display().to_string(),
            "expected a checkpoint of this training, got one of other inputs or options; give \
             those, or remove the file to start afresh",
        ));
    }
    let report: Report = parts.get("report", path)?;
    adam.steps = parts.get("steps", path)?;
    let mut restored = BTreeMap::new();
    let mut best = BTreeMap::new();
    for ((name, var), moments) in network.variables().into_iter().zip(&mut adam.moments) {
        let mut take = |name: String| {
            let array = parts.take(&name, path)?;
            if array.shape != var.dims() {
                let message =
                    format!("tensor {name:?}: expected {:?}, got {:?}", var.dims(), array.shape);
                return Err(Error::damaged(path, None, message));
            }
            Ok(array)
        };
        let (m, v) = (take(format!("mean.{name}"))?, take(format!("square.{name}"))?);
        *moments = Moments { m: m.values, v: v.values };
        restored.insert(name.clone(), take(name.clone())?);
        if let Ok(array) = take(format!("best.{name}")) {
            best.insert(name, array);
        }
    }
    set_weights(network, &restored)?;
    Ok(State { report, best: (!best.is_empty()).then_some(best) })
}
