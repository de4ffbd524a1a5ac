"""Recipes: each resolves to a fixed point and builds; a mistake is told with its path."""

import tomllib
from pathlib import Path

import pytest
import torch

from sparring.commands import cite
from sparring.component import assign_at
from sparring.config import recipe, registry
from sparring.data import Source, Split
from sparring.data.pseudo_labels import PseudoLabels
from sparring.methods import MART
from sparring.training import Trainer

SMALL = {
    "recipe": {"name": "small"},
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [8]},
    "threat": {"name": "Linf", "eps": 0.1},
    "attack": {"name": "PGD", "steps": 1, "size": 0.1},
    "method": {"name": "MART"},
    "train": {"epochs": 1, "batch_size": 500},
}


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_resolve_to_a_fixed_point(name):
    plan = recipe.load_recipe(name)
    assert plan.name == name
    assert recipe.load_recipe(plan.tables) == plan
    assert recipe.load_recipe(tomllib.loads(plan.toml())) == plan


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_say_what_they_are(name):
    lines = (recipe.SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    keys = [line.split()[1] for line in lines[1:6]]
    assert keys == ["paper", "target", "ours", "commit", "minutes"]
    tables = recipe.load_recipe(name).tables
    key = tables["recipe"]["paper"]
    plain = tables["method"]["name"] == "Standard" and tables["risk"]["name"] == "Mean"
    assert key == "" if plain else key in cite.entries()


def test_everything_asked_for_is_shipped():
    kinds = ["standard", "pgd-at", "trades", "mart"]
    wanted = {f"{data}-{kind}" for data in ("digits", "mnist", "fashion") for kind in kinds}
    wanted |= {f"cifar10-resnet18-{kind}" for kind in kinds[1:]} | {
        f"mnist-{kind}-paper" for kind in kinds[1:]
    }
    wanted |= {"mnist-pgd-at-eps01", "mnist-trades-eps01", "mnist-mart-eps01", "mnist-wrm"}
    wanted |= {f"mnist-udr-{kind}" for kind in ("pgd", "trades", "mart")}
    balls, published = ("kl", "alpha", "renyi"), ("kl", "alpha", "renyi")
    wanted |= {f"armor-{b}{nat}-mnist-paper" for b in published for nat in ("", "-nat")}
    others = ("transport", "label", "trades", "mart", "mart-awp", "udr")
    wanted |= {f"armor-{form}-mnist" for form in (*balls, *others)}
    tables = ("drebin215", "defensedroid-api")
    fought = ("dfgsm", "rfgsm", "bga", "bca", "grosse", "bitsearch")
    wanted |= {f"{d}-{kind}" for d in tables for kind in ("standard", *(f"{a}-at" for a in fought))}
    wanted |= {f"{d}-monotone{end}" for d in tables for end in ("", "-benign")}
    forms = ("kl-sym", "kl-asym", "trades-asym", "mart-asym", "kl-monotone")
    wanted |= {f"armor-{form}-{d}" for d in tables for form in forms}
    wanted |= {f"armor-{m}-cifar10-paper" for m in ("udr", "trades", "trades-kl", "mart")}
    wanted |= {f"armor-{m}-cifar100-paper" for m in ("udr", "trades", "mart")}
    own = {"cifar10-wrn34-10-mart"}
    own |= {"mnist-otjr", "fashion-otjr"}
    own |= {f"cifar10-{net}-otjr-paper" for net in ("resnet18", "wrn34-10")}
    wanted |= {f"{data}-sparsity{end}" for data in ("mnist", "fashion") for end in ("", "-at")}
    labels = ("standard", "mart", "mart-unlabelled", "mart-kl", "rst", "uat")
    wanted |= {f"mnist-1000-labels-{kind}" for kind in labels} | {"mnist-sparsity-paper"}
    own |= {f"cifar10-small-{kind}" for kind in ("pgd-at", "alp", "sat", "jr", "sw", "otjr", "uad")}
    own |= {"mnist-uad", "fashion-uad", "cifar10-resnet18-uad", "cifar10-wrn34-10-uad"}
    own |= {f"cifar10-resnet18-{kind}-10min" for kind in (*kinds[1:], "otjr", "uad")}
    own |= {"plane-standard", "plane-pgd-at", "plane-trades", "plane-sparsity"}
    assert wanted | own == set(recipe.names())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("method.bta=3", "key = 'method.bta' does not exist; did you mean 'method.beta'?"),
        ("method=MRT", "method.name = 'MRT' does not exist; did you mean 'MART'?"),
        ("attack.steps=0", "attack.steps = 0 is not allowed"),
        (
            "attack.steps=1.5",
            "attack.steps = 1.5 is not allowed: attack.steps must be a valid integer",
        ),
        ("attack.steps=true", "attack.steps = True is not allowed"),
        ("attack.threat.eps=-1", "threat.eps = -1.0 is not allowed: eps must be a radius"),
        (
            "method.beta=abc",
            "method.beta = 'abc' is not allowed: method.beta must be a valid number",
        ),
        ("atack.steps=3", "table = 'atack' does not exist; did you mean 'attack'?"),
        ("train.epoch=3", "key = 'train.epoch' does not exist; did you mean 'train.epochs'?"),
        (
            "model.name=mnistnet",
            "model.name = 'mnistnet' does not exist; did you mean 'mnist-net', ",
        ),
        ("model.hiden=[3]", "key = 'model.hiden' does not exist; did you mean 'model.hidden'?"),
        (
            "model.hidden=[3.5]",
            "model.hidden.0 = 3.5 is not allowed: model.hidden.0 must be a valid integer",
        ),
        ("data.nme=digits", "key = 'data.nme' does not exist; did you mean 'data.name'?"),
        (
            "data.augment=[{name='Shft'}]",
            "data.augment.0.name = 'Shft' does not exist; did you mean 'Shift'?",
        ),
        ("objective.natural=2", "objective.natural = 2.0 is not allowed"),
        ("weights.climb={name='AWP', gamma=-1}", "weights.climb.gamma = -1.0 is not allowed"),
        ("weights.ema={decay=1}", "weights.ema.decay = 1.0 is not allowed"),
        ("validation.attack={name='PGD', steps=0}", "validation.attack.steps = 0 is not allowed"),
        ("evaluation.eps=[-0.1]", "evaluation.eps"),
        ("evaluation.suite=pdg", "evaluation.suite = 'pdg' does not exist; did you mean 'pgd'?"),
        ("train.freeze=stem", "train.freeze = 'stem' is not allowed"),
        ("train.freez=[]", "did you mean 'train.freeze'?"),
        ("train.start=3", "train.start = 3 is not allowed: train.start must be a text"),
        ("train.start_without=[1]", "train.start_without.0 = 1 is not allowed"),
        (
            "train.optimizer={name='SGD', groups=[{lr=1}]}",
            "train.optimizer.groups.0.modules is missing",
        ),
        (
            "train.optimizer={name='SGD', groups=[{modules=['a'], lr_scal=1}]}",
            "did you mean 'train.optimizer.groups.0.lr_scale'",
        ),
        (
            "train.optimizer={name='SGD', groups=[{modules=['a'], lr=-1}]}",
            "optimizer.groups.0.lr = -1.0 is not allowed",
        ),
        ("train.optimizer={name='SGD', groups=3}", "train.optimizer.groups = 3 is not allowed"),
        ("train.epochs", "must be key=value"),
        ("data.augment.5.pixels=1", "'5' is no key or index"),
        ("recipe.seed=x", "recipe.seed = 'x' is not allowed: recipe.seed must be a valid integer"),
    ],
)
def test_a_mistake_is_told_with_its_path(change, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        recipe.load_recipe(SMALL, set=[change])
    assert said in str(caught.value)


def test_fine_tuning_of_a_recipe_is_resolved_to_what_it_sets():
    groups = [{"modules": ["fc*"], "lr_scale": 2.0}, {"modules": ["a"], "weight_decay": 0.0}]
    train = {"start": "runs/a", "freeze": ["conv1"], "start_without": ["fc2"]}
    tables = SMALL | {"train": {**train, "optimizer": {"name": "SGD", "groups": groups}}}
    plan = recipe.load_recipe(tables)
    assert {key: plan.tables["train"][key] for key in train} == train
    assert plan.tables["train"]["optimizer"]["groups"] == groups
    assert recipe.load_recipe(tomllib.loads(plan.toml())) == plan
    assert (
        not {"start", "freeze", "start_without"} & recipe.load_recipe(SMALL).tables["train"].keys()
    )
    assert "groups" not in recipe.load_recipe(SMALL).tables["train"]["optimizer"]


def test_all_mistakes_of_a_table_are_told_at_once():
    with pytest.raises(ValueError, match=r"attack\.steps = 'a'") as caught:
        recipe.load_recipe(SMALL, set=["attack.steps=a", "attack.size=b"])
    assert "attack.size = 'b'" in str(caught.value)


def test_a_piece_without_arguments_takes_none():
    tables = {key: value for key, value in SMALL.items() if key not in ("attack", "threat")}
    with pytest.raises(ValueError, match=r"key = 'method\.beta' does not exist"):
        recipe.load_recipe(tables | {"method": {"name": "Standard", "beta": 2.0}})


def test_missing_pieces_are_told():
    with pytest.raises(ValueError, match=r"threat is missing"):
        recipe.load_recipe({k: v for k, v in SMALL.items() if k != "threat"})
    with pytest.raises(ValueError, match=r"method = \{\} is not allowed.*AT, .*MART"):
        recipe.load_recipe({k: v for k, v in SMALL.items() if k != "method"})
    with pytest.raises(ValueError, match=r"threat.eps is missing"):
        recipe.load_recipe(SMALL | {"threat": {"name": "Linf"}})


def test_radii_are_written_as_the_field_writes_them():
    texts = ["threat.eps=8/255", "attack.size=1/4", 'evaluation.eps=["2/255", 0.1]']
    tables = recipe.load_recipe(SMALL, set=texts).tables
    assert (tables["threat"]["eps"], tables["attack"]["size"]) == (8 / 255, 0.25)
    assert tables["evaluation"]["eps"] == [2 / 255, 0.1]
    for wrong in ("threat.eps=8/0", "threat.eps=-8/255", "train.epochs=4/2"):
        with pytest.raises(ValueError, match=rf"{wrong.split('=')[0]} = '.*' is not allowed"):
            recipe.load_recipe(SMALL, set=[wrong])


def test_overrides_take_toml_values_bare_words_and_mappings():
    plan = recipe.load_recipe(
        SMALL, set=["train.epochs=3", "method.inner=self", "attack.threat.eps=0.2"]
    )
    assert plan.tables["train"]["epochs"] == 3
    assert plan.tables["method"]["inner"] == "self"
    assert plan.tables["threat"]["eps"] == 0.2
    assert (
        recipe.load_recipe(
            SMALL, set={"train.epochs": 3, "method.inner": "self", "threat.eps": 0.2}
        )
        == plan
    )
    assert recipe.load_recipe(SMALL, set=["method=AT"]).tables["method"]["name"] == "AT"
    assert SMALL["train"]["epochs"] == 1


def test_files_and_their_mistakes(tmp_path):
    path = tmp_path / "mine.toml"
    plan = recipe.load_recipe(SMALL)
    path.write_text(plan.toml())
    assert recipe.load_recipe(path) == plan
    path.write_text("[data\n")
    with pytest.raises(ValueError, match=r"mine.toml is not TOML"):
        recipe.load_recipe(path)
    with pytest.raises(FileNotFoundError, match="there is no recipe at"):
        recipe.load_recipe(tmp_path / "other.toml")
    with pytest.raises(ValueError, match="did you mean 'mnist-mart'"):
        recipe.load_recipe("mnist-mrt")


def test_a_recipe_says_only_what_differs_from_its_base(tmp_path):
    base = recipe.load_recipe("digits-mart")
    plan = recipe.load_recipe({"recipe": {"base": "digits-mart"}, "method": {"beta": 2.0}})
    assert plan.tables == base.tables | {"method": base.tables["method"] | {"beta": 2.0}}
    (tmp_path / "first.toml").write_text(
        '[recipe]\nbase = "digits-mart"\n[attack]\nname = "FGSM"\n[train]\nepochs = 3\n'
    )
    (tmp_path / "second.toml").write_text('[recipe]\nbase = "first.toml"\nseed = 4\n')
    plan = recipe.load_recipe(tmp_path / "second.toml")
    assert (plan.name, plan.seed) == ("second", 4)
    assert (
        plan.tables["attack"]
        == recipe.load_recipe("digits-mart", set=["attack=FGSM"]).tables["attack"]
    )
    assert plan.tables["train"] == base.tables["train"] | {"epochs": 3}
    assert "base" not in plan.tables["recipe"]
    assert recipe.load_recipe(plan.tables) == plan


def test_a_base_that_is_none_is_told(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.toml").write_text(f'[recipe]\nbase = "{other}.toml"\n')
    with pytest.raises(ValueError, match=r"recipe\.base: a\.toml is based on itself"):
        recipe.load_recipe(tmp_path / "a.toml")
    with pytest.raises(
        ValueError, match=r"'digits-mrt' does not exist; did you mean 'digits-mart'"
    ):
        recipe.load_recipe({"recipe": {"base": "digits-mrt"}})
    with pytest.raises(FileNotFoundError, match="there is no recipe at"):
        recipe.load_recipe({"recipe": {"base": "absent.toml"}})


def test_pieces_from_outside_need_trust(tmp_path, monkeypatch):
    (tmp_path / "own_pieces.py").write_text(
        "from sparring.methods import Method\n"
        "class Mine(Method):\n"
        "    def __init__(self, *, factor: float = 2.0):\n"
        "        super().__init__()\n"
        "        self.factor = factor\n"
    )
    monkeypatch.chdir(tmp_path)
    for room in ("threat", "attack", "method", "risk", "model"):
        with pytest.raises(ValueError, match="--trust"):
            recipe.load_recipe(SMALL, set=[f"{room}.name=own_pieces:Mine"])
    plan = recipe.load_recipe(SMALL, set=["method=own_pieces:Mine", "method.factor=3"], trust=True)
    assert plan.tables["method"] == {"name": "own_pieces:Mine", "factor": 3.0}
    assert type(plan.objective().method).__name__ == "Mine"
    with pytest.raises(ValueError, match=r"method.factor = 'x'"):
        recipe.load_recipe(SMALL, set=["method=own_pieces:Mine", "method.factor=x"], trust=True)
    with pytest.raises(ValueError, match="can't be loaded"):
        recipe.load_recipe(SMALL, set=["method=own_pieces:Other"], trust=True)


def test_build_makes_what_the_tables_say():
    plan = recipe.load_recipe(
        SMALL, set=["method.beta=2", "objective.natural=0.5", "weights.climb=AWP"]
    )
    source, model, objective, more = plan.build()
    assert isinstance(objective.method, MART)
    assert (objective.method.beta, objective.natural, objective.attack.threat.eps) == (
        2.0,
        0.5,
        0.1,
    )
    assert more["climb"].gamma == 0.01
    assert model(source.test.float(slice(2))).shape == (2, 10)
    fitted = more["recipe"]["model"]
    assert (fitted["shape"], fitted["classes"]) == (list(source.shape), 10)
    assign_at(objective, "attack.threat.eps", 0.05)
    assert objective.attack.threat.eps == 0.05


def test_building_is_seeded_and_leaves_the_global_random_state():
    state = torch.get_rng_state()
    nets = [
        recipe.load_recipe(SMALL, set={"recipe.seed": seed}).build().model for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (next(net.parameters()) for net in nets)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_model_of_other_shapes_than_the_data_is_told():
    with pytest.raises(ValueError, match=r"model.classes = 3 is not allowed: .* 10 for digits"):
        recipe.load_recipe(SMALL, set=["model.classes=3"]).build()


def test_every_piece_is_named_and_has_its_paper_in_the_bib():
    known = cite.entries()
    assert all(key in known for key in cite.PAPERS.values())
    for room in registry.ROOMS:
        for name, piece in registry.pieces(room).items():
            key = getattr(piece, "paper", None)
            assert key is None or key in known, name


def made_up(name: str, bounds: tuple[float, float] = (0.0, 1.0)) -> Source:
    """Nine random samples a split, of the shape of a named data set; the same without labels."""
    shape = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}.get(
        name, (1, 28, 28)
    )
    bits = name in ("drebin215", "defensedroid-api")
    x, y = torch.rand(9, *shape, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    x, y = (x[:, 0, :3].flatten(1).round(), y % 2) if bits else (x, y)
    parts = {split: Split(x, y) for split in ("train", "val", "test")}
    parts["unlabelled"] = Split(x, torch.full((9,), -1))
    names = [str(k) for k in range(2 if bits else 10)]
    return Source(name=name, class_names=names, bounds=tuple(bounds), **parts)


def test_the_data_s_mutable_features_reach_every_threat(monkeypatch):
    x = torch.randint(0, 2, (9, 4), generator=torch.Generator().manual_seed(0)).float()
    parts = {split: Split(x, torch.arange(9) % 2) for split in ("train", "val", "test")}
    source = Source(name="apps", class_names=["0", "1"], mutable=[1, 1, 0, 0], **parts)
    bits = {"name": "Only", "of": {"name": "Bits"}, "classes": [1]}
    tables = SMALL | {"threat": bits, "attack": {"name": "RFGSM"}, "data": {"name": "drebin215"}}
    other = bits | {"of": {"name": "Bits", "mutable": [1, 0, 0, 0]}}
    plan = recipe.load_recipe(tables, set={"evaluation.threat": other}).with_data(source)
    assert plan.tables["threat"]["of"]["mutable"] == [1, 1, 0, 0]
    assert plan.tables["evaluation"]["threat"]["of"]["mutable"] == [1, 0, 0, 0]
    assert "mutable" not in recipe.load_recipe(tables).tables["threat"]["of"]


def test_bounds_are_asked_of_the_threat_that_meets_the_data():
    source, threat = made_up("digits"), {"name": "Linf", "eps": 0.1, "low": -0.1, "high": 1.1}
    wide = {"evaluation.threat": threat}
    assert recipe.load_recipe(SMALL, set=wide).with_data(source)
    with pytest.raises(ValueError, match=r"evaluation\.threat\.low = -0\.1 is not allowed"):
        recipe.load_recipe(SMALL, set=wide).with_data(source, "evaluation")
    around = {"name": "Only", "of": {"name": "Linf", "eps": 0.1, "low": -1.0}, "classes": [1]}
    with pytest.raises(ValueError, match=r"threat\.of\.low = -1\.0 is not allowed"):
        recipe.load_recipe(SMALL | {"threat": around}).with_data(source)


def made_up_labels(folder: Path) -> str:
    """Labels for the rows that have none."""
    rows = torch.arange(9)
    return str(PseudoLabels(rows, rows, torch.ones(9), "", "").save(folder / "labels.npz"))


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_run_three_steps(name, tmp_path, monkeypatch):
    made = lambda name, bounds=(0.0, 1.0), **_: made_up(name, bounds)  # noqa: E731
    monkeypatch.setattr("sparring.data.load", made)
    changes = {"train.epochs": 1, "train.batch_size": 3, "train.device": "cpu"}
    tables = recipe.load_recipe(name).tables
    if "attack" in tables["validation"]:
        changes["validation.attack.steps"] = 1
    if "attack" in tables:
        changes["attack.steps"] = 2
    if by_clock := "seconds" in tables["train"]:  # a step is longer: it is taken, and is the last
        changes |= {"train.seconds": 1e-6, "train.compile": False}
    for k, piece in enumerate(tables["data"].get("mix", [])):
        changes |= {f"data.mix.{k}.labels": made_up_labels(tmp_path)} if "labels" in piece else {}
    # Below 8 channels, 1×1 convolutions of channels_last overrun their memory on CPUs with AVX2.
    changes |= {f"model.{k}": n for k, n in (("width", 8), ("widen", 1)) if k in tables["model"]}
    source, model, objective, more = recipe.load_recipe(name, set=changes).build()
    (epoch,) = Trainer(model, objective, source, out=tmp_path / "run", **more)
    assert epoch.step == (1 if by_clock else 3)
    assert 0 < epoch.loss < 1e3
    assert recipe.load_recipe(tmp_path / "run").tables == more["recipe"]


def test_the_papers_of_nested_pieces_are_cited():
    found = cite.papers("armor-kl-asym-drebin215")
    assert {"birrell2023armor", "aldujaili2018adversarial"} <= set(found)
    assert "wang2020mart" in cite.papers("mnist-1000-labels-mart-kl")
