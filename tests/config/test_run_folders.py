"""A path to a run is its run, whatever it is called; a base hands on its seed."""

from pathlib import Path

from sparring.config.recipe import load_recipe


def test_a_run_that_is_called_as_a_shipped_recipe_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits-pgd-at", "digits-mart"):  # the second has a base
        run = Path(name)
        trained = load_recipe(name, set=["train.epochs=1", "data.seed=9"])
        run.mkdir()
        (run / "recipe.toml").write_text(trained.toml())
        assert load_recipe(run).tables == trained.tables
        assert load_recipe(name).tables["train"]["epochs"] == 40


def test_a_folder_without_a_recipe_hides_no_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits-mart").mkdir()
    assert load_recipe(Path("digits-mart")).name == "digits-mart"


def test_a_base_hands_on_its_seed(tmp_path):
    (tmp_path / "base.toml").write_text('[recipe]\nbase = "digits-mart"\nseed = 7\n')
    (tmp_path / "child.toml").write_text('[recipe]\nbase = "base.toml"\n')
    (tmp_path / "other.toml").write_text('[recipe]\nbase = "base.toml"\nseed = 8\n')
    assert [load_recipe(tmp_path / f"{n}.toml").seed for n in ("child", "other")] == [7, 8]
    assert load_recipe(tmp_path / "child.toml").name == "child"
