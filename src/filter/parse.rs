//! Filters from text: tokens, and a parser with one function a rule of the module's grammar.

use std::fmt;

use super::{Comparison, Condition, Field, Filter, Point, Value};
use crate::error::{Error, Result};
use crate::record::RecordId;

/// Words that are no names of fields, unless they are written as strings.
pub(super) const KEYWORDS: [&str; 13] = [
    "and", "or", "not", "in", "is", "null", "exists", "contains", "any", "all", "true", "false",
    "id",
];

/// The longest piece of the text that an error repeats, in characters.
const MAX_SHOWN: usize = 40;

impl Filter {
    /// The filter that `text` describes; the module's documentation has the language.
    ///
    /// ```
    /// use nearbit::Filter;
    ///
    /// let filter = Filter::parse(r#"label == "sci.space" and year >= 1990"#)?;
    /// assert_eq!(Filter::parse(&filter.to_string())?, filter);
    /// let error = Filter::parse("year > [1]").unwrap_err().to_string();
    /// assert!(error.contains("column 8"), "{error}");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Anything else, with the column and what was expected there: an unknown word, a comparison
    /// that does not fit its value (`year > [1]`), a text longer than [`Filter::MAX_BYTES`],
    /// parentheses and `not` deeper than [`Filter::MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > Self::MAX_BYTES {
            let (most, got) = (Self::MAX_BYTES, text.len());
            return Err(Error::invalid(
                "filter",
                format!("expected at most {most} bytes, got {got}"),
            ));
        }
        let mut parser = Parser::new(text, "filter")?;
        let filter = parser.any(Self::MAX_DEPTH)?;
        parser.end("\"and\", \"or\" or the end")?;
        filter.check()?;
        Ok(filter)
    }
}

/// A field alone.
pub(super) fn field(text: &str) -> Result<Field> {
    let mut parser = Parser::new(text, "field")?;
    let field = parser.field("the name of a field")?;
    parser.end("\".\" or the end")?;
    Ok(field)
}

/// Whether a name needs no quotes.
pub(super) fn is_word(name: &str) -> bool {
    let is_first = |c: char| c.is_alphabetic() || c == '_';
    name.starts_with(is_first) && name.chars().all(is_in_word)
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Word(String),
    Text(String),
    Number(Value),
    /// One of `( ) [ ] , . == != < <= > >=`.
    Sign(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self {
            Self::Word(word) => word.clone(),
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Number(number) => number.to_string(),
            Self::Sign(sign) => return write!(f, "{sign}"),
            Self::End => return f.write_str("the end"),
        };
        match shown.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => write!(f, "{}...", &shown[..end]),
            None => f.write_str(&shown),
        }
    }
}

const SIGNS: [&str; 12] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", "."];

/// The text as tokens, one at a time.
struct Parser<'a> {
    /// The place that errors name.
    place: &'static str,
    text: &'a str,
    /// Where the text behind `token` begins, in bytes.
    next: usize,
    /// What stands next, and where it begins, in bytes.
    token: Token,
    start: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, place: &'static str) -> Result<Self> {
        let mut parser = Self { place, text, next: 0, token: Token::End, start: 0 };
        parser.step()?;
        Ok(parser)
    }

    fn error(&self, at: usize, message: impl fmt::Display) -> Error {
        let column = 1 + self.text[..at].chars().count();
        Error::invalid(self.place, format!("column {column}: {message}"))
    }

    fn expected<T>(&self, expected: &str) -> Result<T> {
        let message = format!("expected {expected}, got {}", self.token);
        Err(self.error(self.start, message))
    }

    /// Goes on to the next token, and gives the one that it leaves.
    fn step(&mut self) -> Result<Token> {
        let rest = self.text[self.next..].trim_start();
        self.start = self.text.len() - rest.len();
        let (token, len) = match rest.chars().next() {
            None => (Token::End, 0),
            Some('"') => self.string(rest)?,
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(rest)?,
            Some(c) if c.is_alphabetic() || c == '_' => {
                let end = rest.find(|c| !is_in_word(c)).unwrap_or(rest.len());
                (Token::Word(rest[..end].to_owned()), end)
            }
            Some(c) => match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                None => return Err(self.error(self.start, unknown(c))),
            },
        };
        self.next = self.start + len;
        Ok(std::mem::replace(&mut self.token, token))
    }

    /// The string that `rest` begins with, as JSON writes it, and its length.
    fn string(&self, rest: &str) -> Result<(Token, usize)> {
        let mut escaped = false;
        let close = rest.char_indices().skip(1).find(|&(_, c)| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let Some((close, _)) = close else {
            return Err(self.error(self.start, "expected a \" that ends this string"));
        };
        match serde_json::from_str(&rest[..=close]) {
            Ok(text) => Ok((Token::Text(text), close + 1)),
            Err(_) => {
                let message = "expected a string as JSON writes it, \\ and control characters \
                               escaped";
                Err(self.error(self.start, message))
            }
        }
    }

    /// The number that `rest` begins with, as JSON writes it, and its length.
    fn number(&self, rest: &str) -> Result<(Token, usize)> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let number = serde_json::from_str(&rest[..end]).ok();
        match number.filter(serde_json::Value::is_number).and_then(|json| Value::of(&json)) {
            Some(value) => Ok((Token::Number(value), end)),
            None => {
                let got = Token::Word(rest[..end].to_owned());
                let message =
                    format!("expected a number as JSON writes it, got {got}; quote texts");
                Err(self.error(self.start, message))
            }
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(token) if token == word)
    }

    /// Takes a word, if it is next.
    fn word(&mut self, word: &str) -> Result<bool> {
        let is_next = self.is_word(word);
        if is_next {
            self.step()?;
        }
        Ok(is_next)
    }

    /// Takes a sign, if it is next.
    fn sign(&mut self, sign: &str) -> Result<bool> {
        let is_next = matches!(self.token, Token::Sign(token) if token == sign);
        if is_next {
            self.step()?;
        }
        Ok(is_next)
    }

    fn end(&self, expected: &str) -> Result<()> {
        if self.token == Token::End { Ok(()) } else { self.expected(expected) }
    }

    /// filter = all { "or" all }
    fn any(&mut self, depth: usize) -> Result<Filter> {
        let first = self.all(depth)?;
        let mut filters = vec![first];
        while self.word("or")? {
            filters.push(self.all(depth)?);
        }
        Ok(one_or(Filter::Any, filters))
    }

    /// all = negated { "and" negated }
    fn all(&mut self, depth: usize) -> Result<Filter> {
        let first = self.negated(depth)?;
        let mut filters = vec![first];
        while self.word("and")? {
            filters.push(self.negated(depth)?);
        }
        Ok(one_or(Filter::All, filters))
    }

    /// negated = { "not" } ( "(" filter ")" | "true" | "false" | "id" ids | field condition )
    fn negated(&mut self, depth: usize) -> Result<Filter> {
        let Some(depth) = depth.checked_sub(1) else {
            let most = Filter::MAX_DEPTH;
            let message = format!("expected at most {most} filters in one another");
            return Err(self.error(self.start, message));
        };
        if self.word("not")? {
            return Ok(Filter::Not(Box::new(self.negated(depth)?)));
        }
        if self.sign("(")? {
            let filter = self.any(depth)?;
            if !self.sign(")")? {
                return self.expected("\"and\", \"or\" or \")\"");
            }
            return Ok(filter);
        }
        if self.word("true")? {
            return Ok(Filter::All(Vec::new()));
        }
        if self.word("false")? {
            return Ok(Filter::Any(Vec::new()));
        }
        if self.word("id")? {
            return self.ids();
        }
        let field = self.field("a condition, such as label == \"a\", or \"not\" or \"(\"")?;
        self.condition(field)
    }

    /// ids = ( "==" | "!=" ) string | [ "not" ] "in" strings
    fn ids(&mut self) -> Result<Filter> {
        let expected = "==, !=, in or not in behind id (a field of that name is written \"id\")";
        if self.sign("==")? {
            return Ok(Filter::Ids(vec![self.id()?]));
        }
        if self.sign("!=")? {
            return Ok(not(Filter::Ids(vec![self.id()?])));
        }
        let negated = self.word("not")?;
        if !self.word("in")? {
            return self.expected(if negated { "in" } else { expected });
        }
        let ids = Filter::Ids(self.list(Self::id)?);
        Ok(if negated { not(ids) } else { ids })
    }

    fn id(&mut self) -> Result<RecordId> {
        if !matches!(self.token, Token::Text(_)) {
            return self.expected("an id as a string");
        }
        let start = self.start;
        match self.step()? {
            Token::Text(id) => RecordId::new(id).map_err(|e| self.error(start, e)),
            _ => self.expected("an id as a string"),
        }
    }

    /// field condition
    fn condition(&mut self, field: Field) -> Result<Filter> {
        for comparison in
            [Comparison::Less, Comparison::AtMost, Comparison::Greater, Comparison::AtLeast]
        {
            if self.sign(&comparison.to_string())? {
                let point = self.point()?;
                return Ok(Filter::Field(field, Condition::Compare(comparison, point)));
            }
        }
        if self.sign("==")? {
            return Ok(Filter::Field(field, Condition::In(vec![self.equal()?])));
        }
        if self.sign("!=")? {
            return Ok(not(Filter::Field(field, Condition::In(vec![self.equal()?]))));
        }
        if self.word("not")? {
            if !self.word("in")? {
                return self.expected("in (\"not\" stands before a condition: not a exists)");
            }
            return Ok(not(Filter::Field(field, Condition::In(self.list(Self::value)?))));
        }
        if self.word("in")? {
            return Ok(Filter::Field(field, Condition::In(self.list(Self::value)?)));
        }
        if self.word("exists")? {
            return Ok(Filter::Field(field, Condition::Exists));
        }
        if self.word("is")? {
            if !self.word("null")? {
                return self.expected("null");
            }
            return Ok(Filter::Field(field, Condition::IsNull));
        }
        if self.word("contains")? {
            return Ok(Filter::Field(field, self.contains()?));
        }
        self.expected("==, !=, <, <=, >, >=, in, not in, contains, exists or is null")
    }

    /// value | ( "any" | "all" ) values
    fn contains(&mut self) -> Result<Condition> {
        if self.word("any")? {
            return Ok(Condition::ContainsAny(self.list(Self::value)?));
        }
        if self.word("all")? {
            return Ok(Condition::ContainsAll(self.list(Self::value)?));
        }
        if matches!(self.token, Token::Sign("[")) {
            return self.expected("a value, \"any\" or \"all\" before a list");
        }
        Ok(Condition::ContainsAny(vec![self.value()?]))
    }

    /// field = name { "." name }
    fn field(&mut self, expected: &str) -> Result<Field> {
        let mut names = vec![self.name(expected)?];
        while self.sign(".")? {
            if names.len() == Field::MAX_NAMES {
                let message = format!("expected at most {} names", Field::MAX_NAMES);
                return Err(self.error(self.start, message));
            }
            names.push(self.name("a name behind \".\"")?);
        }
        Field::new(names)
    }

    fn name(&mut self, expected: &str) -> Result<String> {
        if let Token::Word(word) = &self.token
            && KEYWORDS.contains(&word.as_str())
        {
            let expected = format!("{expected} (a field of the name {word} is written \"{word}\")");
            return self.expected(&expected);
        }
        if !matches!(self.token, Token::Word(_) | Token::Text(_)) {
            return self.expected(expected);
        }
        match self.step()? {
            Token::Word(name) | Token::Text(name) => Ok(name),
            _ => self.expected(expected),
        }
    }

    /// A value behind == or !=.
    fn equal(&mut self) -> Result<Value> {
        if self.is_word("null") {
            return self.expected("a value; whether a field is null asks \"is null\"");
        }
        if matches!(self.token, Token::Sign("[")) {
            return self
                .expected("one value; for one of several write in [...], for arrays contains");
        }
        self.value()
    }

    /// value = string | number | "true" | "false"
    fn value(&mut self) -> Result<Value> {
        let value = match &self.token {
            Token::Text(text) => Value::from(text.as_str()),
            Token::Number(number) => number.clone(),
            Token::Word(word) if word == "true" => true.into(),
            Token::Word(word) if word == "false" => false.into(),
            Token::Word(word) => {
                let expected = format!("a value (a text is written \"{word}\")");
                return self.expected(&expected);
            }
            _ => return self.expected("a string, a number, true or false"),
        };
        self.step()?;
        Ok(value)
    }

    /// A number or a date behind < or its like.
    fn point(&mut self) -> Result<Point> {
        let expected = "a number or a date such as \"2024-05-01\"";
        if matches!(self.token, Token::Sign(_) | Token::End) {
            return self.expected(expected);
        }
        let start = self.start;
        let value = self.value()?;
        let message = format!("expected {expected}, got {} {value}", value.kind());
        Point::try_from(value).map_err(|_| self.error(start, message))
    }

    /// "[" [ item { "," item } ] "]"
    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if !self.sign("[")? {
            return self.expected("a list, as in [\"a\", \"b\"]");
        }
        let mut items = Vec::new();
        if self.sign("]")? {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.sign("]")? {
                return Ok(items);
            }
            if !self.sign(",")? {
                return self.expected("\",\" or \"]\"");
            }
        }
    }
}

fn one_or(list: fn(Vec<Filter>) -> Filter, mut filters: Vec<Filter>) -> Filter {
    if filters.len() == 1 { filters.remove(0) } else { list(filters) }
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn unknown(c: char) -> String {
    let hint = match c {
        '=' => "; equality is written ==",
        '!' => "; negation is written \"not\", inequality !=",
        '&' | '|' => "; write \"and\" and \"or\"",
        '\'' | '\u{201c}' | '\u{201d}' => "; strings stand in \"",
        _ => "",
    };
    format!("expected a condition, got {c:?}{hint}")
}
