"""How many rows a second does PyTorch train, on the networks of benches/train.rs?

    python3 benches/train_torch.py [THREADS]

One line a network, batch 256, Adam, the median of all steps. The text network is measured as
PyTorch users write it (rows of 10,000 numbers), and with an EmbeddingBag as its first layer.
"""
import sys
import time

import torch
from torch import nn
from torch.nn import functional

BATCH, WORDS, VOCABULARY, STEPS = 256, 60, 10_000, 64
torch.manual_seed(0)
if len(sys.argv) > 1:
    torch.set_num_threads(int(sys.argv[1]))


def measure(name, parameters, loss):
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    seconds = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    median = sorted(seconds)[STEPS // 2]
    print(f"{name}: {BATCH / median:.0f} rows/s, {median * 1e3:.2f} ms a step", flush=True)


def images():
    sizes = [784, 512, 256, 64, 256, 512, 784]
    layers = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        layers += [nn.Linear(inputs, outputs)]
        layers += [nn.Sigmoid()] if i == 2 else [nn.ReLU()] if i < 5 else []
    network = nn.Sequential(*layers)
    x = torch.rand(BATCH, 784)
    loss = lambda: functional.binary_cross_entropy_with_logits(network(x), x)
    measure("784-512-256-64, Bernoulli", network.parameters(), loss)


def texts():
    words = torch.stack([torch.randperm(VOCABULARY)[:WORDS] for _ in range(BATCH)])
    weights = torch.full(words.shape, WORDS**-0.5)
    target = torch.zeros(BATCH, VOCABULARY).scatter_(1, words, 1 / WORDS)
    x = torch.zeros(BATCH, VOCABULARY).scatter_(1, words, WORDS**-0.5)

    decoder = nn.Linear(64, VOCABULARY)
    likelihood = lambda z: -(target * functional.log_softmax(decoder(torch.sigmoid(z)), 1)).sum(1).mean()
    encoder = nn.Linear(VOCABULARY, 64)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    measure("10000-64, multinomial, dense rows", parameters, lambda: likelihood(encoder(x)))
    bag = nn.EmbeddingBag(VOCABULARY, 64, mode="sum")
    bias = nn.Parameter(torch.zeros(64))
    parameters = [*bag.parameters(), bias, *decoder.parameters()]
    bagged = lambda: likelihood(bag(words, per_sample_weights=weights) + bias)
    measure("10000-64, multinomial, EmbeddingBag", parameters, bagged)


images()
texts()
