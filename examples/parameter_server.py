"""A parameter server: workers take turns to improve one model, which an actor keeps.

python examples/parameter_server.py
"""

import random
import sys
from collections.abc import Iterator

import goliath

TRUTH = [2.0, -3.0, 0.5]
Vector = list[float]


@goliath.remote(concurrency_groups={"read": 4})
class ParameterServer:
    """Updates come one at a time; who reads waits for none of them."""

    def __init__(self, size: int) -> None:
        self.weights = [0.0] * size
        self.updates = 0

    def update(self, gradient: Vector, rate: float) -> None:
        self.weights = [w - rate * g for w, g in zip(self.weights, gradient, strict=True)]
        self.updates += 1

    @goliath.method(concurrency_group="read")
    def read(self) -> tuple[int, Vector]:
        return self.updates, self.weights


@goliath.remote
class Worker:
    """Has data of its own, and never shows it to anybody."""

    def __init__(self, seed: int, examples: int) -> None:
        dice = random.Random(seed)
        self.data = []
        for _ in range(examples):
            inputs = [dice.gauss(0, 1) for _ in TRUTH]
            answer = sum(w * x for w, x in zip(TRUTH, inputs, strict=True)) + dice.gauss(0, 0.01)
            self.data.append((inputs, answer))

    def train(self, server: goliath.ActorHandle, rounds: int) -> Iterator[float]:
        """Yields the mean squared error before each round."""
        for _ in range(rounds):
            _, weights = goliath.get(server.read.remote())
            gradient, loss = [0.0] * len(weights), 0.0
            for inputs, answer in self.data:
                error = sum(w * x for w, x in zip(weights, inputs, strict=True)) - answer
                loss += error * error / len(self.data)
                for place, x in enumerate(inputs):
                    gradient[place] += 2 * error * x / len(self.data)
            goliath.get(server.update.remote(gradient, 0.1))
            yield loss


def main() -> None:
    goliath.init(sys.argv[1:] or None)  # the Lieutenants named, else an embedded one
    server = ParameterServer.remote(len(TRUTH))
    workers = [Worker.remote(seed, 100) for seed in range(4)]
    losses = [worker.train.remote(server, 25) for worker in workers]
    for number, refs in enumerate(zip(*losses, strict=True)):
        if number % 8 == 0:
            print(f"round {number:2}: mean squared error {sum(goliath.get(list(refs))) / 4:.4f}")
    updates, weights = goliath.get(server.read.remote())
    print(f"after {updates} updates: {', '.join(f'{weight:.2f}' for weight in weights)}")
    goliath.shutdown()


main()
