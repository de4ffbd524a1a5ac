"""Metrics over a data set: means, intervals, the file, going on after a kill."""

import json
import math

import pytest
import torch

from sparring.metrics import Distance, run
from sparring.results.metric_report import MetricReport
from tests.oracles import Net

SMALL = {"deepfool-linf": {}, "eni": {"draws": 3}, "entropy": {}}


def rows(n: int = 30, seed: int = 0):
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(n) % 4


def model():
    return Net(6, 4, scale=2.0)


def test_the_mean_and_its_interval():
    x, y = rows()
    found = run(model(), (x, y), {"deepfool-linf": {}}, progress=False)
    values = Distance(norm="Linf")(model(), x, y).double()
    values = values[~values.isnan()]
    (row,) = found.rows
    half = 1.96 * values.std().item() / math.sqrt(len(values))
    assert row.value == pytest.approx(values.mean().item())
    assert row.high - row.value == pytest.approx(half, rel=0.06)  # t is wider than the normal
    assert row.median == pytest.approx(values.quantile(0.5).item())
    assert (row.n, row.undefined) == (30, 30 - len(values))
    assert row.config["steps"] == 50
    assert found.clean == pytest.approx((model()(x).argmax(1) == y).float().mean().item())


def test_off_the_support_only_flatness_is_measured():
    found = run(model(), rows(), SMALL, off={"other": rows(20, 1)}, progress=False)
    on = [(r.name, r.data) for r in found.rows]
    assert on == [
        ("deepfool-linf", "given samples"),
        ("eni", "given samples"),
        ("entropy", "given samples"),
        ("entropy", "other"),
    ]
    assert [p.data for p in found.profiles] == ["given samples", "other"]
    assert sum(found.profiles[1].mean) == pytest.approx(1)


def test_other_data_of_the_same_name_are_refused():
    with pytest.raises(ValueError, match=r"off = .* is not allowed: .*'given samples'"):
        run(model(), rows(), SMALL, off={"given samples": rows(20, 1)}, progress=False)


@pytest.mark.parametrize("name", ["ebd", "entropy"])
def test_labels_of_no_class_are_refused(name):
    x, y = rows()
    with pytest.raises(ValueError, match="y has labels from 1 to 4: a model of 4 classes has 0 to"):
        run(model(), (x, y + 1), [name], progress=False)


def test_the_file_holds_it_and_what_it_holds_is_not_measured_again(tmp_path, monkeypatch):
    out = tmp_path / "metrics" / "test.json"
    first = run(model(), rows(), {"eni": {"draws": 3}}, out=out, progress=False)
    assert MetricReport.load(out) == first
    monkeypatch.setattr("sparring.metrics.ENI.values", None)
    second = run(model(), rows(), SMALL, out=out, progress=False)
    assert second.rows[1] == first.rows[0]
    assert len(MetricReport.load(out).rows) == 3


def test_another_model_or_argument_is_measured_anew(tmp_path):
    out = tmp_path / "test.json"
    first = run(model(), rows(), {"eni": {"draws": 3}}, out=out, progress=False).rows
    more = run(model(), rows(), {"eni": {"draws": 4}}, out=out, progress=False).rows
    assert more[0].value != first[0].value
    other = Net(6, 4, scale=2.0, seed=1)
    assert run(other, rows(), {"eni": {"draws": 4}}, out=out, progress=False).rows != more


def test_the_seed_draws_samples_and_noise():
    how = {"n": 10, "progress": False}
    a, b, c = (run(model(), rows(), SMALL, seed=s, **how) for s in (0, 0, 1))
    strip = [[(r.name, r.value) for r in m.rows] for m in (a, b, c)]
    assert strip[0] == strip[1] != strip[2]
    assert a.n == 10


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}', '{"schema": 1, "profiles": []}'])
def test_a_file_of_something_else(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.json (is no complete JSON|is not a file of metrics)"):
        MetricReport.load(path)


def test_no_value_at_all_is_null_in_the_file(tmp_path):
    """Class 0 wherever one looks: nothing has a distance."""
    still = torch.nn.Linear(6, 2)
    with torch.no_grad():
        still.weight.mul_(1e-3)
        still.bias.copy_(torch.tensor([1.0, 0.0]))
    x = rows()[0]
    out = tmp_path / "a.json"
    run(still, (x, torch.zeros(30).long()), ["deepfool-l2"], out=out, progress=False)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["value"] is row["low"] is row["median"] is None
    assert row["undefined"] == 30


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="did you mean 'entropy'"):
        run(model(), rows(), ["entropi"], progress=False)
    with pytest.raises(ValueError, match=r"metric eni: .*unexpected keyword"):
        run(model(), rows(), {"eni": {"drws": 3}}, progress=False)
    with pytest.raises(ValueError, match="batch_size = 0 is not allowed"):
        run(model(), rows(), SMALL, batch_size=0, progress=False)
    with pytest.raises(ValueError, match="off = "):
        run(model(), rows(), SMALL, off={"o": (torch.rand(3, 5), torch.zeros(3).long())})


def test_logits_that_are_not_finite_are_refused():
    x, y = rows()
    torn = lambda v: torch.where(v[:, :1] > x[3, 0], torch.inf, 1.0) * model()(v)  # noqa: E731
    over = int((x[:, 0] > x[3, 0]).sum())
    with pytest.raises(ValueError, match=rf"not finite at {over} of 30 samples of given samples"):
        run(torn, (x, y), ["entropy"], progress=False)
    near = (x.clamp_max(x[3, 0].item()), y)
    assert run(torn, near, ["entropy"], progress=False).rows[0].value is not None
    with pytest.raises(ValueError, match=r"at 4 of 4 samples of away"):
        run(torn, near, ["entropy"], off={"away": (torch.ones(4, 6), y[:4])}, progress=False)
