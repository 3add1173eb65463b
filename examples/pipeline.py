"""A pipeline: each stage takes the results of the one before as they are, by their refs.

python examples/pipeline.py
"""

import sys

import goliath


@goliath.remote
def fetch(page: int) -> list[str]:
    """Stands for a download."""
    return [f"word{page % 3}", f"word{page % 5}", f"page{page}"]


@goliath.remote
def count(words: list[str]) -> dict[str, int]:
    return {word: words.count(word) for word in words}


@goliath.remote
def merge(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return {word: left.get(word, 0) + right.get(word, 0) for word in left | right}


def main() -> None:
    goliath.init(sys.argv[1:] or None)  # the Lieutenants named, else an embedded one
    parts = [count.remote(fetch.remote(page)) for page in range(16)]
    while len(parts) > 1:  # a tree of merges; none of it waits in this process
        parts = [merge.remote(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    totals = goliath.get(parts[0])
    for word in sorted(totals, key=lambda word: (-totals[word], word))[:3]:
        print(word, totals[word])
    goliath.shutdown()


main()
