"""The verbs export, card and push: what they print, and the command that comes next."""

from __future__ import annotations

import re

import pytest

from sparring.commands.export import ExportedProgram
from tests.command import call
from tests.commands.folders import evaluated_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return evaluated_run(tmp_path_factory.mktemp("sharing") / "my-run")


def test_an_export_says_how_far_it_differs(run, tmp_path, capsys):
    out = tmp_path / "net.pt2"
    text = call("export", run, "--to", "pt2", "--out", out, capsys=capsys)
    first, last = text.splitlines()
    assert re.match(
        r"torch.export: on 256 test rows, largest difference \d\.\de.\d+, largest", first
    )
    assert last == str(out)
    assert "did you mean 'pt2'" in call("export", run, "--to", "pt", capsys=capsys, code=2)


def test_the_next_command_has_the_radius_to_the_last_digit(run, tmp_path, capsys, monkeypatch):
    program = ExportedProgram(
        tmp_path / "n.onnx", "onnx", 18, 0, 1, 256, "digits", "L2", 0.12345678
    )
    monkeypatch.setattr("sparring.commands.export.export", lambda *_, **__: program)
    monkeypatch.setattr("sparring.cli.sharing.closing", lambda _, words: print(*words))
    text = call("export", run, capsys=capsys)
    assert "--threat L2 --eps 0.12345678 --trust" in text


def test_a_card_is_a_file(run, tmp_path, capsys):
    out = tmp_path / "card.md"
    text = call("card", run, "--out", out, "--license", "mit", capsys=capsys)
    assert text.splitlines() == [str(out)]
    assert 'license: "mit"' in out.read_text()
    assert "license = 'a b'" in call("card", run, "--license", "a b", capsys=capsys, code=2)


def test_a_dry_run_lists_files_and_sizes(run, capsys):
    text = call("push", run, "--repo", "ada/net", "--dry-run", capsys=capsys)
    *rows, last = text.splitlines()
    assert last == "checked; nothing was uploaded to ada/net"
    sizes = {name: int(size.replace(",", "")) for size, name in map(str.split, rows)}
    assert sizes["best.safetensors"] == (run / "best.safetensors").stat().st_size
    assert [*sizes][-1] == "results/quick-test.json"
    assert "must be user/name" in call("push", run, "--repo", "net", capsys=capsys, code=2)
