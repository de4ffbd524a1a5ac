"""Cards and uploads of a run: what is in them, and what never is."""

import json
import platform
import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import save_file

import sparring
from sparring.commands import card, push
from sparring.config.recipe import load_recipe
from tests.commands.folders import fake_run

SECRET = "/home/zoelle/secret"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A run whose weights are initial ones, evaluated on a few samples; its log names paths."""
    changes = ("model.name=mlp", "evaluation.eps=[0.05,0.1]")
    run = fake_run(tmp_path_factory.mktemp("card") / "my-run", done=2, changes=changes)
    recipe = load_recipe(run)
    source = recipe.source()
    complete = recipe.with_data(source)
    (run / "recipe.toml").write_text(complete.toml())
    network = complete.network()
    save_file(network.state_dict(), run / "best.safetensors")
    machine = {"device": platform.node(), "versions": {}, "commit": f"{SECRET}/.git"}
    (run / "machine.json").write_text(json.dumps(machine))
    about = {"name": "digits", "sha256": source.sha256, "path": f"../..{SECRET}/digits.npz"}
    (run / "data.json").write_text(json.dumps(about))
    sparring.evaluate(run, suite="quick", n=20, progress=False)
    return run


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
    hub = pytest.importorskip("huggingface_hub")
    loaded = hub.ModelCard(card.card(run, license="mit").read_text())
    (first, *_) = loaded.data.eval_results
    assert (loaded.data.license, first.dataset_name) == ("mit", "digits")


def test_a_card_without_a_license_says_so(run, tmp_path):
    text = card.card(run, out=tmp_path / "card.md").read_text()
    assert "license" not in front_matter(text)
    assert "The author has not stated a license." in text
    with pytest.raises(ValueError, match=r"license = .*must be an identifier"):
        card.card(run, license="mine: [all]\n---")


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
    assert "](http" not in text.split("---\n", 2)[2]


def written(content, folder):
    """A folder with what an upload has, as its download is."""
    for name, part in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(part if isinstance(part, bytes) else part.read_bytes())
    return folder


def test_an_upload_is_a_run_again(run, tmp_path):
    content = push.uploads(run, repo="ada/my-run", license="mit")
    assert list(content) == [
        *("README.md", "best.safetensors", "recipe.toml", "data.json", "results/quick-test.json")
    ]
    copy = written(content, tmp_path / "copy")
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(sparring.load(copy)(x), sparring.load(run)(x))
    ways = {"suite": "quick", "n": 20, "progress": False}
    first = sparring.Result.load(copy / "results" / "quick-test.json")
    again = sparring.evaluate(copy, out=tmp_path / "again.json", **ways)
    assert (again.clean, again.robust, again.notes) == (first.clean, first.robust, [])
    sparring.report([copy])
    assert "hf download ada/my-run --local-dir my-run" in (copy / "README.md").read_text()
    assert sparring.runs(copy)[0].note == ""


def test_nothing_of_the_machine_is_uploaded(run, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "zoelle-laptop")
    path = run / "results" / "quick-test.json"
    table = json.loads(path.read_text())
    table["notes"] = [f"read {SECRET}/mine.npz on zoelle-laptop"]
    table["recipe"]["data"]["name"] = f"{SECRET}/mine.npz"
    path.write_text(json.dumps(table))
    toml = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(toml.replace('name = "digits"', f'name = "{SECRET}/mine.npz"'))
    content = push.uploads(run)
    texts = {name: part.decode() for name, part in content.items() if isinstance(part, bytes)}
    for name, text in texts.items():
        for word in ("zoelle", "secret/", "home/", "laptop"):
            assert word not in text, (name, word)
    assert 'name = "mine.npz"' in texts["recipe.toml"]
    assert "read mine.npz on host" in texts["results/quick-test.json"]
    assert json.loads(texts["data.json"]).keys() == {"name", "sha256"}
    log = json.loads(texts["results/quick-test.json"])["train"]["log"]
    assert {*log[0]} <= {"epoch", "loss", "clean", "robust", "ema_robust"}


def test_links_are_refused(run, tmp_path):
    (tmp_path / "outside").write_text("# other")
    (run / "README.md").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="symbolic link"):
        push.push(run, "ada/net", dry_run=True)
    with pytest.raises(ValueError, match="symbolic link"):
        card.card(run)
    (run / "README.md").unlink()
    (run / "results" / "other.json").symlink_to(run / "results" / "quick-test.json")
    with pytest.raises(ValueError, match="symbolic link"):
        push.push(run, "ada/net", dry_run=True)


class FakeHub(ModuleType):
    """What push uses of huggingface_hub: nothing leaves the machine."""

    def __init__(self, *, token="hf_x", fails=None):
        super().__init__("huggingface_hub")
        self.calls, self.token, self.fails = [], token, fails

    def get_token(self):
        return self.token

    def CommitOperationAdd(self, path_in_repo, path_or_fileobj):
        return SimpleNamespace(name=path_in_repo, content=path_or_fileobj)

    def HfApi(self):
        return self

    def create_repo(self, repo, **options):
        if self.fails:
            raise self.fails
        self.calls.append(("create", repo, options))

    def create_commit(self, repo, operations, commit_message):
        self.calls.append(("commit", repo, [o.name for o in operations]))
        assert all(isinstance(o.content, bytes | str) for o in operations)
        return SimpleNamespace(repo_url=f"https://huggingface.co/{repo}")


@pytest.fixture
def hub(monkeypatch):
    def install(**options):
        fake = FakeHub(**options)
        monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
        return fake

    return install


def test_a_push_is_one_commit(run, hub):
    fake = hub()
    (run / "README.md").write_text("# mine")
    pushed = sparring.push(run, "ada/net", private=True)
    assert pushed.url == "https://huggingface.co/ada/net"
    assert fake.calls[0] == ("create", "ada/net", {"private": True, "exist_ok": True})
    assert fake.calls[1][2] == list(pushed.sizes)
    assert pushed.sizes["README.md"] == 6
    assert not {"last.pt", "log.jsonl", "machine.json"} & {*pushed.sizes}
    assert len(fake.calls) == 2


def test_a_dry_run_needs_no_package_and_no_token(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    pushed = push.push(run, "ada/net", dry_run=True)
    assert pushed.url == ""
    assert pushed.sizes["best.safetensors"] == (run / "best.safetensors").stat().st_size
    with pytest.raises(ValueError, match=r"push needs .*huggingface_hub: .*'sparring\[hub\]'"):
        push.push(run, "ada/net")


def test_what_stops_a_push_is_told(run, hub):
    hub(token=None)
    with pytest.raises(ValueError, match="needs a token of Hugging Face: hf auth login"):
        push.push(run, "ada/net")
    hub(fails=RuntimeError("403 Forbidden\x1b[2J: you do not own ada"))
    with pytest.raises(ValueError, match=r"ada/net was not written: RuntimeError: 403 .*x1b"):
        push.push(run, "ada/net")
    (run / "README.md").write_text("# mine")
    with pytest.raises(ValueError, match=r"license belongs to the card.*sparring card"):
        push.push(run, "ada/net", license="mit")
    (run / "best.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"best.safetensors does not exist"):
        push.push(run, "ada/net", dry_run=True)


@pytest.mark.parametrize(
    "repo",
    ["net", "ada/", "/net", "a/net/x", "../net", "a/-net", "a b/c", "a/n--t", "a/n\n"],
)
def test_a_wrong_repository_is_refused(run, repo):
    with pytest.raises(ValueError, match=r"repo = .*must be user/name"):
        push.push(run, repo, dry_run=True)
