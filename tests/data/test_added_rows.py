"""Mixed batches: how many rows, whose, drawn from (seed, epoch) alone, and the mistakes."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from sparring import data
from sparring.batch import Batch
from sparring.config import recipe, registry
from sparring.data import (
    DatasetRows,
    GaussianShell,
    Generated,
    Loader,
    Shift,
    Source,
    Split,
    Unlabelled,
)
from sparring.data.added_rows import anchor_rows, concatenate
from sparring.data.dataset_rows import read_rows
from sparring.data.pseudo_labels import PseudoLabels, read
from sparring.data.split import fingerprint
from sparring.runtime.first_edition import upgrade, upgrade_settings

D = 40


def made(n: int = 30, shape: tuple[int, ...] = (D,), *, pool: int = 20) -> Source:
    """A source of three classes, with rows whose label was taken away."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(n + pool, *shape, generator=draw), torch.arange(n + pool) % 3
    split = Split(x, y).take(slice(0, n))
    rest = Split(x[n:], torch.full((pool,), -1), torch.arange(n, n + pool))
    names = ["a", "b", "c"]
    return Source("made", split, split, split, names, sha256="own", unlabelled=rest)


def loader(*mix: data.AddedRows, source: Source | None = None, **more) -> Loader:
    source = source or made()
    for piece in mix:
        piece.prepare(source)
    return Loader(source.train, batch_size=10, shuffle=True, mix=mix, **more)


def equal(one: list[Batch], other: list[Batch]) -> bool:
    fields = ("x", "y", "weight", "index")
    pairs = zip(one, other, strict=True)
    return all(torch.equal(getattr(a, f), getattr(b, f)) for a, b in pairs for f in fields)


EVERY = {
    "GaussianShell": lambda: GaussianShell(per=2, sigma_u=0.1),
    "Unlabelled": lambda: Unlabelled(per=0.5, weight=0.25),
    "Generated": lambda: Generated(call=lambda batch, n, g: torch.rand(n, D, generator=g), per=1.5),
}
every = pytest.mark.parametrize("make", EVERY.values(), ids=list(EVERY))


class TestBatches:
    @every
    def test_own_rows_come_first_and_are_those_of_a_loader_without(self, make):
        plain, mixed = list(loader().epoch(1)), list(loader(make()).epoch(1))
        for a, b in zip(plain, mixed, strict=True):
            assert torch.equal(a.x, b.x[: len(a)])
            assert torch.equal(a.y, b.y[: len(a)])

    @every
    def test_counts_weights_and_places_of_what_is_added(self, make):
        piece = make()
        for batch in loader(piece).epoch(1):
            added = round(10 * piece.per)
            assert len(batch) == 10 + added
            assert (batch.y[10:] == -1).all()
            assert (batch.index[10:] == -1).all()
            assert torch.equal(batch.weight[10:], torch.full((added,), piece.weight))

    @every
    def test_the_same_epoch_again_is_the_same_and_another_is_another(self, make):
        one = loader(make(), seed=3)
        first, again, second = (list(one.epoch(k)) for k in (1, 1, 2))
        assert equal(first, again)
        assert equal(first, list(loader(make(), seed=3).epoch(1)))
        assert not equal(first, second)
        assert not equal(first, list(loader(make(), seed=4).epoch(1)))

    @every
    @pytest.mark.filterwarnings("ignore::sparring.runtime.warning.SparringWarning")
    def test_none_are_added_at_zero(self, make):
        piece = make()
        piece.per = 0
        assert equal(list(loader(piece).epoch(1)), list(loader().epoch(1)))

    def test_a_short_last_batch_gets_its_share(self):
        sizes = [
            len(b) for b in loader(GaussianShell(per=1, sigma_u=0.1), source=made(25)).epoch(1)
        ]
        assert sizes == [20, 20, 10]

    def test_pieces_add_up_and_only_stored_rows_are_augmented(self):
        source = made(shape=(1, 6, 6))
        mix = Unlabelled(per=0.5), GaussianShell(per=1, sigma_u=1e-6)
        (batch, *_) = loader(*mix, source=source, augment=[Shift(pixels=2)]).epoch(1)
        assert len(batch) == 10 + 5 + 10
        assert torch.allclose(batch.x[15:], batch.x[:10], atol=1e-4)  # around the augmented ones
        known = source.unlabelled.x.flatten(1)
        exact = [(known == row.flatten()).all(1).any() for row in batch.x[10:15]]
        assert not all(exact)

    def test_every_anchor_is_used_alike(self):
        batch = Batch(torch.zeros(5, 1), torch.zeros(5).long())
        counts = torch.bincount(anchor_rows(batch, 12, torch.Generator().manual_seed(0)))
        assert counts.sum() == 12
        assert counts.min() == 2
        assert counts.max() == 3

    def test_shapes_must_agree(self):
        one, other = (Batch(torch.zeros(2, d), torch.zeros(2).long()) for d in (3, 4))
        with pytest.raises(
            ValueError, match=r"added rows have shape \(4,\), the data's have \(3,\)"
        ):
            concatenate([one, other])

    @every
    def test_two_processes_get_what_one_gets(self, make, monkeypatch):
        source, kind = made(40), type(make())

        def batches() -> list[Batch]:
            piece = make()
            piece.prepare(source)
            return list(Loader(source.train, batch_size=20, shuffle=True, mix=[piece]).epoch(1))

        whole = batches()
        monkeypatch.setattr("sparring.runtime.distributed.world", lambda: 2)
        halves = []
        for rank in (0, 1):
            monkeypatch.setattr("sparring.runtime.distributed.rank", lambda rank=rank: rank)
            halves.append(batches())
        for batch, *parts in zip(whole, *halves, strict=True):
            both = torch.cat([part.x for part in parts])
            assert len(both) == len(batch)
            if kind is not Generated:  # what a function draws is its own affair
                assert torch.equal(both.sort(0).values, batch.x.sort(0).values)


class TestStoredRows:
    def test_rows_of_another_set_without_its_labels(self, tmp_path):
        x = torch.rand(12, D).numpy()
        np.savez(tmp_path / "other.npz", x=x, y=np.arange(12) % 3)
        path = str(tmp_path / "other.npz")
        for labels, known in ((None, {-1}), ("own", {0, 1, 2})):
            batches = list(loader(DatasetRows(of=path, labels=labels, per=2)).epoch(1))
            for batch in batches:
                assert len(batch) == 30
                assert set(batch.y[10:].tolist()) <= known
                for row in batch.x[10:]:
                    assert (torch.from_numpy(x) == row).all(1).any()
        assert {int(y) for b in batches for y in b.y[10:]} == {0, 1, 2}

    def test_an_npz_may_hold_x_alone_and_bytes(self, tmp_path):
        np.savez(tmp_path / "x.npz", x=np.full((3, 4, 4), 51, np.uint8))
        rows = read_rows(str(tmp_path / "x.npz"))
        assert rows.x.shape == (3, 1, 4, 4)
        assert (rows.y == -1).all()
        assert torch.allclose(rows.float(), torch.tensor(0.2))

    def test_named_sets(self):
        rows = read_rows("Digits")
        assert rows.x.shape == (1797, 1, 8, 8)

    def test_rows_of_another_shape_are_refused(self):
        with pytest.raises(ValueError, match=r"samples of shape \(1, 8, 8\), made of \(40,\)"):
            loader(DatasetRows(of="digits"))

    def test_rows_outside_the_bounds_are_refused(self, tmp_path):
        np.savez(tmp_path / "far.npz", x=np.full((3, D), 2.0))
        with pytest.raises(ValueError, match=r"reaches from 2 to 2, its bounds are \[0, 1\]"):
            loader(DatasetRows(of=str(tmp_path / "far.npz")))

    def test_labels_beyond_the_classes_are_refused(self, tmp_path):
        np.savez(tmp_path / "more.npz", x=np.zeros((3, D)), y=np.array([0, 1, 7]))
        with pytest.raises(ValueError, match="labels from 0 to 7: with 3 classes"):
            loader(DatasetRows(of=str(tmp_path / "more.npz"), labels="own"))

    def test_a_source_with_all_its_labels_has_no_rows_without(self):
        source = made(pool=0)
        with pytest.raises(ValueError, match="made has no rows without labels to add: labels = "):
            loader(Unlabelled(), source=source)


def pseudo(path, *, own: str = "own", rows: str = "own", index=None) -> str:
    index = torch.arange(30, 50) if index is None else index
    labels = PseudoLabels(index % 3, index, torch.ones(len(index)), own, rows, run="teacher")
    return str(labels.save(path / "labels.npz"))


class TestPseudoLabels:
    def test_a_file_is_read_as_it_was_written(self, tmp_path):
        found = read(pseudo(tmp_path))
        assert (found.data, found.rows, found.run) == ("own", "own", "teacher")
        assert found.y.tolist() == [k % 3 for k in range(30, 50)]
        assert found.labels_of(torch.tensor([49, 30])).tolist() == [1, 0]

    def test_rows_get_the_label_that_is_theirs(self, tmp_path):
        source, path = made(), pseudo(tmp_path)
        for batch in loader(Unlabelled(labels=path, per=2), source=source).epoch(1):
            for x, y in zip(batch.x[10:], batch.y[10:], strict=True):
                (place,) = (source.unlabelled.x == x).all(1).nonzero()[:, 0].tolist()
                assert int(y) == (30 + place) % 3

    def test_of_another_set_by_its_content(self, tmp_path):
        x = torch.rand(4, D)
        np.savez(tmp_path / "other.npz", x=x.numpy())
        path = pseudo(tmp_path, rows=fingerprint(x), index=torch.arange(4))
        piece = DatasetRows(of=str(tmp_path / "other.npz"), labels=path)
        (batch, *_) = loader(piece).epoch(1)
        places = [(x == row).all(1).nonzero()[0, 0].item() for row in batch.x[10:]]
        assert batch.y[10:].tolist() == [k % 3 for k in places]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"own": "another"}, "labels are those of teacher on another data set"),
            ({"rows": "another"}, "labels are for other rows"),
            ({"index": torch.arange(30, 45)}, "labels are missing for 5 of 20 rows"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(self, tmp_path, given, said):
        with pytest.raises(ValueError, match=said):
            loader(Unlabelled(labels=pseudo(tmp_path, **given)))

    def test_files_that_are_missing_or_of_another_kind(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="sparring pseudo-label RUN --out"):
            read(tmp_path / "none.npz")
        np.savez(tmp_path / "x.npz", x=np.zeros(1))
        with pytest.raises(ValueError, match="holds x; labels need y, index"):
            read(tmp_path / "x.npz")


class TestLabels:
    def test_so_many_labels_are_kept_of_each_class(self):
        whole, few = data.load("digits"), data.load("digits", labels=100)
        assert torch.bincount(few.train.y).tolist() == [10] * 10
        assert len(few.train) + len(few.unlabelled) == len(whole.train)
        assert (few.unlabelled.y == -1).all()
        every = torch.cat([few.train.index, few.unlabelled.index])
        assert torch.equal(every.sort().values, whole.train.index.sort().values)
        assert few.sha256 == whole.sha256
        assert torch.equal(few.val.index, whole.val.index)

    def test_they_are_drawn_by_the_seed(self):
        rows = [data.load("digits", labels=50, seed=seed).train.index for seed in (0, 0, 1)]
        assert torch.equal(rows[0], rows[1])
        assert not torch.equal(rows[0].sort().values, rows[2].sort().values)

    def test_an_epoch_can_visit_them_more_than_once(self):
        few = data.load("digits", labels=50, repeat=3)
        assert torch.bincount(few.train.index)[few.train.index].tolist() == [3] * 150

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"labels": 9}, "labels = 9 is not allowed: labels must be 10, one per class"),
            ({"labels": 10_000}, "labels = 10000 is not allowed"),
            ({"repeat": 0}, "repeat = 0 is not allowed"),
        ],
    )
    def test_mistakes(self, given, said):
        with pytest.raises(ValueError, match=said):
            data.load("digits", **given)


class TestGenerated:
    def test_labels_of_the_function_are_kept(self):
        def call(batch, count, generator):
            return torch.rand(count, D, generator=generator), torch.arange(count) % 3 - 1

        (batch, *_) = loader(Generated(call=call)).epoch(1)
        assert batch.y[10:].tolist() == [k % 3 - 1 for k in range(10)]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (torch.zeros(9, D), r"call's shape = \(9, 40\) is not allowed: .* \(10, 40\)"),
            (torch.full((10, D), math.nan), "call = 'NaN or infinite values' is not allowed"),
            ((torch.zeros(10, D), torch.full((10,), 3)), "call's labels = 'out of range'"),
            ((torch.zeros(10, D), torch.zeros(9)), r"call's labels = \(9,\)"),
        ],
    )
    def test_what_a_function_must_give(self, given, said):
        with pytest.raises(ValueError, match=said):
            next(loader(Generated(call=lambda *_: given)).epoch(1))


SMALL = {
    "recipe": {"name": "small"},
    "data": {"name": "digits", "mix": [{"name": "GaussianShell", "sigma_u": 0.1}]},
    "model": {"name": "mlp", "hidden": [8]},
    "method": {"name": "Sparsity"},
    "train": {"epochs": 1, "batch_size": 500},
}


class TestRecipes:
    def test_a_mix_is_completed_and_built(self):
        plan = recipe.load_recipe(SMALL, set=["data.mix.0.per=3", "data.labels=100"])
        wanted = {"name": "GaussianShell", "per": 3.0, "sigma_u": 0.1, "scale": 1.0}
        assert plan.tables["data"]["mix"] == [wanted | {"clip": False, "weight": 1.0}]
        assert recipe.load_recipe(plan.tables) == plan
        (piece,) = plan.trainer()["mix"]
        assert piece.per == 3
        assert len(plan.source().unlabelled) == 1275

    def test_a_recipe_without_a_mix_resolves_as_before(self):
        tables = {**SMALL, "data": {"name": "digits"}}
        assert (
            recipe.load_recipe(tables).tables["data"].keys() & {"mix", "labels", "repeat"} == set()
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("data.mix.0.sigma_u=0", "data.mix.0.sigma_u = 0.0 is not allowed"),
            ("data.mix.0.per=-1", "data.mix.0.per = -1.0 is not allowed"),
            ("data.mix.0.weight=0", "data.mix.0.weight = 0.0 is not allowed"),
            ("data.mix.0.scale=[0.1, 0]", "data.mix.0.scale = "),
            ("data.mix=[{name='GausianShell'}]", "did you mean 'GaussianShell'"),
            ("data.mix=[{name='DatasetRows'}]", "data.mix.0.of is missing"),
            ("data.mix=[{name='Generated', call='os:x'}]", "data.mix.0.call = 'os:x' is code"),
            ("data.mix=[{name='Generated', call='x'}]", "data.mix.0.call = 'x' is not allowed"),
            ("data.labels=3.5", "data.labels = 3.5 is not allowed"),
            ("method.sigma_n=0", "method.sigma_n = 0.0 is not allowed"),
        ],
    )
    def test_mistakes_are_told_with_their_path(self, change, said):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            recipe.load_recipe(SMALL, set=[change])
        assert said in str(caught.value)

    def test_a_function_of_the_users_needs_trust(self, tmp_path, monkeypatch):
        (tmp_path / "own_rows.py").write_text(
            "import torch\n"
            "def make(batch, count, generator):\n"
            "    return torch.zeros(count, 1, 8, 8)\n"
        )
        monkeypatch.chdir(tmp_path)
        change = "data.mix=[{name='Generated', call='own_rows:make', per=0.5}]"
        with pytest.raises(ValueError, match="--trust"):
            recipe.load_recipe(SMALL, set=[change])
        plan = recipe.load_recipe(SMALL, set=[change], trust=True)
        assert plan.tables["data"]["mix"][0]["call"] == "own_rows:make"
        (piece,) = plan.trainer()["mix"]
        assert piece(Batch(torch.rand(4, 1, 8, 8), torch.zeros(4).long())).x.shape == (2, 1, 8, 8)

    def test_every_piece_of_a_mix_is_known(self):
        assert set(registry.pieces("mix")) == {
            "GaussianShell",
            "Generated",
            "DatasetRows",
            "Unlabelled",
        }


class TestNamesOfTheFirstEdition:
    OLD: ClassVar = {
        "augment": [{"name": "Shift"}, {"name": "Noise", "std": 0.1}],
        "mix": [{"name": "Rows", "of": "digits"}],
    }
    NEW: ClassVar = {
        "augment": [{"name": "Shift"}, {"name": "GaussianNoise", "std": 0.1}],
        "mix": [{"name": "DatasetRows", "of": "digits"}],
    }

    def test_recipes_are_renamed_by_the_list_that_a_piece_is_in(self):
        attack = {"attack": {"name": "Noise"}, "risk": {"name": "Mean"}}
        assert upgrade({"data": self.OLD, **attack}) == {"data": self.NEW, **attack}
        assert upgrade({"data": self.NEW, **attack}) == {"data": self.NEW, **attack}

    def test_so_are_the_settings_of_a_checkpoint(self):
        old = {f"data.{key}": pieces for key, pieces in self.OLD.items()}
        new = {f"data.{key}": pieces for key, pieces in self.NEW.items()}
        attack = {"validation.attack.name": "Noise", "attack.name": "Noise"}
        assert upgrade_settings(old | attack) == new | attack

    def test_an_old_recipe_loads(self):
        old = {"augment": self.OLD["augment"], "mix": self.OLD["mix"]}
        plan = recipe.load_recipe({**SMALL, "data": {"name": "digits", **old}})
        augmentations, added = (plan.trainer()[key] for key in ("augment", "mix"))
        assert [type(piece).__name__ for piece in augmentations] == ["Shift", "GaussianNoise"]
        assert [type(piece).__name__ for piece in added] == ["DatasetRows"]
