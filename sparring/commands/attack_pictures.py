"""Attack a person's own pictures, and record what the model says of the files that come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .. import models
from ..component import did_you_mean, require
from ..config.overrides import Overrides, override
from ..config.recipe import Recipe
from ..config.validation import check
from ..data import limits
from ..data.outside_pictures import Picture, fit_picture, read_picture
from ..data.picture_formats import formats
from ..evaluation import SUITES
from ..evaluation.picture_attack import PictureAttack, PictureTask
from ..evaluation.suites import Entry
from ..functional.jpeg import jpeg_round_trip, resize_round_trip
from ..introspect.predict import logits
from ..results.attacked_pictures import AttackedPictures, new_folder
from ..runtime import provenance
from ..runtime.fractions import format_number, parse_number
from ..runtime.interactive import shows_progress
from ..runtime.live import LiveLine, Screen
from ..runtime.text import printable
from ..serving.served import named_classes
from ..threats import Rounded, norm_ball, norm_name
from ..training import parallel
from .attack import named_piece
from .subject import check_preprocessing, existing_run, is_program, loaded_model, recipe_target

NAMES_LIMIT = 1 << 20  # bytes of a file of class names
STEM_LETTERS = 80


def attack_pictures(
    model: Any,
    pictures: str | Path | Sequence[str | Path],
    *,
    eps: float | str,
    threat: str = "Linf",
    attack: str = "apgd",
    options: Overrides = (),
    target: str | int | None = None,
    label: str | int | Sequence[str | int] = (),
    jpeg: int | Sequence[int] = (),
    resize: float | Sequence[float] = (),
    lead: float = 0.0,
    curve: bool = True,
    save: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    shape: str | Sequence[int] | None = None,
    recipe: str | Path | Recipe | None = None,
    set: Overrides = (),
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    scale: float | None = None,
    outputs: str = "logits",
    trust: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> AttackedPictures:
    """Attack pictures from anywhere; return a record that says what their files do to the model.

    Each picture is fitted to the model's input, attacked in a ball whose points are rounded to 8
    bits inside it, judged again after writing and reading a PNG, and tried in other formats.

    Arguments:
        model: a run folder; with `recipe` a file of weights; or, with `shape`, a program's file,
            "module:Class", a module or a function, as in `sparring.evaluate`.
        pictures: files: PNG, JPEG, WebP, BMP, TIFF, PPM.
        eps: radius in units of the pixels' range, as 0.03 or "8/255"; in Linf the largest whole
            number of levels in it counts.
        threat: the ball: `"Linf"`, `"L2"`, `"L1"` or `"L0"`.
        attack: of an attack or a suite, as `"pgd"` or `"autoattack"`.
        options: of the attack, as `["steps=200"]` or a mapping.
        target: class to reach, by name or number; default: any other than the label.
        label: the true class, of all pictures or of each; default: what the model says.
        jpeg: qualities that a success must outlast.
        resize: factors, as 0.5: a success must outlast resizing by it and back.
        lead: logits by which the wrong class must lead; more outlasts more.
        curve: attack at six radii too, for the model's confidence as eps grows.
        save: new or empty folder for the pictures and their record.
        classes: a file of names, one per line, or a list; default: those of the run's data.
        shape: of the model's inputs, as `(3, 224, 224)` or "3,224,224"; default: of the run's data.
        recipe, set, mean, std, scale, outputs, trust: as in `sparring.evaluate`.
        seed: of the attack's draws.
        device: default: the best there is.
        progress: show progress; default: on a terminal and in a notebook.

    Raises:
        ValueError: for a picture, name or number that does not fit.
        FileExistsError: for a folder to save in that has files.
        FileNotFoundError: for a picture or model that does not exist.
    """
    paths = [pictures] if isinstance(pictures, str | Path) else list(pictures)
    require(paths, "pictures", paths, "one picture or more")
    if save is not None:
        new_folder(save)
    qualities, factors = _several(jpeg), _several(resize)
    tried = formats(qualities, factors)  # checks both
    threat = norm_name(threat)
    radius = parse_number(str(eps))
    ball = Rounded(norm_ball(threat, eps=radius))  # type: ignore[arg-type]
    if radius > 0 == ball.eps:
        raise ValueError(
            f"eps = {radius:g} is not allowed: a file of 8 bits holds no change below 1/255"
        )
    entries = attack_entries(attack, ball, options)
    target_device = parallel.join_process_group(None if device is None else str(device))
    decoded = [read_picture(path) for path in paths]
    subject = picture_subject(
        model,
        shape=shape,
        classes=classes,
        recipe=recipe,
        set=set,
        preprocessing={"mean": mean, "std": std, "scale": scale, "outputs": outputs},
        trust=trust,
        device=str(target_device),
    )
    ball.check_reachable(subject.shape)
    tasks = picture_tasks(subject, decoded, label=label, target=target, device=target_device)
    transforms = [partial(jpeg_round_trip, quality=q) for q in qualities]
    transforms += [partial(resize_round_trip, factor=f) for f in factors]
    how = {"lead": lead, "seed": seed, "curve": curve}
    job = PictureAttack(ball, entries, transforms, tried, subject.classes, **how)
    shown = shows_progress(progress)
    try:
        done = [job.run(subject.model, task, target_device) for task in _watched(tasks, shown)]
    except ValueError as error:
        if "no gradient" not in str(error):
            raise
        raise ValueError(
            f"attack = {attack!r} needs a gradient: {error}. The suite 'black-box' and the attack "
            "'square' need none: --attack black-box"
        ) from None
    record = AttackedPictures(
        subject.name,
        threat,
        ball.eps,
        attack,
        list(subject.shape),
        [f"JPEG {q}" for q in qualities] + [f"resize {format_number(f)}" for f in factors],
        lead,
        seed,
        provenance.machine(target_device),
        provenance.versions(),
        provenance.commit(),
        [one for one, _ in done],
        pixels=[both for _, both in done],
    )
    if save is not None:
        record.save(save)
    return record


class PictureSubject(NamedTuple):
    """Hold a model of pictures, the shape of its inputs, and the names of its classes."""

    model: nn.Module
    shape: tuple[int, ...]
    classes: list[str]
    name: str


def picture_subject(
    model: Any,
    *,
    shape: str | Sequence[int] | None = None,
    classes: str | Path | Sequence[str] | None = None,
    recipe: str | Path | Recipe | None = None,
    set: Overrides = (),
    preprocessing: Mapping[str, Any] | None = None,
    trust: bool = False,
    device: str = "cpu",
) -> PictureSubject:
    """Return a model with the shape of its inputs and its classes; arguments: `attack_pictures`.

    Raises:
        ValueError: for a model of other inputs than pictures, without a shape, or other classes.
    """
    path = Path(model) if isinstance(model, str | Path) else None
    names: list[str] | None = None
    if path is not None and recipe is None and not is_program(path):
        existing_run(path)
    if recipe is not None or (path is not None and not is_program(path)):
        run = recipe_target(model, recipe, set=set, trust=trust)
        network, name, sides = run.model, run.name, tuple(run.data.shape)
        names = run.data.class_names
        low, high = run.data.bounds
        require((low, high) == (0.0, 1.0), "data.bounds", (low, high), "0 and 1 for pictures")
    else:
        check_preprocessing(model, preprocessing or {})
        loaded = loaded_model(model, trust=trust, device=device)
        network = models.wrap_model(loaded, **(preprocessing or {}))
        name = (
            type(model).__name__ if path is None else (path.stem if path.is_file() else str(model))
        )
        sides = input_shape(shape)
    moved, _ = provenance.model_on_device(network, device)
    k = _class_count(moved, sides, device)
    # A model trained elsewhere may have other classes than the data of the recipe.
    names = named_classes(names or (), k) if classes is None else class_names(classes, k)
    return PictureSubject(moved, sides, names, printable(name))  # type: ignore[arg-type]


def _class_count(model: Any, shape: tuple[int, ...], device: str) -> int:
    """Return k of a model's logits `(b, k)`.

    Raises:
        ValueError: for a shape that is no picture's, or that the model does not take.
    """
    grey = Picture("", torch.zeros(1, 1, 1, dtype=torch.uint8), [])
    x, _ = fit_picture(grey, shape)
    try:
        return logits(model, x.to(device)[None]).shape[1]
    except (Exception, SystemExit) as error:  # foreign code may raise anything, or exit
        raise ValueError(
            f"the model does not take pictures of shape {shape}: {printable(error)}"
        ) from error


def input_shape(shape: str | Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of inputs, given as numbers or as text.

    >>> input_shape("3,224,224")
    (3, 224, 224)
    """
    if shape is None:
        raise ValueError(
            "shape is missing: a model without recipe needs --shape, that of its inputs, such as "
            "--shape 3,224,224"
        )
    parts = shape.replace("x", ",").split(",") if isinstance(shape, str) else shape
    try:
        sides = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        sides = ()
    ok = len(sides) == 3 and sides[0] in (1, 3) and all(0 < n <= 8192 for n in sides)
    require(ok, "shape", shape, "channels 1 or 3, height and width, such as 3,224,224")
    return sides


def class_names(classes: str | Path | Sequence[str], count: int) -> list[str]:
    """Return the names of `count` classes, from a list or a file with one per line.

    Raises:
        ValueError: for another number of names, or one that comes twice.
    """
    if isinstance(classes, str | Path):
        content = limits.read(classes)
        require(len(content) <= NAMES_LIMIT, "classes", str(classes), "a file of names")
        text = content.decode("utf-8-sig", errors="replace")
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        names = [str(name) for name in classes]
    twice = [name for name, n in Counter(names).items() if n > 1]
    require(not twice, "classes", twice[:1], "names that differ")
    if len(names) != count:
        raise ValueError(f"classes has {len(names)} names, and the model {count} classes")
    return [printable(name, 100) for name in names]


def class_number(key: str, name: str | int, classes: Sequence[str]) -> int:
    """Return the number of a class given by its name, or by the number itself.

    Raises:
        ValueError: for another name; the message has the nearest.

    >>> class_number("target", "dog", ["cat", "dog"]), class_number("label", "0", ["cat", "dog"])
    (1, 0)
    """
    text = str(name)
    by_letters = {k.lower(): i for i, k in enumerate(classes)}
    if text in classes:
        return list(classes).index(text)
    if text.lower() in by_letters:
        return by_letters[text.lower()]
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise ValueError(did_you_mean(key, text, classes))


def picture_tasks(
    subject: PictureSubject,
    pictures: Sequence[Picture],
    *,
    label: str | int | Sequence[str | int] = (),
    target: str | int | None = None,
    device: str | torch.device = "cpu",
) -> list[PictureTask]:
    """Fit pictures to a model, and give each its label, its target and a name of its own.

    Raises:
        ValueError: for a number of labels that fits neither all nor each, an unknown class, or a
            target that is the label.
    """
    given = [class_number("label", one, subject.classes) for one in _several(label)]
    if len(given) not in (0, 1, len(pictures)):
        raise ValueError(
            f"label is given {len(given)} times for {len(pictures)} pictures: give one for all, or "
            "one for each"
        )
    given = given * len(pictures) if len(given) == 1 else given
    goal = None if target is None else class_number("target", target, subject.classes)
    tasks = []
    for i, (picture, name) in enumerate(zip(pictures, file_names(pictures), strict=True)):
        x, notes = fit_picture(picture, subject.shape)
        answer = int(logits(subject.model, x.to(device)[None]).argmax(1))
        y = given[i] if given else answer
        if given and goal == y:
            raise ValueError(
                f"target = {subject.classes[y]!r} is the label of {picture.name}: name another"
            )
        notes = [*picture.notes, *notes]
        tasks.append(PictureTask(name, picture.name, x, notes, y, bool(given), goal))
    return tasks


def file_names(pictures: Sequence[Picture]) -> list[str]:
    """Return a name for each picture's files: that of its own file, numbered where it repeats.

    >>> empty = torch.zeros(1, 1, 1, dtype=torch.uint8)
    >>> file_names([Picture(name, empty, []) for name in ("a/cat.png", "b/cat.jpg", "dog.png")])
    ['cat', 'cat-2', 'dog']
    """
    taken: dict[str, int] = {}
    names = []
    for picture in pictures:
        stem = "".join(c if c.isalnum() or c in "-_.+ " else "_" for c in Path(picture.name).stem)
        stem = stem.strip(". -")[:STEM_LETTERS] or "picture"
        name, number = stem, 1
        # "-before" is an ending of files that are written beside it
        while name.lower() in taken or name.lower().endswith(("-before", "-difference")):
            number += 1
            name = f"{stem}-{number}"
        taken[name.lower()] = number
        names.append(name)
    return names


def attack_entries(name: str, threat: Rounded, options: Overrides = ()) -> Sequence[Entry]:
    """Return the attacks that a name stands for: one with its options, or those of a suite.

    Raises:
        ValueError: for an unknown name, one without an attack for the threat, or wrong options.
    """
    pairs = options.items() if isinstance(options, Mapping) else map(override, options)
    keywords = dict(pairs)
    if name in SUITES and name != "pgd":
        require(not keywords, "options", keywords, f"left out for the suite {name}")
        return SUITES[name].entries_for(threat)
    maker = named_piece("attack", name)
    keywords = check(maker, keywords, "with", without=("self", "threat", "targeted", "seed"))
    maker(threat, **keywords)  # raises here for a threat that it does not take
    return [Entry(name, lambda t: maker(t, **keywords), norms=(threat.p,))]


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _watched(tasks: Sequence[PictureTask], shown: bool) -> Iterator[PictureTask]:
    """Yield the tasks, with a live line of the one at work."""
    from rich.console import Console

    state = LiveLine(f"0/{len(tasks)}")
    with Screen(Console(stderr=True), lambda: state, enabled=shown):
        for i, task in enumerate(tasks):
            state.count, state.title = f"{i + 1}/{len(tasks)}", task.name
            state.done = i / len(tasks)
            yield task
