"""A user's project: its modules reach the nodes without being named, as they are now."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from goliath import Commander
from tests.e2e.conftest import ROOT
from tests.lieutenants import Lieutenant

PROJECT = {
    "pyproject.toml": "",
    "shop/__init__.py": "",
    "shop/prices.py": "from .rates import tax\ndef gross(net): return net + tax(net)\n",
    "shop/rates.py": "RATE = 10\ndef tax(net): return net * RATE // 100\n",
    "shop/items.py": (
        "from dataclasses import dataclass\n@dataclass\nclass Item:\n    name: str\n    net: int\n"
    ),
    "tools/text.py": "def shout(text): return text.upper()\n",  # of a namespace package
    "plain.py": "import shop.prices\ndef of(net): return shop.prices.gross(net)\n",
    "unused.py": "raise RuntimeError('nobody imports this')\n",
    "data.txt": "no module\n",
}

HEAD = (
    "import sys\nfrom goliath import Commander\n"
    "cmdr = Commander([('127.0.0.1', int(sys.argv[1]))])\n"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a package, a namespace package, and some modules."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def run(project: Path, node: Lieutenant) -> Callable[..., CompletedProcess[str]]:
    """``run("text")`` runs a script of the project against the node; ``cmdr`` is there."""

    def run(text: str, *, name: str = "main.py", port: int = node.port) -> CompletedProcess[str]:
        (project / name).write_text(HEAD + text)
        return subprocess.run(
            [sys.executable, "-W", "error", name, str(port)],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def said(run: CompletedProcess[str]) -> str:
    """What a script printed, if nothing went wrong."""
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.strip()


@pytest.mark.parametrize(
    "how",
    [
        "import plain\ndef f(n): return plain.of(n)",
        "def f(n):\n    import plain\n    return plain.of(n)",
        "import shop.prices\ndef f(n): return shop.prices.gross(n)",
        "from shop import prices\ndef f(n): return prices.gross(n)",
        "from shop.prices import gross\ndef f(n): return gross(n)",
        "def f(n):\n    from shop import prices as p\n    return p.gross(n)",
        "from plain import of as f",
        "import plain\nf = lambda n: (lambda: plain.of(n))()",
        "class C:\n def __call__(self, n):\n  import plain\n  return plain.of(n)\nf = C()",
    ],
)
def test_a_module_reaches_the_node_however_it_is_imported(
    run: Callable[..., CompletedProcess[str]], how: str
) -> None:
    assert said(run(f"{how}\nprint(cmdr.run(f, [(100,), (200,)]))")) == "[110, 220]"


def test_namespace_packages_go_along(run: Callable[..., CompletedProcess[str]]) -> None:
    script = "from tools import text\ndef f(s): return text.shout(s)\nprint(cmdr.run(f, [('hi',)]))"
    assert said(run(script)) == "['HI']"


def test_only_what_is_imported_is_sent_and_the_directory_stays_empty(
    run: Callable[..., CompletedProcess[str]],
) -> None:
    script = (
        "import plain\n"
        "def f():\n"
        "    import os\n"
        "    plain.of(1)\n"
        "    library = os.path.dirname(plain.__file__)\n"
        "    found = [os.path.join(d, n) for d, _, ns in os.walk(library) for n in ns]\n"
        "    return sorted(os.path.relpath(p, library) for p in found if '__pycache__' not in p), "
        "os.listdir('.')\n"
        "print(cmdr.run(f, [()]))"
    )
    sent = ["plain.py", "shop/__init__.py", "shop/prices.py", "shop/rates.py"]
    assert said(run(script)) == f"[({sent}, [])]"


def test_an_edit_is_picked_up_by_the_next_run_of_the_same_process(
    run: Callable[..., CompletedProcess[str]],
) -> None:
    script = (
        "import plain\nfrom pathlib import Path\n"
        "def f(n): return plain.of(n)\n"
        "for rate in (10, 20, 30):\n"
        "    Path('shop/rates.py').write_text(f'def tax(net): return net * {rate} // 100')\n"
        "    print(cmdr.run(f, [(100,)] * 4))\n"
    )
    assert said(run(script)).splitlines() == ["[110, 110, 110, 110]", "[120, 120, 120, 120]",
                                              "[130, 130, 130, 130]"]  # fmt: skip


def test_an_edit_of_a_function_that_is_used_alone_is_picked_up_too(
    run: Callable[..., CompletedProcess[str]],
) -> None:
    script = (
        "import importlib\nfrom pathlib import Path\nimport plain\nfrom plain import of\n"
        "def f(n): return of(n)\n"
        "print(cmdr.run(of, [(100,)]), cmdr.run(f, [(100,)]))\n"
        "Path('plain.py').write_text('def of(net): return 1')\n"
        "print(cmdr.run(of, [(100,)]), cmdr.run(f, [(100,)]))\n"
        "importlib.reload(plain)\n"
        "print(cmdr.run(plain.of, [(100,)]), cmdr.run(f, [(100,)]))\n"
    )
    assert said(run(script)).splitlines() == ["[110] [110]", "[1] [1]", "[1] [110]"]


def test_an_edit_is_picked_up_by_the_next_process(
    run: Callable[..., CompletedProcess[str]], project: Path
) -> None:
    script = "import plain\ndef f(n): return plain.of(n)\nprint(cmdr.run(f, [(100,)]))"
    assert said(run(script)) == "[110]"
    (project / "shop/rates.py").write_text("def tax(net): return 1\n")
    assert said(run(script)) == "[101]"


def test_arguments_and_results_of_a_sent_class_are_of_that_very_class(
    run: Callable[..., CompletedProcess[str]],
) -> None:
    script = (
        "import goliath\nfrom shop import items\n"
        "def f(item):\n"
        "    assert isinstance(item, items.Item)\n"
        "    return items.Item(item.name, item.net + 1)\n"
        "print(cmdr.run(f, [(items.Item('a', 1),)]) == [items.Item('a', 2)])\n"
        "print(cmdr.submit(f, items.Item('b', 1)).result() == items.Item('b', 2))\n"
    )
    assert said(run(script)) == "True\nTrue"


def test_remote_functions_actors_and_their_nested_calls_find_the_modules(
    run: Callable[..., CompletedProcess[str]],
) -> None:
    script = (
        "import goliath, plain\n"
        "goliath.init(('127.0.0.1', int(sys.argv[1])))\n"
        "@goliath.remote\n"
        "def inner(n):\n    import shop.prices\n    return shop.prices.gross(n)\n"
        "@goliath.remote\n"
        "def outer(n): return goliath.get(inner.remote(n))\n"
        "@goliath.remote\n"
        "class Till:\n"
        "    def gross(self, n): return plain.of(n)\n"
        "    def stream(self, n):\n        yield plain.of(n)\n"
        "till = Till.remote()\n"
        "print(goliath.get([outer.remote(100), inner.remote(200), till.gross.remote(300)]))\n"
    )
    assert said(run(script)) == "[110, 220, 330]"


def test_an_executor_sends_the_modules_of_closures_too(
    run: Callable[..., CompletedProcess[str]],
) -> None:
    script = (
        "from goliath import Executor\n"
        "def closure(k):\n"
        "    def f(n):\n        import plain\n        return plain.of(n) + k\n"
        "    return f\n"
        "with Executor(cmdr) as executor:\n"
        "    print(executor.submit(closure(1), 100).result(), *executor.map(closure(2), [100]))\n"
    )
    assert said(run(script)) == "111 112"


def test_a_module_that_cannot_be_pickled_by_value_goes_as_a_file(
    run: Callable[..., CompletedProcess[str]], project: Path
) -> None:
    (project / "locked.py").write_text(
        "import threading\nLOCK = threading.Lock()\ndef f(n):\n    with LOCK:\n        return n\n"
    )
    assert said(run("import locked\nprint(cmdr.run(locked.f, [(5,)]))")) == "[5]"


@pytest.mark.parametrize(
    ("file", "pattern"), [(".gitignore", "/secrets.py"), (".goliathignore", "secret*")]
)
def test_a_module_that_is_ignored_stays_here_and_the_error_says_so(
    run: Callable[..., CompletedProcess[str]], project: Path, file: str, pattern: str
) -> None:
    (project / "secrets_.py").write_text("KEY = 'sesame'\n")
    (project / file).write_text(f"{pattern.replace('secrets', 'secrets_')}\n")
    script = "def f():\n    import secrets_\n    return secrets_.KEY\n"
    ended = run(f"{script}print(cmdr.run(f, [()]))")
    assert "ModuleNotFoundError: No module named 'secrets_' on 127.0.0.1:" in ended.stderr
    assert re.search(r"secrets_\.py was not sent, because of '/?secret", ended.stderr)
    assert said(run(f"{script}print(cmdr.run(f, [()], ['secrets_.py']))")) == "['sesame']"


def test_a_file_that_hides_the_standard_library_is_refused(
    run: Callable[..., CompletedProcess[str]], project: Path
) -> None:
    (project / "colorsys.py").write_text("WRONG = True\n")
    ended = run("def f():\n    import colorsys\n    return colorsys\ncmdr.run(f, [()])")
    assert re.search(
        r"ValueError: .*/colorsys\.py hides the module 'colorsys' of the standard library",
        ended.stderr,
    )
    assert "give the file another name" in ended.stderr


def test_a_module_that_nobody_has_names_itself_the_node_and_the_remedy(
    run: Callable[..., CompletedProcess[str]], project: Path
) -> None:
    ended = run("def f():\n    import nowhere_at_all\ncmdr.run(f, [()])")
    assert "No module named 'nowhere_at_all' on 127.0.0.1:" in ended.stderr
    assert "it cannot be found here either" in ended.stderr
    (project / "late.py").write_text("")
    ended = run(
        "def f():\n    import importlib\n    importlib.import_module('late')\ncmdr.run(f, [()])"
    )
    assert "late.py was not sent, because no import statement leads to it; name it in files=[" in (
        ended.stderr
    )


def test_named_files_lead_to_modules_too_and_are_not_sent_twice(
    run: Callable[..., CompletedProcess[str]],
) -> None:
    script = (
        "def f(n):\n    import plain, os\n"
        "    there = {*os.listdir('.')} - {'__pycache__'}\n"
        "    return plain.of(n), there, os.path.dirname(plain.__file__) == os.getcwd()\n"
        "print(cmdr.run(f, [(100,)], ['plain.py']))\n"
    )
    assert said(run(script)) == "[(110, {'plain.py'}, True)]"


def test_what_is_named_of_a_package_stands_beside_its_modules(
    run: Callable[..., CompletedProcess[str]], project: Path
) -> None:
    (project / ".gitignore").write_text("shop/keys.py\n")
    (project / "shop/keys.py").write_text("KEY = 'sesame'\n")
    (project / "shop/data.txt").write_text("data")
    script = (
        "def f(n):\n"
        "    from pathlib import Path\n"
        "    from shop import keys, prices\n"
        "    data = Path(prices.__file__).with_name('data.txt').read_text()\n"
        "    return prices.gross(n), keys.KEY, data, sorted(map(str, Path().rglob('*.*')))\n"
        "print(cmdr.run(f, [(100,)], ['shop/keys.py', 'shop/data.txt']))\n"
    )
    named = ["shop/data.txt", "shop/keys.py"]
    assert said(run(script)) == f"[(110, 'sesame', 'data', {named})]"


def test_an_embedded_lieutenant_imports_from_the_project_itself(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))

    def f() -> tuple[str, str]:
        import plain  # type: ignore[import-not-found]

        return plain.__file__, plain.of.__name__

    with Commander(workers=1) as commander:
        assert commander.run(f, [()]) == [(str(project / "plain.py"), "of")]
        (project / "plain.py").write_text("def of(net): ...\nof.__name__ = 'an edit'\n")
        assert commander.run(f, [()]) == [(str(project / "plain.py"), "an edit")]


@pytest.fixture(autouse=True)
def forget_the_project() -> Iterator[None]:
    """What a test has imported from its project, the next one must not find."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("plain", "shop", "tools"):
            del sys.modules[name]
