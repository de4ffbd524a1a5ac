"""Search the numbers of a recipe: trials by Optuna, judged on the validation split alone."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import reporting
from ..component import require_at_least
from ..config.overrides import Overrides, as_toml, override
from ..config.recipe import Recipe, load_recipe
from ..data import Source
from ..results.trials import COMPLETE, FAILED, PRUNED, SearchRecord, Trial
from ..runtime import distributed, files
from ..runtime.allocator import out_of_memory
from ..runtime.extras import import_extra
from ..runtime.importing import reason
from ..runtime.interactive import shows_progress
from ..runtime.lock import LOCK, locked
from ..runtime.search_progress import SearchProgress
from ..runtime.seeding import derive_seed
from ..runtime.text import printable
from ..training.run_folder import read_log, refuse_links
from . import train
from .rehearsal import new_folder
from .search_space import Dimension, Space, read_space, rehearse, with_values

RECORD, BEST, PAGE = "search.json", "best.toml", "search.html"
TRIAL = "trial-"  # and its number: the run folder of a trial
STARTUP = 10  # trials that are drawn at random, before the sampler learns from them
COMPARED = 5  # complete trials that a trial must fall behind, to be ended early
FIRST_SHARE = 3  # no trial ends before this part, 1 / 3, of its epochs: warm-ups look bad early
LEAST_EPOCHS = 2  # and never before these
HOPELESS = 3  # trials that failed, and no other: the search ends
VALIDATED = ("robust", "clean")


class SearchInterrupted(KeyboardInterrupt):
    """Report that Ctrl-C ended a search; the same call goes on.

    Arguments:
        out: its folder.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(str(out))
        self.out = out


@dataclass(frozen=True)
class SearchResult:
    """Hold what a search wrote: its folder, its record, the best recipe and the page."""

    out: Path
    record: SearchRecord

    @property
    def best(self) -> Trial | None:
        """Return the best complete trial, None if there is none."""
        return self.record.best

    @property
    def recipe(self) -> Path:
        """Return the file of the best recipe."""
        return self.out / BEST

    @property
    def page(self) -> Path:
        """Return the file of the report."""
        return self.out / PAGE


def search(
    recipe: str | Path | Recipe,
    space: Space,
    *,
    trials: int = 30,
    out: str | Path | None = None,
    set: Overrides = (),
    fidelity: Sequence[str] = (),
    seed: int = 0,
    prune: bool = True,
    trust: bool = False,
    device: str | None = None,
    progress: bool | None = None,
) -> SearchResult:
    """Train a recipe with different numbers, and keep those of the highest robust accuracy.

    Accuracies are of the validation split under the recipe's validation attack; the test split is
    not read. After a kill the same call goes on, within the epoch that was cut short. Values,
    weights and accuracies of a serial search depend on `seed` alone.

    Arguments:
        recipe: a shipped recipe's name, a `.toml` file, or a `Recipe`.
        space: texts as `"method.beta=1..10:log"`, or a mapping of paths to such ranges or lists
            of choices. The threat of validation stays the recipe's, whatever they change.
        trials: how many, those of earlier calls among them.
        out: the search's folder; default: `runs/NAME-search`.
        set, trust: as in `config.recipe.load_recipe`.
        fidelity: changes of the trials alone, as `["train.epochs=3", "data.limit=1000"]`; the best
            recipe has its own numbers.
        seed: of the values that are tried; each training has the recipe's.
        prune: end a trial early that is behind the median of the complete ones.
        device: default: the recipe's.
        progress: show progress; default: on a terminal and in a notebook.

    Raises:
        ValueError: for a space that does not fit the recipe, or a folder with another search.
        Locked: if another process searches there.
        SearchInterrupted: on Ctrl-C, with the folder.
    """
    require_at_least(1, trials=trials)
    optuna = import_extra("optuna", extra="search", purpose="sparring search")
    base = load_recipe(recipe, set=set, trust=trust)
    if "attack" not in base.tables["validation"]:
        raise ValueError(
            f"validation.attack is missing in {printable(base.name)}: a search compares accuracy "
            "under attack, so change the recipe by set, as validation.attack=PGD"
        )
    dimensions = read_space(space)
    fidelity = [f"{path}={as_toml(v)}" for path, v in map(override, fidelity)]
    folder = Path("runs", f"{base.name}-search") if out is None else new_folder(out)
    record = SearchRecord(
        base.name, {d.path: d.text for d in dimensions}, base.tables, fidelity, seed, prune
    )
    sources = _Sources()
    rehearse(base, dimensions, fidelity, sources)
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)
    for path in folder.glob(f"{TRIAL}*"):  # a trial is written where it leads
        files.refuse_link(path)
    with locked(folder / LOCK, "searching"):
        record = _continued(folder, record)
        watched = SearchProgress(
            enabled=shows_progress(progress) and distributed.rank() == 0,
            name=base.name,
            paths=[*record.space],
            trials=trials,
        )
        try:
            with watched:
                for trial in record.trials:
                    watched.trial(trial)
                runner = _Runner(optuna, base, dimensions, folder, sources, device, watched)
                for number in range(len(record.trials), trials):
                    trial = runner.run(record, number)
                    record = replace(record, trials=[*record.trials, trial])
                    record.save(folder / RECORD)
                    watched.trial(trial)
                    _require_hope(record)
        except KeyboardInterrupt as error:
            raise SearchInterrupted(folder) from error
        _write_best(base, record, folder)
        reporting.search_page(record, folder / PAGE)
    return SearchResult(folder, record)


def _continued(folder: Path, record: SearchRecord) -> SearchRecord:
    """Return the record of the search in a folder, or start it there.

    Raises:
        ValueError: if that search has other settings.
    """
    path = folder / RECORD
    if not path.is_file():
        record.save(path)
        return record
    before = SearchRecord.load(path)
    for key in ("name", "space", "recipe", "fidelity", "seed", "prune"):
        now, then = getattr(record, key), getattr(before, key)
        if json.dumps(now, sort_keys=True) != json.dumps(then, sort_keys=True):
            shown = "" if key == "recipe" else f" ({printable(then)}, and {printable(now)} now)"
            raise ValueError(
                f"{printable(folder)} holds a search with another {key}{shown}: give the same, or "
                "another folder (--out)"
            )
    return before


def _require_hope(record: SearchRecord) -> None:
    failed = [t for t in record.trials if t.state == FAILED]
    if len(failed) == len(record.trials) >= HOPELESS:
        raise ValueError(
            f"the first {len(failed)} trials failed, the last because {failed[-1].reason}"
        )


def _write_best(base: Recipe, record: SearchRecord, folder: Path) -> None:
    """Write the recipe with the values of the best trial, without the changes of the trials."""
    best = record.best
    if best is None:
        return
    recipe = with_values(base, (), best.parameters)
    tables = recipe.tables | {"recipe": recipe.tables["recipe"] | {"name": f"{base.name}-best"}}
    about = (
        f"# Trial {best.number} of {len(record.trials)}: robust {100 * (best.robust or 0):.2f} %, "
        f"clean {100 * (best.clean or 0):.2f} % on the validation split.\n"
    )
    files.write(folder / BEST, (about + replace(recipe, tables=tables).toml()).encode())


class _Sources:
    """Read each data set once, and leave its test split out, so that no trial can see it."""

    def __init__(self) -> None:
        self.whole: dict[str, Source] = {}

    def __call__(self, recipe: Recipe) -> Source:
        source = self.read(recipe)
        return replace(source, test=source.val.take(slice(0, 0)))

    def read(self, recipe: Recipe) -> Source:
        key = json.dumps(recipe.tables["data"], sort_keys=True)
        if key not in self.whole:
            self.whole[key] = recipe.source()
        return self.whole[key]


@dataclass(frozen=True)
class _Runner:
    """Run the trials of a search: Optuna names the values, the trainer yields the epochs."""

    optuna: Any
    base: Recipe
    dimensions: Sequence[Dimension]
    folder: Path
    sources: _Sources
    device: str | None
    watched: SearchProgress

    def run(self, record: SearchRecord, number: int) -> Trial:
        """Train a trial to its end, or until it falls behind; return its record.

        The study is made from the record, and the sampler has a seed for each trial: so a
        search that was killed draws what an uninterrupted one draws.
        """
        suggested = self._ask(record, number)
        values = {d.path: d.suggest(suggested) for d in self.dimensions}
        recipe = with_values(self.base, record.fidelity, values)
        run = self.folder / f"{TRIAL}{number:03d}"
        self.watched.begin(number, values, recipe.tables["train"]["epochs"])
        history: list[list[float]] = []
        state, rows, started, why = COMPLETE, [], time.perf_counter(), ""
        try:
            for row in self._rows(recipe, run):
                rows.append(row)
                self.watched.epoch(row["epoch"])
                if (measured := _measured(rows)) is not None:
                    history.append([row["epoch"], measured[0]])
                    suggested.report(measured[0], row["epoch"])
                    may_end = record.prune and _may_end(row, recipe.tables["train"])
                    if may_end and suggested.should_prune():
                        state = PRUNED
                        break
        # numbers that do not fit, a loss that explodes, a network too large: the search goes on
        except (ValueError, RuntimeError, MemoryError) as error:
            state, why = FAILED, printable(reason(error))
            if out_of_memory(error):
                warnings.warn(f"trial {number} ran out of memory", stacklevel=2)
        robust, clean = _measured(rows) or (None, None)
        seconds = round(rows[-1]["seconds"] + rows[-1]["val_seconds"], 3) if rows else 0.0
        seconds = seconds or round(time.perf_counter() - started, 3)
        done = len(rows)
        return Trial(number, state, values, robust, clean, done, seconds, history, why)

    def _rows(self, recipe: Recipe, run: Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of the log: first those of an earlier session, then those to come."""
        rows = read_log(run) if run.is_dir() else []
        yield from rows
        source = self.sources.read(recipe)
        built = recipe.build(self.sources(recipe))
        steps = train.epochs(recipe, run, built, device=self.device, resume=True, recorded=source)
        for epoch in steps:
            if epoch.number > len(rows):  # a row may be there of an epoch that is trained again
                yield epoch.row()

    def _ask(self, record: SearchRecord, number: int) -> Any:
        """Return the next trial of a study with the trials so far."""
        optuna = self.optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=derive_seed(record.seed, number) % 2**32, n_startup_trials=STARTUP
        )
        pruner = optuna.pruners.MedianPruner(n_startup_trials=COMPARED)
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        states = optuna.trial.TrialState
        known = {COMPLETE: states.COMPLETE, PRUNED: states.PRUNED, FAILED: states.FAIL}
        spaces = {d.path: d.distribution(optuna.distributions) for d in self.dimensions}
        for trial in record.trials:
            study.add_trial(
                optuna.trial.create_trial(
                    state=known[trial.state],
                    value=None if trial.state == FAILED else trial.robust,
                    params=trial.parameters,
                    distributions=spaces,
                    intermediate_values={int(epoch): value for epoch, value in trial.history},
                )
            )
        return study.ask()


def _may_end(row: dict[str, Any], train: Mapping[str, Any]) -> bool:
    """Return whether a trial has trained long enough to be judged, at an epoch of its log.

    Arguments:
        train: `[train]` of the trial's own recipe: fidelity and space may change its epochs.
    """
    epochs = row.get("epochs", train["epochs"])  # of an open end, those that are expected
    return row["epoch"] >= max(LEAST_EPOCHS, epochs // FIRST_SHARE)


def _measured(rows: Iterable[dict[str, Any]]) -> tuple[float, float] | None:
    """Return robust and clean accuracy of the best epoch so far, of weights or their average."""
    pairs: list[tuple[float, float]] = []
    for row in rows:
        for prefix in ("", "ema_"):
            robust, clean = (row.get(prefix + key) for key in VALIDATED)
            if isinstance(robust, int | float) and isinstance(clean, int | float):
                pairs.append((robust, clean))
    return max(pairs, default=None)
