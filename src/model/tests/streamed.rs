//! Trainings whose rows are more than the memory that they may take.

use std::cell::Cell;

use super::*;
use crate::model::blocks::{Blocks, Gathering};
use crate::model::data::Data;
use crate::model::likeness::Nearness;
use crate::model::report::Watch;

const MIB: u64 = 1 << 20;

/// 3,000 rows of 128 numbers around 8 corners: 1.5 MB.
fn many_vectors() -> Inputs {
    let noise = normal(&mut stream(5, Purpose::Weights, 0), 3000 * 128);
    let corner =
        |i: usize, c: usize| if (i % 8 * 37 + c * 11).is_multiple_of(3) { 1.0 } else { -0.5 };
    let values = noise.iter().enumerate().map(|(n, x)| corner(n / 128, n % 128) + 0.3 * *x as f32);
    Inputs::Vectors(Matrix::new(3000, 128, values.collect()))
}

/// 6,000 texts of 40 words of one of 10 topics: 1.5 MB or so of word weights.
fn many_texts() -> Inputs {
    let word =
        |i: usize, j: usize| format!("w{}x{}", i % 10, (i * 7 + j * j * 3 + i / 10 * j) % 97);
    let text = |i: usize| (0..40).map(|j| word(i, j)).collect::<Vec<_>>().join(" ");
    Inputs::Texts((0..6000).map(text).collect())
}

/// 1,200 pictures of a bar, upright or lying: 1.2 MB.
fn many_images() -> Inputs {
    let pixel = |n: usize| {
        let (i, y, x) = (n / 256, n / 16 % 16, n % 16);
        let at = [x, y][i % 2];
        if at == i / 2 % 16 { 255 } else { 20 * (i % 3) as u8 }
    };
    Inputs::Images(Images { height: 16, width: 16, pixels: (0..1200 * 256).map(pixel).collect() })
}

fn limited(preset: Preset, folder: &Path) -> TrainOptions {
    let memory = Some(Memory { bytes: MIB, scratch: Some(folder.to_path_buf()) });
    TrainOptions { memory, epochs: Some(3), ..small(preset) }
}

fn each(folder: &Path) -> [(Inputs, TrainOptions); 3] {
    [
        (many_texts(), limited(Preset::Text, folder)),
        (many_vectors(), limited(Preset::Vector, folder)),
        (many_images(), limited(Preset::Image, folder)),
    ]
}

/// The model of `inputs`, which come `at_a_time`.
fn in_parts(inputs: &Inputs, at_a_time: usize, options: &TrainOptions) -> Result<Model> {
    let all: Vec<usize> = (0..inputs.len()).collect();
    let open = || Ok(all.chunks(at_a_time).map(|part| Ok(inputs.select(part))));
    train_from(&open, options, &mut |_| ControlFlow::Continue(()))
}

fn gathered(features: &Features, options: &TrainOptions) -> Blocks {
    Gathering::new(features.clone(), options).unwrap().finish().unwrap()
}

#[test]
fn a_training_from_a_file_is_one_from_memory_with_the_same_batches() {
    let folder = tempfile::tempdir().unwrap();
    for (inputs, options) in each(folder.path()) {
        let streamed = in_parts(&inputs, 700, &options).unwrap();
        let report = &streamed.info().report;
        assert!(report.sample_rows.is_some_and(|rows| rows < report.rows / 2), "{report:?}");
        assert_eq!(report.rows + report.validation_rows, inputs.len());

        // The same blocks, windows and sample of the same rows, which stay in memory.
        let pipeline = Pipeline::fit(&inputs, &options.features).unwrap();
        let features = pipeline.apply(&inputs).unwrap();
        let blocks = gathered(&features, &options).in_memory(features);
        let memory = options.memory.as_ref().unwrap();
        let nearness = options.neighbours.map(|how| Nearness::new(how, inputs.kind()).unwrap());
        let nearness = nearness.as_ref();
        let data = Data::streamed(blocks, memory, &options, nearness, &mut || Ok(())).unwrap();
        let mut unseen = |_: &Progress| ControlFlow::Continue(());
        let watch = &mut Watch::new(&mut unseen);
        let expected = train::learn(pipeline, &data, &options, "", watch).unwrap();
        assert_eq!(streamed.info(), expected.info());
        assert_eq!(streamed.to_bytes(), expected.to_bytes());
        // However the rows come.
        assert_eq!(learn(&inputs, &options).unwrap().digest(), expected.digest());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn memory_that_is_enough_changes_nothing() {
    for (inputs, free) in all() {
        let memory = Some(Memory { bytes: 1 << 30, scratch: None });
        let enough = TrainOptions { memory, ..free.clone() };
        let expected = learn(&inputs, &free).unwrap();
        let got = in_parts(&inputs, 13, &enough).unwrap();
        assert_eq!(got.info().report, expected.info().report);
        assert_eq!(got.encode(&inputs).unwrap(), expected.encode(&inputs).unwrap());
        // Without a limit not even the options differ, in parts or at once.
        assert_eq!(in_parts(&inputs, 13, &free).unwrap().to_bytes(), expected.to_bytes());
    }
}

#[test]
fn a_streamed_training_learns_and_its_codes_tell_the_corners_apart() {
    let folder = tempfile::tempdir().unwrap();
    let options = TrainOptions { epochs: Some(8), ..limited(Preset::Vector, folder.path()) };
    let inputs = many_vectors();
    let model = learn(&inputs, &options).unwrap();
    let codes = model.encode(&inputs).unwrap();
    let mean = |step: usize| {
        let distances = (0..400).map(|i| f64::from(codes.get(i).distance(&codes.get(i + step))));
        distances.sum::<f64>() / 400.0
    };
    let (same, other) = (mean(8), mean(3));
    assert!(same < 0.7 * other, "{same} within, {other} across");
}

#[test]
fn a_streamed_training_is_resumed_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (inputs, options) = (many_texts(), limited(Preset::Text, folder.path()));
    let expected = learn(&inputs, &options).unwrap();
    let checkpoint = Some(folder.path().join("c.safetensors"));
    let kept = TrainOptions { checkpoint, ..options };
    let stopped = train(&inputs, &kept, &mut |progress| match progress.epoch {
        3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let resumed = learn(&inputs, &kept).unwrap();
    assert_eq!(resumed.to_bytes(), expected.to_bytes());
    // Of another limit: other batches.
    let memory = Some(Memory { bytes: MIB + 1, scratch: None });
    says(learn(&inputs, &TrainOptions { memory, ..kept }), "of other inputs or options");
}

#[test]
fn too_little_memory_and_rows_that_change_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = limited(Preset::Vector, folder.path());
    let memory = |bytes| Some(Memory { bytes, scratch: Some(folder.path().to_path_buf()) });
    let small = TrainOptions { memory: memory(MIB - 1), ..options.clone() };
    says(learn(&vectors(), &small), "memory: expected at least 1048576 bytes, got 1048575");
    let large = TrainOptions { batch: 700, ..options.clone() };
    let inputs = many_vectors();
    says(
        learn(&inputs, &large),
        "memory: expected room for 2800 rows in one half of it, got 1024 in 1048576",
    );
    // The advice is good.
    let error = learn(&inputs, &large).unwrap_err().to_string();
    let bytes = error.split("; give ").nth(1).unwrap().split(' ').next().unwrap();
    let memory_given = memory(bytes.parse().unwrap());
    learn(&inputs, &TrainOptions { memory: memory_given, epochs: Some(1), ..large }).unwrap();

    let gone = Some(Memory { bytes: MIB, scratch: Some("/not/there".into()) });
    let nowhere = TrainOptions { memory: gone, ..options.clone() };
    says(learn(&inputs, &nowhere), "could not create a scratch file in /not/there");

    let opened = Cell::new(0);
    let open = || {
        opened.set(opened.get() + 1);
        Ok(std::iter::once(Ok(inputs.select(&(0..2000 + opened.get()).collect::<Vec<_>>()))))
    };
    let changed = train_from(&open, &options, &mut |_| ControlFlow::Continue(()));
    says(changed, "expected 2001 rows as in the reading before, got 2002");
    let open = || Ok([inputs.select(&[0]), texts()].into_iter().map(Ok));
    let mixed = train_from(&open, &options, &mut |_| ControlFlow::Continue(()));
    says(mixed, "row 1: expected rows like the first, got text");
    let open = || Ok(std::iter::empty::<Result<Inputs>>());
    let none = train_from(&open, &options, &mut |_| ControlFlow::Continue(()));
    says(none, "expected at least one row to learn from");
}

#[test]
fn other_families_are_streamed_too() {
    let folder = tempfile::tempdir().unwrap();
    let image = TrainOptions { neighbours: None, ..limited(Preset::Image, folder.path()) };
    let ways = [
        TrainOptions {
            activation: Activation::Sigmoid,
            pretraining: Some(Pretraining { epochs: 1, learning_rate: 1e-2 }),
            corruption: Some(Corruption::SaltAndPepper(0.1)),
            ..image.clone()
        },
        TrainOptions {
            hidden: Vec::new(),
            procedure: Procedure::Recirculation,
            binarize: Binarize::Sigmoid,
            ..image.clone()
        },
        TrainOptions { contraction: 0.1, validation: 0.0, reconstruction: 1.0, ..image },
    ];
    for options in ways {
        let model = learn(&many_images(), &options).unwrap();
        assert_eq!(model.info().report.epochs.len(), 3);
        assert!(model.info().report.sample_rows.is_some());
    }
}
