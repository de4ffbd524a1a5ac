"""Devices by name: those that are there, and a sentence for all others."""

import pytest
import torch
from torch import nn

from sparring.evaluation import evaluate
from sparring.metrics import run as run_metrics
from sparring.runtime import provenance
from sparring.training import parallel

NO_DEVICES = ("gpu", "tpu", "5", "meta", "cuda:9", "cpu:1", "CPU", "cuda:x", ":0", 5, True)
LINE = r"device = .* is not allowed: device must be .*cpu"


@pytest.mark.parametrize("device", NO_DEVICES)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device):
    x, y = torch.rand(4, 3), torch.zeros(4, dtype=torch.long)
    for use in (
        provenance.resolve_device,
        parallel.join_process_group,
        lambda name: evaluate(lambda z: z, (x, y), eps=0.1, device=name, progress=False),
        lambda name: run_metrics(lambda z: z, (x, y), device=name, progress=False),
    ):
        with pytest.raises(ValueError, match=LINE):
            use(device)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_names_of_the_processor(device):
    assert provenance.resolve_device(device) == torch.device("cpu")


def test_a_model_without_weights_is_refused():
    x, y = torch.rand(4, 3), torch.zeros(4, dtype=torch.long)
    for device in (None, "cpu"):
        with pytest.raises(ValueError, match=LINE):
            evaluate(nn.Linear(3, 2, device="meta"), (x, y), eps=0.1, device=device, progress=False)
