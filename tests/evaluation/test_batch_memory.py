"""A batch size that memory holds: counted before the start, halved as memory that ran out would."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sparring.evaluation import batch_memory, evaluate
from sparring.evaluation.batch_memory import fitting_batch_size, kept_bytes, sample_bytes

CPU = torch.device("cpu")
MIB = 2**20


def fitted(model: Any, x: Any, batch_size: int, free: int | None) -> tuple[int, str]:
    return fitting_batch_size(model, x, batch_size=batch_size, device=CPU, free=free)


def test_what_a_graph_keeps_is_counted_by_hand() -> None:
    model = nn.Sequential(nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 3)).eval()
    one, two = (kept_bytes(model, torch.zeros(b, 8)) for b in (1, 2))
    assert two - one == 4 * (100 + 3)  # the ReLU's output and the logits; no weight counts
    need = batch_memory.COPIES * 8 * 4 + batch_memory.ACTIVATIONS * 4 * 103
    assert sample_bytes(model, torch.zeros(2, 8)) == need


def test_a_deeper_net_and_a_larger_image_need_more() -> None:
    def net(depth: int) -> nn.Module:
        layers = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()) for _ in range(depth)]
        return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2)).eval()

    needs = []
    for depth, side in ((1, 8), (4, 8), (4, 16)):
        model, x = net(depth), torch.zeros(2, 3, side, side)
        model(x)
        needs.append(sample_bytes(model, x) or 0)
    assert needs[0] < needs[1] < needs[2]
    assert needs[2] == pytest.approx(4 * needs[1], rel=0.01)


@pytest.mark.parametrize(
    ("free", "size"), [(10**12, 250), (2 * 250, 250), (2 * 249, 125), (2 * 62, 62), (1, 1), (0, 1)]
)
def test_the_batch_is_halved_until_it_fits(
    monkeypatch: pytest.MonkeyPatch, free: int, size: int
) -> None:
    monkeypatch.setattr(batch_memory, "sample_bytes", lambda model, x: 1)
    size_given, note = fitted(None, None, 250, free)
    assert size_given == size
    assert note.startswith(f"batch size: {size}" + (", as asked" if size == 250 else " instead of"))
    gpu: Any = SimpleNamespace(type="cuda")  # more of the memory is ours there
    assert fitting_batch_size(None, None, batch_size=250, device=gpu, free=320)[0] == 250  # type: ignore[arg-type]


def test_a_model_that_fails_and_a_device_that_nobody_knows_change_nothing() -> None:
    def fails(x: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    assert fitted(fails, torch.zeros(2, 3), 250, 10**9)[0] == 250
    assert batch_memory.free_bytes(torch.device("meta")) is None
    assert fitted(nn.Linear(3, 2), torch.zeros(2, 3), 250, None)[0] <= 250


def test_a_model_without_a_gradient_is_counted_by_its_inputs() -> None:
    need = sample_bytes(lambda x: x.detach()[:, :2], torch.zeros(2, 5))
    assert need == batch_memory.COPIES * 20 + batch_memory.ACTIVATIONS * 8


def test_counting_leaves_the_model_and_the_draws_alone() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    sample_bytes(model, torch.rand(2, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_free_memory_is_the_system_s_and_the_container_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4096 kB\n")
    monkeypatch.setattr(batch_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(batch_memory, "CGROUP", tmp_path)
    assert batch_memory.free_bytes(CPU) == 4 * MIB
    (tmp_path / "memory.max").write_text(f"{3 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{MIB}\n")
    assert batch_memory.free_bytes(CPU) == 2 * MIB
    (tmp_path / "memory.max").write_text("max\n")
    assert batch_memory.free_bytes(CPU) == 4 * MIB
    (tmp_path / "meminfo").unlink()
    assert batch_memory.free_bytes(CPU) is None


def test_an_evaluation_is_that_of_the_batch_size_it_gives(
    problem: Any, same: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**options: Any) -> Any:
        options = {"eps": 0.05, "seed": 3, **options}
        return evaluate(problem.model, (problem.x, problem.y), "Linf", **options, progress=False)

    plain = run(batch_size=40)
    roomy = run(batch_size=40, fit_memory=True)
    assert [note.split(";")[0] for note in roomy.notes] == ["batch size: 40, as asked"]
    need = sample_bytes(problem.model, problem.x[:2])
    assert need is not None
    monkeypatch.setattr(batch_memory, "free_bytes", lambda device: 2 * 19 * need)
    tight, small = run(batch_size=40, fit_memory=True), run(batch_size=10)
    assert tight.notes[0].startswith("batch size: 10 instead of 40, and the result is that of")
    for result in (roomy, tight):
        result.notes = []
    same(roomy, plain)
    same(tight, small)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_nonsense_is_refused_by_its_key(problem: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="fit_memory"):
        evaluate(problem.model, (problem.x, problem.y), eps=0.1, fit_memory=value, progress=False)
