//! The language by examples, the round trip of text and tree, and the indexes against the oracle.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::numbers::Numbers;
use crate::record::Payload;

fn payload(json: &str) -> Payload {
    Payload::from_json(json).unwrap()
}

fn id(id: &str) -> RecordId {
    RecordId::new(id).unwrap()
}

fn parse(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Checks which of some filters the record `x` with this payload matches.
#[track_caller]
fn check(json: &str, matching: &[&str], others: &[&str]) {
    for (filters, expected) in [(matching, true), (others, false)] {
        for text in filters {
            assert_eq!(parse(text).matches(&id("x"), &payload(json)), expected, "{text} on {json}");
        }
    }
}

#[test]
fn equal_means_the_same() {
    check(
        r#"{"label": "sci.space", "year": 1993, "big": 9007199254740993, "half": 0.5, "no": false}"#,
        &[
            r#"label == "sci.space""#,
            "year == 1993",
            "year == 1.993e3",
            "half == 5e-1",
            "no == false",
            "big == 9007199254740993",
            r#"label != "x""#,
            "absent != 1",
            r#"year != "1993""#,
            r#"year in ["a", 1993]"#,
            "absent not in [1, 2]",
            "year not in []",
            r#"id == "x""#,
            r#"id in ["y", "x"]"#,
            r#"id != "y""#,
            r#"id not in ["y"]"#,
        ],
        &[
            r#"label == "sci""#,
            r#"year == "1993""#,
            "big == 9007199254740992",
            "no == true",
            "no == 0",
            "absent == 1",
            "year != 1993",
            "year not in [1993]",
            "year in []",
            r#"id == "y""#,
            r#"id != "x""#,
            "label.x == 1",
        ],
    );
}

#[test]
fn numbers_and_dates_have_an_order() {
    check(
        r#"{"year": 1993, "day": "2024-05-01", "at": "2024-05-01T10:00:00+02:00", "x": "abc"}"#,
        &[
            "year > 1992",
            "year >= 1993",
            "year <= 1993.0",
            "year < 1993.5",
            "year > -1",
            r#"day == "2024-05-01T00:00:00Z""#,
            r#"day < "2024-05-01T00:00:00.1Z""#,
            r#"at > "2024-05-01""#,
            r#"at == "2024-05-01T08:00:00Z""#,
            r#"at != "2024-05-01""#,
            r#"not x > "2024-01-01""#,
        ],
        &[
            "year > 1993",
            "year < 1993",
            "x > 0",
            "day > 0",
            r#"year > "1970-01-01""#,
            r#"x < "2024-05-01""#,
            "absent < 1",
            "absent >= 1",
            r#"at < "2024-05-01""#,
        ],
    );
}

#[test]
fn arrays_contain_and_objects_nest() {
    check(
        r#"{"tags": ["a", 1, null, ["n"]], "none": [], "null": null, "o": {"p": {"q": 1}, "a.b": 2}}"#,
        &[
            r#"tags contains "a""#,
            "tags contains 1.0",
            r#"tags contains any ["z", "a"]"#,
            r#"tags contains all ["a", 1]"#,
            "none contains all []",
            "none exists",
            r#""null" is null"#,
            r#""null" exists"#,
            "o.p.q == 1",
            "o.p exists",
            r#"o."a.b" == 2"#,
            "not o.p.x exists",
            r#"not tags contains "z""#,
        ],
        &[
            r#"tags == "a""#,
            r#"tags contains "n""#,
            "tags contains any []",
            r#"tags contains all ["a", "z"]"#,
            "absent contains all []",
            "o.p == 1",
            "o is null",
            "absent is null",
            "absent exists",
            "o.p.q.r exists",
            "o.a.b == 2",
            "tags > 0",
        ],
    );
}

#[test]
fn and_binds_closer_than_or() {
    check(
        r#"{"a": 1}"#,
        &[
            "true or true and false",
            "not false and true",
            "not (true and false)",
            "not not true",
            "a == 1 or b == 1 and c == 1",
            "(false or true) and a exists",
        ],
        &["(true or true) and false", "not (false or true)", "not true or false"],
    );
}

/// A text, the column of its error, and a part of the message.
#[test]
fn errors_name_the_column_and_what_was_expected() {
    for (text, column, part) in [
        ("", 1, "expected a condition"),
        ("year > [1]", 8, "expected a number or a date such as \"2024-05-01\", got ["),
        ("year > \"abc\"", 8, "got a text \"abc\""),
        ("year >= true", 9, "got true or false true"),
        ("year >", 7, "got the end"),
        ("a == [1]", 6, "expected one value"),
        ("a == null", 6, "is null"),
        ("a == abc", 6, "a text is written \"abc\""),
        ("a in 3", 6, "expected a list"),
        ("a in [1", 8, "expected \",\" or \"]\", got the end"),
        ("a in [1,]", 9, "expected a string, a number, true or false, got ]"),
        ("a contains [1]", 12, "\"any\" or \"all\" before a list"),
        ("a contains all 1", 16, "expected a list"),
        ("a = 1", 3, "equality is written =="),
        ("ä = 1", 3, "equality is written =="),
        ("a == 1 && b == 1", 8, "write \"and\""),
        ("a == 'x'", 6, "strings stand in \""),
        ("a == 1 b == 2", 8, "expected \"and\", \"or\" or the end, got b"),
        ("a == 1 AND b == 2", 8, "got AND"),
        ("(a == 1", 8, "\"and\", \"or\" or \")\", got the end"),
        ("a == 1)", 7, "got )"),
        ("a not exists", 7, "not a exists"),
        ("a is 1", 6, "expected null"),
        ("in == 1", 1, "written \"in\""),
        ("id > 1", 4, "written \"id\""),
        ("id == 1", 7, "expected an id as a string, got 1"),
        ("id in [\"\"]", 8, "1 to 512 bytes"),
        ("a. == 1", 4, "a name behind \".\""),
        ("a == \"x", 6, "ends this string"),
        ("a == \"\\x\"", 6, "as JSON writes it"),
        ("a == 1e999", 6, "expected a number"),
        ("a == 12abc", 6, "quote texts"),
        ("a == 1\n or ?", 12, "got '?'"),
    ] {
        let error = Filter::parse(text).unwrap_err().to_string();
        let place = format!("filter: column {column}: ");
        assert!(error.starts_with(&place) && error.contains(part), "{text}: {error}");
    }
    let deep = |open: &str, close: &str, n: usize| {
        Filter::parse(&format!("{}true{}", open.repeat(n), close.repeat(n)))
    };
    for (open, close) in [("(", ")"), ("not ", ""), ("(false or ", ")")] {
        assert!(deep(open, close, Filter::MAX_DEPTH - 1).is_ok());
        let error = deep(open, close, 50_000).unwrap_err().to_string();
        assert!(error.contains("at most 32 filters in one another"), "{error}");
    }
    assert!(Filter::parse(&" ".repeat(Filter::MAX_BYTES + 1)).is_err());
    let mut tree = Filter::All(Vec::new());
    for _ in 0..Filter::MAX_DEPTH {
        tree = Filter::Not(Box::new(tree));
    }
    assert!(tree.check().is_err());
    assert!(Field::new(Vec::<String>::new()).is_err() && Field::parse("a b").is_err());
    assert!(Field::parse(&vec!["a"; Field::MAX_NAMES + 1].join(".")).is_err());
}

/// Few names and values, so that conditions are met now and then.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-2i64..3).prop_map(Value::from),
        (-2i64..3).prop_map(|n| Value::number(n as f64 / 2.0).unwrap()),
        any::<bool>().prop_map(Value::from),
        "[ab]{0,1}".prop_map(Value::from),
        Just("2024-05-01").prop_map(Value::from),
        Just("2024-05-01T00:00:00.5+01:00").prop_map(Value::from),
    ]
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        value(),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |x| Value::number(x).ok()),
        ".{0,8}".prop_map(Value::from),
    ]
}

fn condition(value: BoxedStrategy<Value>) -> impl Strategy<Value = Condition> {
    let list = proptest::collection::vec(value.clone(), 0..3).boxed();
    let point = value.prop_filter_map("ordered", |value| Point::try_from(value).ok());
    let comparison = prop_oneof![
        Just(Comparison::Less),
        Just(Comparison::AtMost),
        Just(Comparison::Greater),
        Just(Comparison::AtLeast),
    ];
    prop_oneof![
        Just(Condition::Exists),
        Just(Condition::IsNull),
        list.clone().prop_map(Condition::In),
        (comparison, point).prop_map(|(comparison, point)| Condition::Compare(comparison, point)),
        list.clone().prop_map(Condition::ContainsAny),
        list.prop_map(Condition::ContainsAll),
    ]
}

fn filter(value: BoxedStrategy<Value>, name: BoxedStrategy<String>) -> BoxedStrategy<Filter> {
    let field = proptest::collection::vec(name.clone(), 1..3);
    let field = field.prop_map(|names| Field::new(names).unwrap());
    let name = name.prop_filter_map("an id", |name| RecordId::new(name).ok());
    let leaf = prop_oneof![
        5 => (field, condition(value)).prop_map(|(field, c)| Filter::Field(field, c)),
        1 => proptest::collection::vec(name, 0..3).prop_map(Filter::Ids),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..4);
        let list = list.prop_filter("a list of one is that one", |list| list.len() != 1).boxed();
        prop_oneof![
            list.clone().prop_map(Filter::All),
            list.prop_map(Filter::Any),
            inner.prop_map(|inner| Filter::Not(Box::new(inner))),
        ]
    })
    .boxed()
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let scalar = prop_oneof![
        4 => value().prop_map(|value| serde_json::from_str(&value.to_string()).unwrap()),
        1 => Just(serde_json::Value::Null),
    ];
    let array = proptest::collection::vec(scalar.clone(), 0..4).prop_map(serde_json::Value::Array);
    let object = proptest::collection::hash_map("[ab]", scalar.clone(), 0..2);
    let object = object.prop_map(|fields| fields.into_iter().collect());
    prop_oneof![3 => scalar, 2 => array, 1 => object]
}

fn payloads() -> impl Strategy<Value = Vec<Payload>> {
    let object = proptest::collection::hash_map("[ab]", json(), 0..3);
    let payload = object
        .prop_map(|fields| Payload::from(fields.into_iter().collect::<serde_json::Map<_, _>>()));
    proptest::collection::vec(payload, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_printed_parses_to_the_same(
        filter in filter(odd_value().boxed(), "[ab. \"]{1,3}|and|id|.{1,4}".boxed()),
    ) {
        let text = filter.to_string();
        prop_assert_eq!(Filter::parse(&text).unwrap(), filter, "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(
        text in ".{0,30}",
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "b.c", ".", "==", "!=", "<", ">=", "=", "(", ")", "[", "]", ",", "\"x\"", "\"",
                "1", "-", "1e9", "and", "or", "not", "in", "is", "null", "exists", "contains", "any",
                "all", "true", "id", "ä", "\\", "\u{0}",
            ]),
            0..20,
        ),
    ) {
        let text = [text, words.join(" "), words.concat()];
        for text in text {
            if let Ok(filter) = Filter::parse(&text) {
                prop_assert_eq!(&Filter::parse(&filter.to_string()).unwrap(), &filter);
            }
        }
    }

    /// Whatever an index has seen, the bounds hold, and are exact where it has seen everything
    /// and every field is indexed.
    #[test]
    fn bounds_hold_the_matches(
        payloads in payloads(),
        filter in filter(value().boxed(), "[ab]".boxed()),
        fields in proptest::collection::btree_set("[ab](\\.[ab])?", 0..7),
        seen in proptest::collection::vec((0u64..40, 1u64..10), 0..4),
        complete in any::<bool>(),
        dead in proptest::collection::btree_set(0u64..40, 0..10),
    ) {
        let end = payloads.len() as u64;
        let number = |text: &RecordId| {
            let number = if text.as_str() == "a" { 0 } else { end - 1 };
            (text.clone(), number)
        };
        let ids: HashMap<RecordId, u64> = filter.ids().into_iter().map(number).collect();
        let dead: Numbers = dead.into_iter().collect();
        let mut indexes = BTreeMap::new();
        for field in fields {
            let field = Field::parse(&field).unwrap();
            let mut index = FieldIndex::default();
            let ranges = if complete { vec![(0, end)] } else { seen.clone() };
            for (from, len) in ranges {
                let to = end.min(from + len);
                for number in from..to {
                    index.insert(number, Content::of(&field, &payloads[number as usize]));
                }
                index.saw(from.min(to)..to);
            }
            index.forget(&dead);
            indexes.insert(field, index);
        }
        let bounds = Bounds::of(&filter, &Known { fields: &indexes, ids: &ids, end });
        for (number, payload) in (0..).zip(&payloads) {
            if dead.contains(number) {
                continue;
            }
            // A record bears the id that the filter gave it, or one that it does not name.
            let known = ids.iter().filter(|(_, n)| **n == number).map(|(id, _)| id.clone());
            let names: Vec<RecordId> = known.collect();
            let matches = match &names[..] {
                [] => filter.matches(&id("unnamed"), payload),
                [name] => filter.matches(name, payload),
                _ => continue,
            };
            let (sure, maybe) = (bounds.sure.contains(number), bounds.maybe.contains(number));
            prop_assert!(sure <= matches && matches <= maybe, "{}: {:?}", filter, payload);
            let all_fields = indexes.len() == 6;
            if complete && all_fields {
                prop_assert_eq!(sure, maybe, "{}: {:?}", filter, payload);
            }
        }
    }
}
