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

#[test]
fn a_report_is_one_page_that_needs_nothing_else() {
    let env = with_digits("--hidden 32 --report report.html");
    let page = std::fs::read_to_string(env.path("report.html")).unwrap();
    for part in ["<h2>Training</h2>", "<h2>Bits</h2>", "their codes give back", "<h2>Map"] {
        assert!(page.contains(part), "no {part}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    // 1,797 dots, and nothing to be fetched or run.
    assert_eq!(page.matches("<circle").count(), 1797);
    for word in ["http", "<script", "<link", "<img", "url(", "NaN"] {
        assert!(!page.contains(word), "{word}");
    }
    let texts = sample("paragraphs.jsonl");
    env.one(&format!("train '{texts}' --epochs 1 --model t.safetensors --report t.html"));
    assert!(std::fs::read_to_string(env.path("t.html")).unwrap().contains("<tr><td>"));
    env.fails(
        1,
        &format!("train '{texts}' --epochs 1 --model t.safetensors --report no/such/t.html"),
        &["no/such"],
    );
}

/// Starts a long training, waits for its first checkpoint, presses Ctrl-C.
#[cfg(unix)]
#[test]
fn an_interrupted_training_keeps_its_checkpoint_and_goes_on_from_it() {
    let env = TestEnv::new();
    let digits = sample("digits-images.idx3-ubyte.gz");
    let line = |epochs: usize| {
        format!(
            "train '{digits}' --bits 8 --hidden none --neighbours 0 --schedule constant \
             --epochs {epochs} --checkpoint c.safetensors --model m.safetensors"
        )
    };
    let mut command = env.command(&line(100_000));
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !env.path("c.safetensors").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("the same command goes on") && message.contains("interrupted"));
    assert!(!env.path("m.safetensors").exists());
    // Another number of epochs is another training.
    env.fails(1, &line(3), &["got one of other inputs or options"]);
}
