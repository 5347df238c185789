//! Drawing in the terminal: grey pictures as half blocks, codes as strips of bits.
//!
//! A character cell is about twice as high as wide, so `▀` with a foreground and a background
//! colour is two square pixels, one above the other. The plain form is ASCII.

use std::env;
use std::io::{IsTerminal, stdout};

use nearbit::Code;

/// What the terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Canvas {
    /// 24-bit colours
    Colour,
    /// The 24 greys of the 256 colours
    Grey,
    /// ASCII without colours
    Plain,
}

impl Canvas {
    /// What standard output can show, or plain text where that is asked for.
    pub fn detect(plain: bool) -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let variable = |name| env::var(name).unwrap_or_default();
        if plain || !stdout().is_terminal() || set("NO_COLOR") || variable("TERM") == "dumb" {
            Self::Plain
        } else if matches!(variable("COLORTERM").as_str(), "truecolor" | "24bit") {
            Self::Colour
        } else {
            Self::Grey
        }
    }

    /// A grey picture, row after row, a byte a pixel; small ones are drawn at double size. Every
    /// line shows `2 * width` or `width` characters.
    pub fn picture(self, pixels: &[u8], height: usize, width: usize) -> Vec<String> {
        let scale = if height <= 14 { 2 } else { 1 };
        let pixel = |y: usize, x: usize| -> u8 {
            if y < height * scale { pixels[y / scale * width + x / scale] } else { 0 }
        };
        // Data sets differ in how bright the brightest is: the digits of UCI reach 255 or 16.
        let brightest = pixels.iter().copied().max().unwrap_or(0).max(1);
        let grey = |y: usize, x: usize| {
            (u32::from(pixel(y, x)) * 255 / u32::from(brightest)).min(255) as u8
        };
        (0..(height * scale).div_ceil(2))
            .map(|line| {
                let cells =
                    (0..width * scale).map(|x| self.cell(grey(2 * line, x), grey(2 * line + 1, x)));
                let line: String = cells.collect();
                if self == Self::Plain { line } else { format!("{line}\x1b[0m") }
            })
            .collect()
    }

    /// One character: a pixel above another.
    fn cell(self, top: u8, bottom: u8) -> String {
        match self {
            Self::Colour => {
                format!("\x1b[38;2;{top};{top};{top};48;2;{bottom};{bottom};{bottom}m▀")
            }
            Self::Grey => {
                // 232 to 255 are greys from almost black to almost white.
                let shade = |grey: u8| 232 + u16::from(grey) * 23 / 255;
                format!("\x1b[38;5;{};48;5;{}m▀", shade(top), shade(bottom))
            }
            Self::Plain => {
                const INK: &[u8] = b" .:-=+*#%@";
                let mean = (usize::from(top) + usize::from(bottom)) / 2;
                char::from(INK[mean * (INK.len() - 1) / 255]).to_string()
            }
        }
    }

    /// A code as a strip of bits in groups of eight; bits that differ from `from` stand out.
    pub fn strip(self, code: &Code, from: &Code) -> String {
        let bits = code.width().bits();
        let mut strip = String::new();
        for i in 0..bits {
            if i > 0 && i % 8 == 0 {
                strip.push(' ');
            }
            let differs = code.bit(i) != from.bit(i);
            match (self, differs) {
                (Self::Plain, _) => strip.push(if code.bit(i) { '1' } else { '0' }),
                (_, false) => strip.push(if code.bit(i) { '█' } else { '░' }),
                (_, true) => {
                    let bit = if code.bit(i) { '█' } else { '░' };
                    strip.push_str(&format!("\x1b[31m{bit}\x1b[0m"));
                }
            }
        }
        strip
    }

    /// The line below a strip: a mark under each bit in which the two codes differ.
    pub fn marks(code: &Code, from: &Code) -> String {
        let mut marks = String::new();
        for i in 0..code.width().bits() {
            if i > 0 && i % 8 == 0 {
                marks.push(' ');
            }
            marks.push(if code.bit(i) == from.bit(i) { ' ' } else { '^' });
        }
        marks.trim_end().to_owned()
    }
}

/// Pictures beside one another, each of its own lines; shorter ones end earlier.
pub fn beside(pictures: &[Vec<String>], gap: &str) -> Vec<String> {
    let height = pictures.iter().map(Vec::len).max().unwrap_or(0);
    (0..height)
        .map(|line| {
            let parts = pictures.iter().map(|picture| picture.get(line).map_or("", String::as_str));
            parts.collect::<Vec<_>>().join(gap)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use nearbit::Width;

    use super::*;

    #[test]
    fn pictures() {
        let pixels = [0, 16, 16, 0];
        assert_eq!(Canvas::Plain.picture(&pixels, 2, 2), ["  @@", "@@  "]);
        let colour = Canvas::Colour.picture(&pixels, 2, 2);
        assert_eq!(colour.len(), 2);
        assert!(colour[0].starts_with("\x1b[38;2;0;0;0;48;2;0;0;0m▀"));
        assert!(colour[0].ends_with("\x1b[38;2;255;255;255;48;2;255;255;255m▀\x1b[0m"));
        assert!(Canvas::Grey.picture(&pixels, 2, 2)[0].contains("38;5;255;48;5;255"));
        // An odd number of lines, at single size: below the last one there is nothing.
        let tall = Canvas::Plain.picture(&[255; 15], 15, 1);
        assert_eq!((tall.len(), &tall[0][..], &tall[7][..]), (8, "@", "="));
        assert_eq!(Canvas::Plain.picture(&[0; 4], 2, 2), ["    ", "    "]);
        let both = [vec!["ab".to_owned(), "cd".to_owned()], vec!["ef".to_owned()]];
        assert_eq!(beside(&both, "|"), ["ab|ef", "cd|"]);
    }

    #[test]
    fn strips() {
        let width = Width::new(12).unwrap();
        let query = Code::parse("0b110000000001", width).unwrap();
        let hit = Code::parse("0b100000001001", width).unwrap();
        assert_eq!(Canvas::Plain.strip(&hit, &query), "10000000 1001");
        assert_eq!(Canvas::marks(&hit, &query), " ^       ^");
        let strip = Canvas::Colour.strip(&hit, &query);
        assert_eq!(strip.matches("\x1b[31m").count(), 2);
        assert!(strip.starts_with("█\x1b[31m░\x1b[0m░░"));
    }
}
