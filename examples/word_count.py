"""Files: a module and a folder of data travel to the nodes, each node gets them once.

Every job has a directory of its own on each node. It is the current directory of the
calls and it can be imported from, so ``texts/…`` and ``import counting`` work there as
they do here.
"""

import sys
from collections import Counter
from pathlib import Path

from goliath import Commander

HERE = Path(__file__).parent / "letters"


def count(path):
    import counting  # it travels as a file, and need not be importable here

    return counting.words(path)


texts = sorted(path.relative_to(HERE).as_posix() for path in (HERE / "texts").glob("*.txt"))

with Commander(sys.argv[1:] or None) as cmdr:
    counts = cmdr.run(
        count,
        [{"path": text} for text in texts],
        files=[HERE / "counting.py", HERE / "texts"],
    )

for text, words in zip(texts, counts, strict=True):
    print(f"{text}: {words.total()} words")
print("most frequent:", sum(counts, Counter()).most_common(3))
