//! Ensembles: what is made of members, each learned alone.

use super::*;
use crate::model::ensemble::seed_of;

/// 10 bits of members of 4, 3 and 3. No row is held out: which are follows from the seed of the whole.
fn ensemble() -> TrainOptions {
    TrainOptions { member_bits: Some(4), validation: 0.0, ..small(Preset::Text) }
}

#[test]
fn a_code_is_those_of_its_members_side_by_side() {
    let options = ensemble();
    let model = learn(&texts(), &options).unwrap();
    let codes = model.encode(&texts()).unwrap();
    let widths = [4, 3, 3];
    let members = widths.iter().enumerate().map(|(member, &bits)| TrainOptions {
        bits: Width::new(bits).unwrap(),
        member_bits: None,
        seed: seed_of(options.seed, member),
        ..options.clone()
    });
    let members: Vec<Model> = members.map(|options| learn(&texts(), &options).unwrap()).collect();
    let alone: Vec<_> = members.iter().map(|member| member.encode(&texts()).unwrap()).collect();
    for row in 0..codes.len() {
        let bits = alone.iter().zip(widths).flat_map(|(codes, bits)| {
            let code = codes.get(row);
            (0..bits).map(move |bit| code.bit(bit))
        });
        assert!(bits.eq((0..10).map(|bit| codes.get(row).bit(bit))), "row {row}");
    }
    // All epochs are told, and what is given back is the mean of what the members give back.
    let report = &model.info().report;
    let losses = |model: &Model| -> Vec<f64> {
        model.info().report.epochs.iter().map(|epoch| epoch.loss).collect()
    };
    assert_eq!(losses(&model), members.iter().flat_map(losses).collect::<Vec<_>>());
    assert_eq!((report.epochs.len(), report.best_epoch), (12, 12));
    assert_eq!(model.info().decoder, [10, model.info().encoder[0]]);
    let scores = model.score(&texts()).unwrap();
    assert!(scores.iter().all(|score| score.is_finite()));
}

#[test]
fn members_give_back_their_mean() {
    let options = TrainOptions { loss: Loss::Squared, ..ensemble() };
    let model = learn(&texts(), &options).unwrap();
    let parts = |model: &Model| Parts::from_bytes(&model.to_bytes(), KIND, Path::new("m")).unwrap();
    let whole = parts(&model);
    let of_member = |member: usize, bits: usize| {
        let seed = seed_of(options.seed, member);
        let bits = Width::new(bits).unwrap();
        parts(
            &learn(&texts(), &TrainOptions { bits, member_bits: None, seed, ..options.clone() })
                .unwrap(),
        )
    };
    let members = [of_member(0, 4), of_member(1, 3), of_member(2, 3)];
    let cols = model.info().encoder[0];
    let weights = |parts: &Parts| parts.arrays["decoder.0.weight"].values.clone();
    let stacked: Vec<f32> = members.iter().flat_map(weights).map(|w| w * (1.0 / 3.0)).collect();
    assert_eq!(weights(&whole), stacked);
    assert_eq!(whole.arrays["decoder.0.weight"].shape, [10, cols]);
    for column in 0..cols {
        let bias = |parts: &Parts| parts.arrays["decoder.0.bias"].values[column];
        let mean = members.iter().map(bias).sum::<f32>() / 3.0;
        assert!((bias(&whole) - mean).abs() < 1e-6, "column {column}");
    }
}

#[test]
fn a_training_that_stopped_within_a_member_goes_on_there() {
    let expected = learn(&texts(), &ensemble()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Some(directory.path().join("c.safetensors"));
    let options = TrainOptions { checkpoint, ..ensemble() };
    let stopped = train(&texts(), &options, &mut |progress| match progress.epoch {
        7 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let mut seen = Vec::new();
    let resumed = train(&texts(), &options, &mut |progress| {
        if progress.stage == Stage::Network && progress.epoch > 0 {
            seen.push((progress.epoch, progress.step));
            assert_eq!((progress.epochs, progress.steps % 3), (12, 0));
            assert!(progress.step <= progress.steps);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(seen.first().map(|(epoch, _)| *epoch), Some(7));
    assert!(seen.is_sorted() && seen.last().map(|(epoch, _)| *epoch) == Some(12));
    assert_eq!(resumed.unwrap().digest(), expected.digest());
}

#[test]
fn what_members_cannot_have_is_refused_by_name() {
    let refused = |options: TrainOptions, what: &str| {
        let expected = format!("from members of at most 4 goes without {what}");
        says(learn(&texts(), &options), &expected);
    };
    refused(TrainOptions { nested: vec![3], ..ensemble() }, "nested widths");
    refused(TrainOptions { hidden: vec![8], ..ensemble() }, "hidden layers");
    refused(TrainOptions { decoder: Some(vec![8]), ..ensemble() }, "hidden layers");
    let top = TrainOptions { sparsity: Some(Sparsity::Top(2)), ..ensemble() };
    refused(top, "a fixed number of ones");
    let none = TrainOptions { member_bits: Some(0), ..ensemble() };
    says(learn(&texts(), &none), "member bits: expected 1 to 1024, got 0");
    // A code that is learned whole has no members, and its file says so.
    let whole = TrainOptions { member_bits: None, ..ensemble() };
    assert_eq!(learn(&texts(), &whole).unwrap().info().options, whole);
    learn(&texts(), &TrainOptions { nested: vec![3], member_bits: Some(10), ..ensemble() })
        .unwrap();
}
