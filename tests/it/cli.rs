//! The command line, as people and scripts use it: results, messages, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::testenv::{TestEnv, f32s, npy, sample};

/// A collection `c` of eight-bit codes: 0 to 7, in data directory `db`.
fn with_codes() -> TestEnv {
    let env = TestEnv::new();
    env.file("codes.npy", npy("|u1", "(8, 1)", &[0, 1, 2, 3, 4, 5, 6, 7]));
    env.ok("collection create c --data-dir db --bits 8 --codes");
    env.ok("index codes.npy --data-dir db -c c");
    env
}

fn ids(line: &Value) -> Vec<&str> {
    let hits = line["hits"].as_array().unwrap();
    hits.iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[test]
fn texts_from_file_to_hits() {
    let env = TestEnv::new();
    env.file(
        "t.jsonl",
        "{\"id\":\"moon\",\"text\":\"the far side of the moon\",\"label\":\"sky\"}\n\
         {\"id\":\"bread\",\"text\":\"a loaf of rye bread\",\"label\":\"food\"}\n",
    );
    let made = env.one("collection create notes --data-dir db --bits 64");
    assert_eq!((&made["bits"], &made["records"]), (&json!(64), &json!(0)));
    let indexed = env.one("index t.jsonl --data-dir db --collection notes");
    assert_eq!((&indexed["indexed"], &indexed["replaced"]), (&json!(2), &json!(0)));

    let line =
        env.one("search --data-dir db -c notes --text 'the dark side of the moon' --limit 1");
    assert_eq!(line["query"], 0);
    assert_eq!(line["complete"], true);
    assert_eq!(line["stats"], Value::Null);
    let hit = &line["hits"][0];
    assert_eq!((&hit["id"], &hit["payload"]), (&json!("moon"), &json!({"label": "sky"})));
    let distance = hit["distance"].as_f64().unwrap();
    assert!((hit["score"].as_f64().unwrap() - (1.0 - distance / 64.0)).abs() < 1e-6);

    let line = env.one("search --data-dir db -c notes --id moon --explain --no-payload");
    assert_eq!(ids(&line), ["bread"]);
    assert_eq!(line["hits"][0]["payload"], Value::Null);
    for field in ["plan", "kernel", "compared", "searching_seconds"] {
        assert!(!line["stats"][field].is_null(), "{line}");
    }

    let record = env.one("get moon --data-dir db -c notes");
    assert_eq!(record["text"], "the far side of the moon");
    assert_eq!(record["code"].as_str().unwrap().len(), 16);
    let code = record["code"].as_str().unwrap();
    let line = env.one(&format!("search --data-dir db -c notes --code {code} --radius 0"));
    assert_eq!((ids(&line), &line["hits"][0]["distance"]), (vec!["moon"], &json!(0)));

    assert_eq!(env.one("delete moon --data-dir db -c notes")["deleted"], 1);
    env.fails(3, "get moon --data-dir db -c notes", &["there is no record \"moon\""]);
    env.fails(3, "delete moon --data-dir db -c notes", &["there is no record \"moon\""]);
    assert_eq!(env.one("collection show notes --data-dir db")["records"], 1);
}

#[test]
fn train_encode_index_search_agree() {
    let env = TestEnv::new();
    let paragraphs = sample("paragraphs.jsonl");
    let train = format!("train {paragraphs} --bits 16 --epochs 1");
    let trained = env.one(&format!("{train} --model m.safetensors"));
    assert_eq!((&trained["bits"], &trained["input"]), (&json!(16), &json!("text")));
    env.ok(&format!("{train} --model again.safetensors"));
    assert_eq!(
        fs::read(env.path("m.safetensors")).unwrap(),
        fs::read(env.path("again.safetensors")).unwrap()
    );

    let encode = format!("encode {paragraphs} --model m.safetensors --out codes.npy");
    let rows = env.one(&format!("{encode} --activations values.npy"))["rows"].as_u64().unwrap();
    let codes = fs::read(env.path("codes.npy")).unwrap();
    let values = fs::read(env.path("values.npy")).unwrap();
    assert_eq!(codes[..128], npy("|u1", &format!("({rows}, 2)"), &[]));
    assert_eq!(values[..128], npy("<f4", &format!("({rows}, 16)"), &[]));
    let bits = codes[128..].iter().flat_map(|byte| (0..8).map(move |i| byte >> (7 - i) & 1));
    let values = values[128..].chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()));
    assert!(bits.zip(values).all(|(bit, value)| (value > 0.5) == (bit == 1)));

    // The same neighbours from the model's collection and from its codes.
    env.ok("collection create texts --data-dir db --model m.safetensors");
    env.ok(&format!("index {paragraphs} --data-dir db -c texts"));
    env.ok("collection create codes --data-dir db --bits 16 --codes");
    env.ok("index codes.npy --labels {} --data-dir db -c codes"
        .replace("{}", &paragraphs)
        .as_str());
    let first = env.one("get astronomy-001 --data-dir db -c texts");
    let by_text =
        env.one("search --data-dir db -c texts --id astronomy-001 --limit 5 --no-payload");
    let code = first["code"].as_str().unwrap();
    let by_code = env.one(&format!("search --data-dir db -c codes --code {code} --limit 6"));
    let by_id = env.one("search --data-dir db -c codes --id astronomy-001 --limit 5 --no-payload");
    assert_eq!(by_text["hits"], by_id["hits"]);
    assert_eq!(ids(&by_code).iter().filter(|id| **id != "astronomy-001").count(), 5);

    env.fails(1, "index codes.npy --data-dir db -c texts", &["expected texts, got an array"]);
    let vectors = npy("<f4", "(1, 2)", &f32s(&[1.0, 2.0]));
    env.file("v.npy", vectors);
    env.fails(1, "encode v.npy --model m.safetensors --out x.npy", &["expected texts"]);
    assert!(!env.path("x.npy").exists());
}

#[test]
fn a_nested_model_is_used_at_each_of_its_widths() {
    let env = TestEnv::new();
    let paragraphs = sample("paragraphs.jsonl");
    let train = format!("train {paragraphs} --epochs 1");
    let trained = env.one(&format!("{train} --bits 24 --nested 8,16 --model m.safetensors"));
    assert_eq!(trained["nested"], json!([8, 16]));
    let encode = format!("encode {paragraphs} --model m.safetensors");
    assert_eq!(env.one(&format!("{encode} --out whole.npy"))["bits"], 24);
    assert_eq!(env.one(&format!("{encode} --bits 8 --out cut.npy"))["bits"], 8);
    let read = |name: &str| fs::read(env.path(name)).unwrap()[128..].to_vec();
    let first: Vec<u8> = read("whole.npy").chunks(3).map(|code| code[0]).collect();
    assert_eq!(read("cut.npy"), first);

    let eval = format!("eval --model m.safetensors --database {paragraphs} --bits 8 --labels-only");
    assert_eq!(env.one(&eval)["model"]["bits"], 8);
    assert_eq!(env.ok("decode 9f --model m.safetensors --bits 8").len(), 1);

    // From the file, and from the model that the database has.
    env.ok("collection create whole --data-dir db --model m.safetensors");
    for (name, model) in [("small", "m.safetensors"), ("again", "m")] {
        let create = format!("collection create {name} --data-dir db --model {model} --bits 8");
        let made = env.one(&create);
        let encoder = made["encoder"].as_str().unwrap();
        assert!(made["bits"] == 8 && encoder.contains("m-8@1"), "{made}");
    }
    env.ok(&format!("index {paragraphs} --data-dir db -c small"));
    let code = env.one("get astronomy-001 --data-dir db -c small")["code"].clone();
    assert_eq!(code, format!("{:02x}", first[0]));

    let widths = "bits: expected a width that the model was trained for (8, 16, 24), got 12";
    for line in [
        format!("{encode} --bits 12 --out x.npy"),
        eval.replace("--bits 8", "--bits 12"),
        "collection create x --data-dir db --model m.safetensors --bits 12".to_owned(),
        "collection create x --data-dir db --model m --bits 12".to_owned(),
    ] {
        env.fails(1, &line, &[widths]);
    }
    assert!(!env.path("x.npy").exists());
    let train = format!("{train} --model x.safetensors --bits 24");
    env.fails(1, &format!("{train} --nested 16,8"), &["nested: expected rising widths", "[16, 8]"]);
    env.fails(1, &format!("{train} --nested 24"), &["from 1 to below 24 bits"]);
    env.fails(2, "collection create x --data-dir db --model m --bits 8 --dim 3", &["--dim"]);
}

#[test]
fn a_wide_code_of_texts_is_made_of_members_unless_something_goes_without() {
    let env = TestEnv::new();
    let train =
        format!("train {} --epochs 1 --bits 40 --model m.safetensors", sample("paragraphs.jsonl"));
    for (flags, members) in [
        ("", 2),
        ("--member-bits 10", 4),
        ("--member-bits 0", 1),
        ("--nested 8", 1),
        ("--hidden 8", 1),
        ("--decoder 8", 1),
        ("--sparse top:3", 1),
        ("--binarize gaussian", 1),
    ] {
        let trained = env.one(&format!("{train} {flags}"));
        assert_eq!(trained["members"], members, "{flags}");
        assert_eq!(trained["epochs"], members, "{flags}");
    }
    let nested = format!("{train} --nested 8 --member-bits 10");
    env.fails(1, &nested, &["members of at most 10 goes without nested widths"]);
}

#[test]
fn outputs() {
    let env = with_codes();
    env.file("q.npy", npy("|u1", "(2, 1)", &[0, 7]));
    let lines = env.ok("search --data-dir db -c c --input q.npy --limit 3");
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[1]["query"], ids(&lines[0]), ids(&lines[1])),
        (&json!(1), vec!["0", "1", "2"], vec!["7", "3", "5"])
    );
    let raw = env.run("search --data-dir db -c c --input q.npy --limit 1 --output jsonl").stdout;
    assert_eq!(
        raw.lines().next().unwrap(),
        r#"{"query":0,"hits":[{"id":"0","distance":0,"score":1.0}],"complete":true}"#
    );
    let array: Value = serde_json::from_str(
        &env.run("search --data-dir db -c c --input q.npy --limit 3 --output json").stdout,
    )
    .unwrap();
    assert_eq!(array, Value::from(lines));
    let table = env.run("search --data-dir db -c c --code 00 --limit 2 --output table").stdout;
    assert_eq!(
        table.lines().map(str::trim_end).collect::<Vec<_>>(),
        ["distance  score  id  payload  text", "0         1.000   0", "1         0.875   1"]
    );
    for plan in ["auto", "probe", "scan"] {
        let line =
            env.one(&format!("search --data-dir db -c c --code 00 --limit 99 --plan {plan}"));
        assert_eq!(ids(&line), ["0", "1", "2", "4", "3", "5", "6", "7"], "{plan}");
    }
    assert_eq!(
        ids(&env.one("search --data-dir db -c c --code 0b00000000 --radius 1")),
        ["0", "1", "2", "4"]
    );
    let list = env.run("collection list --data-dir db --output table").stdout;
    let header: Vec<&str> = list.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["name", "records", "bits", "encoder", "index"]);
    assert_eq!(env.run("collection list --data-dir none").code, Some(3));
    // Whoever stops reading early is no error.
    let mut child = env
        .command("search --data-dir db -c c --code 00 --limit 8")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn messages_are_not_results() {
    let env = TestEnv::new();
    let run = env.run("collection create c --data-dir db --bits 8 --codes");
    assert!(run.stderr.starts_with("next: nearbit index"), "{run:?}");
    assert_eq!(run.lines().len(), 1);
    let run = env.run("collection create d --data-dir db --bits 8 --codes --quiet");
    assert_eq!(run.stderr, "");
    // Nor are warnings.
    for (flag, warns) in [("", true), ("--quiet", false)] {
        fs::create_dir(env.path("db/collections/half")).unwrap();
        let run = env.run(&format!("collection list --data-dir db {flag}"));
        assert_eq!(
            (run.stderr.contains("WARN"), run.stderr.is_empty()),
            (warns, !warns),
            "{run:?}"
        );
    }
}

#[test]
fn usage() {
    let env = with_codes();
    let (place, limit) = ("--data-dir db -c c", "--limit 3");
    for (line, part) in [
        ("", "Usage: nearbit"),
        ("seach", "a similar subcommand exists: 'search'"),
        (&format!("search {place} --lmit 3 --code 00"), "a similar argument exists: '--limit'"),
        (
            &format!("search {place} {limit}"),
            "--text <TEXT>|--code <CODE>|--id <ID>|--input <FILE>",
        ),
        (&format!("search {place} --code 00 --id 1"), "cannot be used with"),
        (&format!("search {place} --code 00 --timeout -1"), "expected --timeout in seconds"),
        (&format!("search {place} --code 00 --limit -1"), "expected 1 to 1000000, got -1"),
        (&format!("search {place} --code 00 --limit 0"), "expected 1 to 1000000, got 0"),
        (
            &format!("search {place} --code 00 --limit 1000001"),
            "expected 1 to 1000000, got 1000001",
        ),
        (&format!("search {place} --code 00 --radius -1"), "invalid value '-1' for '--radius <R>'"),
        (&format!("index codes.npy {place} --delimiter ab"), "expected one ASCII character"),
        ("serve --data-dir db --listen localhost", "expected ADDRESS:PORT, as in 127.0.0.1:7450"),
        ("collection create d --data-dir db", "--model <MODEL>"),
        ("collection create d --data-dir db --bits 1025", "expected 1 to 1024"),
        ("collection create d --data-dir db --bits 8 --image 28", "28x28"),
        ("train t.jsonl --model m --binarize hard", "expected noise, noise:SIZE, round, sample"),
        ("train t.jsonl --model m --loss huge", "squared, bernoulli, multinomial"),
        ("collection delete c --data-dir db", "holds 8 records"),
        (&format!("index a b --labels l {place}"), "--labels belongs to one input"),
    ] {
        env.fails(2, line, &[part]);
    }
    for command in "demo train encode index search get delete eval stats serve".split(' ') {
        let help = env.run(&format!("{command} --help"));
        assert_eq!(help.code, Some(0));
        assert!(help.stdout.contains(&format!("nearbit {command}")), "{command}: {}", help.stdout);
        assert!(help.stdout.contains("Example"), "{command}: {}", help.stdout);
    }
    assert_eq!(env.one("collection delete c --data-dir db --force")["deleted"], true);
    assert!(env.ok("collection list --data-dir db").is_empty());
}

#[test]
fn things_that_are_not_there() {
    let env = with_codes();
    env.fails(3, "search --data-dir none -c c --code 00", &["there is no data directory \"none\""]);
    env.fails(
        3,
        "search --data-dir db -c cc --code 00",
        &["no collection \"cc\"", "did you mean \"c\"?"],
    );
    env.fails(3, "search --data-dir db -c c --id 99", &["there is no record \"99\""]);
    env.fails(3, "index none.npy --data-dir db -c c", &["there is no file \"none.npy\""]);
    env.fails(3, "encode codes.npy --model m.safetensors --out x.npy", &["m.safetensors"]);
    env.fails(3, "collection create d --data-dir db --model m.safetensors", &["m.safetensors"]);
    env.fails(3, "collection create d --data-dir db --model topics", &["no model \"topics\""]);
    env.fails(1, "collection create c --data-dir db --bits 8 --codes", &["exists already"]);
    env.fails(1, "collection create ../x --data-dir db --bits 8 --codes", &["expected a name"]);
    assert!(!env.path("none").exists());
}

#[test]
fn what_only_reads_makes_no_database() {
    let env = TestEnv::new();
    fs::create_dir(env.path("empty")).unwrap();
    env.file("t.jsonl", "{\"text\":\"a b\"}\n");
    for command in [
        "collection list",
        "collection show c",
        "collection index-field c year",
        "collection durability c sync",
        "collection delete c",
        "index t.jsonl -c c",
        "get 1 -c c",
        "search --text a -c c",
        "count -c c",
        "export -c c",
        "stats -c c",
        "dedup --radius 1 -c c",
        "delete 1 -c c",
        "compact -c c",
        "check",
        "check --repair",
        "snapshot list",
        "snapshot create s",
        "snapshot delete s",
    ] {
        let made = "collection create NAME --data-dir";
        for (dir, part) in [
            ("none", "no data directory \"none\""),
            ("empty", "no database in the directory \"empty\""),
        ] {
            env.fails(3, &format!("{command} --data-dir {dir}"), &[part, made]);
        }
    }
    env.fails(3, "inspect empty", &["no database in the directory \"empty\""]);
    env.fails(
        3,
        "collection create c --data-dir none --model m",
        &["no model \"m\"", "nearbit train"],
    );
    assert!(
        !env.path("none").exists() && fs::read_dir(env.path("empty")).unwrap().next().is_none()
    );
}

#[test]
fn models_that_are_none() {
    let env = TestEnv::new();
    let text = "{\"text\":\"red fox\"}\n{\"text\":\"red wine\"}\n{\"text\":\"the fox sleeps\"}\n";
    env.file("t.jsonl", text.repeat(20));
    env.ok("train t.jsonl --bits 4 --epochs 1 --model m.safetensors");
    let model = fs::read(env.path("m.safetensors")).unwrap();
    let mut flipped = model.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (content, what) in [
        (&b""[..], "empty"),
        (b"hello", "foreign"),
        (&model[..model.len() - 1], "cut"),
        (&flipped, "flipped"),
    ] {
        env.file("bad.safetensors", content);
        let run = env.run("encode t.jsonl --model bad.safetensors --out x.npy");
        assert!(matches!(run.code, Some(1 | 8)), "{what}: {run:?}");
        assert!(run.stderr.contains("bad.safetensors"), "{what}: {run:?}");
    }
    env.fails(1, "train t.jsonl --bits 4 --model no/m.safetensors", &["no"]);
}

#[test]
fn a_flag_of_training_without_effect_is_refused() {
    let env = TestEnv::new();
    let numbers: Vec<f32> = (0..64 * 8u64).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    env.file("v.npy", npy("<f4", "(64, 8)", &f32s(&numbers)));
    let train = "train v.npy --bits 8 --epochs 1 --batch 16 --model m.safetensors";
    for (flags, why) in [
        ("--neighbours 0 --walk 3", "--walk would have no effect: with --neighbours 0"),
        ("--neighbours 0 --likeness features", "--likeness"),
        ("--neighbours 0 --contrast 1", "--contrast"),
        ("--neighbours 0 --learned-neighbours 0.5", "--learned-neighbours"),
        ("--neighbours 0 --temperature 0.5", "--temperature"),
        ("--contrast 0 --temperature 0.5", "it belongs to --contrast"),
        ("--similarity 0 --similarity-temperature 0.1", "it belongs to --similarity"),
        ("--activation tanh", "there is no hidden layer"),
        ("--vocabulary 100", "only texts have words"),
    ] {
        env.fails(2, &format!("{train} {flags}"), &[why, "leave it out"]);
        assert!(!env.path("m.safetensors").exists(), "{flags}");
    }
    for flags in [
        "--neighbours 5 --walk 3 --contrast 0 --similarity 1 --similarity-temperature 0.1",
        "--neighbours 0 --contrast 0 --scale none",
        "--hidden 8 --activation tanh",
    ] {
        assert!(env.one(&format!("{train} {flags}"))["rows"].is_number(), "{flags}");
    }
}

/// Before the first epoch it was heeded only between long stretches of work, of a minute and more.
#[cfg(unix)]
#[test]
fn a_training_is_interrupted_before_its_first_epoch_too() {
    use std::time::{Duration, Instant};

    let env = TestEnv::new();
    let numbers: Vec<f32> = (0..30_000 * 64u64).map(|i| (i * i % 1009) as f32 / 1009.0).collect();
    env.file("v.npy", npy("<f4", "(30000, 64)", &f32s(&numbers)));
    let train = "train v.npy --bits 16 --epochs 1000 --model m.safetensors";
    let mut child = env.command(train).stderr(Stdio::piped()).spawn().unwrap();
    // It tells what it learns from, and goes on to the features.
    let mut told = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut told).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let interrupt = format!("kill -INT {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let start = Instant::now();
    assert!(!child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(!env.path("m.safetensors").exists());
}

#[test]
fn a_flag_of_a_collection_without_effect_is_refused() {
    let env = TestEnv::new();
    let text = "{\"text\":\"red fox\"}\n{\"text\":\"red wine\"}\n{\"text\":\"the fox sleeps\"}\n";
    env.file("t.jsonl", text.repeat(20));
    env.ok("train t.jsonl --bits 8 --epochs 1 --model m.safetensors");
    let create = "collection create c --data-dir db";
    for (flags, part) in [
        ("--bits 8 --codes --seed 1", "cannot be used with"),
        (
            "--bits 8 --codes --keep-vectors f16",
            "--keep-vectors would have no effect: the collection takes codes",
        ),
        ("--bits 8 --codes --no-text", "--no-text would have no effect"),
        ("--bits 8 --keep-vectors f16", "the collection takes text"),
        ("--model m.safetensors --keep-vectors f16", "the collection takes text"),
        ("--bits 8 --dim 2 --no-text", "takes vectors of 2 numbers"),
        ("--bits 8 --dim 2 --metric l2", "--metric would have no effect: no vectors are kept"),
        ("--bits 8 --image 2x2 --keep-vectors f32", "takes images"),
    ] {
        env.fails(2, &format!("{create} {flags}"), &[part]);
        assert!(!env.path("db").exists(), "{flags}");
    }
    env.ok(&format!("{create} --model m.safetensors --no-text"));
    env.fails(2, "collection create d --data-dir db --model m --keep-vectors f16", &["takes text"]);

    let index = "index t.jsonl --data-dir db -c c --label-field";
    env.fails(
        1,
        &format!("{index} txt"),
        &["no field \"txt\"", "did you mean --label-field text?"],
    );
    env.ok("collection create v --data-dir db --bits 8 --dim 2");
    env.file("v.npy", npy("<f4", "(1, 2)", &f32s(&[1.0, 2.0])));
    env.fails(1, "index v.npy --data-dir db -c v --label-field x", &["v.npy", "--labels"]);
}

#[test]
fn rows_beyond_the_memory_are_streamed() {
    let env = TestEnv::new();
    let numbers: Vec<f32> = (0..3000 * 128u64).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
    env.file("v.npy", npy("<f4", "(3000, 128)", &f32s(&numbers)));
    let train = "train v.npy --bits 16 --batch 64 --epochs 2 --neighbours 5";
    let streamed = env.one(&format!("{train} --memory 1MiB --model a.st --report a.html"));
    let rows = |name: &str| streamed[name].as_u64().unwrap();
    assert_eq!(rows("rows") + rows("validation_rows"), 3000);
    assert!((1..1000).contains(&rows("sample_rows")), "{streamed}");
    let run = env.run(&format!("{train} --memory 1048576 --model b.st"));
    assert!(run.stderr.contains("rows are streamed: 1.54 MB in a scratch file in ."), "{run:?}");
    assert_eq!(fs::read(env.path("a.st")).unwrap(), fs::read(env.path("b.st")).unwrap());
    assert!(env.one(&format!("{train} --memory 2MB --model c.st"))["sample_rows"].is_null());
    let mut left: Vec<String> = fs::read_dir(env.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".stdin")
        .collect();
    left.sort();
    assert_eq!(left, ["a.html", "a.st", "b.st", "c.st", "v.npy"]);

    for (memory, part) in [("0", "such as 4GiB"), ("much", "such as 4GiB"), ("4G", "unit \"G\"")] {
        env.fails(2, &format!("{train} --memory {memory} --model d.st"), &[part]);
    }
    let least = ["memory: expected at least 1048576 bytes, got 1000"];
    env.fails(1, &format!("{train} --memory 1kB --model d.st"), &least);
    let room = ["memory: expected room for 2048 rows in one half of it", "batch than 512"];
    env.fails(1, "train v.npy --memory 1MiB --model d.st", &room);
    let once = ["can be read once only", "leave --memory out"];
    env.fails(1, "train - --memory 1MiB --model d.st", &once);
    assert!(!env.path("d.st").exists());
}

#[test]
fn vectors_that_do_not_fit() {
    let env = TestEnv::new();
    env.ok("collection create v --data-dir db --bits 16 --dim 2");
    // Row 0 is indexed each time, before the fault.
    let index = |file: &str| format!("index {file} --data-dir db -c v --replace");
    for (bad, part) in [
        (f32::NAN, "v.npy row 1: expected finite 32-bit numbers, got NaN in column 1"),
        (f32::INFINITY, "v.npy row 1: expected finite 32-bit numbers, got inf in column 1"),
    ] {
        env.file("v.npy", npy("<f4", "(3, 2)", &f32s(&[1.0, 2.0, 3.0, bad, 5.0, 6.0])));
        env.fails(1, &index("v.npy"), &[part, "--rejects"]);
        let run = env.run(&format!("{} --rejects bad.jsonl", index("v.npy")));
        assert_eq!(run.code, Some(4), "{run:?}");
        let result = &run.lines()[0];
        assert_eq!((&result["indexed"], &result["rejected"]), (&json!(2), &json!(1)));
        let rejects: Value =
            serde_json::from_str(&fs::read_to_string(env.path("bad.jsonl")).unwrap()).unwrap();
        assert_eq!((&rejects["row"], &rejects["place"]), (&json!(1), &json!("v.npy row 1")));
        assert!(rejects["error"].as_str().unwrap().contains(part));
    }
    env.file("wide.npy", npy("<f4", "(1, 3)", &f32s(&[1.0, 2.0, 3.0])));
    let parts = ["wide.npy row 0", "takes vectors of 2 numbers, got vectors of 3 numbers"];
    env.fails(1, &index("wide.npy"), &parts);
    env.file("wide.jsonl", "{\"vector\":[1,2]}\n{\"vector\":[1,2,3]}\n");
    env.fails(
        1,
        &index("wide.jsonl"),
        &["wide.jsonl:2: expected vectors of 2 numbers", "got vectors of 3"],
    );
    env.fails(1, "search --data-dir db -c v --input wide.npy", &["wide.npy row 0"]);
    env.fails(1, "search --data-dir db -c v --text hello", &["vectors of 2 numbers", "got text"]);
}

#[test]
fn codes_that_do_not_fit() {
    let env = TestEnv::new();
    env.ok("collection create c --data-dir db --bits 12 --codes");
    let index = "index x.npy --data-dir db -c c";
    env.file("x.npy", npy("|u1", "(2, 1)", &[0, 1]));
    env.fails(1, index, &["expected 2 bytes a row for 12 bits, got 1"]);
    env.file("x.npy", npy("|u1", "(2, 2)", &[0xff, 0xf0, 0xff, 0xff]));
    env.fails(1, index, &["x.npy row 1: code: bits are set beyond the first 12"]);
    env.fails(1, &format!("{index} --bits 16"), &["12 bits", "--bits 16"]);
    env.file("x.npy", npy("|u1", "(1, 2)", &[0x0f, 0x01]));
    env.ok(&format!("{index} --bits 12 --bit-order lsb --replace"));
    assert_eq!(env.one("get 0 --data-dir db -c c")["code"], "f080");
    env.fails(
        1,
        "search --data-dir db -c c --code f08",
        &["expected", "12 binary digits", "got \"f08\""],
    );
    env.fails(1, "search --data-dir db -c c --code f081", &["bits are set beyond"]);
    env.fails(1, "search --data-dir db -c c --text moon", &["codes only"]);
}

#[test]
fn files_that_are_broken() {
    let env = with_codes();
    let index = |file: &str| format!("index {file} --data-dir db -c c");
    env.file("empty.npy", "");
    env.fails(1, &index("empty.npy"), &["empty.npy: the file is empty"]);
    let whole = npy("|u1", "(8, 1)", &[0, 1, 2, 3, 4, 5, 6, 7]);
    for length in [5, 60, 130] {
        env.file("cut.npy", &whole[..length]);
        env.fails(1, &index("cut.npy"), &["cut.npy", "cut short"]);
    }
    env.file("huge.npy", npy("|u1", "(1152921504606846976, 1)", &[1]));
    env.fails(1, &index("huge.npy"), &["cut short", "1152921504606846976", "there are 1"]);
    env.file("cut.idx", [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3]);
    env.ok("collection create p --data-dir db --bits 8 --image 2x2");
    env.fails(
        1,
        "index cut.idx --data-dir db -c p",
        &["cut.idx", "cut short", "8 bytes; there are 3"],
    );
    env.fails(1, &format!("{} --format idx", index("codes.npy")), &["this is no IDX file"]);
    env.file("what", "hello");
    env.fails(1, &index("what"), &["cannot tell the format", "--format"]);
    assert_eq!(env.one("collection show c --data-dir db")["records"], 8);
}

#[test]
fn lines_that_are_broken() {
    let env = TestEnv::new();
    env.ok("collection create t --data-dir db --bits 8");
    let mut lines: Vec<String> =
        (1..=20).map(|i| format!("{{\"id\":\"n{i}\",\"text\":\"word{i}\"}}")).collect();
    lines[16].truncate(12);
    lines[17] = format!("{{\"id\":\"{}\",\"text\":\"t\"}}", "x".repeat(10_000_000));
    lines[18] = "{\"id\":\"n2\",\"text\":\"again\"}".into();
    env.file("t.jsonl", lines.join("\n"));
    env.fails(
        1,
        "index t.jsonl --data-dir db -c t",
        &["t.jsonl:17: expected a JSON object", "16 records before"],
    );
    assert_eq!(env.one("collection show t --data-dir db")["records"], 16);
    let dry = env.run("index t.jsonl --data-dir db -c t --dry-run --rejects bad.jsonl");
    assert_eq!((dry.code, &dry.lines()[0]["rejected"]), (Some(4), &json!(2)));
    assert_eq!(env.one("collection show t --data-dir db")["records"], 16);

    let run = env.run("index t.jsonl --data-dir db -c t --rejects bad.jsonl");
    assert_eq!(run.code, Some(4), "{run:?}");
    let result = &run.lines()[0];
    // n1 to n16 were there, and n2 came twice: the later row stays.
    assert_eq!(
        (&result["indexed"], &result["replaced"], &result["rejected"]),
        (&json!(18), &json!(17), &json!(2))
    );
    assert_eq!(env.one("get n2 --data-dir db -c t")["text"], "again");
    let rejects = fs::read_to_string(env.path("bad.jsonl")).unwrap();
    let errors: Vec<Value> = rejects.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(errors[0]["place"], "t.jsonl:17");
    assert!(
        errors[1]["error"].as_str().unwrap().contains("id: expected 1 to 512 bytes, got 10000000")
    );

    let skipped = env.run("index t.jsonl --data-dir db -c t --resume --rejects bad.jsonl");
    assert_eq!(skipped.lines()[0]["skipped"], 18);
    let none = "index t.jsonl --data-dir db -c t --text-field";
    env.fails(
        1,
        &format!("{none} txt"),
        &["no field \"txt\"", "\"id\", \"text\"", "did you mean --text-field text?"],
    );
    env.fails(1, &format!("{none} body"), &["no field \"body\"", "--text-field"]);
}

#[test]
fn standard_input_and_several_files() {
    let env = TestEnv::new();
    env.ok("collection create t --data-dir db --bits 8");
    let run =
        env.run_with("index - --data-dir db -c t", "{\"text\":\"a b\"}\n{\"text\":\"c d\"}\n");
    assert_eq!(run.lines()[0]["indexed"], 2, "{run:?}");
    env.file("a.csv", "text,x\none two,1\n").file("b.tsv", "text\tx\nthree four\t2\n");
    env.ok("collection create s --data-dir db --bits 8");
    env.ok("index a.csv b.tsv --data-dir db -c s");
    assert_eq!(env.one("get 1 --data-dir db -c s")["payload"], json!({"x": "2"}));
    let lines =
        env.run_with("search --data-dir db -c s --input - --limit 1", "{\"text\":\"three four\"}");
    assert_eq!(ids(&lines.lines()[0]), ["1"]);
}

/// A second file of rows without ids once replaced the records of the first, number by number.
#[test]
fn rows_without_ids_replace_nothing_unless_that_is_said() {
    let env = with_codes();
    env.file("more.npy", npy("|u1", "(3, 1)", &[0x10, 0x20, 0x30]));
    let more = "index more.npy --data-dir db -c c";
    let refused = ["more.npy row 0", "record \"0\"", "--id-field", "--first-id", "8 records"];
    env.fails(1, more, &refused);
    env.fails(1, &format!("{more} --dry-run"), &refused);
    env.fails(1, &format!("{more} --first-id 7"), &["record \"7\"", "--resume", "--replace"]);
    assert_eq!(env.one("get 0 --data-dir db -c c")["code"], "00");
    assert_eq!(env.one("count --data-dir db -c c")["count"], 8);

    assert_eq!(env.one(&format!("{more} --first-id 8"))["replaced"], 0);
    assert_eq!(env.one("get 10 --data-dir db -c c")["code"], "30");
    assert_eq!(env.one(&format!("{more} --resume"))["skipped"], 3);
    assert_eq!(env.one("get 0 --data-dir db -c c")["code"], "00");
    assert_eq!(env.one(&format!("{more} --replace"))["replaced"], 3);
    assert_eq!(env.one("get 0 --data-dir db -c c")["code"], "10");
    env.fails(2, &format!("{more} --replace --resume"), &["cannot be used with"]);

    // An id of its own says what it replaces, and takes no number.
    env.file("named.jsonl", "{\"id\":0,\"code\":\"40\"}\n");
    let named = "index named.jsonl --data-dir db -c c";
    env.fails(1, &format!("{named} --first-id 8"), &["named.jsonl:1", "--first-id", "no effect"]);
    assert_eq!(env.one(named)["replaced"], 1);

    // Within one run the numbers go on, and beyond what was indexed in it they replace nothing either.
    env.ok("collection create d --data-dir db --bits 8 --codes");
    env.ok("index codes.npy more.npy --data-dir db -c d");
    assert_eq!(env.one("count --data-dir db -c d")["count"], 11);
    env.ok("collection create e --data-dir db --bits 8 --codes");
    env.file("one.jsonl", "{\"id\":2,\"code\":\"40\"}\n");
    env.fails(
        1,
        "index one.jsonl more.npy --data-dir db -c e",
        &["more.npy row 1", "record \"2\""],
    );
    assert_eq!(env.one("get 2 --data-dir db -c e")["code"], "40");
}

/// The rows themselves were missing once, and had to be looked for in the input.
#[test]
fn rejected_rows_are_kept_to_be_mended() {
    let env = TestEnv::new();
    env.ok("collection create c --data-dir db --bits 8");
    let index = "index {} --data-dir db -c c --rejects bad.jsonl";
    let rejected = |file: &str| -> Vec<Value> {
        let run = env.run(&index.replace("{}", file));
        assert_eq!(run.code, Some(4), "{run:?}");
        let lines = fs::read_to_string(env.path("bad.jsonl")).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let bad = ["{\"id\":\"b\",\"text\":7}", "{\"id\":\"c\",", "{\"id\":\"\",\"text\":\"g h\"}"];
    env.file("t.jsonl", format!("{{\"id\":\"a\",\"text\":\"a b\"}}\n{}\r\n", bad.join("\n")));
    let rejects = rejected("t.jsonl");
    assert_eq!(rejects.iter().map(|r| r["line"].as_str().unwrap()).collect::<Vec<_>>(), bad);
    assert_eq!((&rejects[0]["row"], &rejects[0]["place"]), (&json!(1), &json!("t.jsonl:2")));
    assert!(
        rejects[0]["error"].as_str().unwrap().contains("text: expected a string"),
        "{rejects:?}"
    );

    env.file("t.csv", "id,text,x\n1,a b,y\n,\"c, \"\"d\"\"\",z\n3,e\n");
    let rejects = rejected("t.csv");
    assert_eq!(rejects[0]["line"], ",\"c, \"\"d\"\"\",z");
    assert_eq!(rejects[1]["line"], "3,e");
}

#[test]
fn a_vector_beyond_half_precision_is_a_rejected_row() {
    let env = TestEnv::new();
    env.ok("collection create c --data-dir db --bits 8 --dim 2 --keep-vectors f16");
    env.file("v.jsonl", "{\"vector\":[1,2]}\n{\"vector\":[70000,2]}\n{\"vector\":[3,4]}\n");
    let run = env.run("index v.jsonl --data-dir db -c c --rejects bad.jsonl");
    assert_eq!(run.code, Some(4), "{run:?}");
    assert_eq!(env.one("count --data-dir db -c c")["count"], 2);
    let rejects = fs::read_to_string(env.path("bad.jsonl")).unwrap();
    assert!(rejects.contains("v.jsonl:2: vector: expected numbers up to 65504"), "{rejects}");
}

/// What is written at once has to fit one commit, of 64 MiB.
#[test]
fn rows_of_large_payloads_are_indexed_in_groups_that_fit() {
    let env = TestEnv::new();
    env.ok("collection create c --data-dir db --bits 8");
    let long = "x".repeat(1_000_000);
    let rows =
        (0..70).map(|i| format!("{{\"id\":\"{i}\",\"text\":\"a b\",\"long\":\"{long}\"}}\n"));
    env.file("t.jsonl", rows.collect::<String>());
    env.ok("index t.jsonl --data-dir db -c c");
    assert_eq!(env.one("count --data-dir db -c c")["count"], 70);
}

#[test]
fn models_are_listed_and_deleted_where_nothing_encodes_with_them() {
    let env = TestEnv::new();
    let rows = (0..60).map(|i| format!("{{\"vector\":[{i},{},{}]}}\n", i % 7, (i * i) % 11));
    env.file("v.jsonl", rows.collect::<String>());
    env.ok("train v.jsonl --bits 4 --epochs 1 --model waves.safetensors");
    assert!(env.ok("collection create a --data-dir db --bits 8 --codes").len() == 1);
    assert!(env.ok("model list --data-dir db").is_empty());
    env.ok("collection create c --data-dir db --model waves.safetensors");
    let listed = env.one("model list --data-dir db");
    assert_eq!((&listed["name"], &listed["bits"]), (&json!("waves@1"), &json!(4)));
    assert_eq!(listed["collections"], json!(["c"]));
    let delete = "model delete waves@1 --data-dir db";
    env.fails(1, delete, &["waves@1 encodes for c; delete that first"]);
    env.ok("collection delete c --data-dir db");
    env.fails(1, "model delete waves --data-dir db", &["such as waves@1"]);
    env.fails(3, "model delete other@1 --data-dir db", &["the database has waves@1"]);
    env.ok(delete);
    assert!(env.ok("model list --data-dir db").is_empty());
}

#[test]
fn columns_of_a_table_have_the_types_that_are_named() {
    let env = TestEnv::new();
    env.ok("collection create c --data-dir db --bits 8 --index-field year");
    let text = "id,text,year,price,new,code\na,a b,1987,2.5,true,007\nb,c d, 1995 ,3,FALSE,\n\
                c,e f,,,,x\n";
    env.file("t.csv", text);
    let index = "index t.csv --data-dir db -c c";
    env.ok(index);
    let count = "count --data-dir db -c c --filter 'year >= 1990'";
    assert_eq!(env.one(count)["count"], 0, "cells are text unless something else is said");
    env.ok(&format!(
        "{index} --field-type year=integer --field-type price=number --field-type new=bool"
    ));
    assert_eq!(env.one(count)["count"], 1);
    let payload = |id: &str| env.one(&format!("get {id} --data-dir db -c c"))["payload"].clone();
    assert_eq!(payload("a"), json!({"year": 1987, "price": 2.5, "new": true, "code": "007"}));
    assert_eq!(payload("b"), json!({"year": 1995, "price": 3, "new": false, "code": ""}));
    assert_eq!(payload("c"), json!({"code": "x"}));

    for (flag, part) in [
        ("code=integer", "t.csv:4: code: expected an integer, as --field-type says, got \"x\""),
        ("text=bool", "t.csv:2: text: expected true or false"),
        ("yaer=integer", "there is no column \"yaer\"; did you mean --field-type year=TYPE?"),
        ("year=text --field-type year=integer", "names the column \"year\" twice"),
    ] {
        env.fails(1, &format!("{index} --field-type {flag}"), &[part]);
    }
    env.fails(2, &format!("{index} --field-type year=int"), &["text, integer, number, bool"]);
    env.file("t.jsonl", "{\"text\":\"a b\",\"year\":\"1990\"}\n");
    let jsonl = "index t.jsonl --data-dir db -c c --field-type year=integer";
    env.fails(1, jsonl, &["t.jsonl: --field-type goes with CSV and TSV"]);
    // Of labels too.
    env.file("l.csv", "id,year\nz,2001\n").file("one.jsonl", "{\"text\":\"a b\"}\n");
    env.ok("index one.jsonl --labels l.csv --field-type year=integer --data-dir db -c c");
    assert_eq!(payload("z"), json!({"year": 2001}));
}

#[test]
fn nothing_is_indexed_where_a_later_file_cannot_be_opened() {
    let env = with_codes();
    env.file("good.jsonl", "{\"id\":\"good\",\"code\":\"01\"}\n").file("what", "hello");
    for (bad, code, part) in [("none.jsonl", 3, "no file \"none.jsonl\""), ("what", 1, "--format")]
    {
        env.fails(code, &format!("index good.jsonl {bad} --data-dir db -c c"), &[part]);
        assert_eq!(env.one("count --data-dir db -c c")["count"], 8, "{bad}");
    }
}

#[test]
fn what_is_read_is_not_written_over() {
    let env = with_codes();
    let text = "{\"text\":\"a b\"}\n";
    env.file("t.jsonl", text).file("m.safetensors", "a model");
    env.fails(1, "index t.jsonl --data-dir db -c c --rejects ./t.jsonl", &["t.jsonl", "is read"]);
    let encode = "encode codes.npy --model m.safetensors";
    env.fails(1, &format!("{encode} --out codes.npy"), &["codes.npy", "is read"]);
    env.fails(1, &format!("{encode} --out m.safetensors"), &["m.safetensors", "is read"]);
    env.fails(1, &format!("{encode} --out o.npy --activations o.npy"), &["o.npy", "is written"]);
    env.fails(1, "train t.jsonl --model t.jsonl", &["t.jsonl", "is read"]);
    env.fails(1, "train t.jsonl --model m --report m", &["m: ", "is written"]);
    assert_eq!(fs::read_to_string(env.path("t.jsonl")).unwrap(), text);
    assert_eq!(fs::read_to_string(env.path("m.safetensors")).unwrap(), "a model");
    env.fails(2, "search --data-dir db -c c --code 01 --bit-order lsb", &["--input"]);
}

#[test]
fn an_export_is_indexed_as_it_was() {
    let env = TestEnv::new();
    env.file(
        "t.jsonl",
        "{\"id\":\"a\",\"text\":\"a b\",\"x\":{\"y\":1}}\n{\"id\":\"c\",\"text\":\"c\"}\n",
    );
    for name in ["one", "two"] {
        env.ok(&format!("collection create {name} --data-dir db --bits 8"));
    }
    env.ok("index t.jsonl --data-dir db -c one");
    let exported = env.run("export --data-dir db -c one");
    env.file("e.jsonl", &exported.stdout);
    env.ok("index e.jsonl --payload-field payload --data-dir db -c two");
    assert_eq!(env.run("export --data-dir db -c two").stdout, exported.stdout);
    env.fails(1, "index e.jsonl --payload-field load --data-dir db -c two", &["--payload-field"]);
    env.fails(
        1,
        "index e.jsonl --payload-field code --data-dir db -c two",
        &["expected an object"],
    );
}

#[test]
fn directories_that_cannot_be_used() {
    let env = with_codes();
    fs::create_dir(env.path("other")).unwrap();
    env.file("other/notes.txt", "not a database");
    env.fails(1, "collection list --data-dir other", &["other"]);
    env.file("file", "");
    env.fails(1, "collection create c --data-dir file/db --bits 8 --codes", &["file"]);
    let format = fs::read(env.path("db/FORMAT")).unwrap();
    env.file("db/FORMAT", "nonsense");
    let run = env.run("collection list --data-dir db");
    assert!(matches!(run.code, Some(1 | 8)), "{run:?}");
    env.file("db/FORMAT", format);
    env.file("db/collections/.DS_Store", "of another program");
    assert_eq!(env.ok("collection list --data-dir db").len(), 1);
    // Records whose MANIFEST is lost are not taken for what a crash left.
    fs::remove_file(env.path("db/collections/c/MANIFEST")).unwrap();
    for _ in 0..2 {
        env.fails(8, "collection list --data-dir db", &["MANIFEST", "check --repair"]);
    }
    env.run("check --repair --data-dir db");
    assert_eq!(env.ok("export --data-dir db -c c").len(), 8);
}

/// The number before `%` in the line that begins with `name`.
fn percent(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().rev().nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_demo_shows_what_it_promises() {
    let env = TestEnv::new();
    for (line, shown) in [("demo --plain", "@@"), ("demo --plain --text", "astronomy  ")] {
        let run = env.run(line);
        assert_eq!(run.code, Some(0), "{run:?}");
        let text = &run.stdout;
        for part in [shown, "query", "differ\n", " ^", "precision@10", "nearbit train"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(text.is_ascii() || line.contains("text"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        // Learned codes beat the best linear ones, and those beat random ones.
        let [learned, itq, lsh] = ["nearbit", "ITQ", "LSH"].map(|name| percent(text, name));
        assert!(learned > itq && itq > lsh, "{text}");
    }
}

#[test]
fn eval_and_stats() {
    let env = TestEnv::new();
    // Two clusters of vectors, whose number is their label.
    let rows = |start: usize, count: usize| -> String {
        let number = |i: usize, j: usize| ((i * 31 + j * 17) as f32).sin() * 0.3 + (i % 2) as f32;
        let vector = |i: usize| (0..8).map(|j| number(i, j)).collect::<Vec<_>>();
        let line = |i| json!({"id": i, "vector": vector(i), "group": i % 2}).to_string() + "\n";
        (start..start + count).map(line).collect()
    };
    env.file("db.jsonl", rows(0, 200)).file("q.jsonl", rows(200, 20));
    env.ok("train db.jsonl --bits 8 --epochs 2 --model m.safetensors");
    let eval = "eval --model m.safetensors --database db.jsonl --queries q.jsonl --k 5,10";
    let run = env.run(&format!("{eval} --label-field group --output json"));
    assert_eq!(run.code, Some(0), "{run:?}");
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&report["model"]["bits"], &report["model"]["queries"]), (&json!(8), &json!(20)));
    assert_eq!(report["model"]["digest"].as_str().unwrap().len(), 64);
    for name in ["precision@5", "precision@10", "map", "recall@10", "precision_radius_2"] {
        for metrics in
            [&report["metrics"], &report["baselines"]["itq"], &report["baselines"]["lsh"]]
        {
            let value = metrics[name].as_f64().unwrap_or_else(|| panic!("{name}: {report}"));
            assert!((0.0..=1.0).contains(&value));
        }
    }
    assert!(report["metrics"]["precision@10"].as_f64().unwrap() > 0.9, "{report}");
    // Without queries each record asks, and does not find itself.
    let itself = env.one("eval --model m.safetensors --database db.jsonl --label-field group");
    assert_eq!(itself["model"]["queries"], 200);
    let table = env.run(&format!("{eval} --label-field group --output table")).stdout;
    assert!(
        table.starts_with("codes") && table.contains("\nitq ") && table.contains("\nfloats "),
        "{table}"
    );
    env.fails(2, &format!("{eval} --recall-of 201"), &["expected --recall-of 1 to 200", "got 201"]);
    let unlabelled = env.run(eval);
    assert!(
        unlabelled.stderr.contains("--label-field") && unlabelled.code == Some(0),
        "{unlabelled:?}"
    );
    assert!(unlabelled.lines()[0]["metrics"]["map"].is_null());
    env.fails(1, &format!("{eval} --label-field grup"), &["db.jsonl", "\"grup\"", "--label-field"]);
    env.fails(2, &format!("{eval} --baselines best"), &["expected lsh, sign, pca or itq"]);

    let env = with_codes();
    let stats = env.one("stats --data-dir db -c c");
    assert_eq!((&stats["records"], &stats["health"]["distinct"]), (&json!(8), &json!(8)));
    assert_eq!(stats["health"]["ones"], json!([0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5]));
    assert_eq!(stats["buckets"], json!({"1": 8}));
    assert!(stats["sizes"]["memory_bytes"].as_u64().unwrap() > 0);
    assert_eq!(stats["sizes"]["damaged_places"], 0);
    let table = env.run("stats --data-dir db -c c --output table").stdout;
    assert!(table.contains("no place was met; nearbit check looks for one"), "{table}");
    for part in ["entropy", "3.00 of 8", "buckets of each size", "distances of random pairs"] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

#[cfg(feature = "server")]
mod serving {
    use super::*;

    /// Starts a server; it, and the address that it tells.
    fn serve(env: &TestEnv, line: &str) -> (std::process::Child, String) {
        let mut child = env.command(line).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut told).unwrap();
        let address = told.trim().strip_prefix("listening on ").expect(&told).to_owned();
        (child, address)
    }

    #[test]
    fn one_process_a_directory_and_one_a_port() {
        let env = with_codes();
        let (mut server, address) = serve(&env, "serve --data-dir db --listen localhost:0");
        assert!(!address.ends_with(":0"));
        env.fails(5, "search --data-dir db -c c --code 00", &["db"]);
        env.fails(5, &format!("serve --data-dir db2 --listen {address}"), &[&address, "in use"]);
        let metrics = format!("serve --data-dir db2 --listen 127.0.0.1:0 --metrics {address}");
        env.fails(5, &metrics, &[&address, "in use", "--metrics"]);
        // SIGTERM, as a service manager sends it.
        let kill = format!("kill -TERM {}", server.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert_eq!(server.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        server.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("panicked"), "{rest}");
        assert_eq!(ids(&env.one("search --data-dir db -c c --code 00 --limit 1")), ["0"]);
    }
}

#[test]
fn filters_from_the_command_line() {
    let env = TestEnv::new();
    let line = |i: u32| {
        format!(
            "{{\"id\":\"{i}\",\"code\":\"{i:02x}\",\"year\":{},\"tags\":[\"t{}\"]}}\n",
            1990 + i,
            i % 2
        )
    };
    env.file("r.jsonl", (0..8).map(line).collect::<String>());
    let made = env.one("collection create c --data-dir db --bits 8 --codes --index-field year");
    assert_eq!(made["index_fields"], json!(["year"]));
    env.ok("index r.jsonl --data-dir db -c c");
    let search = "search --data-dir db -c c --code 00 --limit 3 --explain";
    let line = env.one(&format!("{search} --filter 'year >= 1994 and tags contains \"t1\"'"));
    assert_eq!(ids(&line), ["5", "7"]);
    assert!(line["stats"]["tested"].as_u64().unwrap() > 0, "{line}");
    assert_eq!(env.one("count --data-dir db -c c")["count"], 8);
    assert_eq!(env.one("count --data-dir db -c c --filter 'year < 1993'")["count"], 3);
    let exported = env.ok("export --data-dir db -c c --filter 'year in [1991, 1997]'");
    let exported: Vec<_> = exported.iter().map(|r| (&r["id"], &r["code"])).collect();
    assert_eq!(exported, [(&json!("1"), &json!("01")), (&json!("7"), &json!("07"))]);
    let again = env.one("collection index-field c tags --data-dir db");
    assert_eq!(again["index_fields"], json!(["tags", "year"]));
    let dropped = env.one("collection index-field c year --data-dir db --drop");
    assert_eq!(dropped["index_fields"], json!(["tags"]));
    assert_eq!(env.one("delete --data-dir db -c c --filter 'tags contains \"t0\"'")["deleted"], 4);
    assert_eq!(env.one("count --data-dir db -c c")["count"], 4);
    env.fails(
        2,
        "count --data-dir db -c c --filter 'year > [1]'",
        &["column 8", "a number or a date"],
    );
    env.fails(2, "delete 1 --data-dir db -c c --filter 'true'", &["cannot be used with"]);
    env.fails(2, "delete --data-dir db -c c", &["required"]);
}

#[test]
fn rescoring_diversity_and_groups_from_the_command_line() {
    let env = TestEnv::new();
    let vectors: Vec<f32> = (0..40).flat_map(|i| [(i as f32).sin(), (i as f32).cos()]).collect();
    env.file("v.npy", npy("<f4", "(40, 2)", &f32s(&vectors)));
    let labels: String = (0..40).map(|i| format!("{{\"label\":\"l{}\"}}\n", i % 4)).collect();
    env.file("l.jsonl", labels);
    let made = env
        .one("collection create c --data-dir db --bits 16 --dim 2 --keep-vectors f16 --metric l2");
    assert_eq!((&made["metric"], &made["keep_vectors"]), (&json!("l2"), &json!("f16")));
    env.ok("index v.npy --labels l.jsonl --data-dir db -c c");
    env.file("q.npy", npy("<f4", "(1, 2)", &f32s(&[0.0, 1.0])));
    let search = "search --data-dir db -c c --input q.npy --limit 3 --explain";
    let line = env.one(&format!("{search} --rescore vector --oversampling 100"));
    // Row i stands at the angle i, and 25 and 19 are nearly four and three whole turns.
    assert_eq!(ids(&line), ["0", "25", "19"]);
    assert_eq!(line["stats"]["rescored"], 40);
    let line = env.one(&format!("{search} --rescore asymmetric"));
    assert_eq!((ids(&line)[0], &line["stats"]["rescored"]), ("0", &json!(12)));
    let line = env.one(&format!("{search} --diversity 1 --candidates 40"));
    assert_eq!(ids(&line)[0], "0");
    let line = env.one(&format!("{search} --group-by label --group-size 2"));
    let groups: Vec<&str> =
        line["hits"].as_array().unwrap().iter().map(|hit| hit["group"].as_str().unwrap()).collect();
    assert_eq!((groups.len(), groups[0] == groups[1], groups[1] == groups[2]), (6, true, false));

    env.fails(2, &format!("{search} --oversampling 3"), &["goes with --rescore"]);
    env.fails(2, &format!("{search} --candidates 3"), &["--diversity"]);
    for times in [0, -1, 5000] {
        let wrong = format!("{search} --rescore vector --oversampling {times}");
        env.fails(2, &wrong, &["--oversampling", &format!("expected 1 to 1000, got {times}")]);
    }
    let none = "collection create n --data-dir db --bits 16 --dim 2";
    env.ok(none);
    env.fails(1, &format!("{} --rescore vector", search.replace("-c c", "-c n")), &["keeps none"]);
}

#[test]
fn near_duplicates_in_groups() {
    let env = TestEnv::new();
    env.file("codes.npy", npy("|u1", "(5, 1)", &[0, 0xf0, 1, 0xff, 0xf0]));
    env.ok("collection create c --data-dir db --bits 8 --codes");
    env.ok("index codes.npy --data-dir db -c c");
    let groups = env.ok("dedup --radius 1 --data-dir db -c c");
    assert_eq!(
        groups,
        [json!({"group": 0, "ids": ["0", "2"]}), json!({"group": 1, "ids": ["1", "4"]})]
    );
    assert_eq!(env.ok("dedup --radius 0 --data-dir db -c c").len(), 1);
    assert_eq!(
        env.ok("dedup --radius 4 --data-dir db -c c")[0]["ids"].as_array().unwrap().len(),
        5
    );
    env.fails(2, "dedup --data-dir db -c c", &["--radius"]);
}

#[test]
fn compact_gives_room_back_and_says_how_much() {
    let env = with_codes();
    for _ in 0..5 {
        env.ok("index codes.npy --data-dir db -c c --replace");
    }
    let dead = env.one("stats --data-dir db -c c")["sizes"]["dead_records"].clone();
    assert_eq!(dead, 40);
    let done = env.one("compact --data-dir db --collection c");
    let bytes = |name: &str| done[name].as_u64().unwrap();
    assert!(bytes("bytes_after") < bytes("bytes_before") / 2, "{done}");
    assert_eq!((&done["segments_after"], &done["left_alone"]), (&json!(2), &json!(0)));
    let sizes = env.one("stats --data-dir db -c c")["sizes"].clone();
    assert_eq!((&sizes["dead_records"], &sizes["damaged"]), (&json!(0), &json!([])));
    assert_eq!(sizes["segment_bytes"], done["bytes_after"]);
    // Of the newest version there is nothing to upgrade.
    let again = env.one("compact --data-dir db -c c --upgrade");
    assert_eq!(again["bytes_before"], again["bytes_after"]);
    let line = env.one("search --data-dir db -c c --code 05 --radius 0");
    assert_eq!(ids(&line), ["5"]);
}

#[test]
fn a_collection_and_an_import_say_when_writes_are_durable() {
    let env = with_codes();
    assert_eq!(env.one("collection show c --data-dir db")["durability"], "sync");
    let set = env.one("collection durability c interval:250 --data-dir db");
    assert_eq!(set["durability"], "interval:250");
    assert_eq!(env.one("collection show c --data-dir db")["durability"], "interval:250");
    env.ok("index codes.npy --data-dir db -c c --replace");
    env.ok("index codes.npy --data-dir db -c c --replace --durability sync");
    let made =
        env.one("collection create d --data-dir db --bits 8 --codes --durability interval:1");
    assert_eq!(made["durability"], "interval:1");
    let wrong = "collection create e --data-dir db --bits 8 --durability interval:0";
    env.fails(2, wrong, &["expected an interval of 1 to 60000 ms, got 0"]);
    let wrong = "index codes.npy --data-dir db -c c --durability never";
    env.fails(2, wrong, &["expected sync or interval:MILLISECONDS"]);
}

/// A program whose messages nobody reads any more, as behind `2>&1 | head -1`, panicked when it had
/// something to warn of.
#[test]
fn nobody_needs_to_read_the_log() {
    let env = with_codes();
    fs::create_dir(env.path("db/collections/half")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut stats = env.command("stats --data-dir db -c c");
    assert_eq!(stats.stderr(writer).output().unwrap().status.code(), Some(0));
    assert!(!env.path("db/collections/half").exists(), "that is warned of");
}
