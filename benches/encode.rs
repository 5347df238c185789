//! How fast are rows encoded, many at a time and one alone? From inputs to codes, features included.
//!
//!     cargo bench --bench encode
//!
//! Dense: images of 28 x 28 pixels through 784-512-256-64. Text: 60 words of a vocabulary of 10,000
//! through a linear encoder, 64 bits. The models are trained for one step only: speed does not
//! depend on what they learned. `features` is the part of it that makes numbers of texts and pixels;
//! what is left is the network. `python3 benches/encode_text.py` takes as many texts of the same kind
//! through scikit-learn and ONNX Runtime.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nearbit::model::{Model, Preset, TrainOptions, train};
use nearbit::{Images, Inputs};

/// Numbers that are the same in every run: a linear congruential generator, its high bits.
fn numbers(n: usize) -> impl Iterator<Item = usize> {
    let next = |x: &u64| {
        Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(7u64), next).map(|x| (x >> 33) as usize).take(n)
}

fn images(rows: usize) -> Inputs {
    let pixels = numbers(rows * 784).map(|x| if x % 5 == 0 { (x >> 8) as u8 } else { 0 });
    Inputs::Images(Images { height: 28, width: 28, pixels: pixels.collect() })
}

fn texts(rows: usize) -> Inputs {
    let words: Vec<usize> = numbers(rows * 60).map(|x| x % 10_000).collect();
    let text = |words: &[usize]| words.iter().map(|word| format!("w{word} ")).collect();
    Inputs::Texts(words.chunks(60).map(text).collect())
}

fn model(inputs: &Inputs, preset: Preset) -> Model {
    let rows = inputs.len();
    let options = TrainOptions {
        epochs: Some(1),
        batch: rows,
        neighbours: None,
        validation: 0.0,
        member_bits: None,
        ..TrainOptions::preset(preset)
    };
    train(inputs, &options, &mut |_| ControlFlow::Continue(())).expect("a model for the bench")
}

fn encode(c: &mut Criterion) {
    for (name, inputs, preset) in
        [("dense", images(4096), Preset::Image), ("text", texts(4096), Preset::Text)]
    {
        let model = model(&inputs, preset);
        let mut group = c.benchmark_group(name);
        group.sample_size(20).measurement_time(Duration::from_secs(3));
        for rows in [1, 4096] {
            let inputs = inputs.select(&(0..rows).collect::<Vec<_>>());
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_with_input(BenchmarkId::new("encode", rows), &inputs, |b, inputs| {
                b.iter(|| model.encode(black_box(inputs)).expect("codes"));
            });
        }
        group.bench_function(BenchmarkId::new("features", inputs.len()), |b| {
            b.iter(|| model.features(black_box(&inputs)).expect("features"));
        });
        group.finish();
    }
}

criterion_group!(benches, encode);
criterion_main!(benches);
