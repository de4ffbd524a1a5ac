"""From a run to labels for rows without, and to a run that trains on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sparring import data
from sparring.cli.main import app
from sparring.commands import pseudo_label, train
from sparring.config import recipe
from sparring.data.pseudo_labels import read
from sparring.training import Trainer
from tests.oracles import Shifted

TEACHER = {
    "recipe": {"name": "teacher"},
    "data": {"name": "digits", "labels": 200, "repeat": 5},
    "model": {"name": "mlp", "hidden": [32]},
    "method": {"name": "Standard"},
    "train": {"epochs": 6, "batch_size": 100, "optimizer": {"name": "Adam", "lr": 1e-2}},
}
STUDENT = TEACHER | {
    "threat": {"name": "Linf", "eps": 0.05},
    "attack": {"name": "PGD", "steps": 1, "size": 0.05},
    "method": {"name": "MART"},
    "train": {"epochs": 2, "batch_size": 100},
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "teacher"
    return train.train(recipe.load_recipe(TEACHER), out=out, device="cpu")


@pytest.fixture(scope="module")
def labels(teacher):
    return pseudo_label.label(teacher, device="cpu")


def student(tmp_path, mix, *, resume=False, epochs=2, **more):
    tables = STUDENT | {"data": TEACHER["data"] | {"mix": mix}}
    plan = recipe.load_recipe(tables, set={"train.epochs": epochs, **more})
    source, model, objective, given = plan.build()
    return Trainer(
        model, objective, source, out=tmp_path / "run", resume=resume, **given, device="cpu"
    )


def test_every_row_is_labelled_and_most_agree(teacher, labels):
    source = data.load("digits")
    assert torch.equal(labels.labels.index, source.train.index)
    assert labels.known == 1375 - 200
    agree = (labels.labels.y == source.train.y).float().mean().item()
    assert agree > 0.85
    assert labels.agree / labels.known > 0.8
    assert labels.path == teacher / "pseudo-labels.npz"
    assert f"of {1375 - 200} agree with the data's own labels" in str(labels)


def test_labels_are_the_models_own(teacher, labels):
    model, source = train.load(teacher), data.load("digits")
    p = model(source.train.float()).softmax(1)
    assert torch.equal(labels.labels.y, p.argmax(1))
    assert torch.allclose(labels.labels.confidence, p.amax(1), atol=1e-6)
    assert read(labels.path).run == "teacher"


def test_a_student_trains_on_them_and_resumes_exactly(labels, tmp_path):
    mix = [
        {"name": "Unlabelled", "per": 1.0, "labels": str(labels.path)},
        {"name": "GaussianShell", "per": 0.5, "sigma_u": 0.1},
    ]
    whole = student(tmp_path / "whole", mix, epochs=3)
    rows = [epoch.row() for epoch in whole]
    parted = student(tmp_path / "parted", mix, epochs=3)
    next(iter(parted))
    resumed = student(tmp_path / "parted", mix, epochs=3, resume=True)
    later = [epoch.row() for epoch in resumed]
    for one, other in zip(rows[1:], later, strict=True):
        assert (one["loss"], one["clean"]) == (other["loss"], other["clean"])
    weights = [m.state_dict() for m in (whole.model, resumed.model)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_a_kill_inside_an_epoch_changes_nothing_either(labels, tmp_path, monkeypatch):
    mix = [{"name": "Unlabelled", "labels": str(labels.path)}]
    whole = student(tmp_path / "whole", mix)
    list(whole)
    cut = student(tmp_path / "cut", mix, **{"train.save_every": 3})
    batch = Trainer._train_batch

    def killed(self, b):
        if self.position.step == 7:
            raise KeyboardInterrupt
        return batch(self, b)

    monkeypatch.setattr(Trainer, "_train_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        list(cut)
    monkeypatch.undo()
    resumed = student(tmp_path / "cut", mix, resume=True, **{"train.save_every": 3})
    assert resumed.position.batch_index == 6
    list(resumed)
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_another_mix_is_another_training(labels, tmp_path):
    mix = [{"name": "Unlabelled", "labels": str(labels.path)}]
    next(iter(student(tmp_path, mix)))
    with pytest.raises(ValueError, match=r"can't go on with other settings: data\.mix was"):
        student(tmp_path, [*mix, {"name": "GaussianShell", "sigma_u": 0.1}], resume=True)


def test_labels_of_a_run_on_another_data_set_are_refused(labels, tmp_path):
    source = data.load("digits")
    np.savez(tmp_path / "other.npz", x=source.train.float().numpy(), y=source.train.y.numpy())
    other = data.load(tmp_path / "other.npz", labels=100)
    piece = data.Unlabelled(labels=str(labels.path))
    with pytest.raises(ValueError, match="labels are those of teacher on another data set"):
        piece.prepare(other)


def test_rows_of_another_file(teacher, tmp_path):
    x = data.load("digits").test.float()
    np.savez(tmp_path / "more.npz", x=x.numpy())
    path = str(tmp_path / "more.npz")
    found = pseudo_label.label(teacher, data=path, out=tmp_path / "labels.npz", device="cpu")
    assert (found.known, len(found.labels.y)) == (0, len(x))
    assert str(found).endswith(f"{len(x)} rows labelled")
    piece = data.DatasetRows(of=path, labels=str(found.path))
    piece.prepare(data.load("digits", labels=200))
    np.savez(tmp_path / "more.npz", x=x.numpy()[::-1])
    with pytest.raises(ValueError, match="labels are for other rows"):
        piece.prepare(data.load("digits", labels=200))


def test_rows_of_another_shape_are_refused(teacher, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match=r"samples of shape \(5,\), the run's data digits of"):
        pseudo_label.label(teacher, data=str(tmp_path / "x.npz"))


def test_the_command(teacher, tmp_path):
    out = tmp_path / "labels.npz"
    result = CliRunner().invoke(
        app, ["pseudo-label", str(teacher), "--out", str(out), "--device", "cpu"]
    )
    assert result.exit_code == 0
    assert "1375 rows labelled" in result.output.replace("\n", "")
    assert len(read(out).y) == 1375


def test_a_network_that_writes_to_its_input_labels_as_its_twin():
    rows = data.Split(torch.rand(30, 6), torch.full((30,), -1))
    kept, found = rows.x.clone(), []
    for in_place in (False, True):
        found.append(pseudo_label.predict(Shifted(in_place=in_place), rows, batch_size=30))
    assert all(map(torch.equal, *found))
    assert torch.equal(rows.x, kept)
