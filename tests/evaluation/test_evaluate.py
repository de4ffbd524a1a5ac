import numpy as np
import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.data import Source, Split
from sparring.evaluation import Suite, evaluate
from sparring.results.result import correct_key
from sparring.threats import Box, Linf


def run(problem, *args, model=None, **kw):
    return evaluate(
        model or problem.model,
        (problem.x, problem.y),
        *args,
        progress=False,
        **{"batch_size": 25, **kw},
    )


def fired(result):
    return {c.name for c in result.checks if c.fired}


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_robust_accuracy_of_a_linear_model_is_exact(problem, norm):
    result = run(problem, norm, eps=[0.05, 0.02, 0.1])
    assert result.clean.accuracy == (problem.signed > 0).double().mean().item()
    assert [row.eps for row in result.by_eps] == [0.02, 0.05, 0.1]
    for row in result.by_eps:
        exact = problem.robust(norm, row.eps)
        np.testing.assert_array_equal(result.arrays[correct_key(row.eps)], exact.numpy())
        assert row.count == int(exact.sum())
        assert row.robust.low < row.robust.accuracy < row.robust.high
    assert result.robust == result.by_eps[-1].robust
    assert result.attacks == result.by_eps[-1].attacks
    assert fired(result) == set()


def test_rows_say_what_each_attack_did_alone(problem):
    result = run(problem, "Linf", eps=0.05)
    assert [row.name for row in result.attacks] == ["FGSM", "PGD-20"]
    right = int((problem.signed > 0).sum())
    for row in result.attacks:
        assert row.attacked == right
        assert row.infeasible == 0
        assert row.accuracy >= result.robust.accuracy
    fgsm, pgd = result.attacks
    assert fgsm.accuracy == problem.robust("Linf", 0.05).double().mean().item()
    assert (fgsm.forwards, fgsm.backwards) == (2.0, 1.0)
    assert 1 < pgd.backwards <= 20
    assert pgd.forwards <= 21


def test_arrays_hold_predictions_and_shown_points(problem):
    arrays = run(problem, "Linf", eps=[0.02, 0.1]).arrays
    robust = problem.robust("Linf", 0.1).numpy()
    y = problem.y.numpy()
    right = (problem.signed > 0).numpy()
    np.testing.assert_array_equal(arrays["y"], y)
    np.testing.assert_array_equal(arrays["clean_pred"] == y, right)
    np.testing.assert_array_equal(arrays["adv_pred"] == y, robust)
    broken, kept = np.flatnonzero(right & ~robust), np.flatnonzero(right & robust)
    some = broken[: max(12, 16 - len(kept))]
    shown = np.sort(np.concatenate([some, kept[: 16 - len(some)]]))
    np.testing.assert_array_equal(arrays["show_x"], problem.x[shown].numpy())
    assert arrays["show_x_adv"].shape == arrays["show_x"].shape
    assert abs(arrays["show_x_adv"] - arrays["show_x"]).max() <= 0.1 + 1e-6
    with torch.no_grad():
        np.testing.assert_array_equal(
            problem.model(torch.from_numpy(arrays["show_x_adv"])).argmax(1).numpy(),
            arrays["show_adv"],
        )


def test_a_cascade_has_the_same_worst_case_and_says_so(problem):
    plain, cascade = run(problem, "Linf", eps=0.05), run(problem, "Linf", eps=0.05, cascade=True)
    assert cascade.robust == plain.robust
    first, second = cascade.attacks
    assert second.attacked == round(first.accuracy * cascade.n) < first.attacked
    assert second.accuracy == cascade.robust.accuracy


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_points_out_of_the_ball_are_failed_attacks(problem, suite_of, norm):
    def far(model, x, y, threat):
        w = torch.where((y == 0)[:, None], -problem.model.w.detach(), problem.model.w.detach())
        return (x + 0.3 * w.sign()).clamp(0, 1)

    result = run(problem, norm, suite_of(far), eps=0.05)
    assert result.robust == result.clean
    assert result.attacks[0].infeasible == result.attacks[0].attacked
    assert fired(result) == {"infeasible points", "adaptive steps break more"}


def test_images_of_the_other_class_are_caught(problem, suite_of):
    def swap(model, x, y, threat):
        return x.flip(0)

    result = run(problem, "Linf", suite_of(swap), eps=0.02)
    assert result.robust == result.clean
    assert "infeasible points" in fired(result)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -0.01, 1.01])
def test_points_that_are_no_valid_input_are_caught(problem, suite_of, value):
    def odd(model, x, y, threat):
        x_adv = x.clone()
        x_adv[:, 0] = value
        return x_adv

    result = run(problem, Box(), suite_of(odd))
    assert result.robust == result.clean
    assert result.attacks[0].infeasible == result.attacks[0].attacked


def test_the_projection_of_a_threat_of_ones_own_is_believed(problem, suite_of):
    class Half(Linf):
        def project(self, z, batch):
            z = super().project(z, batch)
            return torch.cat([z[:, :3], batch.x[:, 3:]], 1)

    def all_of_it(model, x, y, threat):
        return (x + threat.eps).clamp(0, 1)

    result = run(problem, Half(0.02), suite_of(all_of_it))
    assert result.threat["name"] == "Half"
    assert result.attacks[0].infeasible == result.attacks[0].attacked


def test_a_threat_without_a_radius(problem):
    result = run(problem, Box(), "quick")
    assert [row.eps for row in result.by_eps] == [None]
    assert result.robust.accuracy == 0
    assert "correct" in result.arrays


def test_radius_zero_is_clean_accuracy(problem):
    assert run(problem, "Linf", eps=0.0).robust == run(problem, "Linf", eps=0.0).clean


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda x: x[:, :3], "shape"),
        (lambda x: x.long(), "int64"),
        (lambda x: x.tolist(), "list"),
        (lambda x: None, "NoneType"),
    ],
)
def test_an_attack_that_returns_something_else_is_named(problem, suite_of, found, message):
    with pytest.raises(ValueError, match=rf"attack 'odd' returned .*{message}"):
        run(problem, "Linf", suite_of(lambda m, x, y, t: found(x), label="odd"), eps=0.1)


def test_an_attack_must_not_change_the_weights(problem, suite_of):
    def train(model, x, y, threat):
        with torch.no_grad():
            problem.model.w.mul_(-1)
        return x

    with pytest.raises(ValueError, match=r"attack 'foreign' changed the model's weights"):
        run(problem, "Linf", suite_of(train), eps=0.1)


def test_what_a_rude_attack_does_leaves_no_trace(problem, suite_of):
    model = nn.Sequential(problem.model, nn.Dropout(0.5))
    model[0].eval(), model[1].train()
    problem.model.w.grad = torch.full_like(problem.model.w, 7.0)

    def rude(guard, x, y, threat):
        guard.train()
        guard.requires_grad_(True)
        torch.manual_seed(5)
        torch.nn.functional.cross_entropy(guard(x), y).backward()
        x += 1
        y += 1
        return x - 1

    torch.manual_seed(3)
    result = run(problem, "Linf", suite_of(rude), eps=0.05, model=model)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert after == torch.rand(1)
    assert result.robust == result.clean
    assert [m.training for m in (model[0], model[1])] == [False, True]
    assert torch.equal(problem.model.w.grad, torch.full_like(problem.model.w, 7.0))
    assert problem.model.w.requires_grad
    assert "train-mode model" in fired(result)


def test_the_model_is_left_untouched(problem):
    model = nn.Sequential(nn.BatchNorm1d(6), problem.model, nn.Dropout(0.1)).train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run(problem, "Linf", "quick", eps=0.05, model=model)
    assert [m.training for m in model] == [True, False, True]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_same_seed_same_result(problem, same):
    same(run(problem, "L2", eps=[0.05, 0.1]), run(problem, "L2", eps=[0.05, 0.1]))


def test_draws_of_foreign_attacks_are_seeded_too(problem, suite_of, same):
    def noise(model, x, y, threat):
        return (x + threat.eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)

    a, b, c = (run(problem, "Linf", suite_of(noise), eps=0.1, seed=s) for s in (0, 0, 1))
    same(a, b)
    assert not np.array_equal(a.arrays["show_x_adv"], c.arrays["show_x_adv"])


class Holes(nn.Module):
    """NaN for inputs whose first entry is above a level."""

    def __init__(self, inner, level):
        super().__init__()
        self.inner, self.level = inner, level

    def forward(self, x):
        return self.inner(x) / (x[:, :1] <= self.level)


def test_outputs_that_are_not_finite_are_wrong_and_said(problem):
    bad = problem.x[:, 0] > 0.6
    assert bad.any()
    result = run(problem, "Linf", eps=0.02, model=Holes(problem.model, 0.6).eval())
    assert result.clean.accuracy == ((problem.signed > 0) & ~bad).double().mean().item()
    assert set(result.arrays["clean_pred"][bad.numpy()]) == {-1}
    assert "outputs not finite" in fired(result)


def test_a_larger_radius_that_breaks_less_is_said(problem, suite_of):
    def weak(model, x, y, threat):
        return x if threat.eps > 0.05 else PGD(threat, steps=1, random_start=False)(model, x, y)

    result = run(problem, "Linf", suite_of(weak), eps=[0.05, 0.1])
    assert result.by_eps[0].count < result.by_eps[1].count
    assert "larger eps gets weaker" in fired(result)


def test_queries_outside_the_box_are_counted_and_said(problem, suite_of):
    def outside(model, x, y, threat):
        model(x + 2)
        return x

    found = fired(run(problem, "Linf", suite_of(outside), eps=0.1))
    assert found == {"queries outside the box", "adaptive steps break more"}


def source(problem, bounds=(0.0, 1.0)):
    pixels = Split((problem.x * 255).round().to(torch.uint8), problem.y)
    return Source(
        "toy",
        pixels,
        pixels.take(slice(0, 30)),
        pixels.take(slice(30, 60)),
        ["plus", "minus"],
        bounds,
        "abc",
    )


def test_a_source_brings_names_bounds_and_hash(problem):
    data = source(problem)
    result = evaluate(problem.model, data, "Linf", eps=0.05, progress=False)
    assert (result.dataset, result.split, result.n) == ("toy", "test", 30)
    assert (result.class_names, result.data_sha256) == (["plus", "minus"], "abc")
    val = evaluate(
        problem.model,
        data,
        "Linf",
        eps=0.05,
        split="val",
        n=12,
        progress=False,
        recipe={"data": {"name": "x"}},
    )
    assert (val.dataset, val.split, val.n, len(val.arrays["index"])) == ("toy", "val", 12, 12)
    split = evaluate(
        problem.model, data.test, "Linf", eps=0.05, progress=False, recipe={"data": {"name": "toy"}}
    )
    assert (split.dataset, split.class_names, split.clean) == ("toy", ["0", "1"], result.clean)


def test_the_bounds_of_a_source_are_the_box(problem):
    shifted = Split(problem.x * 2 - 1, problem.y)
    data = Source("wide", shifted, shifted, shifted, ["a", "b"], (-1.0, 1.0))

    class Back(nn.Module):
        def forward(self, x):
            return problem.model((x + 1) / 2)

    result = evaluate(Back(), data, "Linf", eps=0.1, progress=False)
    assert (result.threat["low"], result.threat["high"]) == (-1.0, 1.0)
    assert result.robust.accuracy == problem.robust("Linf", 0.05).double().mean().item()


def test_the_attacks_run_in_the_precision_asked_for(problem):
    seen = []

    def make(threat):
        attack = PGD(threat, steps=2)
        seen.append(attack)
        return attack

    result = run(problem, "Linf", Suite("own", 3, (("PGD", make),)), eps=0.05, precision="bfloat16")
    assert (seen[0].precision, seen[0].channels_last) == ("bfloat16", True)
    assert (result.precision, result.suite, result.suite_version) == ("bfloat16", "own", 3)


def test_a_line_per_finished_attack_where_there_is_no_terminal(problem, capfd):
    evaluate(problem.model, (problem.x, problem.y), "Linf", eps=0.05, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split()[0] for line in err.splitlines()] == ["clean", "FGSM", "PGD-20"]


def test_a_result_says_where_it_comes_from(problem):
    result = run(problem, "Linf", eps=0.05, name="mine", recipe={"a": 1}, train={"epochs": 2})
    assert (result.schema, result.name, result.recipe, result.train) == (
        2,
        "mine",
        {"a": 1},
        {"epochs": 2},
    )
    assert result.versions["torch"] == torch.__version__
    assert {"python", "numpy", "sparring"} <= set(result.versions)
    assert result.device.startswith("cpu (")
    assert result.seconds > 0
    assert result.threat == {
        "name": "Linf",
        "eps": 0.05,
        "low": 0.0,
        "high": 1.0,
        "init": "uniform",
        "noise": 0.001,
    }


def test_every_row_misclassified(problem):
    with torch.no_grad():
        y = problem.model(problem.x).argmin(1)
    wrong = evaluate(problem.model, (problem.x, y), "Linf", eps=0.05, progress=False)
    assert wrong.clean.accuracy == wrong.robust.accuracy == 0
    assert wrong.arrays["show_x"].shape == (0, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "quik"}, "did you mean 'quick'.*list suites"),
        ({"threat": "Linv"}, "did you mean 'Linf'"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"eps": -0.1}, "eps = -0.1 is not allowed"),
        ({"eps": []}, "eps = "),
        ({"eps": float("nan")}, "eps = nan"),
        ({"eps": None}, "eps = None is not allowed: eps must be given"),
        ({"threat": Box()}, "Box has no radius"),
        ({"n": 0}, "n = 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batchsize": 9}, "did you mean 'batch_size'"),
        ({"protocol": "quick"}, "suite must be given once"),
        ({"precision": "int8"}, "precision = 'int8'"),
        ({"out": "result.txt"}, "out = 'result.txt'"),
        ({"data": 3}, "data is a int"),
        ({"data": (torch.rand(0, 6), torch.zeros(0, dtype=torch.long))}, "0 samples"),
        ({"data": (torch.rand(3, 6), torch.zeros(2, dtype=torch.long))}, "3 samples and 2 labels"),
        ({"data": (torch.rand(3, 6), torch.zeros(3))}, "labels must be integers"),
        ({"data": (torch.rand(3, 6), torch.full((3,), 2))}, "labels from 2 to 2"),
        ({"data": (torch.rand(3, 6), torch.full((3,), -1))}, "labels from -1 to -1"),
        (
            {"data": (torch.rand(3, 6) * 4 - 2, torch.zeros(3, dtype=torch.long))},
            "put normalisation into the model",
        ),
        ({"data": (torch.full((3, 6), torch.nan), torch.zeros(3, dtype=torch.long))}, "NaN"),
        ({"model": lambda x: x.sum(1)}, "logits"),
        ({"model": lambda x: (x, x)}, "returned a tuple"),
        ({"model": lambda x: x[:2]}, "for 25 samples"),
    ],
)
def test_bad_input_is_said_clearly(problem, change, message):
    given = {
        "model": problem.model,
        "data": (problem.x, problem.y),
        "threat": "Linf",
        "suite": "quick",
        "eps": 0.1,
        "batch_size": 25,
    }
    with pytest.raises(ValueError, match=message):
        evaluate(**{**given, **change}, progress=False)
