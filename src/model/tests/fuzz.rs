//! Model files, damaged at random, with a checksum that is right: as nobody but an attacker or a bug
//! would leave them. See `tests/it/fuzz.rs`, where the checksum finds the damage.
//!
//! ```text
//! NEARBIT_RUNS=10000000 cargo test --release --lib model::tests::fuzz    ten million inputs
//! ```

use safetensors::tensor::SafeTensors;

use super::*;
use crate::mutate::fuzz;

/// More columns are not put in: what a model takes is no part of its file.
const COLUMNS: usize = 10_000;

/// Makes the checksum right, as far as the file can be read.
fn seal(bytes: &mut [u8]) {
    let Ok((_, header)) = SafeTensors::read_metadata(bytes) else { return };
    let Some(stored) = header.metadata().as_ref().and_then(|texts| texts.get("checksum")) else {
        return;
    };
    let start = bytes.windows(stored.len().max(1)).position(|w| w == stored.as_bytes());
    let error = Model::from_bytes(bytes).err().map(|error| error.to_string());
    // The error tells which it should be.
    let right = error.as_deref().and_then(|error| error.split("got \"").nth(1)?.split('"').next());
    if let (Some(start), Some(right)) = (start, right.filter(|right| right.len() == stored.len())) {
        bytes[start..start + right.len()].copy_from_slice(right.as_bytes());
    }
}

/// Rows that the model should take.
fn rows(model: &Model) -> Option<Inputs> {
    match model.input() {
        InputKind::Text => Some(Inputs::Texts(vec!["star star moon".to_owned(), String::new()])),
        InputKind::Vector { dim } if dim <= COLUMNS => {
            Some(Inputs::Vectors(Matrix::new(1, dim, vec![0.5; dim])))
        }
        InputKind::Image { height, width } if height.saturating_mul(width) <= COLUMNS => {
            Some(Inputs::Images(Images { height, width, pixels: vec![7; height * width] }))
        }
        _ => None,
    }
}

#[test]
fn a_file_whose_checksum_is_right_is_an_error_or_a_model() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/fixtures/model-1-");
    let read = |kind| std::fs::read(format!("{folder}{kind}.safetensors")).unwrap();
    let examples = ["image", "text", "vector"].map(read);
    let sealed = std::cell::Cell::new(0);
    fuzz(&examples.each_ref().map(|example| &example[..]), |bytes| {
        let mut bytes = bytes.to_vec();
        seal(&mut bytes);
        let Ok(model) = Model::from_bytes(&bytes) else { return };
        sealed.set(sealed.get() + 1);
        let Some(inputs) = rows(&model) else { return };
        if let Ok(codes) = model.encode(&inputs) {
            assert_eq!((codes.width(), codes.len()), (model.width(), inputs.len()));
            drop((model.decode(&codes), model.score(&inputs), model.activations(&inputs)));
        }
    });
    assert!(sealed.get() > 0, "none got past its checksum");
}
