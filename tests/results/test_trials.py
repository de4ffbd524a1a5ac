"""Records of a search: the best trial, the front, and what accuracy depends on."""

import pytest

from sparring.results.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    SearchRecord,
    Trial,
    importance,
    pareto,
)


def record(pairs, **parameters) -> SearchRecord:
    names = [
        dict(zip(parameters, row, strict=True)) for row in zip(*parameters.values(), strict=True)
    ]
    trials = [
        Trial(k, COMPLETE, names[k] if names else {}, robust, clean)
        for k, (robust, clean) in enumerate(pairs)
    ]
    return SearchRecord("tiny", dict.fromkeys(parameters, "1..2"), {}, trials=trials)


def test_the_best_is_the_most_robust_then_the_cleanest_then_the_first():
    assert record([(0.5, 0.9), (0.6, 0.7), (0.6, 0.8), (0.6, 0.8)]).best.number == 2
    assert record([]).best is None
    ended = Trial(0, PRUNED, {}, 0.9, 0.9), Trial(1, FAILED, {}), Trial(2, COMPLETE, {}, 0.1, 0.2)
    assert SearchRecord("tiny", {}, {}, trials=[*ended]).best.number == 2


def test_the_front_is_that_of_brute_force():
    pairs = [(0.5, 0.9), (0.6, 0.8), (0.4, 0.8), (0.6, 0.8), (0.3, 0.95), (0.5, 0.85)]
    beaten = {
        k
        for k, (r, c) in enumerate(pairs)
        if any(a >= r and b >= c and (a, b) != (r, c) for a, b in pairs)
    }
    front = {trial.number for trial in pareto(record(pairs).trials)}
    assert front == {0, 1, 4}
    assert front <= set(range(6)) - beaten


def test_importance_is_one_where_a_parameter_explains_all():
    pairs = [(0.1 * k, 0.5) for k in range(6)]
    made = record(pairs, order=range(6), choice=["a", "a", "a", "b", "b", "b"], same=[1] * 6)
    shares = importance(made)
    assert list(shares) == ["order", "choice", "same"]
    assert shares["order"] == pytest.approx(1.0)
    assert shares["choice"] == pytest.approx(0.135 / 0.175)
    assert shares["same"] == 0.0
    assert importance(record(pairs[:3], order=range(3))) == {}
    assert importance(record([(0.5, 0.5)] * 5, order=range(5))) == {}


def test_a_record_is_read_as_it_was_written(tmp_path):
    made = record([(0.5, 0.9), (0.6, 0.8)], beta=[1, 2.5])
    made.save(tmp_path / "search.json")
    assert SearchRecord.load(tmp_path / "search.json") == made
    text = (tmp_path / "search.json").read_text()
    for old, new in (('"number": 1', '"number": 7'), ('"complete"', '"done"')):
        (tmp_path / "search.json").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match="its trials are out of order"):
            SearchRecord.load(tmp_path / "search.json")
