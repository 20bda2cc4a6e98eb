"""Examples in the docs and in the Python API are run; links of the docs lead somewhere."""

import doctest
import re
from pathlib import Path

import pytest

import heddle

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])


def test_every_public_name_exists_and_is_documented():
    for name in heddle.__all__:
        assert getattr(heddle, name) is not None
    assert set(dir(heddle)) >= set(heddle.__all__)
    with pytest.raises(AttributeError, match=r"^module 'heddle' has no attribute 'weave'$"):
        _ = heddle.weave


def test_the_example_of_the_module():
    done = doctest.testmod(heddle)
    assert (done.failed, done.attempted > 2) == (0, True)


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text()], ids=lambda page: page.name)
def test_examples_of_a_page(page):
    done = doctest.testfile(str(page), module_relative=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert (done.failed, done.attempted > 2) == (0, True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_reference_has_what_the_api_has():
    """Classes and functions; exceptions and registries stand in the pages of their modules."""
    listed = set(re.findall(r"^   ((?:hw|sw|flows)\.\S+)$", (ROOT / "docs" / "reference.md").read_text(), re.M))
    for name in heddle.__all__:
        value = getattr(heddle, name)
        if callable(value) and not (isinstance(value, type) and issubclass(value, Exception)):
            home = f"{value.__module__}.{value.__name__}"
            assert {home, value.__module__} & listed or any(entry.endswith(f".{value.__name__}") for entry in listed), home
