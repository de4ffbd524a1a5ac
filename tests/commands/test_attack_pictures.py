"""Pictures from files, attacked and judged as files; and every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sparring
from sparring.commands.attack_pictures import class_names, class_number, input_shape
from sparring.data.outside_pictures import read_picture
from sparring.results.attacked_pictures import AttackedPictures

NAMES = ["cat", "dog", "ship", "frog"]
SHAPE = (3, 16, 16)


class Net(nn.Module):
    """Four classes by random patterns: a linear model, so that attacks are strong and quick."""

    def __init__(self, shape: tuple[int, ...] = SHAPE) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        w = torch.randn(4, *shape, generator=draw)
        self.w = nn.Parameter(w - w.mean((1, 2, 3), keepdim=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bchw,kchw->bk", x - 0.5, self.w) / 4


def painted(path: Path, seed: int, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Path:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(60, 200, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return [painted(tmp_path / f"picture-{i}.png", i) for i in range(3)]


def attacked(pictures, **options) -> AttackedPictures:
    defaults = {"eps": "8/255", "shape": SHAPE, "classes": NAMES, "device": "cpu"}
    return sparring.attack_pictures(options.pop("model", Net()), pictures, **defaults | options)


def test_a_success_is_one_of_the_file(pictures, tmp_path):
    model = Net()
    record = attacked(pictures, model=model, save=tmp_path / "out")
    assert len(record.broken) == 3
    for picture, path in zip(record.pictures, pictures, strict=True):
        before = read_picture(path).pixels.int()
        after = read_picture(tmp_path / "out" / f"{picture.name}.png").pixels
        z = model(after.float()[None] / 255).detach()
        assert NAMES[int(z.argmax())] == picture.after.name != picture.label
        assert picture.after.confidence == pytest.approx(z.softmax(1).max().item(), abs=1e-5)
        assert (after.int() - before).abs().max() == picture.levels <= 8
        assert picture.distance == picture.levels / 255
    table = json.loads((tmp_path / "out" / "pictures.json").read_text())
    assert [p["name"] for p in table["pictures"]] == ["picture-0", "picture-1", "picture-2"]
    assert "pixels" not in table
    assert {name: kept for name, kept, _ in record.survival()}["PNG"] == 3


def test_the_difference_is_ten_times_enlarged(pictures, tmp_path):
    record = attacked(pictures[:1], save=tmp_path / "out", eps="4/255")
    x, x_adv = record.pixels[0]
    shown = read_picture(tmp_path / "out" / "picture-0-difference.png").pixels.numpy()
    assert np.array_equal(shown, 128 + 10 * (x_adv.astype(int) - x))


@pytest.mark.parametrize("attack", ["pgd", "square", "fab", "quick"])
@pytest.mark.parametrize(("threat", "eps"), [("Linf", "8/255"), ("L2", 1.0)])
def test_attacks_and_suites_reach_a_target(pictures, attack, threat, eps):
    options = {"queries": 400} if attack == "square" else ()
    record = attacked(
        pictures, attack=attack, threat=threat, eps=eps, target="frog", options=options
    )
    for picture in record.pictures:
        assert picture.target == "frog"
        assert picture.already == (picture.before.name == "frog")
        assert picture.distance <= record.eps + 1e-6
    assert sum(p.after.name == "frog" for p in record.pictures) >= 2


def test_a_label_is_the_models_answer_unless_it_is_given(pictures):
    own = attacked(pictures)
    assert [p.label for p in own.pictures] == [p.before.name for p in own.pictures]
    assert not any(p.label_given for p in own.pictures)
    wrong = next(name for name in NAMES if name != own.pictures[0].label)
    record = attacked(pictures[:1], label=wrong)
    assert record.pictures[0].already
    assert record.pictures[0].verdict == "wrong already"
    assert record.pictures[0].levels == 0
    assert record.survival() == []


def smooth(path: Path) -> Path:
    """A picture without detail, so that JPEG changes only what the attack adds."""
    across = np.linspace(90, 160, 16)[None, :, None] + np.linspace(0, 20, 16)[:, None, None]
    Image.fromarray(np.broadcast_to(across, (16, 16, 3)).astype(np.uint8)).save(path)
    return path


def test_a_success_that_must_outlast_jpeg_does_so_more_often(tmp_path):
    paths = [smooth(tmp_path / "smooth.png")]
    kept = {}
    for jpeg in ((), (75,)):
        record = attacked(paths, jpeg=jpeg, eps="16/255", attack="apgd", options={"steps": 50})
        assert len(record.broken) == 1
        kept[jpeg] = {name: k for name, k, _ in record.survival()}
    assert kept[(75,)]["JPEG 75"] == 1
    assert kept[(75,)]["PNG"] == 1


def test_more_qualities_and_factors_are_tried_as_files(pictures):
    record = attacked(pictures[:1], jpeg=[60], resize=[0.75], attack="pgd")
    assert [one.format for one in record.pictures[0].survival][-2:] == ["JPEG 60", "resize 0.75"]
    assert record.transforms == ["JPEG 60", "resize 0.75"]


def test_confidence_falls_as_eps_grows(pictures):
    for picture in attacked(pictures).pictures:
        curve = picture.curve
        assert curve[0].eps == 0
        assert curve[-1].eps == pytest.approx(16 / 255)
        assert curve[0].label > curve[-1].label + 0.1
        assert curve[-1].adversarial


def test_pictures_of_every_kind_are_fitted_and_noted(tmp_path):
    paths = [
        painted(tmp_path / "large.jpg", 1, (40, 60)),
        painted(tmp_path / "grey.png", 2, mode="L"),
        painted(tmp_path / "cmyk.jpg", 3, mode="CMYK"),
        painted(tmp_path / "palette.png", 4, mode="P"),
    ]
    notes = [p.notes for p in attacked(paths, attack="fgsm").pictures]
    assert notes[0] == ["resized from 40 × 60 to 16 × 24", "middle 16 × 16 cut out"]
    assert notes[1] == ["grey copied to three colours"]
    assert notes[2] == ["CMYK converted to RGB"]
    assert notes[3] == ["palette expanded to RGB"]


def test_equal_file_names_get_numbers(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths = [painted(tmp_path / f / "cat.png", i) for i, f in enumerate("ab")]
    record = attacked(paths, attack="fgsm", save=tmp_path / "out")
    assert [p.name for p in record.pictures] == ["cat", "cat-2"]
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_a_model_without_gradients_is_told_the_black_box_suite(pictures):
    net = Net()

    def answers(x: torch.Tensor) -> torch.Tensor:
        return net(x).detach()

    with pytest.raises(ValueError, match=r"needs a gradient.*--attack black-box"):
        attacked(pictures[:1], model=answers)
    record = attacked(pictures[:1], model=answers, attack="square", options={"queries": 300})
    assert len(record.broken) == 1
    assert len(record.pictures[0].curve) == 1  # no slope, no curve


def test_the_global_random_state_and_the_model_stay(pictures):
    model = Net().train()
    before, weights = torch.get_rng_state(), model.w.detach().clone()
    attacked(pictures[:1], model=model)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert torch.equal(model.w, weights)
    assert model.w.grad is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "cta"}, r"target = 'cta' does not exist; did you mean 'cat'"),
        ({"label": "shipp"}, r"label = 'shipp' does not exist; did you mean 'ship'"),
        ({"label": ["cat", "dog"]}, r"label is given 2 times for 3 pictures"),
        ({"label": "cat", "target": "cat"}, r"target = 'cat' is the label of"),
        ({"attack": "agpd"}, r"attack = 'agpd' does not exist; did you mean .*'[Aa][Pp][Gg][Dd]'"),
        ({"options": {"step": 3}}, r"did you mean 'with.steps'"),
        ({"attack": "quick", "options": {"steps": 3}}, r"options.*left out for the suite quick"),
        ({"threat": "Linv"}, r"did you mean 'Linf'"),
        ({"eps": 8}, r"eps = 8.*\(8/255\?\)"),
        ({"eps": 0.003}, r"eps = 0.003 is not allowed: a file of 8 bits holds no change"),
        ({"jpeg": 0}, r"jpeg = 0 is not allowed"),
        ({"resize": -1.0}, r"resize = -1.0 is not allowed"),
        ({"lead": -1.0}, r"lead = -1.0 is not allowed"),
        ({"shape": "3,16"}, r"shape = '3,16' is not allowed"),
        ({"shape": None}, r"shape is missing"),
        ({"shape": (3, 8, 8)}, r"does not take pictures of shape \(3, 8, 8\)"),
        ({"classes": ["a", "b"]}, r"classes has 2 names, and the model 4 classes"),
        ({"classes": ["a", "a", "b", "c"]}, r"classes = \['a'\].*names that differ"),
    ],
)
def test_bad_input_names_key_value_and_what_is_allowed(pictures, options, message):
    with pytest.raises(ValueError, match=message):
        attacked(pictures, **options)


def test_a_folder_with_files_is_refused_before_anything_runs(pictures, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="has files in it"):
        attacked(pictures, save=folder)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    with pytest.raises(NotADirectoryError, match="is a file"):
        attacked(pictures, save=folder / "mine.txt")
    (folder / "mine.txt").unlink()
    attacked(pictures, save=folder, attack="fgsm")  # empty: taken


def test_one_broken_picture_stops_before_any_attack(pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(pictures[0].read_bytes()[:60])
    with pytest.raises(ValueError, match=r"broken\.png"):
        attacked([*pictures, tmp_path / "broken.png"], save=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError):
        attacked([tmp_path / "missing.png"])


@pytest.mark.parametrize(("k", "last"), [(12, "11"), (5, "4")])
def test_a_model_with_other_classes_than_the_recipes_data(tmp_path, k, last):
    """A class without a name has its number; names without a class do not exist."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, k))
    path, options = painted(tmp_path / "p.png", 0, (8, 8), "L"), {"recipe": "digits-standard"}
    options |= {"model": model, "shape": None, "classes": None}
    record = attacked([path], eps=0.5, target=last, **options)
    assert [p.after.name for p in record.broken] == [last]
    with pytest.raises(ValueError, match=f"label = '{k}' does not exist"):
        attacked([path], label=k, **options)


def test_names_of_classes_from_a_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("cat\n\n dog \n")
    assert class_names(file, 2) == ["cat", "dog"]
    assert class_number("label", "DOG", ["cat", "dog"]) == 1
    assert input_shape("3x224x224") == (3, 224, 224)
