//! Training from end to end: what comes out, that it comes out again, and what bad input says.

mod ensemble;
mod families;
mod fuzz;
mod nested;
mod reverse;
mod settle;
mod streamed;

use std::io::Read;
use std::ops::ControlFlow;

use super::random::{Purpose, normal, stream};
use super::*;
use crate::input::Images;

/// 120 rows of 12 numbers around four corners.
fn vectors() -> Inputs {
    let noise = normal(&mut stream(3, Purpose::Weights, 0), 120 * 12);
    let corner = |i: usize, c: usize| if ((i % 4) >> (c % 2)) & 1 == 1 { 1.0 } else { -1.0 };
    let values = noise.iter().enumerate().map(|(n, x)| corner(n / 12, n % 12) + 0.3 * *x as f32);
    Inputs::Vectors(Matrix::new(120, 12, values.collect()))
}

/// 40 short texts about two things.
fn texts() -> Inputs {
    let [sky, sea] = [["star", "moon", "orbit", "comet"], ["fish", "wave", "reef", "tide"]];
    let text = |i: usize| {
        let words = [sky, sea][i % 2];
        format!("{} {} {}", words[i / 2 % 4], words[i / 8 % 4], words[(i / 2 + i / 8) % 4])
    };
    Inputs::Texts((0..40).map(text).collect())
}

/// 60 pictures of a bar, upright or lying.
fn images() -> Inputs {
    let pixel = |n: usize| {
        let (i, y, x) = (n / 36, n / 6 % 6, n % 6);
        let at = [x, y][i % 2];
        if at == i / 2 % 6 { 255 } else { 20 * (i % 3) as u8 }
    };
    Inputs::Images(Images { height: 6, width: 6, pixels: (0..60 * 36).map(pixel).collect() })
}

/// Handwritten digits of 8 x 8 pixels, of the given rows of the sample.
fn digits(rows: std::ops::Range<usize>) -> Inputs {
    let file: &[u8] = include_bytes!("../../../data/digits-images.idx3-ubyte.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let pixels = bytes[16 + 64 * rows.start..16 + 64 * rows.end].to_vec();
    Inputs::Images(Images { height: 8, width: 8, pixels })
}

/// The digit that each of these rows shows.
fn digit_labels(rows: std::ops::Range<usize>) -> Vec<u8> {
    let file: &[u8] = include_bytes!("../../../data/digits-labels.idx1-ubyte.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes[8 + rows.start..8 + rows.end].to_vec()
}

fn small(preset: Preset) -> TrainOptions {
    let hidden = if preset == Preset::Image { vec![16] } else { Vec::new() };
    TrainOptions {
        bits: Width::new(10).unwrap(),
        hidden,
        epochs: Some(4),
        batch: 32,
        validation: 0.1,
        ..TrainOptions::preset(preset)
    }
}

fn learn(inputs: &Inputs, options: &TrainOptions) -> Result<Model> {
    train(inputs, options, &mut |_| ControlFlow::Continue(()))
}

fn says(result: Result<Model>, expected: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(expected), "expected {expected:?} in {error:?}");
}

fn all() -> [(Inputs, TrainOptions); 6] {
    [
        (texts(), small(Preset::Text)),
        (vectors(), small(Preset::Vector)),
        (images(), small(Preset::Image)),
        (images(), TrainOptions { nested: vec![3, 6], ..small(Preset::Image) }),
        (texts(), TrainOptions { member_bits: Some(4), ..small(Preset::Text) }),
        (vectors(), TrainOptions { settle: Some(1.0), ..small(Preset::Vector) }),
    ]
}

#[test]
fn every_preset_learns_codes_in_which_neighbours_are_near() {
    for (inputs, options) in all() {
        let model = learn(&inputs, &TrainOptions { epochs: Some(60), ..options }).unwrap();
        let codes = model.encode(&inputs).unwrap();
        assert_eq!((codes.len(), codes.width()), (inputs.len(), model.width()));
        // Rows of a kind stand so far apart; row 0 and row 1 are of two kinds.
        let period = match inputs {
            Inputs::Texts(_) => 2,
            Inputs::Vectors(_) => 4,
            Inputs::Images(_) => 12,
        };
        let mean = |remainder: usize| {
            let rows = (1..inputs.len()).filter(|i| i % period == remainder);
            let distances = rows.map(|i| f64::from(codes.get(0).distance(&codes.get(i))));
            let distances: Vec<f64> = distances.collect();
            distances.iter().sum::<f64>() / distances.len() as f64
        };
        let (same, other) = (mean(0), mean(1));
        assert!(same < 0.85 * other, "{}: {same} within, {other} across", model.info().input);
    }
}

#[test]
fn plain_autoencoders_of_every_kind_make_their_loss_smaller() {
    let ways = [
        (Binarize::Noise { start: 0.0, end: 2.0 }, Loss::Squared, Activation::Tanh),
        (Binarize::Round, Loss::Bernoulli, Activation::Gelu),
        (Binarize::Sample, Loss::Multinomial, Activation::Sigmoid),
    ];
    for (binarize, loss, activation) in ways {
        let options = TrainOptions {
            hidden: vec![12],
            decoder: Some(vec![14, 8]),
            neighbours: None,
            reconstruction: 1.0,
            epochs: Some(40),
            learning_rate: 1e-2,
            binarize,
            loss,
            activation,
            ..small(Preset::Image)
        };
        let model = learn(&images(), &options).unwrap();
        let epochs = &model.info().report.epochs;
        let (first, last) = (&epochs[0], &epochs[39]);
        assert!(last.loss < 0.98 * first.loss, "{loss}: {} to {}", first.loss, last.loss);
        assert!(last.validation_loss < first.validation_loss, "{loss}");
        assert_eq!(model.info().encoder, [36, 12, 10]);
        assert_eq!(model.info().decoder, [10, 14, 8, 36]);
    }
}

#[test]
fn the_same_training_gives_the_same_bytes_on_any_number_of_threads() {
    for (inputs, options) in all() {
        let expected = learn(&inputs, &options).unwrap();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let again = pool.install(|| learn(&inputs, &options)).unwrap();
            assert_eq!(again.digest(), expected.digest(), "{threads} threads");
        }
        let other = learn(&inputs, &TrainOptions { seed: 1, ..options }).unwrap();
        assert_ne!(other.digest(), expected.digest());
    }
}

#[test]
fn a_resumed_training_gives_the_bytes_of_the_uninterrupted_one() {
    for (inputs, options) in all() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = directory.path().join("c.safetensors");
        let plain = TrainOptions { patience: Some(3), ..options };
        let expected = learn(&inputs, &plain).unwrap();
        let kept = TrainOptions { checkpoint: Some(checkpoint.clone()), ..plain };
        let stopped = train(&inputs, &kept, &mut |progress| match progress.epoch {
            3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert!(checkpoint.exists());
        let mut first = None;
        let resumed = train(&inputs, &kept, &mut |progress| {
            if progress.stage == Stage::Network && progress.epoch > 0 {
                first.get_or_insert(progress.epoch);
            }
            ControlFlow::Continue(())
        });
        assert_eq!(first, Some(3));
        let resumed = resumed.unwrap();
        assert_eq!(resumed.info(), &Info { digest: resumed.digest(), ..expected.info().clone() });
        assert_eq!(resumed.digest(), expected.digest());
        // It is over: once more gives the same at once.
        assert_eq!(learn(&inputs, &kept).unwrap().digest(), expected.digest());

        let other = TrainOptions { seed: 9, ..kept.clone() };
        says(learn(&inputs, &other), "got one of other inputs or options");
        let mut bytes = std::fs::read(&checkpoint).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&checkpoint, bytes).unwrap();
        says(learn(&inputs, &kept), "is damaged: expected the checksum");
    }
}

#[test]
fn early_stopping_takes_the_best_epoch() {
    // Far too large a rate: the loss of the held-out rows soon rises.
    let options = TrainOptions {
        learning_rate: 0.5,
        schedule: Schedule::Constant,
        epochs: Some(200),
        patience: Some(2),
        ..small(Preset::Text)
    };
    let report = learn(&texts(), &options).unwrap().info().report.clone();
    assert!(report.epochs.len() < 200);
    assert_eq!(report.epochs.len(), report.best_epoch + 2);
    let best = report.epochs[report.best_epoch - 1].validation_loss;
    assert!(report.epochs.iter().all(|epoch| best <= epoch.validation_loss));
}

#[test]
fn a_model_is_its_file() {
    let directory = tempfile::tempdir().unwrap();
    for (inputs, options) in all() {
        let model = learn(&inputs, &options).unwrap();
        let path = directory.path().join("m.safetensors");
        model.save(&path).unwrap();
        let loaded = Model::load(&path).unwrap();
        assert_eq!(loaded.to_bytes(), std::fs::read(&path).unwrap());
        assert_eq!(loaded.digest(), Digest::of(&model.to_bytes()));
        assert_eq!(loaded.digest().to_string().parse::<Digest>().unwrap(), model.digest());
        assert_eq!(loaded.info(), model.info());
        assert_eq!(loaded.input(), inputs.kind());
        assert_eq!(loaded.encode(&inputs).unwrap(), model.encode(&inputs).unwrap());
        let json = serde_json::to_value(loaded.info()).unwrap();
        assert_eq!(json["bits"], 10);
    }
}

#[test]
fn a_row_has_one_code_alone_or_in_a_batch_and_its_bits_are_its_activations() {
    for (inputs, options) in all() {
        let model = learn(&inputs, &options).unwrap();
        let codes = model.encode(&inputs).unwrap();
        let activations = model.activations(&inputs).unwrap();
        let settles = options.settle.is_some();
        for i in 0..inputs.len() {
            let alone = inputs.select(&[i]);
            assert_eq!(model.encode(&alone).unwrap().get(0), codes.get(i));
            assert_eq!(model.activations(&alone).unwrap().row(0), activations.row(i));
            for (bit, &value) in activations.row(i).iter().enumerate() {
                assert!((0.0..=1.0).contains(&value));
                // A value so near one half that it is one half says nothing of its bit.
                assert!(settles || value == 0.5 || codes.get(i).bit(bit) == (value > 0.5));
            }
        }
    }
}

#[test]
fn a_damaged_model_file_is_an_error_or_the_same_model() {
    let model = learn(&vectors(), &small(Preset::Vector)).unwrap();
    let bytes = model.to_bytes();
    for place in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x11;
        if let Ok(read) = Model::from_bytes(&damaged) {
            let same = Info { digest: model.digest(), ..read.info().clone() };
            assert_eq!(&same, model.info(), "byte {place}");
        }
        assert!(Model::from_bytes(&bytes[..place]).is_err(), "cut at {place}");
    }
}

#[test]
fn a_file_whose_parts_do_not_fit_is_refused_though_its_checksum_is_right() {
    let model = learn(&vectors(), &small(Preset::Vector)).unwrap();
    let origin = Path::new("m");
    let parts = Parts::from_bytes(&model.to_bytes(), KIND, origin).unwrap();
    let read = |change: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        Model::parse(parts.to_bytes(KIND), origin)
    };
    let weight = "encoder.0.weight";
    says(
        read(&|parts| drop(parts.arrays.remove(weight))),
        "expected a tensor \"encoder.0.weight\"",
    );
    says(read(&|parts| drop(parts.texts.remove("pipeline"))), "expected a metadata entry");
    says(read(&|parts| parts.put("bits", &11).unwrap()), "expected layers between");
    let nan = |parts: &mut Parts| {
        parts.arrays.entry(weight.into()).and_modify(|array| array.values[5] = f32::NAN);
    };
    says(read(&nan), "is not finite");
    let turned = |parts: &mut Parts| {
        parts.arrays.entry(weight.into()).and_modify(|array| array.shape.reverse());
    };
    says(read(&turned), "layer encoder.0 has weights of shape [10, 12]");
}

#[test]
fn progress_counts_up_to_the_end() {
    let (mut stages, mut steps, mut last) = (Vec::new(), 0, None);
    train(&images(), &small(Preset::Image), &mut |progress| {
        if progress.epoch == 0 {
            stages.push(progress.stage);
        } else {
            steps += 1;
            assert_eq!(progress.step, steps);
            let shares = [progress.balance, progress.saturation];
            assert!(shares.into_iter().flatten().all(|share| (0.0..=1.0).contains(&share)));
        }
        last = Some(progress.clone());
        ControlFlow::Continue(())
    })
    .unwrap();
    // Now and then within a stage too.
    stages.dedup();
    assert_eq!(stages, [Stage::Features, Stage::Neighbours, Stage::Network]);
    let last = last.unwrap();
    assert_eq!((last.step, last.epoch), (last.steps, last.epochs));
    assert_eq!(last.seconds_left, Some(0.0));
    assert!(last.loss.is_some() && last.validation_loss.is_some());
}

#[test]
fn inputs_that_nothing_can_be_learned_from_say_so() {
    let vector = small(Preset::Vector);
    let matrix =
        |rows, cols, x: f32| Inputs::Vectors(Matrix::new(rows, cols, vec![x; rows * cols]));
    says(learn(&matrix(1, 4, 1.0), &vector), "at least 2 rows, got 1");
    says(learn(&matrix(0, 4, 1.0), &vector), "row");
    says(learn(&matrix(9, 4, f32::NAN), &vector), "vectors[0][0]");
    says(learn(&matrix(9, 4, f32::INFINITY), &vector), "vectors[0][0]");
    let nothing = Inputs::Texts(vec![String::new(); 9]);
    says(learn(&nothing, &small(Preset::Text)), "word");
    let mut wordless = small(Preset::Text);
    wordless.features.text.vocabulary = 0;
    says(learn(&texts(), &wordless), "vocabulary: expected 1 to");
    let same = TrainOptions { loss: Loss::Bernoulli, ..vector };
    says(learn(&vectors(), &same), "the bernoulli loss takes features of 0 to 1, got");
}

#[test]
fn poor_inputs_are_learned_from_as_well_as_they_can_be() {
    let one_column = Inputs::Vectors(Matrix::new(30, 1, (0..30).map(|i| i as f32).collect()));
    let constant = Inputs::Vectors(Matrix::new(30, 3, [1.0, 2.0, 3.0].repeat(30)));
    let two_rows = vectors().select(&[0, 1]);
    let vector = small(Preset::Vector);
    let wide = TrainOptions { bits: Width::new(200).unwrap(), ..vector.clone() };
    for inputs in [one_column, constant, two_rows] {
        for options in [&vector, &wide] {
            let model = learn(&inputs, options).unwrap();
            assert_eq!(model.encode(&inputs).unwrap().len(), inputs.len());
        }
    }
    // Some texts without a word that counts, and a later one without any known word.
    let Inputs::Texts(mut some) = texts() else { unreachable!() };
    some.extend([String::new(), "...".into()]);
    let model = learn(&Inputs::Texts(some), &small(Preset::Text)).unwrap();
    assert_eq!(model.encode(&Inputs::Texts(vec!["quixotic".into()])).unwrap().len(), 1);
}

#[test]
fn a_rate_that_diverges_stops_with_the_step_and_the_advice() {
    let options = TrainOptions {
        learning_rate: 10.0,
        clip: None,
        epochs: Some(400),
        loss: Loss::Squared,
        hidden: vec![8; 8],
        activation: Activation::Linear,
        schedule: Schedule::Constant,
        neighbours: None,
        reconstruction: 1.0,
        ..small(Preset::Image)
    };
    says(learn(&images(), &options), "learning rate: the training diverged at step");
}

#[test]
fn options_out_of_range_name_the_option_the_range_and_what_was_given() {
    let check = |change: &dyn Fn(&mut TrainOptions), expected: &str| {
        let mut options = small(Preset::Image);
        change(&mut options);
        let error = options.check().unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    check(&|o| o.batch = 1, "batch: expected 2 to 65536, got 1");
    check(&|o| o.epochs = Some(0), "epochs: expected 1 to 100000, got 0");
    check(&|o| o.hidden = vec![8, 0], "hidden[1]: expected 1 to 65536, got 0");
    check(&|o| o.warm_up = 1.5, "warm-up: expected 0 to 1, got 1.5");
    check(&|o| o.clip = Some(0.0), "clip: expected a number above 0, got 0");
    check(
        &|o| o.learning_rate = f64::NAN,
        "learning rate: expected a number above 0, at most 10, got NaN",
    );
    check(
        &|o| o.neighbours.as_mut().unwrap().temperature = 0.01,
        "temperature: expected 0.05 to 100, got 0.01",
    );
    let mut options = small(Preset::Image);
    (options.validation, options.patience) = (0.0, Some(3));
    assert!(options.check().unwrap_err().to_string().contains("validation is 0"));
    let mut options = small(Preset::Image);
    (options.neighbours, options.reconstruction) = (None, 0.0);
    assert!(options.check().unwrap_err().to_string().contains("every loss has weight 0"));
    assert!("tex".parse::<Preset>().unwrap_err().to_string().contains("text, vector, image"));
}
