//! Searches: unary, ball, batch and stream, against the naive oracle.

use nearbit::Code;
use nearbit::server::ServerOptions;
use tonic::Code as GrpcCode;

use super::proto::query::Kind;
use super::proto::search_stream_response::Outcome;
use super::{
    TestServer, check_refused, code_record, oracle, positions, proto, random_codes, text_record,
};

const BITS: u32 = 20;

fn code_query(code: &Code) -> Option<proto::Query> {
    Some(proto::Query { kind: Some(Kind::Code(code.to_bytes())) })
}

fn search(code: &Code) -> proto::SearchRequest {
    proto::SearchRequest {
        collection: "codes".to_owned(),
        query: code_query(code),
        ..Default::default()
    }
}

/// A server with 500 codes in `codes`, whose ids are their positions.
async fn filled(options: ServerOptions) -> (TestServer, Vec<Code>) {
    let server = TestServer::with(options).await;
    server.codes("codes", BITS).await;
    let codes = random_codes(BITS as usize, 500, 11);
    let records = codes.iter().enumerate().map(|(i, c)| code_record(&i.to_string(), c)).collect();
    server.upsert("codes", records).await.unwrap();
    (server, codes)
}

#[tokio::test]
async fn a_search_finds_what_the_oracle_finds() {
    let (server, codes) = filled(ServerOptions::default()).await;
    let mut client = server.searches();
    for (i, query) in random_codes(BITS as usize, 8, 12).iter().enumerate() {
        for plan in [None, Some(proto::Plan::Probe), Some(proto::Plan::Scan)] {
            for (limit, radius) in [
                (None, None),
                (Some(1), None),
                (Some(9999), None),
                (Some(30), Some(3)),
                (None, Some(0)),
            ] {
                let request = proto::SearchRequest {
                    limit,
                    radius,
                    plan: plan.map(Into::into),
                    ..search(query)
                };
                let answer = client.search(request).await.unwrap().into_inner();
                let expected = oracle(&codes, query, radius, limit.unwrap_or(10) as usize);
                assert_eq!(positions(&answer.hits), expected, "query {i}, {plan:?}, {limit:?}");
                assert!(answer.complete);
                for hit in &answer.hits {
                    let score = 1.0 - hit.distance as f32 / BITS as f32;
                    assert!((hit.score - score).abs() < 1e-6);
                    assert_eq!(hit.payload_json, None);
                }
                let stats = answer.stats.unwrap();
                assert!(matches!(stats.plan(), proto::Plan::Probe | proto::Plan::Scan));
                assert!(!stats.kernel.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_ball_comes_ring_by_ring() {
    let options = ServerOptions { max_page_bytes: 300, ..Default::default() };
    let (server, codes) = filled(options).await;
    for radius in [0, 2, 5, BITS, u32::MAX] {
        let request = proto::SearchBallRequest {
            collection: "codes".to_owned(),
            query: code_query(&codes[0]),
            radius,
            ..Default::default()
        };
        let mut stream = server.searches().search_ball(request).await.unwrap().into_inner();
        let mut hits = Vec::new();
        let mut last = 0;
        while let Some(part) = stream.message().await.unwrap() {
            assert!(part.distance >= last, "rings come outwards");
            assert!(!part.hits.is_empty());
            assert!(part.hits.iter().all(|hit| hit.distance == part.distance));
            last = part.distance;
            hits.extend(part.hits);
        }
        assert_eq!(positions(&hits), oracle(&codes, &codes[0], Some(radius), usize::MAX));
    }
}

#[tokio::test]
async fn a_batch_answers_in_order() {
    let (server, codes) = filled(ServerOptions::default()).await;
    let queries = random_codes(BITS as usize, 40, 13);
    let mut searches: Vec<_> = queries.iter().map(search).collect();
    for (i, search) in searches.iter_mut().enumerate() {
        search.limit = Some(1 + i as u32);
        if i % 2 == 0 {
            search.collection.clear();
        }
    }
    let request = proto::SearchBatchRequest { collection: "codes".to_owned(), searches };
    let answers = server.searches().search_batch(request).await.unwrap().into_inner().answers;
    assert_eq!(answers.len(), 40);
    for (i, (answer, query)) in answers.iter().zip(&queries).enumerate() {
        assert_eq!(positions(&answer.hits), oracle(&codes, query, None, 1 + i));
    }
}

#[tokio::test]
async fn a_stream_answers_every_tag_once_and_goes_on_after_a_problem() {
    let (server, codes) = filled(ServerOptions::default()).await;
    let queries = random_codes(BITS as usize, 300, 14);
    let requests: Vec<_> = queries
        .iter()
        .enumerate()
        .map(|(i, query)| {
            let mut search = search(query);
            if i % 10 == 3 {
                search.query = Some(proto::Query { kind: Some(Kind::Code(vec![0])) });
            }
            if i % 10 == 7 {
                search.collection = "nowhere".to_owned();
            }
            proto::SearchStreamRequest { tag: i as u64, search: (i % 10 != 9).then_some(search) }
        })
        .collect();
    let answers = server.searches().search_stream(tokio_stream::iter(requests)).await.unwrap();
    let mut answers = answers.into_inner();
    let mut outcomes = vec![None; queries.len()];
    while let Some(answer) = answers.message().await.unwrap() {
        let place = &mut outcomes[answer.tag as usize];
        assert!(place.replace(answer.outcome.unwrap()).is_none(), "one outcome a tag");
    }
    for (i, (outcome, query)) in outcomes.into_iter().zip(&queries).enumerate() {
        let problem = |problem: &proto::Problem| {
            (problem.code, problem.reason.clone(), problem.field.clone())
        };
        let invalid = |field: &str| (3, "INVALID_FIELD".to_owned(), field.to_owned());
        match (i % 10, outcome.expect("an outcome for every tag")) {
            (3, Outcome::Problem(p)) => assert_eq!(problem(&p), invalid("search.query.code")),
            (7, Outcome::Problem(p)) => {
                assert_eq!(problem(&p), (5, "COLLECTION_NOT_FOUND".to_owned(), String::new()));
            }
            (9, Outcome::Problem(p)) => assert_eq!(problem(&p), invalid("search")),
            (_, Outcome::Answer(answer)) => {
                assert_eq!(positions(&answer.hits), oracle(&codes, query, None, 10));
            }
            (_, outcome) => panic!("query {i}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_record_finds_its_neighbours_but_not_itself() {
    let (server, codes) = filled(ServerOptions::default()).await;
    let query = Some(proto::Query { kind: Some(Kind::Id("17".to_owned())) });
    let request = proto::SearchRequest { query, limit: Some(499), ..search(&codes[0]) };
    let answer = server.searches().search(request).await.unwrap().into_inner();
    let mut expected = oracle(&codes, &codes[17], None, usize::MAX);
    expected.retain(|(_, position)| *position != 17);
    assert_eq!(positions(&answer.hits), expected);
}

/// A replaced record is found either as it was or as it is: never twice, never not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_see_whole_groups_while_records_are_replaced() {
    let (server, codes) = filled(ServerOptions::default()).await;
    let mut writer = server.records();
    let writing = tokio::spawn(async move {
        for seed in 0..30 {
            let codes = random_codes(BITS as usize, 500, 100 + seed);
            let records = codes.iter().enumerate().map(|(i, c)| code_record(&i.to_string(), c));
            let collection = "codes".to_owned();
            let request = proto::UpsertRecordsRequest {
                collection,
                records: records.collect(),
                durability: None,
            };
            writer.upsert_records(request).await.unwrap();
        }
    });
    let mut client = server.searches();
    let everything = proto::SearchRequest { limit: Some(1000), ..search(&codes[0]) };
    while !writing.is_finished() {
        let answer = client.search(everything.clone()).await.unwrap().into_inner();
        let mut ids: Vec<_> = answer.hits.iter().map(|hit| &hit.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((answer.hits.len(), ids.len()), (500, 500));
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn texts_are_encoded_and_payloads_come_where_asked_for() {
    let server = TestServer::start().await;
    server.texts("notes", 128).await;
    let mut moon = text_record("moon", "the far side of the moon");
    moon.payload_json = r#"{"kind":"sky"}"#.to_owned();
    let bread = text_record("bread", "a loaf of rye bread");
    server.upsert("notes", vec![bread, moon]).await.unwrap();
    let kind = Kind::Text("the dark side of the moon".to_owned());
    let request = proto::SearchRequest {
        collection: "notes".to_owned(),
        query: Some(proto::Query { kind: Some(kind) }),
        payload: true,
        ..Default::default()
    };
    let answer = server.searches().search(request).await.unwrap().into_inner();
    assert_eq!(answer.hits.len(), 2);
    assert_eq!(answer.hits[0].id, "moon");
    assert_eq!(answer.hits[0].payload_json.as_deref(), Some(r#"{"kind":"sky"}"#));
    assert_eq!(answer.hits[1].payload_json.as_deref(), Some("{}"));
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_field() {
    let options = ServerOptions { max_queries: 5, max_batch_hits: 50, ..Default::default() };
    let (server, codes) = filled(options).await;
    let good = || search(&codes[0]);
    let query = |kind| Some(proto::Query { kind });
    let vector = proto::Vector { values: vec![f32::NAN] };
    for (request, field) in [
        (proto::SearchRequest { query: None, ..good() }, "query"),
        (proto::SearchRequest { query: query(None), ..good() }, "query"),
        (proto::SearchRequest { query: query(Some(Kind::Code(vec![]))), ..good() }, "query.code"),
        (
            proto::SearchRequest { query: query(Some(Kind::Code(vec![0, 0, 1]))), ..good() },
            "query.code",
        ),
        (
            proto::SearchRequest { query: query(Some(Kind::Text("x".to_owned()))), ..good() },
            "query.text",
        ),
        (
            proto::SearchRequest { query: query(Some(Kind::Vector(vector))), ..good() },
            "query.vector",
        ),
        (
            proto::SearchRequest { query: query(Some(Kind::Id(String::new()))), ..good() },
            "query.id",
        ),
        (proto::SearchRequest { limit: Some(0), ..good() }, "limit"),
        (proto::SearchRequest { limit: Some(10_001), ..good() }, "limit"),
        (proto::SearchRequest { plan: Some(0), ..good() }, "plan"),
        (proto::SearchRequest { plan: Some(99), ..good() }, "plan"),
    ] {
        let refused = server.searches().search(request.clone()).await.unwrap_err();
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", field);
        let batch = proto::SearchBatchRequest {
            collection: "codes".to_owned(),
            searches: vec![good(), request],
        };
        let refused = server.searches().search_batch(batch).await.unwrap_err();
        let field = format!("searches[1].{field}");
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", &field);
    }
    let elsewhere = proto::SearchRequest { collection: "other".to_owned(), ..good() };
    for (searches, field) in [
        (vec![], "searches"),
        (vec![good(); 6], "searches"),
        (vec![proto::SearchRequest { limit: Some(26), ..good() }; 2], "searches"),
        (vec![good(), elsewhere], "searches[1].collection"),
    ] {
        let batch = proto::SearchBatchRequest { collection: "codes".to_owned(), searches };
        let refused = server.searches().search_batch(batch).await.unwrap_err();
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", field);
    }
    let unknown = query(Some(Kind::Id("no such id".to_owned())));
    let unknown = proto::SearchRequest { query: unknown, ..good() };
    let refused = server.searches().search(unknown).await.unwrap_err();
    check_refused(&refused, GrpcCode::NotFound, "RECORD_NOT_FOUND", "");
    let ball = proto::SearchBallRequest { collection: "codes".to_owned(), ..Default::default() };
    let refused = server.searches().search_ball(ball).await.unwrap_err();
    check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", "query");
}

/// A filter as text and as a tree, in searches, balls, lists, counts and deletions.
#[tokio::test]
async fn filters_are_asked_everywhere() {
    use proto::field_filter::Condition;
    use proto::filter::Kind as FilterKind;

    let server = TestServer::start().await;
    server.codes("codes", BITS).await;
    let codes = random_codes(BITS as usize, 300, 15);
    let record = |(i, code): (usize, &Code)| proto::NewRecord {
        payload_json: format!(r#"{{"third": {}, "name": "n{i}"}}"#, i % 3),
        ..code_record(&i.to_string(), code)
    };
    server.upsert("codes", codes.iter().enumerate().map(record).collect()).await.unwrap();

    let integer = proto::Value { kind: Some(proto::value::Kind::Integer(2)) };
    let field = |condition| {
        let field = proto::FieldFilter { field: "third".to_owned(), condition: Some(condition) };
        proto::Filter { kind: Some(FilterKind::Field(field)) }
    };
    let list = |filters| proto::FilterList { filters };
    let text = |text: &str| proto::Filter { kind: Some(FilterKind::Text(text.to_owned())) };
    let one = field(Condition::In(proto::ValueList { values: vec![integer.clone()] }));
    let same = [
        text("third == 2"),
        one.clone(),
        field(Condition::Greater(proto::Value { kind: Some(proto::value::Kind::Number(1.5)) })),
        proto::Filter { kind: Some(FilterKind::All(list(vec![one.clone(), text("name exists")]))) },
        proto::Filter { kind: Some(FilterKind::None(list(vec![text("third < 2")]))) },
    ];
    let matching: Vec<usize> = (0..300).filter(|i| i % 3 == 2).collect();
    let chosen: Vec<Code> = matching.iter().map(|i| codes[*i].clone()).collect();
    let expected = |radius, limit| -> Vec<(u32, usize)> {
        let found = oracle(&chosen, &codes[0], radius, limit);
        found.into_iter().map(|(distance, i)| (distance, matching[i])).collect()
    };
    for indexed in [false, true] {
        if indexed {
            let request = proto::IndexFieldRequest {
                collection: "codes".to_owned(),
                field: "third".to_owned(),
            };
            let mut client = server.collections();
            assert!(client.index_field(request.clone()).await.unwrap().into_inner().created);
            assert!(!client.index_field(request).await.unwrap().into_inner().created);
        }
        for filter in &same {
            let request =
                proto::SearchRequest { filter: Some(filter.clone()), ..search(&codes[0]) };
            let answer = server.searches().search(request).await.unwrap().into_inner();
            assert_eq!(positions(&answer.hits), expected(None, 10), "{filter:?}");

            let request = proto::SearchBallRequest {
                collection: "codes".to_owned(),
                query: code_query(&codes[0]),
                radius: 4,
                filter: Some(filter.clone()),
                ..Default::default()
            };
            let mut ball = server.searches().search_ball(request).await.unwrap().into_inner();
            let mut hits = Vec::new();
            while let Some(part) = ball.message().await.unwrap() {
                hits.extend(part.hits);
            }
            assert_eq!(positions(&hits), expected(Some(4), usize::MAX));

            let request = proto::CountRecordsRequest {
                collection: "codes".to_owned(),
                filter: Some(filter.clone()),
            };
            let count = server.records().count_records(request).await.unwrap().into_inner().count;
            assert_eq!(count, 100);
        }
    }
    let mut request = proto::ListRecordsRequest {
        collection: "codes".to_owned(),
        page_size: 30,
        filter: Some(text("third == 2")),
        ..Default::default()
    };
    let mut listed = Vec::new();
    loop {
        let page = server.records().list_records(request.clone()).await.unwrap().into_inner();
        listed.extend(page.records.iter().map(|r| r.id.parse::<usize>().unwrap()));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, matching);

    let delete = proto::DeleteMatchingRecordsRequest {
        collection: "codes".to_owned(),
        filter: Some(text("third == 2")),
    };
    let deleted = server.records().delete_matching_records(delete).await.unwrap().into_inner();
    assert_eq!(deleted.deleted, 100);
    let all = proto::CountRecordsRequest { collection: "codes".to_owned(), filter: None };
    assert_eq!(server.records().count_records(all).await.unwrap().into_inner().count, 200);
    let none = proto::DeleteMatchingRecordsRequest { collection: "codes".to_owned(), filter: None };
    let refused = server.records().delete_matching_records(none).await.unwrap_err();
    check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", "filter");

    let wrong = proto::Value { kind: Some(proto::value::Kind::Text("abc".to_owned())) };
    let deep = (0..40).fold(text("true"), |inner, _| proto::Filter {
        kind: Some(FilterKind::All(list(vec![inner]))),
    });
    for (filter, path) in [
        (text("third > [1]"), "filter.text"),
        (proto::Filter { kind: None }, "filter.kind"),
        (field(Condition::Less(wrong.clone())), "filter.field.less"),
        (
            field(Condition::In(proto::ValueList {
                values: vec![integer, proto::Value::default()],
            })),
            "filter.field.in.values[1]",
        ),
        (
            proto::Filter {
                kind: Some(FilterKind::Any(list(vec![one, field(Condition::AtMost(wrong))]))),
            },
            "filter.any.filters[1].field.at_most",
        ),
        (
            proto::Filter {
                kind: Some(FilterKind::Ids(proto::IdList { ids: vec![String::new()] })),
            },
            "filter.ids.ids[0]",
        ),
        (
            proto::Filter {
                kind: Some(FilterKind::Field(proto::FieldFilter {
                    field: "a..b".to_owned(),
                    condition: Some(Condition::Exists(proto::Exists {})),
                })),
            },
            "filter.field.field",
        ),
        (deep, "filter"),
    ] {
        let request = proto::SearchRequest { filter: Some(filter), ..search(&codes[0]) };
        let refused = server.searches().search(request).await.unwrap_err();
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", path);
    }
}

#[tokio::test]
async fn rescoring_diversity_and_groups() {
    let server = TestServer::start().await;
    server.texts("texts", 64).await;
    let record = |i: usize| proto::NewRecord {
        payload_json: format!(r#"{{"half": {}}}"#, i % 2),
        ..text_record(&i.to_string(), &format!("moon stars {} {}", i / 2, "sun ".repeat(i)))
    };
    server.upsert("texts", (0..20).map(record).collect()).await.unwrap();
    let plain = || proto::SearchRequest {
        collection: "texts".to_owned(),
        query: Some(proto::Query { kind: Some(Kind::Text("moon and stars".to_owned())) }),
        limit: Some(2),
        ..Default::default()
    };
    let asymmetric =
        proto::Rescore { by: proto::RescoreBy::Asymmetric.into(), oversampling: Some(5) };
    let request = proto::SearchRequest { rescore: Some(asymmetric), ..plain() };
    let answer = server.searches().search(request).await.unwrap().into_inner();
    assert_eq!((answer.hits.len(), answer.stats.unwrap().rescored), (2, 10));
    assert!(answer.hits[0].score >= answer.hits[1].score);

    let diversity = proto::Diversity { weight: 0.5, candidates: Some(7) };
    let request = proto::SearchRequest { diversity: Some(diversity), ..plain() };
    let answer = server.searches().search(request).await.unwrap().into_inner();
    assert_eq!((answer.hits.len(), answer.stats.unwrap().rescored), (2, 7));

    let group_by = proto::GroupBy { field: "half".to_owned(), size: Some(3) };
    let request = proto::SearchRequest { group_by: Some(group_by.clone()), ..plain() };
    let hits = server.searches().search(request).await.unwrap().into_inner().hits;
    assert_eq!(hits.len(), 6);
    for (i, hit) in hits.iter().enumerate() {
        let group = hit.group.clone().unwrap().kind;
        assert_eq!(group, hits[i / 3 * 3].group.clone().unwrap().kind);
        let half = hit.id.parse::<i64>().unwrap() % 2;
        assert_eq!(group, Some(proto::value::Kind::Integer(half)));
    }

    let rescore = |by: i32, oversampling| proto::SearchRequest {
        rescore: Some(proto::Rescore { by, oversampling: Some(oversampling) }),
        ..plain()
    };
    let vector = proto::RescoreBy::Vector.into();
    for (request, field) in [
        (rescore(0, 1), "rescore.by"),
        (rescore(vector, 1), "rescore"),
        (rescore(1, 0), "rescore.oversampling x limit"),
        (rescore(1, 1001), "rescore.oversampling"),
        (rescore(1, 1_000_000), "rescore.oversampling x limit"),
        (
            proto::SearchRequest {
                diversity: Some(proto::Diversity { weight: 0.5, candidates: Some(10_000) }),
                ..rescore(1, 1000)
            },
            "rescore.oversampling x diversity.candidates",
        ),
        (proto::SearchRequest { group_by: Some(group_by.clone()), ..rescore(1, 2) }, "group_by"),
        (
            proto::SearchRequest {
                group_by: Some(proto::GroupBy { field: "a b".to_owned(), size: None }),
                ..plain()
            },
            "group_by.field",
        ),
        (
            proto::SearchRequest {
                diversity: Some(proto::Diversity { weight: -1.0, candidates: None }),
                ..plain()
            },
            "diversity.weight",
        ),
    ] {
        let refused = server.searches().search(request).await.unwrap_err();
        check_refused(&refused, GrpcCode::InvalidArgument, "INVALID_FIELD", field);
    }
}
