"""The repository is what CONTRIBUTING.md says it is."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = ("hw", "sw", "sim")
PACKAGES = sorted(p for r in ROOTS for p in (ROOT / r / "ginseng").iterdir() if p.is_dir())
MODULES = sorted(p for r in ROOTS for p in (ROOT / r / "ginseng").rglob("*.py"))


def test_the_namespace_package_has_no_init():
    assert [r for r in ROOTS if (ROOT / r / "ginseng/__init__.py").exists()] == []


def test_every_subpackage_has_one_owner_root():
    names = [p.name for p in PACKAGES if p.name != "__pycache__"]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_every_subpackage_says_what_it_is_and_is_typed(package):
    assert (package / "py.typed").exists()
    assert ast.get_docstring(ast.parse((package / "__init__.py").read_text()))


def test_every_module_says_the_one_thing_it_does_and_stays_short():
    for module in MODULES:
        text = module.read_text()
        assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"
        lines = len(text.splitlines())
        assert lines <= 420, f"{module} has {lines} lines; split it"


def test_nothing_is_called_utils():
    banned = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert [m for m in MODULES if m.stem in banned or m.parent.name in banned] == []


def test_the_readme_lists_every_package_of_its_root():
    for package in PACKAGES:
        if package.name != "__pycache__":
            assert f"`ginseng.{package.name}`" in (package.parents[1] / "README.md").read_text()
