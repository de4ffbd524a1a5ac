"""One channels-last copy of the weights serves an evaluation; the model comes back as it was."""

from typing import Any

import torch
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.evaluation import Suite, evaluate
from sparring.evaluation.suites import Entry
from sparring.introspect import freeze

LAST = torch.channels_last


class Watched(nn.Module):
    """A network that notes where its weights lie, by their layout, whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.places: dict[bool, set[int]] = {False: set(), True: set()}

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        self.places[weight.is_contiguous(memory_format=LAST)].add(weight.data_ptr())
        return self.out(self.conv(x).relu().mean((2, 3)))


def test_every_call_of_an_evaluation_uses_one_copy():
    model = Watched().eval()
    x = torch.rand(12, 3, 6, 6)
    with torch.no_grad():
        y = model(x).argmax(1)
    weight = model.conv.weight
    before = weight.data_ptr(), weight.stride(), weight.detach().clone()
    suite = Suite("twice", 1, (Entry("first", PGD), Entry("again", PGD)))
    options = {"precision": "bfloat16", "batch_size": 4, "progress": False}
    evaluate(model, (x, y), "Linf", suite, eps=[1e-4, 2e-4], **options)
    assert {name: len(at) for name, at in model.places.items()} == {False: 1, True: 1}
    assert model.places[False] == {before[0]}
    assert (weight.data_ptr(), weight.stride()) == before[:2]
    assert torch.equal(weight, before[2])


def test_weights_in_that_layout_stay_where_they_are():
    model = Watched()
    model.conv.weight.data = model.conv.weight.data.contiguous(memory_format=LAST)
    place = model.conv.weight.data_ptr()
    with freeze.channels_last(model):
        assert model.conv.weight.data_ptr() == place


def test_copies_are_kept_only_where_asked():
    model, copies = Watched(), dict[nn.Parameter, Tensor]()
    weight: Any = model.conv.weight
    place = weight.data_ptr()
    with freeze.kept_layouts(copies):
        for _ in range(2):
            with freeze.channels_last(model):
                assert weight.data_ptr() == copies[weight].data_ptr() != place
            assert weight.data_ptr() == place
    with torch.no_grad():
        weight.mul_(2)
    with freeze.channels_last(model):
        assert torch.equal(weight, 2 * copies[weight])
