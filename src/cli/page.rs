//! The training report: one page of HTML with drawings in SVG, which needs nothing beside itself.
//!
//! Curves of the training, what the bits are like, rows beside what their codes give back, and a map
//! of the codes: their two leading principal components, coloured by the third.

use std::fmt::Write;

use nearbit::evaluate::Health;
use nearbit::model::{Decoded, EpochReport, Model};
use nearbit::numeric::Components;
use nearbit::{Codes, Error, Features, Inputs, Matrix};

use super::output::shorten;

/// Rows on the map.
pub const POINTS: usize = 2000;
/// Rows beside what their codes give back.
const SHOWN: usize = 12;
/// Width and height of a drawing, without its margins.
const SIZE: (f64, f64) = (560.0, 170.0);
const MARGIN: (f64, f64) = (56.0, 24.0);

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}td,th{padding:.1rem .8rem .1rem 0;
text-align:left;vertical-align:top}svg{max-width:100%;height:auto}svg text{font-size:11px;fill:#555}
.axis{stroke:#bbb;fill:none}.a{stroke:#1f6fb2;fill:none;stroke-width:1.8}
.b{stroke:#c8502b;fill:none;stroke-width:1.8;stroke-dasharray:5 3}.bar{fill:#1f6fb2}
figure{display:inline-block;margin:.3rem .6rem .3rem 0}figcaption{font-size:12px;color:#555}";

/// The page about `model`, with `rows` of what it was trained on and their names.
pub fn page(model: &Model, rows: &Inputs, ids: &[String]) -> Result<String, Error> {
    // Rows spread evenly over all of them, in their order.
    let spread = |most: usize| -> Vec<usize> {
        let n = rows.len().min(most);
        (0..n).map(|i| i * rows.len() / n).collect()
    };
    let mapped = spread(POINTS);
    let codes = model.encode(&rows.select(&mapped))?;
    let health = Health::of(&codes, 0);
    let mut html = String::new();
    let info = model.info();
    let _ = write!(
        html,
        "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title><style>{STYLE}</style>\
         <h1>{0}</h1><p>Model <code>{1}</code>, trained without labels.</p>",
        escaped(&format!("{} to {} bits", info.input, info.bits)),
        info.digest
    );
    summary(&mut html, model, &health);
    curves(&mut html, &info.report.epochs);
    bits(&mut html, &health);
    if !info.decoder.is_empty() {
        given_back(&mut html, model, &rows.select(&spread(SHOWN)))?;
    }
    map(&mut html, &codes, &mapped, ids)?;
    html.push_str("</html>\n");
    Ok(html)
}

fn summary(html: &mut String, model: &Model, health: &Health) {
    let info = model.info();
    let sizes =
        |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" &ndash; ");
    let decoder = match info.decoder.as_slice() {
        [] => "not kept".to_owned(),
        decoder => sizes(decoder),
    };
    let epochs = info.report.epochs.len();
    let options = serde_json::to_string_pretty(&info.options).unwrap_or_default();
    let lines = [
        ("rows", format!("{} and {} held out", info.report.rows, info.report.validation_rows)),
        ("encoder", sizes(&info.encoder)),
        ("decoder", decoder),
        ("epochs", format!("{epochs}, the weights of number {}", info.report.best_epoch)),
        ("seed", info.options.seed.to_string()),
        ("effective bits", format!("{:.1} of {}", health.effective_bits, health.bits)),
        ("entropy", format!("{:.1} of {} bits", health.entropy, health.bits)),
        ("different codes", format!("{} of the {} on the map", health.distinct, health.codes)),
    ];
    html.push_str("<table>");
    for (name, value) in lines {
        let _ = write!(html, "<tr><th>{name}<td>{value}");
    }
    let _ = write!(
        html,
        "</table><details><summary>All options</summary><pre>{}</pre></details>",
        escaped(&options)
    );
}

fn curves(html: &mut String, epochs: &[EpochReport]) {
    let of = |f: &dyn Fn(&EpochReport) -> Option<f64>| -> Vec<f64> {
        epochs.iter().map_while(f).collect()
    };
    let _ = write!(html, "<h2>Training</h2>");
    let loss = (of(&|epoch| Some(epoch.loss)), of(&|epoch| epoch.validation_loss));
    chart(html, "loss (dashed: rows held out, with their finished codes)", &loss.0, &loss.1);
    let (balance, saturation) =
        (of(&|epoch| Some(epoch.balance)), of(&|epoch| Some(epoch.saturation)));
    chart(html, "bit balance (dashed: share of values near 0 or 1)", &balance, &saturation);
    let recall = of(&|epoch| epoch.recall);
    if !recall.is_empty() {
        chart(html, "share of the 10 exact neighbours among the 10 nearest by code", &recall, &[]);
    }
    chart(html, "learning rate", &of(&|epoch| Some(epoch.learning_rate)), &[]);
}

/// One or two curves over the epochs.
fn chart(html: &mut String, caption: &str, first: &[f64], second: &[f64]) {
    let all = || first.iter().chain(second).copied().filter(|y| y.is_finite());
    let (low, high) =
        all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    if low > high {
        return;
    }
    let across = (first.len().max(2) - 1) as f64;
    let place = |(i, y): (usize, &f64)| {
        let up = if high > low { (y - low) / (high - low) } else { 0.5 };
        format!(
            "{:.1},{:.1}",
            MARGIN.0 + SIZE.0 * i as f64 / across,
            MARGIN.1 / 2.0 + SIZE.1 * (1.0 - up)
        )
    };
    let line = |ys: &[f64]| ys.iter().enumerate().map(place).collect::<Vec<_>>().join(" ");
    open_drawing(html, caption);
    label(html, 2.0, MARGIN.1 / 2.0 + 10.0, &number(high));
    label(html, 2.0, MARGIN.1 / 2.0 + SIZE.1, &number(low));
    label(
        html,
        MARGIN.0 + SIZE.0 - 60.0,
        SIZE.1 + MARGIN.1 + 4.0,
        &format!("{} epochs", first.len()),
    );
    let _ = write!(html, "<polyline class=a points='{}'/>", line(first));
    if !second.is_empty() {
        let _ = write!(html, "<polyline class=b points='{}'/>", line(second));
    }
    html.push_str("</svg></figure>");
}

fn bits(html: &mut String, health: &Health) {
    let _ = write!(html, "<h2>Bits</h2>");
    bars(html, "share of ones, bit by bit (best is one half)", &health.ones, 1.0);
    let pairs = health.distances.iter().sum::<u64>().max(1) as f64;
    let shares: Vec<f64> = health.distances.iter().map(|&count| count as f64 / pairs).collect();
    let most = shares.iter().copied().fold(0.0, f64::max);
    bars(html, "distances of random pairs, in bits, from 0 to all", &shares, most);
    let _ = write!(
        html,
        "<p>Correlation of two bits: {:.3} on average, {:.3} at most.</p>",
        health.mean_correlation, health.max_correlation
    );
}

fn bars(html: &mut String, caption: &str, heights: &[f64], most: f64) {
    open_drawing(html, caption);
    label(html, 2.0, MARGIN.1 / 2.0 + 10.0, &number(most));
    let width = SIZE.0 / heights.len().max(1) as f64;
    for (i, height) in heights.iter().enumerate() {
        let height = if most > 0.0 { SIZE.1 * height / most } else { 0.0 };
        let _ = write!(
            html,
            "<rect class=bar x='{:.1}' y='{:.1}' width='{:.2}' height='{height:.1}'/>",
            MARGIN.0 + width * i as f64,
            MARGIN.1 / 2.0 + SIZE.1 - height,
            width * 0.85
        );
    }
    html.push_str("</svg></figure>");
}

fn given_back(html: &mut String, model: &Model, rows: &Inputs) -> Result<(), Error> {
    let codes = model.encode(rows)?;
    let scores = model.score(rows)?;
    let _ = write!(
        html,
        "<h2>Rows and what their codes give back</h2><p>Below each, its reconstruction error.</p>"
    );
    match (rows, model.decode(&codes)?) {
        (Inputs::Images(images), Decoded::Images(back)) => {
            for (i, score) in scores.iter().enumerate() {
                let white = images.pixels.iter().copied().max().unwrap_or(0).max(1);
                let (height, width) = (images.height, images.width);
                html.push_str("<figure>");
                picture(html, images.row(i), width, height, white);
                picture(html, back.row(i), width, height, white);
                let _ = write!(html, "<figcaption>{score:.4}</figcaption></figure>");
            }
        }
        (Inputs::Texts(texts), Decoded::Terms(terms)) => {
            html.push_str("<table>");
            for ((text, terms), score) in texts.iter().zip(terms).zip(scores) {
                let words: Vec<String> = terms.into_iter().take(8).map(|(word, _)| word).collect();
                let (text, words) = (escaped(&shorten(text, 120)), escaped(&words.join(", ")));
                let _ = write!(html, "<tr><td>{text}<td><i>{words}</i><td>{score:.3}");
            }
            html.push_str("</table>");
        }
        (Inputs::Vectors(vectors), Decoded::Vectors(back)) => {
            for (i, score) in scores.iter().enumerate() {
                let row = |rows: &Matrix| -> Vec<f64> {
                    rows.row(i).iter().map(|&x| f64::from(x)).collect()
                };
                chart(html, &format!("{score:.4}"), &row(vectors), &row(&back));
            }
        }
        // A model gives back what it takes.
        _ => {}
    }
    Ok(())
}

/// A grey picture; runs of one grey in a row are one rectangle.
fn picture(html: &mut String, pixels: &[u8], width: usize, height: usize, white: u8) {
    let scale = (64 / width.max(1)).max(1);
    let _ = write!(
        html,
        "<svg width={} height={} viewBox='0 0 {width} {height}' shape-rendering=crispEdges>\
         <rect width={width} height={height} fill=#000 />",
        width * scale,
        height * scale
    );
    for (y, row) in pixels.chunks_exact(width.max(1)).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            let grey = (u32::from(run[0]) * 255 / u32::from(white)).min(255);
            if grey > 0 {
                let _ = write!(
                    html,
                    "<rect x={x} y={y} width={} height=1 fill='#{grey:02x}{grey:02x}{grey:02x}'/>",
                    run.len()
                );
            }
            x += run.len();
        }
    }
    html.push_str("</svg> ");
}

fn map(html: &mut String, codes: &Codes, rows: &[usize], ids: &[String]) -> Result<(), Error> {
    let bits = codes.width().bits();
    if codes.len() < 2 || bits < 2 {
        return Ok(());
    }
    let sign = |i: usize| {
        let code = codes.get(i);
        (0..bits).map(move |bit| if code.bit(bit) { 1.0 } else { -1.0 })
    };
    let signs = Matrix::new(codes.len(), bits, (0..codes.len()).flat_map(sign).collect());
    let signs = Features::Dense(signs);
    let places = Components::fit(&signs, bits.min(3), 0)?.projection().apply(&signs)?;
    let range = |column: usize| {
        let values = || places.iter().map(|row| row[column]);
        (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
    };
    let part = |x: f32, (low, high): (f32, f32)| match high > low {
        true => f64::from((x - low) / (high - low)),
        false => 0.5,
    };
    let ranges: Vec<(f32, f32)> = (0..places.cols()).map(range).collect();
    let side = 520.0;
    let _ = write!(
        html,
        "<h2>Map of the codes</h2><p>Each dot is a row; rows of similar codes lie near one another. \
         The three leading principal components: across, up, and the colour.</p>\
         <svg width={0} height={0} viewBox='-8 -8 {1} {1}'>",
        side + 16.0,
        side + 16.0
    );
    for (row, &number) in places.iter().zip(rows) {
        let hue = row.get(2).map_or(0.5, |&x| part(x, ranges[2]));
        let _ = write!(
            html,
            "<circle cx='{:.1}' cy='{:.1}' r=3 fill='hsl({:.0} 70% 45%)' fill-opacity=.6>\
             <title>{}</title></circle>",
            side * part(row[0], ranges[0]),
            side * (1.0 - part(row[1], ranges[1])),
            280.0 * hue,
            escaped(ids.get(number).map_or("", String::as_str))
        );
    }
    html.push_str("</svg>");
    Ok(())
}

fn open_drawing(html: &mut String, caption: &str) {
    let (width, height) = (SIZE.0 + MARGIN.0 + 4.0, SIZE.1 + 1.6 * MARGIN.1);
    let (left, top) = (MARGIN.0, MARGIN.1 / 2.0);
    let _ = write!(
        html,
        "<figure><figcaption>{}</figcaption><svg width={width} height={height} \
         viewBox='0 0 {width} {height}'><path class=axis d='M{left},{top}v{}h{}'/>",
        escaped(caption),
        SIZE.1,
        SIZE.0
    );
}

fn label(html: &mut String, x: f64, y: f64, text: &str) {
    let _ = write!(html, "<text x='{x}' y='{y}'>{}</text>", escaped(text));
}

/// A number as short as it may be.
fn number(x: f64) -> String {
    if x != 0.0 && x.abs() < 0.001 { format!("{x:.1e}") } else { format!("{x:.3}") }
}

/// Text that stands for itself in HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escaped("<b a='1' c=\"2\">&"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;");
    }

    #[test]
    fn a_chart_has_room_for_any_numbers() {
        for (first, second) in [
            (&[][..], &[][..]),
            (&[1.0], &[]),
            (&[2.0, 2.0], &[]),
            (&[f64::NAN, 1.0, 3.0], &[0.5, 4.0]),
        ] {
            let mut html = String::new();
            chart(&mut html, "x", first, second);
            assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
            assert!(first.is_empty() == html.is_empty());
        }
    }
}
