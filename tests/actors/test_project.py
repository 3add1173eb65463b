"""Which modules of a project are found to be needed, without running any."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goliath.actors import project
from goliath.actors.project import modules_needed, place_of, root_of, why_missing
from goliath.transport.modules import Needs

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """``write(**{"a/b.py": "source"})`` in a project, which is the current directory and
    importable; whatever runs any of it fails."""
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(**files: str) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"raise SystemExit\n{text}")

    yield write
    assert set(sys.modules) == before, "something was imported"


def found(*names: str) -> list[str]:
    """The modules that are needed if these are."""
    return list(modules_needed(Needs(set(names))))


@pytest.mark.parametrize(
    "statement",
    [
        "import p.b",
        "import p.b as c, os",
        "from p import b",
        "from p.b import thing",
        "from . import b",
        "from .b import thing",
        "from p.b import *",
        "def f():\n    import p.b",
        "class C:\n    async def f(self):\n        from . import b",
        "try:\n    import p.b\nexcept ImportError:\n    pass",
        "if 1:\n    pass\nelse:\n    from .b import x",
        "import typing\nif not typing.TYPE_CHECKING:\n    import p.b",
    ],
)
def test_every_way_to_import_leads_on(write: Write, statement: str):
    write(**{"p/__init__.py": "", "p/a.py": statement, "p/b.py": "", "p/c.py": ""})
    assert found("p.a") == ["p", "p.a", "p.b"]


@pytest.mark.parametrize(
    "statement",
    [
        "'import p.b'",
        "# import p.b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import b",
        "import typing\nif typing.TYPE_CHECKING:\n    import p.b",
        "from .. import b",
        "import importlib\nimportlib.import_module('p.b')",
        "import p.b (",
    ],
)
def test_what_imports_nothing_when_it_runs_leads_nowhere(write: Write, statement: str):
    write(**{"p/__init__.py": "", "p/a.py": statement, "p/b.py": ""})
    assert found("p.a") == ["p", "p.a"]


def test_circles_packages_and_what_their_inits_import_are_followed(write: Write):
    write(
        **{
            "p/__init__.py": "from .x import y",
            "p/x/__init__.py": "",
            "p/x/y.py": "import q",
            "q.py": "import p.x.y",
            "other.py": "",
        }
    )
    assert found("q.thing") == ["p", "p.x", "p.x.y", "q"]


def test_namespace_packages_have_no_file_of_their_own(write: Write):
    write(**{"ns/deep/a.py": "from ns.deep import b", "ns/deep/b.py": ""})
    assert found("ns.deep.a") == ["ns.deep.a", "ns.deep.b"]


def test_a_relative_import_of_an_init_is_of_its_own_package(write: Write):
    write(**{"p/__init__.py": "from . import a\nfrom .q import b", "p/a.py": "",
             "p/q/__init__.py": "from .b import x\nfrom ..c import y", "p/q/b.py": "",
             "p/c.py": ""})  # fmt: skip
    assert found("p") == ["p", "p.a", "p.c", "p.q", "p.q.b"]


def test_what_is_installed_or_outside_of_the_project_is_not_followed(
    write: Write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "stranger.py").write_text("import mine")
    monkeypatch.syspath_prepend(str(elsewhere))
    write(**{"mine.py": "import stranger, pytest, json, goliath.errors, sys, nowhere"})
    assert found("mine") == ["mine"]
    assert found("stranger", "pytest", "os.path", "goliath", "nowhere", "__main__") == []
    assert "outside of your project" in why_missing("stranger")


def test_a_virtual_environment_in_the_project_is_no_part_of_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(**{"env/lib/inside.py": "", "a.py": "import inside"})
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "env" / "lib"))
    assert found("a") == ["a"]


def test_ignored_modules_are_left_out_with_all_behind_them(write: Write, tmp_path: Path):
    write(**{"a.py": "import local_settings, b", "local_settings.py": "import c", "b.py": "",
             "c.py": ""})  # fmt: skip
    (tmp_path / ".gitignore").write_text("local_*\n")
    assert found("a") == ["a", "b"]
    assert why_missing("local_settings") == (
        f"{tmp_path / 'local_settings.py'} was not sent, because of 'local_*' in "
        f"{tmp_path / '.gitignore'}; name it in files=['local_settings.py']"
    )


def test_a_missing_module_is_to_be_named_so_that_it_is_found(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(**{"p/__init__.py": "", "p/q/a.py": "", "src/r/b.py": "", "lone.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    assert why_missing("p.q.a").endswith("; name it in files=['p/q/a.py']")
    assert why_missing("r.b").endswith(f"; name it in files=['{tmp_path / 'src' / 'r'}']")
    monkeypatch.chdir(tmp_path / "src")
    why_missing.cache_clear()
    assert why_missing("lone").endswith(f"; name it in files=['{tmp_path / 'lone.py'}']")


def test_an_edit_is_seen_at_once(write: Write, tmp_path: Path):
    write(**{"a.py": "import b", "b.py": ""})
    assert found("a") == ["a", "b"]
    write(**{"a.py": "import c", "c.py": ""})
    assert found("a") == ["a", "c"]


def test_a_file_that_hides_the_standard_library_is_named(write: Write, tmp_path: Path):
    write(**{"a.py": "from colorsys import rgb_to_hls", "colorsys.py": ""})
    for names in (["a"], ["colorsys"], ["colorsys.rgb_to_hls"]):
        with pytest.raises(ValueError, match=r"colorsys\.py hides the module 'colorsys'"):
            found(*names)
    (tmp_path / "colorsys.py").rename(tmp_path / "colours.py")
    assert found("a") == ["a"]


def test_what_cannot_be_hidden_is_no_reason_to_refuse(write: Write):
    write(**{"a.py": "import time, sys, os", "time.py": "", "sys.py": "", "os.py": ""})
    assert found("a") == ["a"]


def test_too_many_modules_are_an_error_that_names_the_biggest(
    write: Write, monkeypatch: pytest.MonkeyPatch
):
    write(**{"a.py": "import b, c", "b.py": "#" * 5000, "c.py": ""})
    monkeypatch.setattr(project, "MODULES_MAX", 2)
    with pytest.raises(ValueError, match=r"imports 3 modules .* the biggest are \S*b\.py \(4\."):
        found("a")
    monkeypatch.setattr(project, "MODULES_MAX", 3)
    monkeypatch.setattr(project, "MODULES_MAX_BYTES", 4000)
    with pytest.raises(ValueError, match=r"more than 3, or 3\.906 KiB, are not sent"):
        found("a")


@pytest.mark.parametrize("marker", project.MARKERS)
def test_a_project_begins_at_the_nearest_marker(tmp_path: Path, marker: str):
    (tmp_path / "src" / "deep").mkdir(parents=True)
    assert root_of(tmp_path / "src" / "deep" / "a.py") == tmp_path / "src" / "deep"
    (tmp_path / marker).touch()
    assert root_of(tmp_path / "src" / "deep" / "a.py") == tmp_path


def test_a_module_stands_where_its_name_says():
    assert place_of("a", Path("/x/a.py")) == "a.py"
    assert place_of("a.b", Path("/y/b.cpython-311-x86_64-linux-gnu.so")) == (
        "a/b.cpython-311-x86_64-linux-gnu.so"
    )
    assert place_of("a.b", Path("/y/b/__init__.py")) == "a/b/__init__.py"
