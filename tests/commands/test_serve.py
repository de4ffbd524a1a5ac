"""Models of runs made ready to be served, and the command from start to Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
import torch
from torch import nn

import sparring
from sparring.commands import serve
from sparring.config import recipe
from sparring.serving import server
from sparring.serving.served import num_samples
from sparring.serving.session import Session
from tests.command import call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the digits, after one epoch."""
    table = recipe.load_recipe("digits-standard", set=["train.epochs=1", "evaluation.n=20"])
    return sparring.train(table, out=tmp_path_factory.mktemp("runs") / "digits")


def test_a_run_brings_its_classes_samples_and_threat(trained):
    one = serve.served_model(trained)
    assert (one.name, one.shape, one.class_names) == ("digits", (1, 8, 8), list("0123456789"))
    assert (one.threat, one.about) == ("Linf", "Standard · digits")
    assert num_samples(one) == 270


def test_models_of_one_name_are_told_apart(trained):
    one = serve.served_model(trained)
    names = [m.name for m in serve._with_names([one, one], ["a/digits", "b/digits"])]
    assert names == ["a/digits", "b/digits"]
    names = [m.name for m in serve._with_names([one, one], ["a", "a"])]
    assert names == ["a (1)", "a (2)"]


def test_a_program_is_served_on_data_that_are_named(tmp_path):
    file = tmp_path / "flat.pt2"
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    dims = ({0: torch.export.Dim("b")},)
    program = torch.export.export(net, (torch.rand(5, 1, 8, 8),), dynamic_shapes=dims)
    torch.export.save(program, file)
    one = serve.served_model(str(file), data="digits", trust=True)
    assert (one.name, one.threat, one.eps) == ("flat", "Linf", None)
    with pytest.raises(ValueError, match="shape is missing"):
        serve.served_model(str(file), trust=True)
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcdefghij"))
    bare = serve.served_model(str(file), shape="1,8,8", classes=names, trust=True)
    assert (bare.class_names, bare.samples, bare.shape) == (list("abcdefghij"), None, (1, 8, 8))
    assert Session([bare]).about()["models"][0]["samples"] == 0
    with pytest.raises(ValueError, match="one with test samples"):
        Session([bare]).sample(0)


def test_models_of_vectors_are_refused(tmp_path):
    table = recipe.load_recipe("plane-standard", set=["train.epochs=1"])
    run = sparring.train(table, out=tmp_path / "plane")
    with pytest.raises(ValueError, match="plane takes vectors of 2 features: sparring"):
        serve.served_model(run)


def test_a_missing_run_and_too_many_are_refused(capsys, tmp_path):
    assert "is not a run folder" in call("serve", tmp_path, "--port", 0, capsys=capsys, code=2)
    assert "1 to 8 runs" in call("serve", *["a"] * 9, capsys=capsys, code=2)


def test_a_port_in_use_is_named(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = call("serve", "runs/any", "--port", port, capsys=capsys, code=2)
    assert f"port = {port} is in use: give another by --port, or --port 0" in text.replace(
        "\n", " "
    )


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port):
    with pytest.raises(ValueError, match="from 0"):
        server.listen(port)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(trained, end):
    command = [sys.executable, "-m", "sparring", "serve", str(trained), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        with urllib.request.urlopen(f"{address}about", timeout=60) as reply:
            assert json.load(reply)["models"][0]["name"] == "digits"
    finally:
        process.send_signal(end)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err, out.splitlines()[-1]) == (0, "", "stopped")
