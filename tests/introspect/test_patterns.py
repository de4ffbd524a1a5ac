"""Patterns choose weights by the names of modules, and say which name does not exist."""

import pytest

from sparring.introspect.patterns import matches, select

NAMES = ["stem.weight", "layers.0.conv.weight", "layers.1.conv.weight", "layers.10.w", "head.bias"]


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("stem", [0]),
        ("layers", [1, 2, 3]),
        ("layers.*", [1, 2, 3]),
        ("layers.1", [2]),
        ("layers.1*", [2, 3]),
        ("*.conv", [1, 2]),
        ("head.bias", [4]),
        ("*", [0, 1, 2, 3, 4]),
        ("layers.[!1]", [1]),
    ],
)
def test_what_a_pattern_matches(pattern, chosen):
    assert [k for k, name in enumerate(NAMES) if matches(name, pattern)] == chosen
    assert list(select(NAMES, [pattern], key="freeze")) == [NAMES[k] for k in chosen]


@pytest.mark.parametrize("pattern", ["Stem", "stem.weigh", "layer", "", "layers.2", "*.con"])
def test_a_pattern_without_a_match_is_refused(pattern):
    with pytest.raises(ValueError, match=r"^freeze = '.*' does not exist") as error:
        select(NAMES, ["head", pattern], key="freeze")
    assert "There are: " in str(error.value)


def test_the_nearest_name_is_as_deep_as_the_pattern():
    with pytest.raises(ValueError, match=r"did you mean 'stem'\? There are: head, layers, stem$"):
        select(NAMES, ["stm"], key="freeze")


@pytest.mark.parametrize("patterns", ["stem", [1], [None]])
def test_what_is_no_list_of_names_is_refused(patterns):
    with pytest.raises(ValueError, match="freeze must be a list of names"):
        select(NAMES, patterns, key="freeze")


def test_names_that_are_known_only():
    assert select(["a.w"], ["b"], key="k", known=["b.w"]) == {}
