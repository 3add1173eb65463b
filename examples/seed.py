"""The example Goliath began with: ten thousand calls, their results in the order of the input.

There is no ``if __name__ == "__main__"`` guard, and none is needed. Without addresses,
``Commander()`` runs the calls on this machine; with some, on all of those nodes.
"""

import sys

from goliath import Commander


def foo(bar, baz):
    return str(bar) + str(baz)


def foo_args(bar_range, baz_range):
    for bar in bar_range:
        for baz in baz_range:
            yield {"bar": bar, "baz": baz}


with Commander(sys.argv[1:] or None) as cmdr:
    results = cmdr.run(foo, foo_args(range(100), range(100)), [__file__])
    nodes = ", ".join(f"{node.address} ({node.workers} workers)" for node in cmdr.nodes())

print(f"{len(results)} results from {nodes}")
print(f"the first: {results[:3]}, the last: {results[-3:]}")
assert results == [str(bar) + str(baz) for bar in range(100) for baz in range(100)]
print("all of them right, all of them in order")
