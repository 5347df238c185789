"""How fast do scikit-learn and ONNX Runtime make 64 numbers of a text, as benches/encode.rs does?

    python3 benches/encode_text.py [threads]        (pip install scikit-learn onnxruntime onnx)

60 words a text of a vocabulary of 10,000: TF-IDF, made dense, and a linear layer, 4,096 texts at a time.
Prints rows a second of the features, of the network, and of both; medians.
"""

import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.feature_extraction.text import TfidfVectorizer

ROWS, WORDS, VOCABULARY, BITS = 4096, 60, 10_000, 64


def network(threads):
    """A linear layer and a sigmoid, as an ONNX session."""
    weight = np.random.default_rng(0).standard_normal((VOCABULARY, BITS)).astype(np.float32)
    arrays = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(BITS, np.float32), "b")]
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["a"]), helper.make_node("Sigmoid", ["a"], ["p"])]
    values = lambda name, cols: helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, cols])
    graph = helper.make_graph(nodes, "encoder", [values("x", VOCABULARY)], [values("p", BITS)], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def median(work, rounds=11):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    words = np.random.default_rng(7).integers(0, VOCABULARY, (ROWS, WORDS))
    texts = [" ".join(f"w{word}" for word in row) for row in words]
    vectorizer = TfidfVectorizer(vocabulary=[f"w{i}" for i in range(VOCABULARY)], sublinear_tf=True, dtype=np.float32)
    vectorizer.fit(texts)
    session = network(threads)
    sparse = vectorizer.transform(texts)
    dense = sparse.toarray()
    features = median(lambda: vectorizer.transform(texts))
    encode = median(lambda: session.run(None, {"x": dense}))
    both = median(lambda: session.run(None, {"x": vectorizer.transform(texts).toarray()}))
    for name, seconds in [("features", features), ("network", encode), ("both", both)]:
        print(f"{name:9} {ROWS / seconds:12,.0f} rows a second")


if __name__ == "__main__":
    main()
