use super::*;

fn settled(settle: Option<f64>) -> TrainOptions {
    TrainOptions { settle, ..small(Preset::Vector) }
}

#[test]
fn codes_that_settle_say_so_in_their_file_and_come_back_from_it() {
    let inputs = vectors();
    let signs = learn(&inputs, &settled(None)).unwrap();
    let model = learn(&inputs, &settled(Some(0.5))).unwrap();
    assert_eq!(model.logits(&inputs).unwrap(), signs.logits(&inputs).unwrap());
    let codes = model.encode(&inputs).unwrap();
    assert_ne!(codes, signs.encode(&inputs).unwrap());
    // A reader of format 1 would take signs for codes.
    assert_eq!((signs.info().format, model.info().format), (1, 2));
    let again = Model::from_bytes(&model.to_bytes()).unwrap();
    assert_eq!(again.encode(&inputs).unwrap(), codes);
    // A row alone has the code that it has in company.
    for i in [0, 7, 119] {
        let alone = model.encode(&inputs.select(&[i])).unwrap();
        assert_eq!(alone.get(0), codes.get(i), "row {i}");
    }
}

#[test]
fn what_cannot_settle_is_refused_by_name() {
    let nested = TrainOptions { nested: vec![3], ..settled(Some(2.0)) };
    says(learn(&vectors(), &nested), "the first of them are no code of their own");
    let top = TrainOptions { sparsity: Some(Sparsity::Top(2)), ..settled(Some(2.0)) };
    says(learn(&vectors(), &top), "has none to turn");
    says(learn(&vectors(), &settled(Some(-1.0))), "settle: expected");
}

#[test]
fn a_file_without_what_codes_settle_by_is_damaged() {
    let model = learn(&vectors(), &settled(Some(2.0))).unwrap();
    let origin = Path::new("m");
    let mut parts = Parts::from_bytes(&model.to_bytes(), KIND, origin).unwrap();
    let array = parts.arrays.get_mut(COVARIANCE).unwrap();
    array.shape = vec![array.values.len()];
    says(Model::from_bytes(&parts.to_bytes(KIND)), "expected finite numbers of shape [10, 10]");
    parts.arrays.remove(COVARIANCE);
    says(Model::from_bytes(&parts.to_bytes(KIND)), "expected a tensor \"code.covariance\"");
}

/// A file that the first version of format 2 wrote, and what its codes hash to.
#[test]
fn files_of_the_second_format_are_read_as_they_were() {
    let bytes = include_bytes!("../../../data/fixtures/model-2-settled.safetensors");
    let codes = Model::from_bytes(bytes).unwrap().encode(&vectors()).unwrap();
    let expected = "2cf1acc544d11a700872ed048e3b06a0631d18dd2c4724d4792c884612c7396c";
    assert_eq!(blake3::hash(&codes.to_bytes()).to_hex().as_str(), expected);
}
