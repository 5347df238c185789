"""A client of Nearbit that is not written in Rust, over stubs made from proto/nearbit/v1.

    python client.py ADDRESS COLLECTION LIMIT < codes

reads one query a line, a code in hexadecimal digits, and prints one line of JSON for each:
{"query": 0, "hits": [{"id": "17", "distance": 3}, ...]}. Every query is asked in all four ways
that the service has, which must agree.
"""

import json
import sys

import grpc

from nearbit.v1 import collection_pb2, collection_pb2_grpc
from nearbit.v1 import record_pb2, record_pb2_grpc
from nearbit.v1 import search_pb2, search_pb2_grpc


def pairs(hits):
    return [(hit.id, hit.distance) for hit in hits]


def search_all(channel, collection, limit, codes):
    """The hits of every query as (id, distance) pairs."""
    service = search_pb2_grpc.SearchServiceStub(channel)
    requests = [
        search_pb2.SearchRequest(
            collection=collection, query=search_pb2.Query(code=code), limit=limit
        )
        for code in codes
    ]
    unary = [pairs(service.Search(request, timeout=30).hits) for request in requests]

    batch = search_pb2.SearchBatchRequest(collection=collection, searches=requests)
    answers = service.SearchBatch(batch, timeout=30).answers
    assert [pairs(answer.hits) for answer in answers] == unary, "batch and unary differ"

    tagged = (
        search_pb2.SearchStreamRequest(tag=tag, search=request)
        for tag, request in enumerate(requests)
    )
    streamed = {}
    for outcome in service.SearchStream(tagged, timeout=30):
        assert outcome.WhichOneof("outcome") == "answer", outcome
        streamed[outcome.tag] = pairs(outcome.answer.hits)
    assert [streamed[tag] for tag in range(len(unary))] == unary, "stream and unary differ"

    for code, hits in zip(codes, unary):
        radius = max((distance for _, distance in hits), default=0)
        ball = search_pb2.SearchBallRequest(
            collection=collection, query=search_pb2.Query(code=code), radius=radius
        )
        inside = [hit for ring in service.SearchBall(ball, timeout=30) for hit in pairs(ring.hits)]
        assert inside[: len(hits)] == hits, "ball and unary differ"
    return unary


def check_writing(channel, width_bytes):
    """Creates a collection, fills it by a stream, reads a record back, and deletes it again."""
    collections = collection_pb2_grpc.CollectionServiceStub(channel)
    records = record_pb2_grpc.RecordServiceStub(channel)
    encoder = collection_pb2.Encoder(codes=collection_pb2.CodesEncoder(bits=8 * width_bytes))
    create = collection_pb2.CreateCollectionRequest(name="from-python", encoder=encoder)
    collections.CreateCollection(create, timeout=30)
    payload = '{"n":9007199254740993}'
    messages = (
        record_pb2.ImportRecordsRequest(
            collection="from-python",
            records=[
                record_pb2.NewRecord(
                    id=f"{group}-{i}", code=bytes([i] * width_bytes), payload_json=payload
                )
                for i in range(100)
            ],
        )
        for group in range(3)
    )
    summary = records.ImportRecords(messages, timeout=30)
    assert (summary.written, summary.rejected) == (300, 0), summary
    lookup = record_pb2.LookupRecordsRequest(collection="from-python", ids=["2-7", "none"])
    found = records.LookupRecords(lookup, timeout=30)
    assert [record.id for record in found.records] == ["2-7"], found
    assert found.records[0].code == bytes([7] * width_bytes), found
    assert found.records[0].payload_json == payload, found
    assert list(found.missing_ids) == ["none"], found
    collections.DeleteCollection(
        collection_pb2.DeleteCollectionRequest(name="from-python"), timeout=30
    )
    try:
        records.LookupRecords(lookup, timeout=30)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    else:
        raise AssertionError("the collection is still there")


def main():
    address, collection, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    codes = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    with grpc.insecure_channel(address) as channel:
        check_writing(channel, len(codes[0]))
        for query, hits in enumerate(search_all(channel, collection, limit, codes)):
            hits = [{"id": id, "distance": distance} for id, distance in hits]
            print(json.dumps({"query": query, "hits": hits}))


main()
