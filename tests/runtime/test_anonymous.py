"""Paths lose their folders, and nothing else is a path."""

import platform

import pytest

from sparring.runtime.anonymous import anonymous, without_paths


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/ada/mine.npz", "mine.npz"),
        ("~/mine.npz", "mine.npz"),
        ("../../data/mine.npz", "mine.npz"),
        ("C:\\Users\\ada\\mine.npz", "mine.npz"),
        ("D:/ada/mine.npz is there", "mine.npz is there"),
        ("read '/home/ada/a.npz', '/b/c.csv'", "read 'a.npz', 'c.csv'"),
        ("eps 8/255 and/or 1 / 2", "eps 8/255 and/or 1 / 2"),
        ("https://arxiv.org/abs/1706.06083", "https://arxiv.org/abs/1706.06083"),
        ("data/mine.npz", "data/mine.npz"),
        ("C:\\Users\\Ada Lovelace\\mine.npz", "mine.npz"),
        ("/home/ada/My Data/a b.npz", "a b.npz"),
        ("read from '/home/ada/My Data/a.npz', eps 8/255", "read from 'a.npz', eps 8/255"),
        ("torch 2.13.0+cpu", "torch 2.13.0+cpu"),
        ("", ""),
    ],
)
def test_paths(text, left):
    assert without_paths(text) == left


def test_the_name_of_the_machine(monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "ada-laptop")
    assert anonymous({"on ada-laptop": ["/x/y", 1, None]}) == {"on host": ["y", 1, None]}
    monkeypatch.setattr(platform, "node", lambda: "a")
    assert without_paths("a cat") == "a cat"
