"""True float32: what the settings say inside and after the context, in every mixture of them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import backends as known_backends

from sparring.runtime import exact_float32
from sparring.runtime.exact_float32 import is_requested, is_rounded

backends: Any = known_backends  # PyTorch declares not all of them
GPU, CPU = torch.device("cuda"), torch.device("cpu")


def state() -> list[object]:
    """Every setting, "mixed" where PyTorch refuses to read it."""

    def read(f: Callable[[], object]) -> object:
        try:
            return f()
        except RuntimeError:
            return "mixed"

    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    newer = [part.fp32_precision for part in parts]
    older = [read(lambda: backends.cuda.matmul.allow_tf32), read(lambda: backends.cudnn.allow_tf32)]
    return [*newer, *older, read(torch.get_float32_matmul_precision)]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    backends.mkldnn.matmul.fp32_precision = "none"
    backends.cuda.matmul.fp32_precision = "none"
    backends.cudnn.allow_tf32 = True
    backends.cudnn.conv.fp32_precision = backends.cudnn.rnn.fp32_precision = "tf32"


def default() -> None:
    """As PyTorch begins: TF32 for convolutions."""


def newer_convolutions() -> None:
    backends.cudnn.conv.fp32_precision = "ieee"


def newer_products() -> None:
    backends.cuda.matmul.fp32_precision = "tf32"


def older_products() -> None:
    torch.set_float32_matmul_precision("high")


def both_products() -> None:
    older_products()
    backends.cuda.matmul.fp32_precision = "ieee"


SETTINGS = (default, newer_convolutions, newer_products, older_products, both_products)


@pytest.mark.parametrize("choose", SETTINGS)
def test_a_gpu_is_exact_inside_and_as_it_was_after(choose: Callable[[], None]) -> None:
    choose()
    before = state()
    assert is_rounded(GPU)
    with exact_float32.exact_float32(GPU):
        assert not is_rounded(GPU)
        assert is_requested()
        assert state()[:3] == ["ieee"] * 3
    assert state() == before
    assert not is_requested()


def test_older_and_newer_settings_agree_inside() -> None:
    older_products()
    with exact_float32.exact_float32(GPU):
        assert "mixed" not in state()


def test_settings_that_are_exact_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    backends.cudnn.allow_tf32 = False
    before = state()
    monkeypatch.setattr(exact_float32, "_write", lambda *_: pytest.fail("it wrote a setting"))
    with exact_float32.exact_float32(GPU):
        assert state() == before


def test_an_error_restores_the_settings() -> None:
    before = state()
    with pytest.raises(KeyError), exact_float32.exact_float32(GPU):
        raise KeyError
    assert state() == before
    assert not is_requested()


def test_a_cpu_that_multiplies_in_bfloat16_is_exact_inside() -> None:
    assert not is_rounded(CPU)
    torch.set_float32_matmul_precision("medium")
    before = state()
    assert is_rounded(CPU)
    with exact_float32.exact_float32(CPU):
        assert not is_rounded(CPU)
    assert state() == before


def test_a_torch_without_the_newer_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        allow_tf32 = True

    monkeypatch.setattr(backends.cuda, "matmul", Old())
    assert is_rounded(GPU)
    assert not is_rounded(CPU)
    with exact_float32.exact_float32(GPU):
        assert backends.cuda.matmul.allow_tf32 is False
        assert backends.cudnn.allow_tf32 is False
    assert backends.cuda.matmul.allow_tf32 is True
    assert backends.cudnn.allow_tf32 is True
