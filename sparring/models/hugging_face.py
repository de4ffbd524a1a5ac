"""Build image classifiers of the package transformers, from its hub or a folder."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..component import did_you_mean
from ..runtime.extras import import_extra
from ..runtime.importing import reason
from ..runtime.text import printable

SAFE = "model.safetensors"
# Of a configuration: what can fetch or run code, and what the data decide.
DROPPED = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation")
DROPPED += ("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype")
DROPPED += ("_commit_hash", "use_kernels", "problem_type")
HEAD = ("id2label", "label2id", "num_labels")
REFUSED = ("quantization_config", "compression_config")
ATTENTION = "eager"  # which every network has; never a kernel from the hub
BYTE = 1 / 255  # the factor of a processor that maps bytes to [0, 1]


def _transformers(name: str) -> Any:
    return import_extra("transformers", extra="timm", purpose=f"hf:{printable(name)}")


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Silence what transformers prints while it loads; restore its settings."""
    logging = transformers.utils.logging
    level, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shows_bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn errors of transformers into a `ValueError` that says what to do."""
    try:
        yield
    except Exception as error:  # it raises OSError, KeyError and more
        if "safetensors" in str(error):
            what = f"has no {SAFE}, and other formats are pickles, which can run code: save it by"
            text = f"hf:{printable(name)} {what} model.save_pretrained(FOLDER)"
        elif "trust_remote_code" in str(error):
            what = "brings code of its own, which sparring does not run"
            text = f"hf:{printable(name)} {what}"
        elif Path(name).is_dir():
            text = f"hf:{printable(name)} can't be loaded: {reason(error)}"
        else:
            what = "no folder of this name is here, and the hub does not give it"
            text = f"hf:{printable(name)} can't be loaded: {what} ({reason(error)})"
        raise ValueError(text) from error


def _config(name: str, *, dropped: Sequence[str] = (*DROPPED, *HEAD)) -> dict[str, Any]:
    """Return the plain configuration of a folder or a repository of the hub.

    Arguments:
        dropped: keys to leave out.

    Raises:
        ValueError: if there is none, or it is of no image classifier.
    """
    transformers = _transformers(name)
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        text = "has no config.json: model.save_pretrained(FOLDER) writes one"
        raise ValueError(f"hf:{printable(name)} {text}")
    with _quiet(transformers), _explained(name):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    return {k: v for k, v in config.to_diff_dict().items() if k not in dropped and v is not None}


def check(name: str, **model: Any) -> None:
    """Raise `ValueError` for an empty name, or if transformers is not installed."""
    if not name:
        raise ValueError('name = "hf:" needs a name behind it, or a folder')
    _transformers(name)


def facts(name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run keeps of a hub's network: its configuration, and mean and std of inputs."""
    known = {} if "config" in model else {"config": _config(name)}
    return known if "mean" in model and "std" in model else known | _normalization(name)


def _normalization(name: str) -> dict[str, Any]:
    """Return mean and std of the image processor that belongs to a network; without one, 0 and 1.

    Raises:
        ValueError: for a processor that scales bytes to another range than [0, 1].
    """
    transformers = _transformers(name)
    none = {"mean": [0.0], "std": [1.0]}
    mixin = import_extra(
        "transformers.image_processing_base", extra="timm", purpose=f"hf:{printable(name)}"
    ).ImageProcessingMixin
    with _quiet(transformers):
        try:
            processor, _ = mixin.get_image_processor_dict(name)
        except OSError:  # no such file
            return none
    factor = processor.get("rescale_factor", BYTE) if processor.get("do_rescale", True) else 1.0
    if abs(factor - BYTE) > 1e-4 * BYTE or processor.get("rescale_offset"):
        text = "scales pixels to another range than 0 to 1: give mean and std for inputs in [0, 1]"
        raise ValueError(f"the image processor of hf:{printable(name)} {text}")
    if not processor.get("do_normalize", True) or "image_mean" not in processor:
        return none
    mean, std = processor["image_mean"], processor.get("image_std", 1.0)
    return {
        "mean": [float(v) for v in (mean if isinstance(mean, list) else [mean])],
        "std": [float(v) for v in (std if isinstance(std, list) else [std])],
    }


def build(
    name: str,
    *,
    shape: Sequence[int],
    classes: int,
    config: Mapping[str, Any],
    pretrained: bool = False,
    fetch: bool = True,
    **kw: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build an image classifier for the data, with a head of the right size.

    Arguments:
        config: its configuration, as `facts` returns it.
        pretrained: start from the published weights, but for a head of other classes.
        fetch: load these weights; without, the network has their shapes alone.
        kw: change keys of the configuration, as hidden_dropout_prob.

    Returns the network, and what its forward pass needs beside pixels.

    Raises:
        ValueError: for an unknown key, or weights that are not at hand or do not fit.
    """
    settings = _settings(name, config, classes=classes)
    for key, value in kw.items():
        if key not in settings.to_dict() or key in (*DROPPED, *HEAD, *REFUSED):
            raise ValueError(did_you_mean(f"key of hf:{printable(name)}", key, config))
        setattr(settings, key, value)
    published_size, size = _sides(getattr(settings, "image_size", None)), tuple(shape[1:])
    channels = getattr(settings, "num_channels", shape[0])
    if not pretrained:
        if hasattr(settings, "num_channels"):
            settings.num_channels = shape[0]
        if published_size not in (None, size):
            square = isinstance(settings.image_size, int) and size[0] == size[1]
            settings.image_size = size[0] if square else list(size)
        return _from_config(name, settings), {}
    if channels != shape[0]:
        text = f"takes pictures of {channels} channels, the data have {shape[0]}"
        raise ValueError(f"hf:{printable(name)} {text}; pretrained = false fits it to the data")
    network = _from_pretrained(name, settings) if fetch else _from_config(name, settings)
    takes = inspect.signature(network.forward).parameters
    resizes = published_size not in (None, size) and "interpolate_pos_encoding" in takes
    return network, {"interpolate_pos_encoding": True} if resizes else {}


def load(name: str) -> tuple[nn.Module, tuple[int, int] | None]:
    """Return a published network, and the only size of pictures that it takes, or None."""
    config = _config(name, dropped=DROPPED)  # the head as it is published
    network = _from_pretrained(name, _settings(name, config), any_head=False)
    return network, _sides(getattr(network.config, "image_size", None))


def _settings(name: str, config: Mapping[str, Any], *, classes: int | None = None) -> Any:
    """Return a configuration of transformers from plain values."""
    transformers, config = _transformers(name), dict(config)
    if refused := [key for key in REFUSED if key in config]:
        raise ValueError(f"hf:{printable(name)} is quantized ({refused[0]}): it has no gradient")
    kind = config.pop("model_type", None)
    plain = {k: v for k, v in config.items() if k not in DROPPED}
    if classes is not None:
        plain["num_labels"] = classes
    try:
        settings = transformers.AutoConfig.for_model(kind, **plain)
    except Exception as error:
        raise ValueError(f"config of hf:{printable(name)} is damaged: {reason(error)}") from error
    if type(settings) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ValueError(f"hf:{printable(name)} is a {printable(kind)}, not an image classifier")
    return settings


def _from_config(name: str, settings: Any) -> nn.Module:
    transformers = _transformers(name)
    maker = transformers.AutoModelForImageClassification
    with _quiet(transformers):
        try:
            return maker.from_config(
                settings, trust_remote_code=False, attn_implementation=ATTENTION
            )
        except Exception as error:
            raise ValueError(
                f"name = 'hf:{printable(name)}' cannot be built: {reason(error)}"
            ) from error


def _from_pretrained(name: str, settings: Any, *, any_head: bool = True) -> nn.Module:
    """Return a network with the weights of a folder or a repository.

    Arguments:
        any_head: keep initial weights in a head of other classes.

    Raises:
        ValueError: without safetensors, or if the file lacks weights below the head.
    """
    transformers = _transformers(name)
    with _quiet(transformers), _explained(name):
        network, loading = transformers.AutoModelForImageClassification.from_pretrained(
            name,
            config=settings,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=any_head,
            output_loading_info=True,
            attn_implementation=ATTENTION,
            dtype=torch.float32,
        )
    absent = [*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])]
    below = [key for key in absent if key.startswith(f"{network.base_model_prefix}.")]
    if below or (absent and not any_head):
        count, first = len(below or absent), printable(sorted(below or absent)[0])
        text = f"its file lacks {count} weights of the network, as {first}"
        raise ValueError(f"hf:{printable(name)} can't be loaded: {text}")
    return network


def _sides(size: Any) -> tuple[int, int] | None:
    """Return (height, width) of a configuration's `image_size`."""
    if isinstance(size, int):
        return size, size
    ok = isinstance(size, list | tuple) and len(size) == 2
    return (int(size[0]), int(size[1])) if ok else None
