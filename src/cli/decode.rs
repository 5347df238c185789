//! `nearbit decode`: what a code stands for, and what its bits do.

use std::io::Write;

use nearbit::model::{Decoded, Model};
use nearbit::{Code, Codes, Matrix};
use serde_json::{Value, json};

use super::console::Console;
use super::draw::{Canvas, beside};
use super::exit::{Exit, Failure};
use super::place::ModelFile;

/// Show what codes stand for: likely words, a picture, or a vector
///
/// Codes are written as hex, as base64, or as bits (0b0101...). Bits are counted from 0, the first
/// as it is written.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  nearbit decode 9f3c52a1 --model digits.safetensors
  nearbit decode 9f3c52a1 --model topics.safetensors --flip 0,7,12
  nearbit decode 9f3c52a1 --model digits.safetensors --walk 7 --steps 9
  nearbit decode --sample 8 --rounds 20 --model digits.safetensors")]
pub struct Args {
    /// The codes
    #[arg(required_unless_present = "sample")]
    codes: Vec<String>,
    #[command(flatten)]
    model: ModelFile,
    /// Also with each of these bits turned round, and what that changes
    #[arg(long, value_name = "BIT,...", value_delimiter = ',')]
    flip: Vec<usize>,
    /// Also with this bit going from 0 to 1
    #[arg(long, value_name = "BIT")]
    walk: Option<usize>,
    /// Stops on the way of --walk, both ends included
    #[arg(long, value_name = "N", default_value_t = 5, requires = "walk")]
    steps: usize,
    /// Draw so many codes as they are among the training rows, instead of giving any
    #[arg(long, value_name = "N", conflicts_with_all = ["codes", "flip", "walk"])]
    sample: Option<usize>,
    /// Send each drawn code so many times round through decoder and encoder
    #[arg(long, value_name = "N", default_value_t = 0, requires = "sample")]
    rounds: usize,
    /// What the drawn codes follow from
    #[arg(long, value_name = "N", default_value_t = 0, requires = "sample")]
    seed: u64,
    /// The most words to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    terms: usize,
    /// Plain ASCII without colours
    #[arg(long)]
    plain: bool,
}

/// One thing to decode.
struct Item {
    code: String,
    /// What was done to the code, in words; empty for the code itself.
    change: String,
    /// The item that it is a change of.
    from: Option<usize>,
}

pub fn run(args: Args, console: &Console) -> Result<Exit, Failure> {
    let model = args.model.load()?;
    let (items, decoded) = match args.sample {
        Some(count) => {
            let (codes, decoded) = model.sample(count, args.rounds, args.seed)?;
            (drawn(&codes), decoded)
        }
        None => {
            let (items, values) = changed(&args, &model)?;
            (items, model.decode_values(&values)?)
        }
    };
    if console.is_table() {
        let mut stream = console.stream();
        show(&args, &items, &decoded, stream.text())?;
        return stream.finish().map(|()| Exit::Done);
    }
    let mut stream = console.stream();
    for (i, item) in items.iter().enumerate() {
        let mut line = json!({"code": item.code});
        if let Some(from) = item.from {
            line["change"] = json!(item.change);
            line["changes"] = changes(&args, &decoded, from, i);
        }
        match &decoded {
            Decoded::Terms(terms) => {
                line["terms"] = terms[i].iter().take(args.terms).map(|term| json!(term)).collect();
            }
            Decoded::Vectors(vectors) => line["vector"] = json!(vectors.row(i)),
            Decoded::Images(images) => {
                let (height, width) = (images.height, images.width);
                line["image"] = json!({"height": height, "width": width, "pixels": images.row(i)});
            }
        }
        stream.json(&line)?;
    }
    stream.finish()?;
    Ok(Exit::Done)
}

fn drawn(codes: &Codes) -> Vec<Item> {
    let item = |i| Item { code: codes.get(i).to_hex(), change: String::new(), from: None };
    (0..codes.len()).map(item).collect()
}

/// The codes that were given, each followed by its changes; and their values, 0 to 1.
fn changed(args: &Args, model: &Model) -> Result<(Vec<Item>, Matrix), Failure> {
    let width = model.width();
    let bits = width.bits();
    for bit in args.flip.iter().chain(&args.walk) {
        if *bit >= bits {
            return Err(Failure::usage(format!(
                "expected a bit from 0 to {}, got {bit}",
                bits - 1
            )));
        }
    }
    if args.steps < 2 {
        return Err(Failure::usage(format!("expected --steps of 2 or more, got {}", args.steps)));
    }
    let (mut items, mut values) = (Vec::new(), Vec::new());
    for code in &args.codes {
        let code = Code::parse(code, width)?;
        let from = items.len();
        let mut push = |code: &Code, change: String, walked: Option<(usize, f32)>| {
            let from = (!change.is_empty()).then_some(from);
            items.push(Item { code: code.to_hex(), change, from });
            let start = values.len();
            values.extend((0..bits).map(|bit| f32::from(u8::from(code.bit(bit)))));
            if let Some((bit, value)) = walked {
                values[start + bit] = value;
            }
        };
        push(&code, String::new(), None);
        for &bit in &args.flip {
            let mut flipped = code.clone();
            flipped.flip(bit);
            push(&flipped, format!("bit {bit} turned to {}", u8::from(flipped.bit(bit))), None);
        }
        for step in args.walk.iter().flat_map(|_| 0..args.steps) {
            let value = step as f32 / (args.steps - 1) as f32;
            let bit = args.walk.unwrap_or_default();
            push(&code, format!("bit {bit} at {value:.2}"), Some((bit, value)));
        }
    }
    let rows = items.len();
    Ok((items, Matrix::new(rows, bits, values)))
}

/// What is different in item `to`: words that come and go, or how far it is away.
fn changes(args: &Args, decoded: &Decoded, from: usize, to: usize) -> Value {
    let distance = |a: &mut dyn Iterator<Item = f64>| a.map(|x| x * x).sum::<f64>().sqrt();
    match decoded {
        Decoded::Terms(terms) => {
            let (more, less) = moved(&terms[from], &terms[to], args.terms);
            json!({"more": more, "less": less})
        }
        Decoded::Vectors(rows) => {
            let pairs = rows.row(from).iter().zip(rows.row(to));
            json!({"distance": distance(&mut pairs.map(|(a, b)| f64::from(a - b)))})
        }
        Decoded::Images(images) => {
            let pairs = images.row(from).iter().zip(images.row(to));
            json!({"distance": distance(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)))})
        }
    }
}

type Terms = [(String, f32)];

/// The words whose share grows most and those whose share shrinks most, among the likeliest of both.
fn moved(from: &Terms, to: &Terms, most: usize) -> (Vec<String>, Vec<String>) {
    let share = |terms: &Terms, word: &str| {
        terms.iter().find(|(term, _)| term == word).map_or(0.0, |(_, share)| *share)
    };
    let gained = |from: &Terms, to: &Terms| -> Vec<String> {
        let mut gains: Vec<(&str, f32)> =
            to.iter().map(|(word, now)| (word.as_str(), now - share(from, word))).collect();
        gains.retain(|(_, gain)| *gain > 0.0);
        gains.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        gains.into_iter().take(most.div_ceil(2)).map(|(word, _)| word.to_owned()).collect()
    };
    (gained(from, to), gained(to, from))
}

fn show(
    args: &Args,
    items: &[Item],
    decoded: &Decoded,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let title = |item: &Item| match item.change.as_str() {
        "" => item.code.clone(),
        change => format!("{} ({change})", item.code),
    };
    if let Decoded::Images(images) = decoded {
        let canvas = Canvas::detect(args.plain);
        let picture = |i: usize| canvas.picture(images.row(i), images.height, images.width);
        for (i, item) in items.iter().enumerate() {
            writeln!(out, "{}", title(item))?;
            let pictures: Vec<_> = item.from.into_iter().chain([i]).map(picture).collect();
            beside(&pictures, "  ").iter().try_for_each(|line| writeln!(out, "{line}"))?;
            writeln!(out)?;
        }
        return Ok(());
    }
    for (i, item) in items.iter().enumerate() {
        writeln!(out, "{}", title(item))?;
        match decoded {
            Decoded::Terms(terms) => {
                let word = |(word, share): &(String, f32)| format!("{word} {:.1} %", 100.0 * share);
                let words: Vec<_> = terms[i].iter().take(args.terms).map(word).collect();
                writeln!(out, "  {}", words.join(", "))?;
                if let Some(from) = item.from {
                    let (more, less) = moved(&terms[from], &terms[i], args.terms);
                    writeln!(out, "  more: {}; less: {}", more.join(", "), less.join(", "))?;
                }
            }
            Decoded::Vectors(rows) => {
                let shown: Vec<_> = rows.row(i).iter().take(8).map(|x| format!("{x:.4}")).collect();
                let rest = if rows.cols() > 8 { ", ..." } else { "" };
                writeln!(out, "  [{}{rest}]", shown.join(", "))?;
                if let Some(from) = item.from {
                    writeln!(out, "  {}", changes(args, decoded, from, i))?;
                }
            }
            Decoded::Images(_) => {}
        }
    }
    Ok(())
}
