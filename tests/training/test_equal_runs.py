"""Two processes that train by the same recipe write the same weights, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparring.training.run_folder import read_log

ROOT = Path(__file__).parents[2]
TIMES = {"seconds", "val_seconds", "samples_per_second"}
SHORT = ["train.epochs=1", "data.limit=120", "validation.rows=40"]
MORE = {
    "digits-pgd-at": [
        'weights.climb={name="AWP"}',
        'risk={name="KL",radius=0.1}',
        'method={name="OTJR"}',
        'data.augment=[{name="GaussianNoise"}]',
        'model={name="resnet9",shape=[1,8,8],classes=10,width=4}',
    ],
}


@pytest.mark.parametrize("recipe", MORE)
def test_equal_runs_are_equal_bytes(recipe, tmp_path):
    changes = [word for change in SHORT + MORE[recipe] for word in ("--set", change)]
    running = []
    for hash_seed in ("1", "2"):  # the order of a set of texts must not matter
        command = [sys.executable, "-m", "sparring", "train", recipe, "--out", hash_seed, *changes]
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        env["OMP_NUM_THREADS"] = "1"
        running.append(subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE))
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
    best, logs = [], []
    for run in (tmp_path / "1", tmp_path / "2"):
        content = (run / "best.safetensors").read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        best.append((json.loads(content[8:end]), content[end:]))
        logs.append([{k: v for k, v in row.items() if k not in TIMES} for row in read_log(run)])
    assert logs[0] == logs[1]
    assert best[0] == best[1]  # the header, and the bytes of the weights
