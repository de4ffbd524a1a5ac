"""Write the card of a model: what it is, how robust it was measured to be, and its limits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..results.levels import defence
from ..results.result import EpsRow, Result
from ..results.verdicts import SOUND
from ..runtime.fractions import format_number
from ..runtime.text import printable
from . import format

MEASUREMENT = {
    "sound": "No symptom of masked gradients fired, and attacks without gradients ran.",
    "look": "Read the reasons below before you rely on the robust accuracy.",
    "not sound": "Do not rely on the robust accuracy: the reasons are below.",
}
RECIPE_ROWS = (  # table of the recipe, and the heading of its row
    ("method", "Method"),
    ("threat", "Trained against"),
    ("attack", "Attack in training"),
    ("risk", "Risk"),
    ("model", "Network"),
)


class CardFacts(NamedTuple):
    """Collect what the results do not say.

    Arguments:
        name: of the model.
        recipe: tables of the resolved recipe.
        data: name of the data set.
        license: identifier of Hugging Face, as "apache-2.0"; "" if it is not stated.
        bibtex: of the papers behind the recipe; "" if there are none.
        repo: on the hub, as "user/name"; "" if unknown.
    """

    name: str
    recipe: Mapping[str, Any]
    data: str
    license: str = ""
    bibtex: str = ""
    repo: str = ""


def model_card(results: Sequence[Result], facts: CardFacts) -> str:
    """Return Markdown behind the front matter that Hugging Face reads.

    Texts of a result, which may be a stranger's, are escaped: they become no markup.

    Raises:
        ValueError: if there are no results.
    """
    format.require_results(results)
    parts = [
        _front_matter(results, facts),
        f"# {_plain(facts.name)}",
        _summary(results, facts),
        "## Robustness",
        *(part for r in results for part in _measured(r)),
        "## Training",
        _recipe(facts),
        "## Use",
        _use(results, facts),
        "## Limits",
        _limits(results),
        "## License",
        _plain(facts.license) if facts.license else "The author has not stated a license.",
    ]
    if facts.bibtex:
        parts += ["## Citation", f"```bibtex\n{facts.bibtex.strip()}\n```"]
    return "\n\n".join(filter(None, parts)) + "\n"


def _front_matter(results: Sequence[Result], facts: CardFacts) -> str:
    """Return the YAML block; strings are written as JSON, which is YAML that needs no escapes."""
    task = "image-classification" if _is_picture(facts) else "tabular-classification"
    method = str(_table(facts.recipe, "method").get("name", ""))
    tags = ["adversarial-robustness", "sparring", method and f"method:{method}"]
    measured = [
        {
            "task": {"type": task},
            "dataset": {"name": r.dataset, "type": r.dataset, "split": r.split},
            "metrics": [
                {"type": "accuracy", "name": name, "value": round(100 * share.accuracy, 2)}
                for name, share in _accuracies(r)
            ],
        }
        for r in results
    ]
    table = {
        **({"license": facts.license} if facts.license else {}),
        "library_name": "sparring",
        "pipeline_tag": task,
        "tags": [tag for tag in tags if tag],
        "datasets": [facts.data],
        "metrics": ["accuracy"],
        "model-index": [{"name": facts.name, "results": measured}],
    }
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in table.items()}
    lines = [f"{key}: {text}".replace("<", "\\u003c") for key, text in texts.items()]
    return "\n".join(["---", *lines, "---"])


def _accuracies(r: Result) -> Iterator[tuple[str, Any]]:
    yield "clean accuracy in %", r.clean
    for row in r.by_eps:
        yield f"robust accuracy in % ({_threat(r, row)}, {r.suite} v{r.suite_version})", row.robust


def _summary(results: Sequence[Result], facts: CardFacts) -> str:
    """Return what the model is, in two sentences."""
    method, threat = (_table(facts.recipe, key) for key in ("method", "threat"))
    network = _table(facts.recipe, "model").get("name", "network")
    against = ""
    if threat.get("name"):
        eps = threat.get("eps")
        radius = f" with eps {format_number(eps)}" if isinstance(eps, int | float) else ""
        against = f" against the threat {threat['name']}{radius}"
    trained = f"trained by {method.get('name', 'its recipe')}{against}"
    if defence(results[0]) == "undefended":
        trained = "trained without an adversary"
    text = f"A classifier ({network}) of {len(results[0].class_names)} classes, {trained}, on "
    return _plain(f"{text}{facts.data}. Each robust accuracy below comes with its verdict.")


def _measured(r: Result) -> Iterator[str]:
    """Yield a result: heading, table, verdict with its reasons."""
    subject = f"{r.suite} v{r.suite_version} on {r.n:,} samples of {r.dataset} {r.split}"
    yield f"### {_plain(subject)}"
    rows = [("clean", "", format.percent(r.clean), "")]
    for row in r.by_eps:
        # in a cascade each attack meets what the ones before left: none is the strongest
        alone = len({a.attacked for a in row.attacks}) == 1
        attacks = sorted(row.attacks, key=lambda a: a.accuracy)[:1] if alone else []
        strongest = f"{attacks[0].name} {100 * attacks[0].accuracy:.2f}" if attacks else ""
        rows.append(("robust", _threat(r, row), format.robust_text(row), strongest))
        for c in row.certified:
            rows.append(("certified", _threat(r, row), format.certificate_text(c), c.name))
    if len(format.threat_names([r])) > 1:
        rows.append(("robust", "all of them", format.worst_case_text(r), ""))
    heads = ("accuracy", "threat", "% [95 % interval]", "strongest attack")
    lines = [heads, ("---",) * len(heads), *rows]
    yield "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)
    verdict = r.verdict or "no verdict"
    text = f"**Measurement: {verdict}** ({_plain(r.reason)}). {MEASUREMENT.get(r.verdict, '')}"
    yield text.strip()
    reasons = [f"{c.name}: {c.detail}. {c.advice}" for c in format.fired_checks(r)]
    reasons += [text for text in format.other_reasons(r) if text != r.reason]
    reasons += [f"The evaluation ended early: {r.early}"] * bool(r.early) + r.notes
    yield "\n".join(f"* {_plain(reason)}" for reason in dict.fromkeys(reasons))
    yield f"SHA-256 of the data: `{_code(r.data_sha256)}` · seed {r.seed} · {_versions(r)}"


def _versions(r: Result) -> str:
    names = ("sparring", "torch")
    return _plain(" · ".join(f"{n} {r.versions[n]}" for n in names if n in r.versions))


def _recipe(facts: CardFacts) -> str:
    """Return the pieces of the recipe with their numbers, a row for each."""
    lines = ["| | |", "| --- | --- |"]
    for key, head in RECIPE_ROWS:
        table = _table(facts.recipe, key)
        numbers = [f"{k} {_number(v)}" for k, v in table.items() if k != "name" and _is_number(v)]
        if table:
            text = ", ".join([str(table.get("name", "")), *numbers])
            lines.append(f"| {head} | {_plain(text)} |")
    train = _table(facts.recipe, "train")
    optimizer = _table(train, "optimizer")
    epochs = train.get("epochs", "?")
    if _is_number(train.get("seconds")):
        epochs = f"those of {_number(train['seconds'])} s by the clock,"
    if _is_number(train.get("passes")):
        epochs = f"those of {_number(train['passes'])} passes,"
    text = f"{epochs} of {train.get('batch_size', '?')} samples per batch"
    text += f", {optimizer.get('name', '')} with lr {optimizer.get('lr', '?')}"
    lines.append(f"| Epochs | {_plain(text)} |")
    return "\n".join(lines) + "\n\n`recipe.toml` has every number."


def _use(results: Sequence[Result], facts: CardFacts) -> str:
    shape = _table(facts.recipe, "model").get("shape", [])
    sizes = ", ".join(["b", *map(str, shape)]) if isinstance(shape, list) else "b, ..."
    folder = _word(facts.repo.rpartition("/")[2] or facts.name)
    lines = ["$ pip install sparring"]
    if facts.repo:
        lines.append(f"$ hf download {_word(facts.repo)} --local-dir {folder}")
    options = [_word(word) for pair in format.suite_options(results[0].suite) for word in pair]
    lines.append(f"$ sparring evaluate {folder} {' '.join(options)}")
    code = [
        "import sparring",
        "",
        f'model = sparring.load("{folder}")  # the folder with recipe.toml and best.safetensors',
        f"# inputs ({sizes}) as in the data: normalisation is inside; outputs are logits",
    ]
    shell, python = "\n".join(lines), "\n".join(code)
    return f"```console\n{shell}\n```\n\n```python\n{python}\n```"


def _limits(results: Sequence[Result]) -> str:
    """Return what the numbers do not claim."""
    threats = ", ".join(dict.fromkeys(_threat(r, row) for r in results for row in r.by_eps))
    lines = [
        f"The numbers hold for these threats alone: {threats}. Other norms, larger radii, "
        "rotations, blur or patches were not measured.",
        "An attack bounds robustness from above: a stronger one may find more. Only certified rows "
        "are proofs.",
        "The classes are those of the training data. The model answers with one of them for any "
        "input, also for one of none.",
        "It is meant for research and comparison. Before use where errors harm people, measure it "
        "on data of that use.",
    ]
    if any(r.verdict != SOUND for r in results):
        lines.insert(1, "Not every measurement above is sound; its reasons say what is missing.")
    return "\n".join(f"* {_plain(line)}" for line in lines)


def _threat(r: Result, row: EpsRow) -> str:
    return format.radius_text(row, format.threat_name(r, row))


def _is_picture(facts: CardFacts) -> bool:
    shape = _table(facts.recipe, "model").get("shape")
    return isinstance(shape, list) and len(shape) == 3


def _table(tables: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = tables.get(key)
    return table if isinstance(table, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> str:
    return format_number(value) if isinstance(value, float) else str(value)


def _plain(text: object) -> str:
    """Return text as Markdown that shows it as it is.

    >>> print(_plain("a|b <script> [x](y)"))
    a\\|b &lt;script> \\[x\\](y)
    """
    shown = printable(text, 600).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_|\[\]#])", r"\\\1", shown)


def _code(text: object) -> str:
    return re.sub(r"[^0-9A-Za-z.:-]", "", printable(text))


def _word(text: str) -> str:
    """Return a name that a shell and Python read as one word."""
    return re.sub(r"[^0-9A-Za-z._/-]", "-", text) or "model"
