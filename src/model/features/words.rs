//! The words of a running text, as the text pipeline and the untrained encoder count them.
//!
//! Words are what Unicode's rules for word boundaries (UAX #29) call words, in lower case. On top
//! of that: `c#`, `f#` and `c++` stay whole, a possessive `'s` is cut, and what is longer than
//! [`LONGEST`] bytes is no word but encoded data.

use std::borrow::Cow;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;

use super::stop_words::is_stop_word;

/// The longest word, in bytes.
pub(super) const LONGEST: usize = 40;

/// Which words of a text count, and in which form.
pub(crate) struct Words {
    drop_stop_words: bool,
    stemmer: Option<Stemmer>,
}

impl Words {
    /// With or without English function words, whole or cut to their English (Snowball) stems.
    pub(crate) fn new(drop_stop_words: bool, stemming: bool) -> Self {
        Self { drop_stop_words, stemmer: stemming.then(|| Stemmer::create(Algorithm::English)) }
    }

    /// Calls `count` with every word of `text` that counts, in the form in which it does.
    pub(crate) fn for_each(&self, text: &str, mut count: impl FnMut(&str)) {
        each_whole(text, |word| self.form(word).iter().for_each(|form| count(form)));
    }

    /// The form in which a whole word counts; `None` where it does not.
    pub(super) fn form<'a>(&self, word: &'a str) -> Option<Cow<'a, str>> {
        if self.drop_stop_words && is_stop_word(word) {
            return None;
        }
        Some(self.stemmer.as_ref().map_or(Cow::Borrowed(word), |stemmer| stemmer.stem(word)))
    }
}

/// Calls `count` with every word of `text` in turn, in lower case and neither dropped nor cut.
pub(super) fn each_whole(text: &str, mut count: impl FnMut(&str)) {
    let mut lower = String::new();
    for (start, word) in text.unicode_word_indices() {
        if word.len() > LONGEST {
            continue;
        }
        fold(word, &mut lower);
        lower.push_str(sharp_or_plus(word, &text[start + word.len()..]));
        let word = lower.trim_matches('_').trim_end_matches("'s");
        if !word.is_empty() {
            count(word);
        }
    }
}

/// Writes `word` to `lower` in lower case and with straight apostrophes.
fn fold(word: &str, lower: &mut String) {
    lower.clear();
    if word.is_ascii() {
        lower.push_str(word);
        lower.make_ascii_lowercase();
    } else {
        lower.extend(word.chars().flat_map(char::to_lowercase).map(|c| match c {
            '\u{2019}' => '\'',
            c => c,
        }));
    }
}

/// What belongs to a single letter although it is punctuation: the sign in `c#` and `c++`.
fn sharp_or_plus(word: &str, rest: &str) -> &'static str {
    let letter = word.len() == 1 && word.as_bytes()[0].is_ascii_alphabetic();
    match letter {
        true if rest.starts_with("++") => "++",
        true if rest.starts_with('#') => "#",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &Words, text: &str, expected: &[&str]) {
        let mut found = Vec::new();
        words.for_each(text, |word| found.push(word.to_string()));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn words_are_unicode_words_in_lower_case() {
        let all = Words::new(false, false);
        check(&all, "The quick (\"brown\") fox!", &["the", "quick", "brown", "fox"]);
        check(&all, "ÉCOLE straße Ωmega naïve", &["école", "straße", "ωmega", "naïve"]);
        check(&all, "snake_case __init__ node.js 3.14", &["snake_case", "init", "node.js", "3.14"]);
        check(&all, "", &[]);
        check(&all, " .,;!? -- \n\t ___ '", &[]);
        check(&all, "日本", &["日", "本"]);
    }

    #[test]
    fn names_of_languages_keep_their_signs() {
        let all = Words::new(false, false);
        check(&all, "C# and F#, C++ or c", &["c#", "and", "f#", "c++", "or", "c"]);
        check(&all, "room#5 gcc++ 1+1", &["room", "5", "gcc", "1", "1"]);
    }

    #[test]
    fn possessives_are_cut_and_contractions_are_stop_words() {
        let content = Words::new(true, false);
        check(&content, "Oracle's don't it's Qt\u{2019}s we\u{2019}re", &["oracle", "qt"]);
        check(&content, "the of and to", &[]);
    }

    #[test]
    fn stop_words_are_dropped_before_stemming() {
        let stems = Words::new(true, true);
        check(&stems, "being hashed, hashing the hashes", &["hash", "hash", "hash"]);
        check(&stems, "relational databases", &["relat", "databas"]);
    }

    #[test]
    fn encoded_data_is_no_word() {
        let all = Words::new(false, false);
        check(&all, &"x".repeat(LONGEST), &[&"x".repeat(LONGEST)]);
        check(&all, &format!("a {} b", "x".repeat(LONGEST + 1)), &["a", "b"]);
    }
}
