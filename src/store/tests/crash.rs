//! Crashes at every moment of a random workload: whatever the disk may hold then is opened.
//!
//! What is checked of each image: it opens; every acknowledged group is there; no group is there
//! in part; of what was not acknowledged at most the one group that was on its way is there; every
//! record has the bytes that were written; and the store goes on from there.
//!
//! ```text
//! NEARBIT_SEEDS=2000 cargo test --release --lib store::tests::crash    100,000 images
//! NEARBIT_SEED=17 cargo test --lib store::tests::crash                 those of one seed again
//! ```

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::files::recorder::{Fault, Recorder, Which};
use super::workload::{Workload, each_seed, seeds};
use super::*;

/// Images that are drawn of each workload.
const IMAGES: usize = 50;

/// A workload, and images of many moments of it.
fn check(seed: u64, table: &Table) -> Result<()> {
    let (mut workload, store) = Workload::new(seed, table.clone())?;
    let mut store = Some(store);
    for _ in 0..workload.rng.random_range(3..30) {
        workload.step(&mut store)?;
    }
    store.into_iter().for_each(crash);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1 << 63);
    for _ in 0..IMAGES {
        let end = rng.random_range(0..=workload.recorder.now());
        let image = workload.recorder.image(end, &mut rng);
        // Now and then the recovery is killed too, or loses its power.
        let image = if rng.random_range(0..4) == 0 {
            let recorder = Recorder::on(image);
            let at = rng.random_range(0..30);
            let error = std::io::ErrorKind::Other;
            recorder.set_fault(Some(Fault { at, which: Which::AllFrom, error }));
            let files = Files::on(recorder.clone());
            let dir = workload.place.collection();
            if let Ok((store, _)) = Store::open_on(&files, &dir, table, workload.place.limits) {
                crash(store);
            }
            recorder.image(recorder.now(), &mut rng)
        } else {
            image
        };
        workload.check_image(&Files::on(image), end, &mut rng)?;
    }
    Ok(())
}

#[test]
fn what_a_crash_leaves_is_what_was_acknowledged() -> Result<()> {
    each_seed(seeds(30), check)
}
