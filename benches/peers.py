"""Runs other libraries on the codes of benches/peers.rs, which starts this and reads its lines.

The task comes as JSON on standard input: two .npy files, for each limit the distance of the last
neighbour of each query, and for each radius the size of each query's ball. One JSON object a line
goes to standard output for each measurement. What cannot be imported is left out, and named on
standard error.
"""

import json
import sys
import time

import numpy as np


def emit(peer, task, recall, **figures):
    print(json.dumps({"peer": peer, "task": task, "recall": recall, **figures}), flush=True)


def times(search, queries):
    """Of each query the best of five times, in microseconds: median and 99th percentile."""
    best = np.full(len(queries), np.inf)
    for _ in range(5):
        for i in range(len(queries)):
            query = queries[i : i + 1]
            begun = time.perf_counter_ns()
            search(query)
            best[i] = min(best[i], time.perf_counter_ns() - begun)
    return {"p50_us": np.percentile(best, 50) / 1e3, "p99_us": np.percentile(best, 99) / 1e3}


def per_second(search, queries):
    best = np.inf
    for _ in range(3):
        begun = time.perf_counter()
        search(queries)
        best = min(best, time.perf_counter() - begun)
    return len(queries) / best


def nearest(peer, task, search, queries, one_thread, all_threads):
    """`search(queries, k)` gives the distances found; a distance within the reach is a right one."""
    for limit, reach in task["reach"]:
        reach = np.asarray(reach)[: len(queries), None]

        def recall():
            found = np.concatenate([search(queries[i : i + 1], limit) for i in range(len(queries))])
            return float(((found >= 0) & (found <= reach)).sum() / (len(queries) * limit))

        one_thread()
        emit(peer, f"{limit} nearest", recall(), **times(lambda q: search(q, limit), queries))
        if limit == 10:
            all_threads()
            rate = per_second(lambda q: search(q, limit), queries)
            emit(peer, f"batch, {limit} nearest", recall(), per_second=rate)


def balls(peer, task, count, queries, most=None):
    """`count(queries, radius)` gives how many were found."""
    for radius, sizes in task["within"]:
        if most is None or radius <= most:
            found = sum(count(queries[i : i + 1], radius) for i in range(len(queries)))
            figures = times(lambda q: count(q, radius), queries)
            emit(peer, f"ball of {radius}", found / max(1, sum(sizes)), **figures)


def faiss_indexes(faiss, codes):
    """Name, index, and the radius up to which its balls are whole by design; none for any."""
    bits = 8 * codes.shape[1]
    flat = faiss.IndexBinaryFlat(bits)
    flat.add(codes)
    yield "faiss flat", flat, None
    parts = max(2, bits // 21)
    hashes = faiss.IndexBinaryMultiHash(bits, parts, bits // parts)
    hashes.add(codes)
    for flips in [0, 1]:
        hashes.nflip = flips
        yield f"faiss multihash, {parts} x {bits // parts}, {flips} flips", hashes, parts * (flips + 1) - 1
    lists = 1024
    coarse = faiss.IndexBinaryFlat(bits)
    inverted = faiss.IndexBinaryIVF(coarse, bits, min(lists, len(codes)))
    inverted.train(codes[:: max(1, len(codes) // (40 * lists))])
    inverted.add(codes)
    for probes in [4, 16]:
        inverted.nprobe = probes
        yield f"faiss ivf, {probes} of {lists}", inverted, -1


def run_faiss(task, codes, queries):
    import faiss

    cores = faiss.omp_get_max_threads()
    one, all_of_them = lambda: faiss.omp_set_num_threads(1), lambda: faiss.omp_set_num_threads(cores)
    for name, index, whole in faiss_indexes(faiss, codes):
        nearest(name, task, lambda q, k: index.search(q, k)[0], queries, one, all_of_them)
        one()
        # faiss keeps what is nearer than the radius.
        balls(name, task, lambda q, r: int(index.range_search(q, r + 1)[0][-1]), queries, whole)


def run_usearch(task, codes, queries):
    from usearch.index import MetricKind, search

    def distances(threads):
        def find(q, k):
            found = search(codes, q, k, MetricKind.Hamming, exact=True, threads=threads)
            return found.distances.reshape(len(q), -1)

        return find

    nearest("usearch, exact", task, distances(1), queries[:20], lambda: None, lambda: None)


def main():
    task = json.load(sys.stdin)
    codes, queries = np.load(task["codes"]), np.load(task["queries"])
    for run in [run_faiss, run_usearch]:
        try:
            run(task, codes, queries)
        except ImportError as error:
            print(f"  left out: {error}", file=sys.stderr)


main()
