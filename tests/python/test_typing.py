"""The package is typed: `mypy --strict` has nothing to say, and the stub names what the compiled module has."""

import ast
from pathlib import Path

import pytest

import gradist
from gradist import _core

PACKAGE = Path(gradist.__file__).parent


def test_the_package_is_strictly_typed(tmp_path):
    api = pytest.importorskip("mypy.api")
    out, err, status = api.run(
        ["--strict", "--ignore-missing-imports", "--cache-dir", str(tmp_path), "--follow-imports=silent", "-p", "gradist"]
    )
    assert status == 0, out + err


def test_the_stub_names_what_the_core_has():
    tree = ast.parse((PACKAGE / "_core.pyi").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            assert callable(getattr(_core, node.name))
        if isinstance(node, ast.ClassDef) and not any(isinstance(base, ast.Name) for base in node.bases):
            members = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            found = {name for name in vars(getattr(_core, node.name)) if not name.startswith("_")}
            assert {name for name in members if not name.startswith("_")} == found, node.name
    functions = {name for name in vars(_core) if callable(getattr(_core, name)) and not name.startswith("_")}
    assert functions <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_public_names_are_listed_and_documented():
    for name in gradist.__all__:
        assert hasattr(gradist, name)
        assert name.startswith("__") or getattr(gradist, name).__doc__
