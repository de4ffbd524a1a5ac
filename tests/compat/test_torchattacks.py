"""Torchattacks' calls: arguments, balls, modes, normalisation, targets and errors."""

from __future__ import annotations

import pytest
import torch

from sparring import attacks
from sparring.compat import torchattacks
from sparring.models import Normalize
from tests.compat.peers import SIGNATURES, arguments, recorded
from tests.oracles import NormedNet

CLASSES = [name for name in torchattacks.__all__ if name not in ("Attack", "MultiAttack")]
SHORT = {"steps": 3, "n_queries": 20, "max_iterations": 5, "binary_search_steps": 2}
IN_BALL = {"PGDL2": 2, "GN": None, "VANILA": None, "CW": None, "EADL1": None, "DeepFool": None}
IN_BALL |= {"JSMA": 0}
LOUD = ("AutoAttack",)


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(1)
    return torch.rand(6, 1, 4, 4, generator=draw), torch.tensor([0, 1, 2, 0, 1, 2])


def make(name, model, **kw):
    known = dict(arguments(getattr(torchattacks, name)))
    short = {k: v for k, v in SHORT.items() if k in known}
    ball = {"eps": 0.2} if "eps" in known else {}
    return getattr(torchattacks, name)(model, **{**short, **ball, **kw})


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_arguments_and_defaults_are_theirs(name):
    assert arguments(getattr(torchattacks, name)) == recorded(name)


@pytest.mark.parametrize("name", CLASSES)
def test_a_call_stays_in_its_ball_and_leaves_the_model_alone(name, images):
    x, y = images
    model = NormedNet()
    model.train()
    model[1].eval()  # one module in another mode than the rest
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    x_adv = make(name, model)(x, y)
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    p = IN_BALL.get(name, torch.inf)
    if p == 0:
        assert ((x_adv != x).flatten(1).sum(1) <= 1).all()  # a tenth of 16 pixels
    elif p is not None:
        assert (x_adv - x).flatten(1).norm(p, dim=1).max() <= 0.2001
    assert model.training
    assert not model[1].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["PGD", "PGDL2", "Square", "CW", "FAB", "DeepFool", "AutoAttack"])
def test_normalised_images_come_back_normalised(name, images):
    """The same points as with the normalisation in the model."""
    x, y = images
    net = NormedNet().eval()
    inside = torch.nn.Sequential(Normalize([0.4], [0.25]), net)
    expected = make(name, inside)(x, y)
    attack = make(name, net)
    attack.set_normalization_used(mean=[0.4], std=[0.25])
    x_adv = attack((x - 0.4) / 0.25, y)
    torch.testing.assert_close(x_adv * 0.25 + 0.4, expected, atol=2e-2, rtol=0)
    right = lambda z: (net((z - 0.4) / 0.25).argmax(1) == y).float().mean()  # noqa: E731
    assert right(x_adv * 0.25 + 0.4) == right(expected)


@pytest.mark.parametrize("name", CLASSES)
def test_targets_by_label_function_and_least_likely(name, images):
    x, y = images
    model = NormedNet().eval()
    attack = make(name, model)
    if "targeted" not in attack.supported_mode:
        with pytest.raises(ValueError, match="Targeted mode is not supported"):
            attack.set_mode_targeted_by_label()
        return
    least = model(x).scatter(1, y[:, None], torch.inf).argmin(1)
    attack.set_mode_targeted_least_likely(quiet=True)
    assert attack.get_mode() == "targeted(least-likely)"
    torch.testing.assert_close(attack.get_target_label(x, y), least)
    attack.set_mode_targeted_by_function(lambda images, labels: (labels + 1) % 3, quiet=True)
    torch.testing.assert_close(attack.get_target_label(x, y), (y + 1) % 3)
    attack.set_mode_targeted_random(quiet=True)
    assert (attack.get_target_label(x, y) != y).all()
    attack.set_mode_targeted_by_label(quiet=True)
    target = (y + 1) % 3
    x_adv = attack(x, target)
    before, after = ((model(z).argmax(1) == target).sum() for z in (x, x_adv))
    assert after >= before
    if name in ("PGD", "BIM", "MIFGSM", "CW", "PGDL2"):
        free = {"eps": 1.0, "steps": 20, "alpha": 0.2} if name != "CW" else {"c": 100, "steps": 100}
        strong = make(name, model, **free)
        strong.set_mode_targeted_by_label(quiet=True)
        assert (model(strong(x, target)).argmax(1) == target).sum() > before
    attack.set_mode_default()
    assert not attack.targeted


def test_more_classes_are_asked_for_than_the_model_has(images):
    attack = torchattacks.PGD(NormedNet())  # of three classes
    attack.set_mode_targeted_least_likely(kth_min=3, quiet=True)
    with pytest.raises(ValueError, match=r"kth_min = 3 .*1 to 2, the number of wrong classes"):
        attack(*images)


def test_attributes_set_later_count(images):
    x, y = images
    attack = torchattacks.PGD(NormedNet(), eps=0.2, alpha=0.1)
    attack.eps = 0.01
    assert (attack(x, y) - x).abs().max() <= 0.0101
    native = attack.native()
    assert isinstance(native, attacks.PGD)
    assert (native.threat.eps, native.size) == (0.01, 0.1)


def test_each_call_draws_anew_and_two_attacks_draw_alike(images):
    x, y = images
    model = NormedNet().eval()
    one, two = (torchattacks.GN(model, std=0.3) for _ in range(2))
    first, second = one(x, y), one(x, y)
    assert not torch.equal(first, second)
    assert torch.equal(first, two(x))


def test_multi_attack_keeps_what_breaks_and_returns_the_rest(images):
    x, _ = images
    model = NormedNet().eval()
    y = model(x).argmax(1)
    weak, strong = torchattacks.FGSM(model, eps=0.01), torchattacks.PGD(model, eps=0.5, alpha=0.1)
    x_adv = torchattacks.MultiAttack([weak, strong])(x, y)
    right = model(x_adv).argmax(1) == y
    assert torch.equal(x_adv[right], x[right])
    assert right.sum() <= (model(strong(x, y)).argmax(1) == y).sum()
    with pytest.raises(ValueError, match="attacks = 1 is not allowed"):
        torchattacks.MultiAttack([weak])
    with pytest.raises(ValueError, match="attacks of one model"):
        torchattacks.MultiAttack([weak, torchattacks.FGSM(NormedNet())])


@pytest.mark.parametrize("return_verbose", [True, False])
def test_multi_attack_saves_with_a_success_rate_of_each_attack(images, return_verbose):
    x, _ = images
    model = NormedNet().eval()
    y = model(x).argmax(1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    attacks = [torchattacks.VANILA(model), torchattacks.PGD(model, eps=1.0, alpha=0.2, steps=30)]
    attack = torchattacks.MultiAttack([*attacks, torchattacks.FGSM(model, eps=0.01)])
    attack(x, y)  # counts of other calls are left out
    found = attack.save(loader, return_verbose=return_verbose)
    if not return_verbose:
        assert found is None
        return
    accuracy, rates, l2, seconds = found
    assert len(rates) == 3
    assert rates[0] == 0
    assert rates[0] < rates[1] <= rates[2] == pytest.approx(100 - accuracy)
    assert l2 > 0
    assert seconds > 0


class Custom(torchattacks.Attack):
    """A user's own attack, as torchattacks' documentation shows it: one step of FGSM."""

    def __init__(self, model):
        super().__init__("Custom", model)
        self.supported_mode = ["default"]

    def forward(self, images, labels):
        images = images.clone().requires_grad_()
        self.logits = self.get_logits(images)
        loss = torch.nn.functional.cross_entropy(self.logits, labels)
        loss.backward()
        assert images.grad is not None
        return (images + 0.05 * images.grad.sign()).clamp(0, 1).detach()


def test_an_attack_of_one_s_own_gets_logits_of_the_images_it_has(images):
    x, y = images
    net = NormedNet().eval()
    inside = torch.nn.Sequential(Normalize([0.4], [0.25]), net)
    expected, attack = Custom(inside), Custom(net)
    points = expected(x, y)
    attack.set_normalization_used(mean=[0.4], std=[0.25])
    z = (x - 0.4) / 0.25
    x_adv = attack(z, y)
    torch.testing.assert_close(attack.logits, expected.logits)
    torch.testing.assert_close(x_adv * 0.25 + 0.4, points)
    torch.testing.assert_close(attack.get_logits(z), net(z))  # outside: as the model takes them
    with pytest.raises(IndexError):
        attack(z, y + 99)
    torch.testing.assert_close(attack.get_logits(z), net(z))


@pytest.mark.parametrize("training", [False, True])
def test_an_attack_of_one_s_own_leaves_the_model_alone(images, training):
    x, y = images
    model, seen = NormedNet().train(), []
    model[5].eval()
    modes = [m.training for m in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model[1].register_forward_hook(lambda module, *_: seen.append(module.training))
    attack = Custom(model)
    attack.set_model_training_mode(training, training, training)
    attack(x, y)
    assert seen == [training]
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_training_mode_runs_in_train_mode_and_returns(images):
    x, y = images
    model = NormedNet().eval()
    seen = []
    model[3].register_forward_hook(lambda module, *_: seen.append(module.training))
    attack = torchattacks.PGD(model, eps=0.1, steps=1)
    attack.set_model_training_mode(model_training=True, dropout_training=True)
    attack(x, y)
    assert set(seen) == {True}
    assert not any(module.training for module in model.modules())


def test_save_and_load(tmp_path, images, capsys):
    x, y = images
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    attack, file = torchattacks.PGD(NormedNet(), eps=0.2), tmp_path / "points.pt"
    options = {"save_predictions": True, "save_clean_inputs": True, "save_type": "int"}
    accuracy, l2, seconds = attack.save(loader, file, return_verbose=True, **options)
    assert 0 <= accuracy <= 100
    assert l2 >= 0 or l2 != l2
    assert seconds > 0
    content = torch.load(file, weights_only=True)
    assert content["adv_inputs"].dtype == torch.uint8
    more = {"load_predictions": True, "load_clean_inputs": True}
    points, labels, pred, clean = next(iter(torchattacks.PGD.load(file, **more)))
    assert (points - clean).abs().max() <= 0.2 + 1 / 255
    assert labels.tolist() == y.tolist()
    assert pred.shape == y.shape
    assert "Robust accuracy" in capsys.readouterr().out
    (tmp_path / "other").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is no file of tensors"):
        torchattacks.PGD.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: torchattacks.PGD(m, iters=3), TypeError, "keyword argument 'iters'"),  # pyright: ignore
        (lambda m: torchattacks.PGD(m, steps=1.5), ValueError, "steps = 1.5"),  # pyright: ignore
        (lambda m: torchattacks.PGD(m, eps=-1), ValueError, "eps = -1"),
        (lambda m: torchattacks.PGD(3), ValueError, "model = 'int'"),
        (lambda m: torchattacks.APGD(m, norm="L3"), ValueError, "did you mean"),
        (lambda m: torchattacks.JSMA(m, theta=0.5), ValueError, "theta = 0.5"),
        (lambda m: torchattacks.AutoAttack(m, version="fast"), ValueError, "version = 'fast'"),
        (lambda m: torchattacks.NIFGSM(m), NotImplementedError, "Nearest: MIFGSM"),
        (lambda m: torchattacks.PDG(m), AttributeError, "did you mean 'PGD'"),
        (lambda m: torchattacks.PGD(m)(torch.rand(2, 1, 4, 4)), TypeError, "labels are missing"),
        (
            lambda m: torchattacks.PGD(m)(torch.randn(2, 1, 4, 4) * 3, torch.tensor([0, 1])),
            ValueError,
            "x reaches from",
        ),
        (lambda m: torchattacks.PGD(m).normalize(torch.rand(1)), ValueError, "was not called"),
        (
            lambda m: torchattacks.PGD(m).get_target_label(torch.rand(1), torch.zeros(1)),
            ValueError,
            "no target map",
        ),
        (
            lambda m: torchattacks.PGD(m).set_normalization_used([0.5], [0.0]),
            ValueError,
            "std = ",
        ),
    ],
)
def test_wrong_calls_say_what_is_right(call, error, message):
    with pytest.raises(error, match=message):
        call(NormedNet())
