//! Formats made of text, and what their fields become.

use super::*;

#[test]
fn jsonl_fields() {
    let text = "\u{feff}{\"id\": 7, \"text\": \"Moon\", \"label\": \"sky\", \"year\": 1969}\n\n\
                {\"id\": \"b\", \"text\": \"\", \"label\": null}";
    let records = good(&file("t.jsonl", text), &default());
    let moon = &records[0];
    assert_eq!(moon.id.as_ref().unwrap().as_str(), "7");
    assert_eq!(moon.source, Some(Source::Text("Moon".into())));
    assert_eq!(moon.payload.to_json(), r#"{"label":"sky","year":1969}"#);
    assert_eq!(records[1].id.as_ref().unwrap().as_str(), "b");

    let named =
        ReadOptions { text_field: Some("title".into()), id_field: Some("key".into()), ..default() };
    let records = good(&file("t.json", r#"{"key":"k","title":"T","text":"x","id":1}"#), &named);
    assert_eq!(records[0].id.as_ref().unwrap().as_str(), "k");
    assert_eq!(records[0].source, Some(Source::Text("T".into())));
    assert_eq!(records[0].payload.to_json(), r#"{"id":1,"text":"x"}"#);
}

#[test]
fn rows_without_ids_are_numbered() {
    let text = "{\"text\":\"a\"}\nbroken\n{\"text\":\"b\"}\n";
    let continued = ReadOptions { first_row: 10, ..default() };
    let (records, error) = read(&file("t.jsonl", text), &continued);
    assert_eq!(error, None);
    let ids: Vec<_> = records.iter().flatten().map(|r| r.id.as_ref().unwrap().as_str()).collect();
    assert_eq!(ids, ["10", "12"]);
}

#[test]
fn the_source_is_what_was_asked_for() {
    let both = file("t.jsonl", r#"{"text":"a","vector":[1,2.5],"code":"0xff"}"#);
    assert_eq!(good(&both, &default())[0].source.as_ref().unwrap().kind(), "text");
    let vector = ReadOptions { source: Some(SourceKind::Vector), ..default() };
    let record = &good(&both, &vector)[0];
    assert_eq!(record.source, Some(Source::Vector(vec![1.0, 2.5])));
    assert_eq!(record.payload.to_json(), r#"{"code":"0xff","text":"a"}"#);

    let code =
        file("t.jsonl", "{\"code\":\"f000\"}\n{\"code\":\"0b000000000001\"}\n{\"code\":\"gBA=\"}");
    assert_eq!(hex_codes(&code, &codes(12, BitOrder::Msb)), ["f000", "0010", "8010"]);
    let code =
        file("t.jsonl", "{\"code\":\"0f00\"}\n{\"code\":\"0b000000000001\"}\n{\"code\":\"AQg=\"}");
    assert_eq!(hex_codes(&code, &codes(12, BitOrder::Lsb)), ["f000", "0010", "8010"]);
    assert_fault(&code, &default(), &["the rows hold codes", "--codes"]);
}

#[test]
fn a_bad_row_is_named_and_the_next_is_read() {
    let mut lines: Vec<String> =
        (0..20).map(|i| format!("{{\"id\":{i},\"text\":\"t\"}}")).collect();
    lines[16] = "{\"id\":16,\"text\":".into();
    let (records, error) = read(&file("t.jsonl", lines.join("\n")), &default());
    assert_eq!((records.len(), error), (20, None));
    let bad: Vec<_> = records.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(bad, ["t.jsonl:17: expected a JSON object: EOF while parsing a value at column 16"]);

    let id = "x".repeat(10_000_000);
    for (row, parts) in [
        ("[1]", &["t.jsonl:2: expected a JSON object"][..]),
        (r#"{"id":2}"#, &["t.jsonl:2: text: the field is missing"]),
        (r#"{"text":"t"}"#, &["t.jsonl:2: id: the field is missing"]),
        (r#"{"id":2,"text":7}"#, &["t.jsonl:2: text: expected a string, got the number 7"]),
        (r#"{"id":2.5,"text":"t"}"#, &["t.jsonl:2: id: expected a string or an integer"]),
        (r#"{"id":"","text":"t"}"#, &["t.jsonl:2: id: expected 1 to 512 bytes, got 0"]),
        (&format!(r#"{{"id":"{id}","text":"t"}}"#), &["id: expected 1 to 512", "10000000"]),
        (&format!(r#"{{"id":2,"text":"t","x":"{id}"}}"#), &["payload: expected at most 1048576"]),
        (&"x".repeat(MAX_ROW_BYTES + 9), &["t.jsonl:2: expected a line of at most 16777216 bytes"]),
        ("{\"id\":2,\"text\":\"\u{1}\"}", &["t.jsonl:2: expected a JSON object", "control"]),
    ] {
        let text = format!("{{\"id\":1,\"text\":\"a\"}}\n{row}\n{{\"id\":3,\"text\":\"c\"}}\n");
        let origin = file("t.jsonl", text);
        assert_fault(&origin, &default(), parts);
        let (records, error) = read(&origin, &default());
        assert!(error.is_none() && records.len() == 3 && records[2].is_ok(), "{parts:?}");
    }
}

#[test]
fn bad_vectors_are_named() {
    for (row, part) in [
        ("[1,2]", "expected vectors of 3 numbers as in the first row, got vectors of 2 numbers"),
        ("[1,2,1e300]", "expected finite 32-bit numbers, got inf in column 2"),
        ("[1,2,null]", "vector: expected a number in column 2, got null"),
        ("[1,2,NaN]", "expected a JSON object: expected value at column 16"),
        ("[]", "vector: expected numbers, got none"),
        ("7", "vector: expected an array of numbers, got the number 7"),
    ] {
        let text = format!("{{\"vector\":[1,2,3]}}\n{{\"vector\":{row}}}\n");
        assert_fault(&file("t.jsonl", text), &default(), &["t.jsonl:2: ", part]);
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let data = floats(&[1.0, 2.0, 3.0, bad]);
        let origin = file("t.npy", npy("<f4", false, "(2, 2)", &data));
        assert_fault(&origin, &default(), &["t.npy row 1: expected finite", "in column 1"]);
    }
}

#[test]
fn a_wrong_field_name_ends_the_file_with_advice() {
    let row = r#"{"id":1,"body":"a","titel":"b"}"#;
    let origin = file("t.jsonl", format!("{row}\n{row}\n"));
    let parts =
        ["t.jsonl: there is no field \"text\"", "\"body\", \"id\", \"titel\"", "--text-field"];
    assert_fault(&origin, &default(), &parts);
    assert_eq!(read(&origin, &default()).0.len(), 0);
    let named = ReadOptions { text_field: Some("title".into()), ..default() };
    assert_fault(&origin, &named, &["did you mean --text-field titel?"]);
    let named =
        ReadOptions { text_field: Some("body".into()), id_field: Some("key".into()), ..default() };
    assert_fault(&origin, &named, &["there is no field \"key\"", "--id-field"]);
}

/// The reader of CSV closes an open quote at the end of the file: the rows from there on were one text.
#[test]
fn a_quote_that_stays_open_is_an_error_of_the_row_it_begins_in() {
    let rows = |text: &str| read(&file("t.csv", text), &default()).0;
    for whole in [
        "id,text\n1,\"a\"",
        "id,text\n1,\"a\"\n",
        "id,text\n1,\"a\n\"\"b\"\"\n\"\r\n",
        "id,text\n1,5\" pipe\n2,\"\"\n",
        "\u{feff}\"id, too\",text\n1,a\n",
        "id,text\n\"1\"x,\"a\"\"\"",
    ] {
        assert!(rows(whole).iter().all(Result::is_ok), "{whole:?}: {:?}", rows(whole));
    }
    for (open, line) in
        [("id,text\n1,a\n2,\"b\n3,c\n4,d\n", 3), ("id,text\n1,\"a\"\"\n", 2), ("id,text\n1,\"", 2)]
    {
        let last = rows(open).pop().unwrap().unwrap_err();
        assert!(last.starts_with(&format!("t.csv:{line}: a quote opens")), "{open:?}: {last}");
    }
}

#[test]
fn a_table_whose_delimiter_is_another() {
    let text = "id;text\n1;a,b\n";
    let semicolon = ReadOptions { delimiter: Some(b';'), ..default() };
    assert_fault(
        &file("t.csv", text),
        &default(),
        &["the one value \"id;text\"", "--delimiter ';'"],
    );
    assert_fault(&file("t.tsv", text), &default(), &["--delimiter ';'"]);
    assert_eq!(
        good(&file("t.csv", text), &semicolon),
        good(&file("t.csv", "id,text\n1,\"a,b\""), &default())
    );
    assert_fault(
        &file("t.jsonl", "{\"text\":\"a\"}"),
        &semicolon,
        &["t.jsonl: --delimiter goes with CSV"],
    );
    let one = ReadOptions { delimiter: Some(b','), text_field: Some("a;b".into()), ..default() };
    assert_eq!(good(&file("t.csv", "a;b\nc\n"), &one).len(), 1);
}

#[test]
fn texts_that_are_no_utf8() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for name in ["t.csv", "t.jsonl", "t"] {
        assert_fault(
            &file(name, utf16("\u{feff}{\"text\":\"a\"}\n")),
            &default(),
            &["got UTF-16", "iconv"],
        );
    }
    let twice = gzip(&gzip(b"{\"text\":\"a\"}\n"));
    assert_fault(
        &file("t.jsonl.gz", twice),
        &default(),
        &["compressed twice", "decompress it once"],
    );
}

#[test]
fn csv_and_tsv() {
    let text = "\u{feff}id,text,vector\r\n007,\"a, \"\"b\"\"\nc\",\"[1, 2.5]\"\r\n8,d,3 4\r\n";
    let records = good(&file("t.csv", text), &default());
    assert_eq!(records[0].id.as_ref().unwrap().as_str(), "007");
    assert_eq!(records[0].source, Some(Source::Text("a, \"b\"\nc".into())));
    assert_eq!(records[0].payload.to_json(), r#"{"vector":"[1, 2.5]"}"#);
    let vector = ReadOptions { source: Some(SourceKind::Vector), ..default() };
    assert_eq!(vectors(&file("t.csv", text), &vector), [[1.0, 2.5], [3.0, 4.0]]);
    assert_eq!(
        good(&file("t.tsv", "text\tx\na,b\t1\n"), &default())[0].payload.to_json(),
        r#"{"x":"1"}"#
    );

    let (records, error) = read(&file("t.csv", "id,text\n1,a\n2,b,c\n3\n4,d\n"), &default());
    assert_eq!(error, None);
    assert!(records[0].is_ok() && records[3].is_ok());
    let message = "t.csv:3: expected 2 values as in the header, got 3";
    assert_eq!(records[1], Err(message.to_owned()));
    assert_fault(&file("t.csv", "text,text\n"), &default(), &["names the field \"text\" twice"]);
    assert_fault(&file("t.csv", "id,text\n"), &default(), &["t.csv: the file holds no rows"]);
    assert_fault(&file("t.csv", &b"text\n\xff\n"[..]), &default(), &["t.csv:2: expected UTF-8"]);
    let open_quote = format!("text\n\"{}", "x\n".repeat(MAX_ROW_BYTES));
    assert_fault(&file("t.csv", open_quote), &default(), &["t.csv:2", "is a quote open?"]);
}

#[test]
fn a_folder_of_texts() {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("sky/moon.txt", &b"The moon"[..]),
        ("sky/deep/star.txt", b"A star"),
        ("sea/fish.txt.gz", &gzip(b"A fish")),
        ("root.txt", b"No label"),
        (".hidden/x.txt", b"hidden"),
        ("sea/latin1.txt", b"caf\xe9"),
        ("sea/empty.txt", b""),
    ] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (records, error) = read(&Origin::from(root.path()), &default());
    assert_eq!(error, None);
    let shown: Vec<String> = records
        .iter()
        .map(|record| match record {
            Ok(NewRecord { id: Some(id), source: Some(Source::Text(text)), payload }) => {
                format!("{} [{text}] {}", id.as_str(), payload.to_json())
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.rsplit('/').next().unwrap().to_owned(),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "root.txt [No label] {}",
            "empty.txt: the file is empty",
            r#"sea/fish.txt.gz [A fish] {"label":"sea"}"#,
            "latin1.txt: expected UTF-8 text, got another byte at 3; convert it with iconv",
            r#"sky/deep/star.txt [A star] {"label":"sky/deep"}"#,
            r#"sky/moon.txt [The moon] {"label":"sky"}"#,
        ]
    );
    let empty = tempfile::tempdir().unwrap();
    assert_fault(&Origin::from(empty.path()), &default(), &["the file holds no rows"]);
}
