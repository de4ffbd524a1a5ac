"""Cards of a run: its numbers with their verdict, and no markup of a stranger."""

import json
import shutil

import pytest
import yaml

import sparring
from sparring.commands import card, cite, push
from tests.commands.folders import evaluated_run


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    return evaluated_run(tmp_path_factory.mktemp("card") / "my-run")


@pytest.fixture
def run(evaluated, tmp_path):
    return shutil.copytree(evaluated, tmp_path / "my-run")


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_card_has_the_numbers_with_their_verdict(run):
    result = sparring.Result.load(run / "results" / "quick-test.json")
    path = sparring.card(run, license="apache-2.0")
    text = path.read_text()
    assert path == run / "README.md"
    head = front_matter(text)
    assert (head["license"], head["library_name"]) == ("apache-2.0", "sparring")
    assert (head["datasets"], head["pipeline_tag"]) == (["digits"], "image-classification")
    (entry,) = head["model-index"]
    metrics = entry["results"][0]["metrics"]
    shares = [result.clean, *(row.robust for row in result.by_eps)]
    assert [m["value"] for m in metrics] == [round(100 * s.accuracy, 2) for s in shares]
    assert metrics[-1]["name"] == "robust accuracy in % (Linf eps 0.1, quick v1)"
    for part in (
        f"**Measurement: {result.verdict}** ({result.reason})",
        "no gradient-free attack ran, so masked gradients may hide",
        f"`{result.data_sha256}`",
        "| Method | MART, beta 5 |",
        "| Trained against | Linf, eps 0.1",
        "@inproceedings{wang2020mart,",
        'sparring.load("my-run")',
        "(b, 1, 8, 8)",
        "Not every measurement above is sound",
    ):
        assert part in text, part


def test_hugging_face_reads_the_card(run):
    import huggingface_hub as hub

    loaded = hub.ModelCard(card.card(run, license="mit").read_text())
    (first, *_) = loaded.data.eval_results
    assert (loaded.data.license, first.dataset_name) == ("mit", "digits")


def test_a_card_without_a_license_says_so(run, tmp_path):
    text = card.card(run, out=tmp_path / "card.md").read_text()
    assert "license" not in front_matter(text)
    assert "The author has not stated a license." in text
    with pytest.raises(ValueError, match=r"license = .*must be an identifier"):
        card.card(run, license="mine: [all]\n---")


def test_a_card_never_replaces_a_file_of_the_run(run):
    before = (run / "recipe.toml").read_bytes()
    with pytest.raises(ValueError, match=r"out = .*recipe\.toml.* a file that ends in \.md"):
        card.card(run, out=run / "recipe.toml")
    assert (run / "recipe.toml").read_bytes() == before


def test_a_run_without_results_says_what_to_do(run, tmp_path):
    shutil.rmtree(run / "results")
    for make in (lambda: card.card(run), lambda: push.uploads(run)):
        with pytest.raises(FileNotFoundError, match=r"no results.*sparring evaluate .* --suite"):
            make()
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        card.card(tmp_path)
    (run / "results").mkdir()
    (run / "results" / "quick-test.json").write_text("{")
    with pytest.raises(ValueError, match=r"quick-test.json is no complete JSON"):
        card.card(run)


def test_names_of_a_stranger_become_no_markup(run):
    path = run / "results" / "quick-test.json"
    table = json.loads(path.read_text())
    table["dataset"] = "a|b\n# <script>alert(1)</script> [x](http://x) `"
    table["notes"] = ["```\n---\nlicense: stolen"]
    path.write_text(json.dumps(table))
    text = card.card(run).read_text()
    assert "<script>" not in text
    assert "\n# <" not in text
    assert text.count("\n---\n") == 1
    assert front_matter(text)["datasets"][0].startswith("a|b\n# <script>")  # as a string
    assert "license" not in front_matter(text)
    assert "[x](http" not in text.split("---\n", 2)[2]


def test_no_attack_of_a_cascade_is_the_strongest_of_a_card(run):
    path = run / "results" / "quick-test.json"
    table = json.loads(path.read_text())
    for row in table["by_eps"]:
        row["attacks"][-1]["attacked"] = 1
    path.write_text(json.dumps(table))
    assert "strongest attack" in sparring.card(run).read_text()
    assert "PGD-20" not in (run / "README.md").read_text()


def test_a_paper_of_ones_own_makes_no_error(run):
    path = run / "recipe.toml"
    path.write_text(path.read_text().replace('"wang2020mart"', '"mine2024paper"'))
    assert "mine2024paper" not in sparring.card(run).read_text()
    with pytest.raises(ValueError, match=r"paper = 'mine2024paper' is not allowed: .* papers\.bib"):
        cite.cite(str(run))
