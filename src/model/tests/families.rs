//! The families of autoencoders, each by the property that the textbooks claim of it, on digits.

use nalgebra::DMatrix;

use super::*;
use crate::model::corrupt::corrupt;
use crate::model::likeness::Nearness;
use crate::model::options::{ColumnLoss, Corruption, Pretraining, Procedure, Similarity, Sparsity};
use crate::numeric::Components;

/// A shallow autoencoder of pixels, 24 units.
fn plain() -> TrainOptions {
    TrainOptions {
        bits: Width::new(24).unwrap(),
        hidden: Vec::new(),
        binarize: Binarize::Sigmoid,
        neighbours: None,
        reconstruction: 1.0,
        epochs: Some(20),
        batch: 40,
        learning_rate: 1e-2,
        validation: 0.0,
        ..TrainOptions::preset(Preset::Image)
    }
}

fn features(model: &Model, inputs: &Inputs) -> Matrix {
    match model.features(inputs).unwrap() {
        Features::Dense(dense) => dense,
        Features::Sparse(_) => unreachable!("pictures are dense"),
    }
}

/// What the decoder gives back for what the encoder sees, by the code layer's values or its bits.
fn given_back(model: &Model, seen: &Matrix, as_bits: bool) -> Matrix {
    let mut z = model.values(&Features::Dense(seen.clone()));
    let is_logistic = model.info().options.binarize.is_logistic();
    for i in 0..z.rows() {
        z.row_mut(i).iter_mut().for_each(|a| match (as_bits, is_logistic) {
            (true, _) => *a = f32::from(u8::from(*a > 0.0)),
            (false, true) => *a = sigmoid(*a),
            (false, false) => {}
        });
    }
    model.means(&z).unwrap()
}

/// The mean squared difference of two matrices.
fn apart(a: &Matrix, b: &Matrix) -> f64 {
    let squares = a.values().iter().zip(b.values()).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>() / a.values().len() as f64
}

/// How far rows are from their mean.
fn variance(rows: &Matrix) -> f64 {
    let mean = crate::numeric::column_means(&Features::Dense(rows.clone()));
    apart(rows, &Matrix::new(rows.rows(), rows.cols(), mean.repeat(rows.rows())))
}

fn array(model: &Model, name: &str) -> Array {
    Parts::from_bytes(&model.to_bytes(), KIND, Path::new("m")).unwrap().arrays[name].clone()
}

/// The squared norm of the Jacobian of the code by the pixels, mean over rows, by differences.
fn norm(model: &Model, rows: &Matrix) -> f64 {
    let at = |rows: &Matrix| model.values(&Features::Dense(rows.clone()));
    let h = 1e-2;
    let here = at(rows);
    let along = |pixel: usize| -> f64 {
        let mut moved = rows.clone();
        (0..rows.rows()).for_each(|i| moved.row_mut(i)[pixel] += h);
        let moved = at(&moved);
        let pairs = moved.values().iter().zip(here.values());
        pairs.map(|(a, b)| f64::from((sigmoid(*a) - sigmoid(*b)) / h).powi(2)).sum()
    };
    (0..64).map(along).sum::<f64>() / rows.rows() as f64
}

/// The largest angle between what the decoder spans and the principal components, in degrees.
fn angle(model: &Model, rows: &Matrix) -> f64 {
    let k = model.width().bits();
    let components = Components::fit(&Features::Dense(rows.clone()), k, 0).unwrap();
    let basis = |values: &[f32]| {
        let values = values.iter().map(|&x| f64::from(x));
        DMatrix::from_row_iterator(k, 64, values).transpose().qr().q()
    };
    let learned = basis(&array(model, "decoder.0.weight").values);
    let principal = basis(components.projection().directions().values());
    // The singular values are the cosines of the angles between the two subspaces.
    let cosines = (learned.transpose() * principal).singular_values();
    cosines.min().min(1.0).acos().to_degrees()
}

#[test]
fn a_linear_autoencoder_spans_the_principal_subspace() {
    let inputs = digits(0..1797);
    let k = 4;
    let options = TrainOptions {
        bits: Width::new(k).unwrap(),
        binarize: Binarize::Linear,
        loss: Loss::Squared,
        epochs: Some(60),
        final_rate: 0.0,
        ..plain()
    };
    let model = learn(&inputs, &options).unwrap();
    let largest = angle(&model, &features(&model, &inputs));
    assert!(largest < 5.0, "the largest principal angle is {largest} degrees");
}

#[test]
fn sparse_codes_are_quieter_and_still_say_more_than_the_mean_picture() {
    let inputs = digits(0..800);
    let learn = |sparsity| learn(&inputs, &TrainOptions { sparsity, ..plain() }).unwrap();
    let mean = |model: &Model| {
        let activations = model.activations(&inputs).unwrap();
        activations.values().iter().map(|&h| f64::from(h)).sum::<f64>()
            / activations.values().len() as f64
    };
    let check = |model: &Model, as_bits| {
        let rows = features(model, &inputs);
        let error = apart(&rows, &given_back(model, &rows, as_bits));
        assert!(error < 0.7 * variance(&rows), "{error} of {}", variance(&rows));
    };
    let free = mean(&learn(None));
    let l1 = learn(Some(Sparsity::L1 { weight: 0.2 }));
    assert!(mean(&l1) < 0.6 * free, "{} of {free}", mean(&l1));
    check(&l1, false);
    let kl = learn(Some(Sparsity::Kl { weight: 0.5, target: 0.1 }));
    assert!((mean(&kl) - 0.1).abs() < 0.1, "{}", mean(&kl));
    check(&kl, false);
    let top =
        TrainOptions { sparsity: Some(Sparsity::Top(5)), binarize: Binarize::Round, ..plain() };
    let top = super::learn(&inputs, &top).unwrap();
    let codes = top.encode(&inputs).unwrap();
    let ones = |i: usize| (0..24).filter(|&bit| codes.get(i).bit(bit)).count();
    assert!((0..codes.len()).all(|i| ones(i) == 5));
    check(&top, true);
}

#[test]
fn a_hidden_layer_can_be_the_sparse_one() {
    let inputs = digits(0..400);
    let hidden = |sparsity: Option<Sparsity>| {
        let options = TrainOptions {
            hidden: vec![32],
            activation: Activation::Sigmoid,
            sparse_layer: sparsity.map(|_| 1),
            sparsity,
            ..plain()
        };
        let model = learn(&inputs, &options).unwrap();
        let (w, b) = (array(&model, "encoder.0.weight").values, array(&model, "encoder.0.bias"));
        let rows = features(&model, &inputs);
        let unit = |row: &[f32], j: usize| {
            sigmoid(
                b.values[j] + row.iter().enumerate().map(|(i, x)| x * w[i * 32 + j]).sum::<f32>(),
            )
        };
        let sum: f32 = rows
            .iter()
            .flat_map(|row| (0..32).map(move |j| (row, j)))
            .map(|(row, j)| unit(row, j))
            .sum();
        sum / (32 * rows.rows()) as f32
    };
    let (free, quiet) = (hidden(None), hidden(Some(Sparsity::Kl { weight: 0.5, target: 0.1 })));
    assert!(quiet < 0.2 && quiet < 0.5 * free, "{quiet} of {free}");
}

#[test]
fn denoising_gives_back_corrupted_digits_it_has_not_seen_better_than_a_plain_one() {
    let (inputs, others) = (digits(0..1200), digits(1200..1797));
    // As many units as pixels: without corruption it could copy them.
    let wide = TrainOptions { bits: Width::new(64).unwrap(), ..plain() };
    let free = learn(&inputs, &wide).unwrap();
    let clean = features(&free, &others);
    for how in [Corruption::Masking(0.3), Corruption::Gaussian(0.4), Corruption::SaltAndPepper(0.2)]
    {
        let options = TrainOptions { corruption: Some(how), ..wide.clone() };
        let denoising = learn(&inputs, &options).unwrap();
        let mut rng = stream(7, Purpose::Corruption, 0);
        let Features::Dense(seen) =
            corrupt(&Features::Dense(clean.clone()), how, (0.0, 1.0), &mut rng)
        else {
            unreachable!()
        };
        let error = |model| apart(&clean, &given_back(model, &seen, false));
        let (with, without) = (error(&denoising), error(&free));
        assert!(with < 0.9 * without, "{how:?}: {with} with, {without} without");
    }
}

#[test]
fn contraction_lowers_the_jacobian_at_nearly_the_same_reconstruction() {
    let inputs = digits(0..600);
    for hidden in [vec![], vec![32]] {
        let learn = |contraction| {
            let options = TrainOptions {
                hidden: hidden.clone(),
                activation: Activation::Tanh,
                contraction,
                epochs: Some(40),
                ..plain()
            };
            learn(&inputs, &options).unwrap()
        };
        let (free, contractive) = (learn(0.0), learn(0.01));
        let rows = features(&free, &inputs);
        let error = |model| apart(&rows, &given_back(model, &rows, false));
        let (norms, errors) =
            ((norm(&contractive, &rows), norm(&free, &rows)), (error(&contractive), error(&free)));
        assert!(norms.0 < 0.7 * norms.1, "{hidden:?}: {norms:?}, {errors:?}");
        assert!(errors.0 < 1.1 * errors.1, "{hidden:?}: {norms:?}, {errors:?}");
    }
}

#[test]
fn dropout_narrows_the_gap_between_rows_learned_and_others() {
    let (inputs, others) = (digits(0..80), digits(600..1200));
    let gap = |dropout| {
        let options = TrainOptions {
            bits: Width::new(64).unwrap(),
            hidden: vec![128],
            dropout,
            epochs: Some(300),
            learning_rate: 3e-3,
            ..plain()
        };
        let model = learn(&inputs, &options).unwrap();
        let score = |part: &Inputs| {
            let scores = model.score(part).unwrap();
            scores.iter().sum::<f64>() / scores.len() as f64
        };
        score(&others) - score(&inputs)
    };
    let (with, without) = (gap(0.3), gap(0.0));
    assert!(with < 0.9 * without, "{with} with, {without} without");
}

#[test]
fn the_evidence_bound_of_stochastic_codes_rises_on_rows_that_were_held_out() {
    let inputs = digits(0..800);
    for binarize in [Binarize::Gaussian, Binarize::Sample] {
        let options = TrainOptions {
            bits: Width::new(12).unwrap(),
            hidden: vec![64],
            activation: Activation::Tanh,
            binarize,
            prior: 1.0,
            validation: 0.25,
            epochs: Some(40),
            ..plain()
        };
        let model = learn(&inputs, &options).unwrap();
        let bounds: Vec<f64> = model
            .info()
            .report
            .epochs
            .iter()
            .map(|epoch| -64.0 * epoch.validation_loss.unwrap())
            .collect();
        let (first, middle, last) = (bounds[0], bounds[9], bounds[39]);
        assert!(first < middle && middle < last, "{binarize:?}: {bounds:?}");
        // A decoder that ignores the code can do no better than the mean of each pixel.
        let rows = features(&model, &inputs);
        let means = crate::numeric::column_means(&Features::Dense(rows.clone()));
        let nats = |p: f32, x: f32| {
            let p = f64::from(p.clamp(1e-6, 1.0 - 1e-6));
            f64::from(x) * p.ln() + (1.0 - f64::from(x)) * (1.0 - p).ln()
        };
        let blind: f64 =
            rows.iter().flat_map(|row| row.iter().zip(&means)).map(|(&x, &p)| nats(p, x)).sum();
        let blind = blind / rows.rows() as f64;
        assert!(last > blind + 0.5, "{binarize:?}: {last} against {blind}");
    }
}

#[test]
fn growing_noise_saturates_the_units_so_that_rounding_loses_almost_nothing() {
    let inputs = digits(0..1200);
    let options = TrainOptions {
        hidden: vec![64],
        binarize: Binarize::Noise { start: 0.0, end: 16.0 },
        epochs: Some(60),
        ..plain()
    };
    let model = learn(&inputs, &options).unwrap();
    let epochs = &model.info().report.epochs;
    let (first, last) = (epochs[0].saturation, epochs[59].saturation);
    assert!(first < 0.5 && last > 0.95, "{first} to {last}");
    let rows = features(&model, &inputs);
    let error = |as_bits| apart(&rows, &given_back(&model, &rows, as_bits));
    let (bits, values) = (error(true), error(false));
    assert!(bits < 1.05 * values, "{bits} by bits, {values} by values");
    assert!(bits < 0.6 * variance(&rows), "{bits} of {}", variance(&rows));
}

/// The loss of the first step, whose weights are those that the training starts with.
fn first_loss(inputs: &Inputs, options: &TrainOptions) -> f64 {
    let mut first = None;
    let stopped = train(inputs, options, &mut |progress| {
        first = progress.loss;
        if first.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    first.unwrap()
}

#[test]
fn boltzmann_machines_lower_the_loss_that_fine_tuning_starts_with() {
    let inputs = digits(0..800);
    let drawn = TrainOptions { hidden: vec![64, 32], activation: Activation::Sigmoid, ..plain() };
    let start = |pretraining| first_loss(&inputs, &TrainOptions { pretraining, ..drawn.clone() });
    let (without, with) = (start(None), start(Some(Pretraining::default())));
    // A network that gives back the mean picture would stand in between.
    assert!(with < 0.6 * without, "{with} with, {without} without");
    let squared = TrainOptions { loss: Loss::Squared, ..drawn.clone() };
    let pretrained = TrainOptions { pretraining: Some(Pretraining::default()), ..squared.clone() };
    assert!(first_loss(&inputs, &pretrained) < first_loss(&inputs, &squared));
}

#[test]
fn recirculation_learns_without_back_propagation() {
    let inputs = digits(0..1200);
    for (binarize, loss) in
        [(Binarize::Sigmoid, Loss::Bernoulli), (Binarize::Linear, Loss::Squared)]
    {
        let options = TrainOptions {
            procedure: Procedure::Recirculation,
            binarize,
            loss,
            epochs: Some(40),
            ..plain()
        };
        let model = learn(&inputs, &options).unwrap();
        let epochs = &model.info().report.epochs;
        assert!(epochs[39].loss < epochs[0].loss, "{} to {}", epochs[0].loss, epochs[39].loss);
        let rows = features(&model, &inputs);
        let error = apart(&rows, &given_back(&model, &rows, false));
        assert!(error < 0.4 * variance(&rows), "{loss}: {error} of {}", variance(&rows));
    }
}

/// 200 rows that say one thing in four ways: numbers, a flag, counts, one of three.
fn table() -> Inputs {
    let noise = normal(&mut stream(3, Purpose::Weights, 0), 400);
    let row = |i: usize| {
        let kind = i % 3;
        let one_of = (0..3).map(move |k| f32::from(u8::from(k == kind)));
        let numbers =
            [kind as f32 - 1.0 + 0.1 * noise[2 * i] as f32, 0.1 * noise[2 * i + 1] as f32];
        let counts = [(3 * kind) as f32, 1.0];
        numbers.into_iter().chain([f32::from(u8::from(kind == 2))]).chain(counts).chain(one_of)
    };
    Inputs::Vectors(Matrix::new(200, 8, (0..200).flat_map(row).collect()))
}

#[test]
fn columns_of_several_kinds_are_each_given_back_in_their_own_way() {
    let part = |columns, loss| ColumnLoss { columns, loss };
    let mut options = TrainOptions {
        mix: vec![
            part(2, Loss::Squared),
            part(1, Loss::Bernoulli),
            part(2, Loss::Poisson),
            part(3, Loss::Multinomial),
        ],
        bits: Width::new(6).unwrap(),
        binarize: Binarize::Round,
        epochs: Some(100),
        ..plain()
    };
    options.features.vector.centre = false;
    options.features.vector.scale = false;
    let model = learn(&table(), &options).unwrap();
    let Decoded::Vectors(back) = model.decode(&model.encode(&table()).unwrap()).unwrap() else {
        unreachable!()
    };
    for (i, row) in back.iter().enumerate() {
        let kind = i % 3;
        assert!((row[0] - (kind as f32 - 1.0)).abs() < 0.3, "row {i}: {row:?}");
        assert_eq!(row[2] > 0.5, kind == 2, "row {i}: {row:?}");
        assert!((row[3] - (3 * kind) as f32).abs() < 1.0 && row[3] > 0.0, "row {i}: {row:?}");
        assert!((row[5] + row[6] + row[7] - 1.0).abs() < 1e-4 && row[5 + kind] > 0.5, "{row:?}");
    }
    options.mix.pop();
    says(learn(&table(), &options), "that are 8 together, got 5");
}

#[test]
fn families_compose() {
    let options = TrainOptions {
        hidden: vec![32, 16],
        activation: Activation::Sigmoid,
        binarize: Binarize::Noise { start: 0.0, end: 2.0 },
        corruption: Some(Corruption::Masking(0.2)),
        sparsity: Some(Sparsity::Kl { weight: 0.01, target: 0.2 }),
        sparse_layer: Some(2),
        dropout: 0.1,
        pretraining: Some(Pretraining { epochs: 2, ..Pretraining::default() }),
        neighbours: TrainOptions::preset(Preset::Image).neighbours,
        ..plain()
    };
    let model = learn(&digits(0..300), &options).unwrap();
    let again = learn(&digits(0..300), &options).unwrap();
    assert_eq!(model.digest(), again.digest());
    let epochs = &model.info().report.epochs;
    assert!(epochs[19].loss < epochs[0].loss);
}

#[test]
fn every_family_learns_from_poor_rows_what_there_is() {
    let one_column = Inputs::Vectors(Matrix::new(30, 1, (0..30).map(|i| i as f32).collect()));
    let constant = Inputs::Vectors(Matrix::new(30, 3, [1.0, 2.0, 3.0].repeat(30)));
    let zeros = Inputs::Vectors(Matrix::zeros(2, 4));
    let plain = TrainOptions { loss: Loss::Squared, epochs: Some(3), ..plain() };
    let sparsity = |how| TrainOptions { sparsity: Some(how), ..plain.clone() };
    let corruption = |how| TrainOptions { corruption: Some(how), ..plain.clone() };
    let hidden = TrainOptions { hidden: vec![4], activation: Activation::Sigmoid, ..plain.clone() };
    let families = [
        sparsity(Sparsity::Kl { weight: 1.0, target: 0.05 }),
        TrainOptions { binarize: Binarize::Round, ..sparsity(Sparsity::Top(3)) },
        corruption(Corruption::Masking(0.99)),
        corruption(Corruption::SaltAndPepper(0.5)),
        TrainOptions { contraction: 1.0, ..hidden.clone() },
        TrainOptions { pretraining: Some(Pretraining::default()), ..hidden.clone() },
        TrainOptions { dropout: 0.9, ..hidden },
        TrainOptions { binarize: Binarize::Gaussian, prior: 1.0, ..plain.clone() },
        TrainOptions { procedure: Procedure::Recirculation, ..plain.clone() },
    ];
    for inputs in [one_column, constant, zeros] {
        for options in &families {
            let model = learn(&inputs, options).unwrap();
            let codes = model.encode(&inputs).unwrap();
            assert_eq!(codes.len(), inputs.len());
            let Decoded::Vectors(back) = model.decode(&codes).unwrap() else { unreachable!() };
            assert!(back.values().iter().all(|x| x.is_finite()));
            assert!(model.score(&inputs).unwrap().iter().all(|score| score.is_finite()));
            assert!(model.sample(2, 1, 0).is_ok());
        }
    }
}

#[test]
fn a_start_that_finds_more_neighbours_is_kept_and_similarity_finds_more_than_it() {
    let inputs = digits(0..1400);
    let Inputs::Images(images) = &inputs else { unreachable!() };
    let pixels = images.pixels.iter().map(|&byte| f32::from(byte)).collect();
    let inputs = Inputs::Vectors(Matrix::new(1400, 64, pixels));
    let itq = TrainOptions {
        bits: Width::new(64).unwrap(),
        epochs: Some(8),
        validation: 0.2,
        ..TrainOptions::preset(Preset::Vector)
    };
    // A rate that tears the start apart.
    let torn = TrainOptions { learning_rate: 1.0, ..itq.clone() };
    let model = learn(&inputs, &torn).unwrap();
    let report = &model.info().report;
    let start = report.start_recall.unwrap();
    assert!(report.epochs.iter().all(|epoch| epoch.recall.unwrap() < start), "{report:?}");
    assert_eq!(report.best_epoch, 0);
    // Without similarity nobody asked for neighbours.
    let model = learn(&inputs, &TrainOptions { similarity: None, ..torn }).unwrap();
    assert_eq!((model.info().report.start_recall, model.info().report.best_epoch), (None, 8));

    let similarity = Some(Similarity { weight: 1.0, temperature: 0.05 });
    let options =
        TrainOptions { similarity, neighbours: None, reconstruction: 0.0, epochs: Some(20), ..itq };
    let model = learn(&inputs, &options).unwrap();
    let report = &model.info().report;
    let last = report.epochs[19].recall.unwrap();
    assert_eq!((report.start_recall, report.best_epoch), (Some(start), 20));
    assert!(last > start + 0.01, "{start} to {last}");
}

/// The histograms say what is alike better than the pixels that the network reads do.
#[test]
fn neighbours_by_edges_are_of_one_digit_more_often_than_by_pixels() {
    let (inputs, labels) = (digits(0..1797), digit_labels(0..1797));
    let pixels = Pipeline::fit(&inputs, &Default::default()).unwrap().apply(&inputs).unwrap();
    let preset = TrainOptions::preset(Preset::Image).neighbours.unwrap();
    let of_one_kind = |likeness| {
        let nearness = Nearness::new(NeighbourOptions { likeness, ..preset }, inputs.kind());
        let graph = nearness.unwrap().graph(&pixels).unwrap();
        let same = (0..1797).flat_map(|row| {
            let label = |row: u32| labels[row as usize];
            graph.of(row).iter().filter(move |&&other| label(other) == label(row as u32))
        });
        same.count() as f64 / graph.as_flat().len() as f64
    };
    let (by_pixels, by_edges) = (of_one_kind(Likeness::Features), of_one_kind(Likeness::Edges));
    // Wrong ones are a third fewer.
    assert!(1.0 - by_edges < 0.7 * (1.0 - by_pixels), "{by_edges} by edges, {by_pixels} by pixels");
}

#[test]
fn what_has_no_edges_is_refused() {
    let by_edges = |preset| {
        let mut options = small(preset);
        options.neighbours.as_mut().unwrap().likeness = Likeness::Edges;
        options
    };
    let expected = "likeness: only images have edges, got vectors of 12";
    says(learn(&vectors(), &by_edges(Preset::Vector)), expected);
    says(learn(&texts(), &by_edges(Preset::Text)), "likeness: only images have edges, got text;");
}
