"""How many of the 10 nearest vectors do a model's codes find, symmetrically and asymmetrically?

    python3 benches/asymmetric.py MODEL database.npy queries.npy        (pip install numpy)

Symmetric: the 10 records of least Hamming distance, of equal ones the earlier. Asymmetric: those whose bits
agree most with the query's values, as `nearbit search --rescore asymmetric` weighs them, over all records.
Exact neighbours are by cosine. Calls target/release/nearbit.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

NEARBIT = Path(__file__).parent.parent / "target/release/nearbit"
K = 10


def encoded(model, rows, directory):
    """Codes as -1 and 1, and the values that the sigmoid was taken of."""
    codes, activations = directory / "codes.npy", directory / "activations.npy"
    command = [NEARBIT, "encode", rows, "--model", model, "--out", codes, "--activations", activations]
    subprocess.run(command, check=True, capture_output=True)
    shares = np.load(activations).astype(np.float64).clip(1e-12, 1 - 1e-7)
    bits = np.unpackbits(np.load(codes).view(np.uint8), axis=1)[:, : shares.shape[1]]
    return 2.0 * bits - 1, np.log(shares / (1 - shares))


def found(scores, truth):
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return np.mean([len(set(a) & set(b)) / K for a, b in zip(nearest, truth)])


def main():
    model, database, queries = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        records, _ = encoded(model, database, Path(directory))
        codes, values = encoded(model, queries, Path(directory))
    unit = [np.load(rows).astype(np.float64) for rows in (queries, database)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit]
    truth = np.argsort(-(unit[0] @ unit[1].T), axis=1, kind="stable")[:, :K]
    print(f"recall@{K} symmetric {found(codes @ records.T, truth):.3f}, "
          f"asymmetric {found(values @ records.T, truth):.3f}")


main()
