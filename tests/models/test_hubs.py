import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparring import models
from sparring.attacks import PGD
from sparring.commands.evaluate import evaluate
from sparring.commands.subject import loaded_model, network_with_weights
from sparring.config.recipe import load_recipe
from sparring.data import Source, Split
from sparring.models import hubs
from sparring.threats import Linf
from sparring.training import Trainer
from tests.torchvision_on_cpu import declare_operators

SHAPE, CLASSES = (3, 16, 16), 3


@pytest.fixture(scope="module")
def timm():
    declare_operators()
    return __import__("timm")


@pytest.fixture(scope="module")
def transformers():
    declare_operators()
    return __import__("transformers")


@pytest.fixture
def vit_folder(transformers, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.ViTConfig(**sizes, intermediate_size=32, image_size=16, patch_size=4)
    config.num_labels = CLASSES
    torch.manual_seed(0)
    network = transformers.ViTForImageClassification(config)
    torch.nn.init.normal_(network.classifier.weight)
    network.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.fixture
def resnet_folder(transformers, tmp_path):
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    return tmp_path / "resnet"


def built_network(name: str, **options: Any) -> Any:
    return models.build(name, **options)


def tables(name: str, method: Any = "AT", **model: Any) -> dict[str, Any]:
    return {
        "recipe": {"name": "run"},
        "data": {"name": "digits", "limit": 60, "val": 20, "test": 20},
        "model": {"name": name, **model},
        "threat": {"name": "Linf", "eps": 0.1},
        "attack": {"name": "PGD", "steps": 2},
        "method": method,
        "train": {"epochs": 1, "batch_size": 30, "optimizer": {"name": "SGD", "lr": 0.01}},
    }


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_timm_network_normalizes_as_its_weights_expect(timm, name):
    model = built_network(f"timm:{name}", shape=(3, 32, 32), classes=5)
    cfg = timm.get_pretrained_cfg(name)
    assert torch.allclose(model.mean, torch.tensor(cfg.mean))
    x, mean, std = torch.rand(2, 3, 32, 32), torch.tensor(cfg.mean), torch.tensor(cfg.std)
    model.eval()
    expected = model.network((x - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(model(x), expected, atol=1e-6)
    assert model(x).shape == (2, 5)


def test_given_mean_and_std_replace_the_hubs(timm):
    model = built_network("timm:test_resnet", shape=SHAPE, classes=3, mean=0.0, std=1.0)
    assert (model.mean.tolist(), model.std.tolist()) == ([0.0], [1.0])


def test_grey_pictures_get_the_mean_of_the_channels(timm):
    model = built_network("timm:test_efficientnet", shape=(1, 16, 16), classes=3)
    assert model.mean.tolist() == pytest.approx([0.449])


def test_loads_weights_of_a_folder_and_their_normalization(transformers, vit_folder):
    model = models.load_hub_model(f"hf:{vit_folder}")
    reference = transformers.ViTForImageClassification.from_pretrained(vit_folder).eval()
    x, mean = torch.rand(2, *SHAPE), torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    assert not model.training
    with torch.no_grad():
        assert torch.allclose(model(x), reference((x - mean) / 0.5).logits, atol=1e-5)


def test_published_network_resizes_to_its_only_size(vit_folder):
    model = models.load_hub_model(f"hf:{vit_folder}")
    assert model(torch.rand(2, 3, 40, 24)).shape == (2, CLASSES)


def test_pretrained_body_under_a_new_head(transformers, vit_folder):
    name = f"hf:{vit_folder}"
    model = built_network(name, shape=SHAPE, classes=7, pretrained=True)
    published: Any = models.load_hub_model(name)
    body, same = (m.network.vit.state_dict() for m in (model, published))
    assert all(torch.equal(body[key], same[key]) for key in body)
    assert model.network.classifier.out_features == 7


def test_pretrained_position_embeddings_are_interpolated(vit_folder):
    model = built_network(f"hf:{vit_folder}", shape=(3, 24, 24), classes=2, pretrained=True)
    assert model.options == {"interpolate_pos_encoding": True}
    assert model(torch.rand(2, 3, 24, 24)).shape == (2, 2)


@pytest.mark.parametrize("pretrained", [False, True])
def test_run_of_a_folder_loads_without_it(vit_folder, pretrained, tmp_path):
    recipe = load_recipe(tables(f"hf:{vit_folder}", pretrained=pretrained))
    recipe = recipe.with_data(colour_source())
    model = recipe.network()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    again = load_recipe(recipe.tables)
    assert again == recipe
    vit_folder.rename(tmp_path / "elsewhere")
    loaded = network_with_weights(again, tmp_path / "w.safetensors")
    x = torch.rand(2, *SHAPE)
    assert torch.equal(loaded(x), model.eval()(x))


def colour_source():
    split = Split(torch.rand(6, *SHAPE), torch.arange(6) % CLASSES)
    return Source("colour", split, split, split, ["a", "b", "c"])


METHODS = [
    "AT",
    "TRADES",
    "MART",
    {"name": "OTJR"},
    {"name": "UAD", "sites": [], "reference": "none"},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("kind", ["timm:test_resnet", "timm:test_vit", "resnet", "vit"])
def test_trains_by_recipe(timm, vit_folder, resnet_folder, kind, method, tmp_path):
    folders = {"resnet": resnet_folder, "vit": vit_folder}
    name = kind if ":" in kind else f"hf:{folders[kind]}"
    extra = {"patch_size": 4} if "vit" in kind else {}
    built = load_recipe(tables(name, method, **extra)).build()
    before = {key: t.clone() for key, t in built.model.state_dict().items()}
    trainer = Trainer(
        built.model, built.objective, built.source, **built.trainer, out=tmp_path / "run"
    )
    assert len(list(trainer)) == 1  # a NaN would have raised
    moved = [k for k, t in built.model.state_dict().items() if not torch.equal(t, before[k])]
    assert any("network" in key for key in moved)


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_efficientnet"])
def test_attack_leaves_batch_norm_and_mode(timm, name):
    model = built_network(name, shape=SHAPE, classes=CLASSES).train()
    before = {key: t.clone() for key, t in model.state_dict().items()}
    x, y = torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 0])
    x_adv = PGD(threat=Linf(eps=0.1), steps=3)(model, x, y)
    assert model.training
    assert not torch.equal(x_adv, x)
    assert all(torch.equal(t, before[key]) for key, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_named_stages_of_a_foreign_network(timm, tmp_path):
    method = {"name": "UAD", "sites": ["network.layer1"], "reference": "network.layer2"}
    built = load_recipe(tables("timm:test_resnet", method)).build()
    out = tmp_path / "run"
    assert list(Trainer(built.model, built.objective, built.source, **built.trainer, out=out))


def test_evaluates_a_published_network(vit_folder):
    x, y = torch.rand(8, *SHAPE), torch.arange(8) % CLASSES
    result = evaluate(f"hf:{vit_folder}", (x, y), eps=0.05, suite="pgd", progress=False)
    assert result.name == "vit"


def test_published_network_refuses_a_second_normalization(vit_folder):
    x, y = torch.rand(4, *SHAPE), torch.arange(4) % CLASSES
    with pytest.raises(ValueError, match="mean"):
        evaluate(f"hf:{vit_folder}", (x, y), eps=0.05, suite="pgd", mean=0.5)


def test_unknown_timm_name_suggests_the_nearest(timm):
    with pytest.raises(ValueError, match=r"timm network = 'resnet19' does not .*'resnet18'"):
        load_recipe(tables("timm:resnet19"))
    with pytest.raises(ValueError, match=r"'resnet18.a1_in2k' does not .*'resnet18.a1_in1k'"):
        load_recipe(tables("timm:resnet18.a1_in2k"))


@pytest.mark.parametrize("key", ["num_classes", "img_size", "checkpoint_path", "pretrained_cfg"])
def test_timm_arguments_that_are_refused(timm, key):
    with pytest.raises(ValueError, match=f"{key} is not allowed"):
        load_recipe(tables("timm:test_resnet", **{key: 3}))


def test_timm_argument_that_no_network_takes(timm):
    with pytest.raises(ValueError, match=r"cannot be built.*depht"):
        load_recipe(tables("timm:test_resnet", depht=3)).build()


def test_network_that_does_not_take_the_size(timm):
    with pytest.raises(ValueError, match=r"does not take pictures of 8 × 8.*data.size"):
        load_recipe(tables("timm:test_convnext")).build()


def test_published_features_are_no_logits(timm, monkeypatch):
    create = timm.create_model

    def offline(name, **options):
        return create(name, **options | {"pretrained": False})

    monkeypatch.setattr(timm, "create_model", offline)
    assert loaded_model("timm:test_resnet")(torch.rand(1, 3, 32, 32)).shape == (1, 1000)
    with pytest.raises(ValueError, match="timm:vit_small_patch14_dinov2 is published without cla"):
        loaded_model("timm:vit_small_patch14_dinov2")


def test_download_that_fails(timm, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="pretrained weights of timm:test_resnet are not here"):
        loaded_model("timm:test_resnet")
    with pytest.raises(ValueError, match="no folder of this name is here, and the hub does not"):
        loaded_model("hf:nobody/nothing")


def test_pickles_of_hugging_face_are_refused(vit_folder):
    (vit_folder / "model.safetensors").unlink()
    torch.save({"classifier.bias": torch.zeros(3)}, vit_folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no model.safetensors, and other formats are pickl"):
        loaded_model(f"hf:{vit_folder}")


def test_folder_that_is_no_network(transformers, tmp_path):
    with pytest.raises(ValueError, match=r"has no config.json"):
        loaded_model(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="bert, not an image classifier"):
        loaded_model(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "vit", "hidden_size": "wide"}')
    with pytest.raises(ValueError, match="can't be loaded"):
        loaded_model(f"hf:{tmp_path}")


def test_code_of_a_repository_never_runs(transformers, tmp_path):
    proof = tmp_path / "proof"
    Path(tmp_path / "evil.py").write_text(f"open({str(proof)!r}, 'w').write('ran')\n")
    auto_map = '"auto_map": {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "e.M"}'
    (tmp_path / "config.json").write_text('{"model_type": "mine", ' + auto_map + "}")
    with pytest.raises(ValueError, match="code of its own"):
        loaded_model(f"hf:{tmp_path}")
    assert not proof.exists()


def test_weights_of_another_network(vit_folder):
    weights = load_file(vit_folder / "model.safetensors")
    weights = {k: v for k, v in weights.items() if ".1." not in k}
    save_file(weights, vit_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks \d+ weights of the network, as vit.layers.1"):
        models.build(f"hf:{vit_folder}", shape=SHAPE, classes=2, pretrained=True)


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'sparring\[timm\]'"):
        loaded_model("timm:resnet18")


def test_only_hubs_of_networks_make_recipes(monkeypatch):
    monkeypatch.setitem(hubs.PREFIXES, "zoo:", torch.nn.Identity)
    with pytest.raises(ValueError, match="a recipe builds networks of timm:, hf:"):
        load_recipe(tables("zoo:one"))


def test_starts_from_weights_of_the_bare_network(timm, tmp_path):
    bare = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    save_file(bare.state_dict(), tmp_path / "mine.safetensors")
    built = load_recipe(tables("timm:test_resnet")).build()
    start, out = str(tmp_path / "mine.safetensors"), tmp_path / "run"
    options = {**built.trainer, "start": start, "freeze": ["network.conv1"]}
    trainer = Trainer(built.model, built.objective, built.source, **options, out=out)
    assert torch.equal(trainer.model.network.fc.weight, bare.fc.weight)  # type: ignore[union-attr]
    first = dict(trainer.model.named_parameters())["network.conv1.0.weight"].detach().clone()
    list(trainer)
    assert torch.equal(dict(trainer.model.named_parameters())["network.conv1.0.weight"], first)
