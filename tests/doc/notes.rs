// What examples begin with: a new database with a collection `notes` that holds two texts.
{
    use nearbit::*;
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(&dir)?;
    let encoder =
        EncoderSpec::Hyperplanes { input: InputKind::Text, width: Width::new(64)?, seed: 0 };
    let notes = database.create_collection("notes", &CollectionSettings::new(encoder))?;
    notes.upsert(vec![
        NewRecord::text("the far side of the moon")
            .with_id("moon")?
            .with_payload(Payload::from_json(r#"{"label": "space"}"#)?),
        NewRecord::text("a loaf of rye bread")
            .with_id("bread")?
            .with_payload(Payload::from_json(r#"{"label": "food"}"#)?),
    ])?;
    (dir, database, notes)
}
