//! Training by flags, and what trained models are good for beside codes: decoding and scores.

use serde_json::{Value, json};

use crate::testenv::{TestEnv, sample};

/// Digits of the sample as a file, and a small model of them.
fn with_digits(flags: &str) -> TestEnv {
    let env = TestEnv::new();
    let digits = sample("digits-images.idx3-ubyte.gz");
    env.one(&format!("train '{digits}' --bits 16 --epochs 2 --model m.safetensors {flags}"));
    env
}

#[test]
fn codes_are_decoded_flipped_walked_and_drawn() {
    let env = with_digits("--hidden 32");
    let lines = env.ok("decode ffff 0b0000000000000000 --model m.safetensors --flip 3 --walk 0");
    assert_eq!(lines.len(), 2 * (1 + 1 + 5));
    assert_eq!(lines[0]["image"]["pixels"].as_array().unwrap().len(), 64);
    assert_eq!(
        (&lines[1]["code"], &lines[1]["change"]),
        (&json!("efff"), &json!("bit 3 turned to 0"))
    );
    assert!(lines[1]["changes"]["distance"].as_f64().unwrap() >= 0.0);
    assert_eq!(lines[2]["change"], "bit 0 at 0.00");
    // The end of the walk is the code itself.
    assert_eq!(lines[6]["image"], lines[0]["image"]);

    let drawn = env.ok("decode --sample 3 --rounds 2 --seed 5 --model m.safetensors");
    assert_eq!(drawn, env.ok("decode --sample 3 --rounds 2 --seed 5 --model m.safetensors"));
    assert_eq!(drawn.len(), 3);
    let text = env.run("decode ffff --model m.safetensors --output table --plain").stdout;
    assert!(text.starts_with("ffff\n") && text.lines().count() > 8, "{text}");

    env.fails(
        2,
        "decode ffff --model m.safetensors --flip 16",
        &["expected a bit from 0 to 15, got 16"],
    );
    env.fails(1, "decode fff --model m.safetensors", &["expected 4 hexadecimal digits"]);
}

#[test]
fn rows_are_scored_in_order_or_the_strangest_first() {
    let env = with_digits("--hidden none");
    let digits = sample("digits-images.idx3-ubyte.gz");
    let scores = env.ok(&format!("score '{digits}' --model m.safetensors"));
    assert_eq!((scores.len(), &scores[7]["id"]), (1797, &json!("7")));
    let top = env.ok(&format!("score '{digits}' --model m.safetensors --top 2"));
    let score = |line: &Value| line["score"].as_f64().unwrap();
    let highest = scores.iter().map(score).fold(f64::MIN, f64::max);
    assert_eq!(score(&top[0]), highest);
    assert!(top.len() == 2 && score(&top[0]) >= score(&top[1]));
    let env = with_digits("--hidden none --no-decoder");
    let line = format!("score '{digits}' --model m.safetensors");
    env.fails(1, &line, &["without keeping its decoder"]);
}

#[test]
fn families_of_autoencoders_are_flags() {
    let env = TestEnv::new();
    let digits = sample("digits-images.idx3-ubyte.gz");
    let train = |flags: &str| {
        format!(
            "train '{digits}' --bits 16 --epochs 1 --neighbours 0 --model m.safetensors {flags}"
        )
    };
    for flags in [
        "--corrupt masking:0.3 --dropout 0.2 --contract 0 --sparse kl:0.1:0.1",
        "--hidden none --binarize linear --loss squared",
        "--hidden none --binarize sigmoid --procedure recirculation",
        "--hidden 32 --activation sigmoid --pretrain 1 --sparse l1:0.1 --sparse-layer 1",
        "--hidden none --contract 0.1 --sparse top:4",
        "--binarize gaussian --loss poisson",
        "--binarize sample --prior 0.5 --corrupt salt-and-pepper:0.1",
        "--loss squared:60,bernoulli:4 --corrupt gaussian:0.1",
    ] {
        env.one(&train(flags));
    }
    for (flags, part) in [
        ("--procedure recirculation", "leave hidden layers out"),
        ("--pretrain 3", "sigmoid"),
        ("--hidden none --dropout 0.5", "there is no hidden layer"),
        ("--prior 1", "only a stochastic code"),
        ("--binarize linear --sparse kl:0.1:0.1", "take sigmoid units"),
        ("--sparse top:4 --binarize sample", "a code layer that rounds"),
        ("--loss squared:3,bernoulli:4", "64 together, got 7"),
        ("--dropout 0.2 --contract 1", "dropout would make"),
        ("--sparse l1:0.1 --sparse-layer 3", "sparse layer: expected 1 to 2, got 3"),
    ] {
        env.fails(1, &train(flags), &[part]);
    }
    env.fails(2, &train("--corrupt rust"), &["expected masking:P"]);
    let texts = sample("paragraphs.jsonl");
    env.fails(
        1,
        &format!("train '{texts}' --epochs 1 --model m.safetensors --corrupt gaussian:0.1"),
        &["corruption: noise on every word", "take masking"],
    );
}
