"""Uploads of a run: what is in them, what never is, and what stops them."""

import json
import platform
import shutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

import sparring
from sparring.commands import card, push
from tests.commands.folders import SECRET, evaluated_run


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    return evaluated_run(tmp_path_factory.mktemp("card") / "my-run")


@pytest.fixture
def run(evaluated, tmp_path):
    return shutil.copytree(evaluated, tmp_path / "my-run")


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
