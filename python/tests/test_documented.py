"""The module as its users read it: help, types, and the guide's examples."""

import ast
import inspect
import io
import pydoc
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import clipcap
import pytest
from conftest import ROOT

PAGE = ROOT / "docs/src/python.md"


def test_help_shows_what_there_is_and_nothing_else():
    text = pydoc.plain(pydoc.render_doc(clipcap))
    for name in clipcap.__all__:
        assert name in text
        assert inspect.getdoc(getattr(clipcap, name)), name
    assert "_native." not in text and "_captioner." not in text
    for name, member in vars(clipcap.Captioner).items():
        if not name.startswith("_"):
            assert inspect.getdoc(member), name
    assert "photo.jpg" in clipcap.__doc__


def test_the_version_is_the_crates():
    crate = (ROOT / "Cargo.toml").read_text()
    assert f'\nversion = "{clipcap.__version__}"' in crate


def test_the_lock_files_agree():
    """The same versions of what both builds take, so that they share it."""
    package = re.compile(r'\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"')
    here, crates = (set(package.findall((ROOT / name).read_text())) for name in ("python/Cargo.lock", "Cargo.lock"))
    assert {name for name, _ in here - crates} <= {
        "clipcap-python",
        "pyo3",
        "pyo3-build-config",
        "pyo3-ffi",
        "pyo3-macros",
        "pyo3-macros-backend",
        "target-lexicon",
    }


def test_the_guides_examples_run(captioner, scenes, tmp_path, monkeypatch):
    """In one namespace, in a folder with the files that the page names; what follows `#` after `print` is what it prints."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 4
    for name, scene in zip(["photo.jpg", "a.jpg", "b.jpg"], scenes, strict=False):
        (tmp_path / name).write_bytes(scene.read_bytes())
    (tmp_path / "photos").mkdir()
    for scene in scenes[:3]:
        (tmp_path / "photos" / f"{scene.stem}.jpg").write_bytes(scene.read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "guide"}
    for block in blocks:
        said = io.StringIO()
        with redirect_stdout(said):
            exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102
        shown = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        if shown:
            assert said.getvalue().splitlines() == shown, block


def test_types_are_right(tmp_path):
    pytest.importorskip("mypy")
    file = tmp_path / "typed.py"
    file.write_text(
        "import clipcap\n"
        "import numpy as np\n"
        "from typing_extensions import assert_type\n"
        "captioner = clipcap.Captioner(device='cpu')\n"
        "assert_type(captioner.caption('a.jpg', beams=3), str)\n"
        "assert_type(captioner.caption(['a.jpg', np.zeros((8, 8, 3), np.uint8)]), list[str])\n"
        "assert_type(captioner.caption(['a.jpg'], errors='none'), list[str | None])\n"
        "assert_type(captioner.caption('a.jpg', num_captions=2, beams=2), list[str])\n"
        "assert_type(captioner.captions('a.jpg')[0].score, float)\n"
        "assert_type(captioner.captions(['a.jpg'])[0][0].text, str)\n"
        "assert_type(clipcap.evaluate({1: ['a']}, {1: ['a', 'b']}), dict[str, float])\n"
        "assert_type(clipcap.evaluate_each(['a'], [['a']]), list[dict[str, float]])\n"
        "captioner.embed(b'').astype('float64')\n"
    )
    checked = subprocess.run([sys.executable, "-m", "mypy", "--strict", file], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import clipcap\nclipcap.Captioner().caption('a.jpg', beam_size=3)\n")
    checked = subprocess.run([sys.executable, "-m", "mypy", "--strict", wrong], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 1 and "beam_size" in checked.stdout, checked.stdout


def test_the_stubs_have_every_argument():
    stubs = ast.parse(Path(clipcap.__file__).with_suffix(".pyi").read_text())
    classes = {node.name: node for node in stubs.body if isinstance(node, ast.ClassDef)}
    search = {node.target.id for node in classes["_Search"].body}
    for method in (clipcap.Captioner.caption, clipcap.Captioner.captions):
        given = set(inspect.signature(method).parameters) - {"self", "images", "num_captions", "errors"}
        assert given == search
    functions = [(getattr(clipcap, node.name), node) for node in stubs.body if isinstance(node, ast.FunctionDef)]
    methods = [node for node in classes["Captioner"].body if isinstance(node, ast.FunctionDef) and not node.decorator_list]
    functions += [(getattr(clipcap.Captioner, node.name), node) for node in methods]
    assert len(functions) > 8
    for function, node in functions:
        arguments = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
        assert list(inspect.signature(function).parameters) == arguments, node.name


def test_importing_it_takes_neither_numpy_nor_pillow(tmp_path):
    code = "import sys, clipcap; print([name for name in ('numpy', 'PIL', 'ray') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]", ended.stdout
