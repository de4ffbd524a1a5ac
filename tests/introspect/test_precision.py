"""bfloat16 where the device has no units for it: float32 computes, and one warning says so."""

import platform
import warnings

import pytest
import torch
from torch import nn

import sparring
from sparring import attacks
from sparring.attacks.base import ActiveSet
from sparring.introspect import precision
from sparring.introspect.precision import settled_precision
from sparring.runtime import torch_private
from sparring.runtime.warning import SparringWarning
from sparring.threats import Linf
from tests.training.small import finish, trainer

# Before conftest.py replaces it, as tests of bfloat16 are to compute in it on any processor.
MULTIPLIES_BFLOAT16 = torch_private.multiplies_bfloat16
CPU = torch.device("cpu")


@pytest.fixture
def emulated(monkeypatch):
    """A device without units for bfloat16, in a process that has warned nobody yet."""
    precision._warn_once.cache_clear()
    monkeypatch.setattr(torch_private, "multiplies_bfloat16", lambda device_type: False)
    yield
    precision._warn_once.cache_clear()


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def samples():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, 8, 8, generator=generator)
    return x, (x.mean((1, 2, 3)) > 0.5).long()


def test_one_warning_a_process(emulated):
    with pytest.warns(SparringWarning, match="this cpu has no units for bfloat16") as seen:
        assert [settled_precision("bfloat16", CPU) for _ in range(3)] == ["float32"] * 3
    assert len(seen) == 1


@pytest.mark.parametrize("asked", ["float32", "float16"])
def test_other_precisions_are_taken_as_they_are(emulated, asked):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settled_precision(asked, CPU) == asked


def test_a_device_with_units_computes_in_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settled_precision("bfloat16", CPU) == "bfloat16"


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("avx512", [False, True])
def test_x86_has_units_by_its_flags(monkeypatch, amx, avx512):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    MULTIPLIES_BFLOAT16.cache_clear()
    assert MULTIPLIES_BFLOAT16("cpu") == (amx or avx512)
    MULTIPLIES_BFLOAT16.cache_clear()


def test_a_torch_that_names_no_unit_has_none_on_x86(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    for name, _ in torch_private.X86_BFLOAT16:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    MULTIPLIES_BFLOAT16.cache_clear()
    assert not MULTIPLIES_BFLOAT16("cpu")
    MULTIPLIES_BFLOAT16.cache_clear()


@pytest.mark.parametrize("answer", [False, True])
def test_other_processors_have_what_onednn_has(monkeypatch, answer):
    class Operators:
        @staticmethod
        def _is_mkldnn_bf16_supported():
            return answer

    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(torch.ops, "mkldnn", Operators)
    MULTIPLIES_BFLOAT16.cache_clear()
    assert MULTIPLIES_BFLOAT16("cpu") == answer
    MULTIPLIES_BFLOAT16.cache_clear()


def test_a_gpu_that_emulates_has_none(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **given: bool(asked.append(given)))
    MULTIPLIES_BFLOAT16.cache_clear()
    assert not MULTIPLIES_BFLOAT16("cuda")
    assert asked == [{"including_emulation": False}]
    assert MULTIPLIES_BFLOAT16("xpu")
    MULTIPLIES_BFLOAT16.cache_clear()


def trained(out, amp):
    run = trainer(out, amp=amp)
    finish(run)
    return [p.detach() for p in run.stepper.model.parameters()]


@pytest.mark.filterwarnings("ignore:this cpu has no units")
def test_a_training_is_that_of_float32(emulated, tmp_path):
    runs = [trained(tmp_path / amp, amp) for amp in ("bfloat16", "float32")]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*runs, strict=True))


def test_with_units_a_training_is_another(tmp_path):
    runs = [trained(tmp_path / amp, amp) for amp in ("bfloat16", "float32")]
    assert not all(torch.equal(ours, theirs) for ours, theirs in zip(*runs, strict=True))


@pytest.mark.filterwarnings("ignore:this cpu has no units")
def test_an_evaluation_says_float32_and_is_its(emulated):
    asked = {"n": 40, "suite": "fast", "progress": False, "split": "train"}
    results = [
        sparring.evaluate(conv_net(), samples(), Linf(0.05), precision=p, **asked)
        for p in ("bfloat16", "float32")
    ]
    assert [r.precision for r in results] == ["float32", "float32"]
    assert results[0].robust == results[1].robust


@pytest.mark.filterwarnings("ignore:this cpu has no units")
def test_an_attack_searches_in_float32(emulated):
    x, y = samples()
    found = [
        attacks.APGD(Linf(0.05), steps=5, precision=p)(conv_net().eval(), x, y)
        for p in ("bfloat16", "float32")
    ]
    assert torch.equal(*found)
    assert not ActiveSet(conv_net(), x, y, precision="bfloat16").lower_precision
