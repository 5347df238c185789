//! Nested codes: prefixes that are codes, and models cut to them.

use super::*;
use crate::model::checkpoint::{set_weights, weights};
use crate::model::data::Data;
use crate::model::nested::widths;
use crate::model::objective::{Look, Objective};

fn width(bits: usize) -> Width {
    Width::new(bits).unwrap()
}

/// The options of a training of 10 bits, of which 3 and 6 are nested.
fn nested(preset: Preset) -> TrainOptions {
    TrainOptions { nested: vec![3, 6], ..small(preset) }
}

fn each() -> [(Inputs, TrainOptions); 3] {
    [
        (texts(), nested(Preset::Text)),
        (vectors(), nested(Preset::Vector)),
        (images(), nested(Preset::Image)),
    ]
}

/// Precision@10 of digits that were held out, among those that were learned from.
fn precision(model: &Model) -> f64 {
    let (known, asked) = (0..1400, 1400..1797);
    let codes = |rows| model.encode(&digits(rows)).unwrap();
    let (rows, queries) = (codes(known.clone()), codes(asked.clone()));
    let (row_labels, query_labels) = (digit_labels(known), digit_labels(asked));
    let right = |query: usize| {
        let code = queries.get(query);
        let mut near: Vec<(u32, usize)> =
            (0..rows.len()).map(|row| (code.distance(&rows.get(row)), row)).collect();
        near.sort_unstable();
        near[..10].iter().filter(|(_, row)| row_labels[*row] == query_labels[query]).count()
    };
    (0..queries.len()).map(right).sum::<usize>() as f64 / (10 * queries.len()) as f64
}

#[test]
fn a_prefix_of_nested_codes_finds_more_than_the_same_prefix_of_plain_ones() {
    let plain = TrainOptions {
        bits: width(64),
        hidden: vec![64],
        epochs: Some(10),
        batch: 128,
        validation: 0.0,
        ..TrainOptions::preset(Preset::Image)
    };
    let options = TrainOptions { nested: vec![8, 16], ..plain.clone() };
    let model = learn(&digits(0..1400), &options).unwrap();
    let plain = learn(&digits(0..1400), &plain).unwrap();
    // The plain model's prefix, by calling it nested afterwards.
    let origin = Path::new("m");
    let mut parts = Parts::from_bytes(&plain.to_bytes(), KIND, origin).unwrap();
    parts.put("options", &options).unwrap();
    let plain = Model::parse(parts.to_bytes(KIND), origin).unwrap();
    for (bits, least) in [(8, 0.05), (16, 0.02)] {
        let [nested, plain] =
            [&model, &plain].map(|model| precision(&model.truncated(width(bits)).unwrap()));
        assert!(nested > plain + least, "{bits} bits: {nested} nested, {plain} plain");
    }
    let (nested, plain) = (precision(&model), precision(&plain));
    assert!(nested > plain - 0.03, "64 bits: {nested} nested, {plain} plain");
}

#[test]
fn a_truncated_model_gives_the_first_bits_and_is_a_model_like_any_other() {
    for (inputs, options) in each() {
        let whole = learn(&inputs, &options).unwrap();
        assert_eq!(whole.widths(), [3, 6, 10]);
        let (codes, values) = (whole.encode(&inputs).unwrap(), whole.logits(&inputs).unwrap());
        for bits in [3, 6, 10] {
            let cut = whole.truncated(width(bits)).unwrap();
            let (cut_codes, cut_values) =
                (cut.encode(&inputs).unwrap(), cut.logits(&inputs).unwrap());
            assert_eq!(cut_codes.width(), width(bits));
            for i in 0..inputs.len() {
                assert_eq!(cut_values.row(i), &values.row(i)[..bits]);
                assert!((0..bits).all(|bit| cut_codes.get(i).bit(bit) == codes.get(i).bit(bit)));
            }
            // Its file, its decoder, and a cut of the cut.
            let read = Model::from_bytes(&cut.to_bytes()).unwrap();
            assert_eq!((read.digest(), read.info().bits), (cut.digest(), bits));
            assert_eq!(cut.score(&inputs).unwrap().len(), inputs.len());
            cut.decode(&cut_codes).unwrap();
            cut.sample(2, 0, 1).unwrap();
            let narrowest = cut.truncated(width(3)).unwrap();
            assert_eq!(narrowest.digest(), whole.truncated(width(3)).unwrap().digest());
            assert_eq!(narrowest.widths(), [3]);
        }
        let bare = TrainOptions { keep_decoder: false, ..options };
        let bare = learn(&inputs, &bare).unwrap();
        let cut = bare.truncated(width(6)).unwrap();
        assert_eq!(
            cut.encode(&inputs).unwrap(),
            whole.truncated(width(6)).unwrap().encode(&inputs).unwrap()
        );
    }
}

#[test]
fn widths_that_were_not_trained_for_are_refused() {
    let model = learn(&vectors(), &nested(Preset::Vector)).unwrap();
    says(
        model.truncated(width(4)),
        "bits: expected a width that the model was trained for (3, 6, 10), got 4; `nearbit train \
         --nested`",
    );
    let plain = learn(&vectors(), &small(Preset::Vector)).unwrap();
    assert_eq!(plain.truncated(width(10)).unwrap().digest(), plain.digest());
    says(plain.truncated(width(3)), "was trained for (10), got 3");
    says(plain.truncated(width(11)), "was trained for (10), got 11");

    for widths in [vec![0, 3], vec![6, 3], vec![3, 3], vec![3, 10], vec![11]] {
        let options = TrainOptions { nested: widths.clone(), ..small(Preset::Vector) };
        let error = options.check().unwrap_err().to_string();
        let expected =
            format!("nested: expected rising widths from 1 to below 10 bits, got {widths:?}");
        assert_eq!(error, expected);
    }
    let few = TrainOptions { sparsity: Some(Sparsity::Top(2)), ..nested(Preset::Image) };
    assert!(few.check().unwrap_err().to_string().contains("no fixed number of ones"));
    let round = TrainOptions {
        procedure: Procedure::Recirculation,
        neighbours: None,
        binarize: Binarize::Sigmoid,
        hidden: Vec::new(),
        reconstruction: 1.0,
        ..nested(Preset::Image)
    };
    assert!(round.check().unwrap_err().to_string().contains("leave nested widths out"));
}

/// What is asked of nested codes is the mean of what is asked of each width alone.
#[test]
fn the_loss_is_the_mean_of_the_losses_of_networks_cut_to_each_width() {
    let sampled = TrainOptions { binarize: Binarize::Sigmoid, ..nested(Preset::Image) };
    let gaussian = TrainOptions {
        binarize: Binarize::Gaussian,
        prior: 1.0,
        neighbours: None,
        reconstruction: 1.0,
        ..nested(Preset::Vector)
    };
    let others = [(images(), sampled), (vectors(), gaussian)];
    for (inputs, options) in each().into_iter().chain(others) {
        let options = TrainOptions { validation: 0.0, start_from_itq: false, ..options };
        let rows = Pipeline::fit(&inputs, &options.features).unwrap().apply(&inputs).unwrap();
        let cols = rows.cols();
        let data = Data::whole(rows, &options, None).unwrap();
        let rows = &data.train.pool().rows;
        let whole = Network::new::<f32>(cols, &options).unwrap();
        let of = |numbers: std::ops::Range<usize>| rows.select(&numbers.collect::<Vec<_>>());
        let (batch, partners) = (of(0..8), of(8..16));
        let partners = options.neighbours.map(|_| partners);
        let loss = |network: &Network, options: &TrainOptions| {
            let objective = Objective::new(options, cols, &data.spread).unwrap();
            let look = Look::Judge { batch: 0 };
            let (loss, _) = objective.loss(network, &batch, partners.as_ref(), look).unwrap();
            f64::from(loss.to_scalar::<f32>().unwrap())
        };
        // A Gaussian code without its noise: as wide a draw would be another.
        if let Some(variance) = &whole.variance {
            variance.bias.set(&variance.bias.affine(0.0, -60.0).unwrap()).unwrap();
            variance.weight.set(&variance.weight.affine(0.0, 0.0).unwrap()).unwrap();
        }
        let widths = widths(&options);
        let of_width = |&bits: &usize| {
            let options = TrainOptions { bits: width(bits), nested: Vec::new(), ..options.clone() };
            let cut = Network::new::<f32>(cols, &options).unwrap();
            let mut arrays = weights(&whole).unwrap();
            for (name, var) in cut.variables() {
                // Every array keeps its first rows and columns.
                let array = arrays.get_mut(&name).unwrap();
                let inner = *array.shape.last().unwrap();
                let (rows, kept) = match *var.dims() {
                    [rows, kept] => (rows, kept),
                    ref one => (1, one[0]),
                };
                let values = array.values.chunks_exact(inner).take(rows);
                array.values = values.flat_map(|row| &row[..kept]).copied().collect();
                array.shape = var.dims().to_vec();
            }
            set_weights(&cut, &arrays).unwrap();
            loss(&cut, &options)
        };
        let expected = widths.iter().map(of_width).sum::<f64>() / widths.len() as f64;
        let got = loss(&whole, &options);
        let name = &options.preset;
        assert!((got / expected - 1.0).abs() < 1e-5, "{name}: expected {expected}, got {got}");
    }
}
