//! The way back: decoding, scores, samples; and files of earlier versions.

use super::*;

/// An autoencoder of pixels without neighbours.
fn of_digits() -> TrainOptions {
    TrainOptions {
        bits: Width::new(32).unwrap(),
        hidden: vec![64],
        neighbours: None,
        reconstruction: 1.0,
        epochs: Some(30),
        batch: 40,
        learning_rate: 5e-3,
        validation: 0.0,
        ..TrainOptions::preset(Preset::Image)
    }
}

/// Digits 0 to 9, each row's label at hand, as many as `rows`.
fn pixels(inputs: &Inputs) -> &[u8] {
    match inputs {
        Inputs::Images(images) => &images.pixels,
        _ => unreachable!("pictures"),
    }
}

fn apart(a: &[u8], b: &[u8]) -> f64 {
    let squares = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>() / a.len() as f64
}

fn pictures(decoded: Decoded) -> Images {
    match decoded {
        Decoded::Images(images) => images,
        other => panic!("expected pictures, got {other:?}"),
    }
}

#[test]
fn a_picture_s_code_decodes_to_something_like_it() {
    let (inputs, others) = (digits(0..1200), digits(1200..1797));
    let model = learn(&inputs, &of_digits()).unwrap();
    let codes = model.encode(&others).unwrap();
    let back = pictures(model.decode(&codes).unwrap());
    assert_eq!((back.len(), back.height, back.width), (597, 8, 8));
    let mut means = [0f64; 64];
    pixels(&others).chunks(64).for_each(|picture| {
        means.iter_mut().zip(picture).for_each(|(mean, &x)| *mean += f64::from(x) / 597.0);
    });
    let mean: Vec<u8> = means.iter().map(|mean| mean.round() as u8).collect();
    let to_mean: f64 = pixels(&others).chunks(64).map(|picture| apart(picture, &mean)).sum();
    let to_back = apart(pixels(&others), &back.pixels) * 597.0;
    assert!(to_back < 0.6 * to_mean, "{to_back} of {to_mean}");

    // Halfway between two codes lies a third picture; at the ends lie the two.
    let ends = model.activations(&others).unwrap();
    let bits = |i: usize| ends.row(i).iter().map(|&a| f32::from(u8::from(a > 0.5)));
    let way = |t: f32| bits(0).zip(bits(1)).map(|(a, b)| a + t * (b - a)).collect();
    let walk = |t| pictures(model.decode_values(&Matrix::new(1, 32, way(t))).unwrap());
    assert_eq!(walk(0.0).pixels, back.row(0));
    assert_eq!(walk(1.0).pixels, back.row(1));
    assert!(walk(0.5).pixels != back.row(0) && walk(0.5).pixels != back.row(1));

    let narrow = Codes::from_bytes(Width::new(8).unwrap(), &[0]).unwrap();
    let error = model.decode(&narrow).unwrap_err().to_string();
    assert!(error.contains("expected codes of 32 bits, got 8 bits"), "{error}");
    let error = model.decode_values(&Matrix::new(1, 32, vec![1.5; 32])).unwrap_err().to_string();
    assert!(error.contains("expected 0 to 1, got 1.5"), "{error}");
}

#[test]
fn a_text_s_code_decodes_to_words_of_its_subject() {
    let options = TrainOptions { epochs: Some(200), ..small(Preset::Text) };
    let model = learn(&texts(), &options).unwrap();
    let Decoded::Terms(terms) = model.decode(&model.encode(&texts()).unwrap()).unwrap() else {
        panic!("a text model gives words")
    };
    for (i, terms) in terms.iter().enumerate() {
        let sky = ["star", "moon", "orbit", "comet"].contains(&terms[0].0.as_str());
        assert_eq!(sky, i % 2 == 0, "{terms:?}");
        assert!(terms.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        let shares: f32 = terms.iter().map(|(_, share)| share).sum();
        assert!((shares - 1.0).abs() < 1e-4, "all eight words: {shares}");
    }
}

#[test]
fn vectors_come_back_in_their_own_scale_from_linear_codes_too() {
    let Inputs::Vectors(rows) = vectors() else { unreachable!() };
    let far = rows.values().iter().map(|x| 100.0 * x + 1000.0).collect();
    let far = Inputs::Vectors(Matrix::new(120, 12, far));
    for binarize in [Binarize::Round, Binarize::Linear, Binarize::Gaussian] {
        let options = TrainOptions {
            binarize,
            bits: Width::new(4).unwrap(),
            neighbours: None,
            epochs: Some(100),
            learning_rate: 1e-2,
            features: features::FeatureOptions::default(),
            ..small(Preset::Vector)
        };
        let model = learn(&far, &options).unwrap();
        let Decoded::Vectors(back) = model.decode(&model.encode(&far).unwrap()).unwrap() else {
            panic!("a vector model gives vectors")
        };
        let Inputs::Vectors(far) = &far else { unreachable!() };
        let pairs = back.values().iter().zip(far.values());
        let error = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / 1440.0;
        // The corners are 100 from the middle, the noise about them 30.
        assert!(error.sqrt() < 60.0, "{binarize:?}: off by {}", error.sqrt());
    }
}

/// How probable it is that a strange row scores higher than a known one.
fn auroc(known: &[f64], strange: &[f64]) -> f64 {
    let above = |s: &f64| {
        known
            .iter()
            .map(|k| f64::from(u8::from(s > k)) + f64::from(u8::from(s == k)) / 2.0)
            .sum::<f64>()
    };
    strange.iter().map(above).sum::<f64>() / (known.len() * strange.len()) as f64
}

#[test]
fn a_digit_that_was_never_shown_scores_high() {
    let labels = digit_labels(0..1797);
    let all = digits(0..1797);
    let mut sum = 0.0;
    for digit in [0, 2, 4, 6, 8] {
        let rows = |keep: &dyn Fn(usize) -> bool| -> Vec<usize> {
            (0..1797).filter(|&row| keep(row)).collect()
        };
        let train = all.select(&rows(&|row| row < 1200 && labels[row] != digit));
        let known = all.select(&rows(&|row| row >= 1200 && labels[row] != digit));
        let strange = all.select(&rows(&|row| row >= 1200 && labels[row] == digit));
        let model = learn(&train, &of_digits()).unwrap();
        let scores = |inputs| model.score(inputs).unwrap();
        let area = auroc(&scores(&known), &scores(&strange));
        sum += area / 5.0;
    }
    assert!(sum > 0.8, "mean area under the curve: {sum}");
}

#[test]
fn samples_have_the_bits_of_the_training_rows_and_going_round_makes_them_likelier() {
    let inputs = digits(0..1200);
    // Noise makes sure of each bit, so that a draw is not mostly chance.
    let binarize = Binarize::Noise { start: 0.0, end: 8.0 };
    let model = learn(&inputs, &TrainOptions { binarize, ..of_digits() }).unwrap();
    let ones = |codes: &Codes, bit: usize| {
        (0..codes.len()).filter(|&i| codes.get(i).bit(bit)).count() as f64 / codes.len() as f64
    };
    let codes = model.encode(&inputs).unwrap();
    let (drawn, pictures_drawn) = model.sample(2000, 0, 1).unwrap();
    for bit in 0..32 {
        let (expected, got) = (ones(&codes, bit), ones(&drawn, bit));
        assert!((expected - got).abs() < 0.05, "bit {bit}: {expected} and {got}");
    }
    assert_eq!(model.sample(2000, 0, 1).unwrap().0, drawn);
    // How far the nearest real digit is.
    let strange = |images: Images| -> f64 {
        let nearest = |picture: &[u8]| {
            let all = pixels(&inputs).chunks(64).map(|real| apart(picture, real));
            all.fold(f64::INFINITY, f64::min)
        };
        images.pixels.chunks(64).take(100).map(nearest).sum::<f64>() / 100.0
    };
    let (_, round) = model.sample(100, 20, 1).unwrap();
    let (once, often) = (strange(pictures(pictures_drawn)), strange(pictures(round)));
    assert!(often < 0.9 * once, "{often} after 20 rounds, {once} before");

    let text = learn(&texts(), &small(Preset::Text)).unwrap();
    assert!(text.sample(3, 0, 1).is_ok());
    assert!(text.sample(3, 1, 1).unwrap_err().to_string().contains("draw with 0 steps"));
}

#[test]
fn a_model_without_its_decoder_is_smaller_and_encodes_the_same() {
    for (inputs, options) in all() {
        let whole = learn(&inputs, &options).unwrap();
        let half = learn(&inputs, &TrainOptions { keep_decoder: false, ..options }).unwrap();
        assert_eq!(half.encode(&inputs).unwrap(), whole.encode(&inputs).unwrap());
        let weights = whole.info().decoder.windows(2).map(|pair| 4 * pair[0] * pair[1]);
        let saved = whole.to_bytes().len() - half.to_bytes().len();
        assert!(saved > weights.sum(), "{saved} bytes saved");
        assert!(half.info().decoder.is_empty());
        let codes = half.encode(&inputs).unwrap();
        let error = half.decode(&codes).unwrap_err().to_string();
        assert!(error.contains("without keeping its decoder"), "{error}");
        assert!(half.score(&inputs).is_err() && half.sample(1, 0, 0).is_err());
    }
}

#[test]
fn a_row_scores_the_same_alone_and_among_others() {
    let model = learn(&digits(0..300), &of_digits()).unwrap();
    let scores = model.score(&digits(0..300)).unwrap();
    for i in [0, 17, 299] {
        assert_eq!(model.score(&digits(i..i + 1)).unwrap(), [scores[i]]);
    }
}

/// Files that the first version wrote, of the trainings of [`all`], and what their codes hash to.
#[test]
fn files_of_the_first_version_are_read_as_they_were() {
    let files: [(&[u8], &str); 3] = [
        (
            include_bytes!("../../../data/fixtures/model-1-text.safetensors"),
            "33944642dea4a53d7dcabb379065f25c7a260f6620bd2b4b9f518b6e750bb42e",
        ),
        (
            include_bytes!("../../../data/fixtures/model-1-vector.safetensors"),
            "21cee6e79243b30bf505d4d6f48fd3941402e015d5b36fa3ce0b43c9c24196c7",
        ),
        (
            include_bytes!("../../../data/fixtures/model-1-image.safetensors"),
            "91aa639e458cdc5c450f67cdc1912e586b34f62011edd11fef6842c068c09fbd",
        ),
    ];
    for ((bytes, expected), (inputs, _)) in files.into_iter().zip(all()) {
        let model = Model::from_bytes(bytes).unwrap();
        let codes = model.encode(&inputs).unwrap();
        assert_eq!(blake3::hash(&codes.to_bytes()).to_hex().as_str(), expected);
        assert_eq!(model.digest(), Digest::of(bytes));
        assert!(model.decode(&codes).is_ok() && model.score(&inputs).is_ok());
    }
}
