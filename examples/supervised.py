"""A pipeline of actors under a supervisor: one is killed in the middle, and nothing is lost.

python examples/supervised.py
"""

import sys

import goliath

PAGES = 12


@goliath.remote
class Archive:
    """What has been read; the reader and the counter can always begin again from it."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def missing(self) -> list[int]:
        return [page for page in range(PAGES) if page not in self.counts]

    def note(self, page: int, count: int) -> int:
        self.counts[page] = count
        return len(self.counts)

    def total(self) -> int:
        return sum(self.counts.values())


@goliath.remote(max_task_retries=-1)
class Reader:
    """Stands for a connection that takes a while to be made."""

    def read(self, page: int) -> list[str]:
        return [f"word{number}" for number in range(page)]


@goliath.remote(max_task_retries=-1)
class Counter:
    """Counts the words of pages, as its reader reads them."""

    def __init__(self, reader: goliath.ActorHandle, archive: goliath.ActorHandle) -> None:
        self.reader, self.archive = reader, archive

    def count(self, page: int) -> int:
        words = goliath.get(self.reader.read.remote(page))
        return goliath.get(self.archive.note.remote(page, len(words)))


def main() -> None:
    goliath.init(sys.argv[1:] or None)  # the Lieutenants named, else an embedded one
    archive = Archive.remote()  # not supervised: it must not lose what it has
    with goliath.Supervisor("rest_for_one") as supervisor:
        reader = supervisor.start(Reader, name="reader")
        counter = supervisor.start(Counter, reader, archive)
        goliath.monitor(archive, lambda end: print("the archive is lost:", end.error))
        done = [counter.count.remote(page) for page in range(PAGES // 2)]
        goliath.get(done)
        print("half of it is done, and the reader is killed")
        goliath.kill(reader)
        # The counter was started again with its reader; its handle is the same as before.
        goliath.get([counter.count.remote(page) for page in goliath.get(archive.missing.remote())])
        print("words:", goliath.get(archive.total.remote()))
    goliath.shutdown()


main()
