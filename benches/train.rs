//! How many rows a second does a training take?
//!
//!     cargo bench --bench train                     one line a network, batch 256
//!     python3 benches/train_torch.py                the same networks and losses in PyTorch
//!
//! And how much memory? "Maximum resident set size" of the first, with 400,000 x 384 numbers in `v.npy`,
//! with and without `--memory`; or that it ends within a limit on all of its memory:
//!
//!     command time -v nearbit train v.npy --epochs 1 --neighbours 0 --hidden 64 --memory 128MiB --model m.st
//!     prlimit --as=600000000 nearbit train ...
//!
//! Images of 784 pixels through 784-512-256-64 and back, and texts of 60 words of a vocabulary of
//! 10,000 through a linear encoder and back; Adam, nothing held out, no neighbours. The median of all
//! steps counts.

use std::ops::ControlFlow;
use std::time::Instant;

use nearbit::model::{Binarize, Preset, Stage, TrainOptions, train};
use nearbit::{Images, Inputs};

const BATCH: usize = 256;
const ROWS: usize = 16 * BATCH;
const EPOCHS: usize = 6;

/// Numbers that are the same in every run: a linear congruential generator, its high bits.
fn numbers(n: usize) -> impl Iterator<Item = usize> {
    let next = |x: &u64| {
        Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(7u64), next).map(|x| (x >> 33) as usize).take(n)
}

fn images() -> Inputs {
    let pixels = numbers(ROWS * 784).map(|x| x as u8).collect();
    Inputs::Images(Images { height: 28, width: 28, pixels })
}

fn texts() -> Inputs {
    let words: Vec<usize> = numbers(ROWS * 60).map(|x| x % 10_000).collect();
    let text = |words: &[usize]| words.iter().map(|word| format!("w{word} ")).collect();
    Inputs::Texts(words.chunks(60).map(text).collect())
}

fn main() {
    for (name, inputs, preset) in [
        ("784-512-256-64, Bernoulli", images(), Preset::Image),
        ("10000-64, multinomial", texts(), Preset::Text),
    ] {
        let options = TrainOptions {
            epochs: Some(EPOCHS),
            batch: BATCH,
            binarize: Binarize::Sigmoid,
            reconstruction: 1.0,
            neighbours: None,
            validation: 0.0,
            member_bits: None,
            ..TrainOptions::preset(preset)
        };
        let (mut steps, mut last) = (Vec::new(), Instant::now());
        let trained = train(&inputs, &options, &mut |progress| {
            if progress.stage == Stage::Network && progress.step > 0 {
                steps.push(last.elapsed().as_secs_f64());
            }
            last = Instant::now();
            ControlFlow::Continue(())
        });
        trained.expect("a model for the bench");
        steps.sort_by(f64::total_cmp);
        let median = steps[steps.len() / 2];
        println!("{name}: {:.0} rows/s, {:.2} ms a step", BATCH as f64 / median, median * 1e3);
    }
}
