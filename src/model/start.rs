//! A start for linear encoders of dense vectors: principal components, rotated (PCA and ITQ).

use super::network::Network;
use crate::error::Result;
use crate::input::Features;

pub(super) fn from_itq(_network: &Network, _rows: &Features, _seed: u64) -> Result<()> {
    Ok(())
}
