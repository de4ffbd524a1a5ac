"""Hold a model, its normalisation and a mode, as the attacks of torchattacks do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import attacks
from ..attacks.rows import wrong_classes
from ..component import checked, require, require_at_least
from ..functional.geometry import SLACK
from ..introspect import freeze, predict
from ..models import wrap_model
from ..runtime.output import write_line
from . import saved

TargetMap = Callable[[Tensor, Tensor], Tensor]
DEFAULT, BY_LABEL = "default", "targeted(label)"
UNKNOWN_TARGETS = "the attack has no target map: call a set_mode_targeted_… first"


class Attack:
    """Attack one model: `x_adv = attack(images, labels)`, images `(b, *d)` in [0, 1].

    Attributes:
        model, device: attacked model, and where images and labels are moved.
        attack_mode, targeted: set by `set_mode_…`; `supported_mode` has what the attack offers.
        normalization_used: mean and std that the images come with, or None.

    Differs: every submodule is put back into its own mode; inputs outside [0, 1] are refused; draws
    come from generators of our own, so that `torch.manual_seed` neither counts nor changes. The
    n-th call of an attack whose constructor has no seed draws with seed n − 1.
    """

    def __init__(self, name: str, model: Any) -> None:
        self.attack, self.calls = name, 0
        self.supported_mode = [DEFAULT]
        self.attack_mode, self.targeted = DEFAULT, False
        self.normalization_used: dict[str, Tensor] | None = None
        self._target_map: TargetMap | None = None
        self._training = (False, False, False)
        self._inside = False  # in `forward` on images in [0, 1] of a model of normalised ones
        self.members: list[Attack] = []  # attacks that share every setting of this one
        self.set_model(model)
        parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        self.device: Any = None if parameter is None else parameter.device

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return adversarial images of `images (b, *d)` in [0, 1] and `labels (b,)`."""
        raise NotImplementedError

    def __call__(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return adversarial inputs `(b, *d)`, normalised if the inputs are."""
        if labels is None:
            raise TypeError(f"{self.attack}: labels are missing: call it as attack(images, labels)")
        inputs, labels = inputs.detach().to(self.device), labels.detach().to(self.device)
        self.calls += 1
        if self.normalization_used is None:
            return self._run(inputs, labels)
        images = self.inverse_normalize(inputs)
        # (x − mean)/std·std + mean is off by a rounding, and so may lie just outside of the box
        inside = images.clamp(0, 1)
        images = torch.where((images - inside).abs() <= SLACK, inside, images)
        before, self._inside = self._inside, True
        try:
            return self.normalize(self._run(images, labels))
        finally:
            self._inside = before

    @property
    def network(self) -> Any:
        """Return the model of images in [0, 1]: with normalisation inside, if it is used."""
        if self.normalization_used is None:
            return self.model
        mean, std = (self.normalization_used[key].flatten().tolist() for key in ("mean", "std"))
        return wrap_model(self.model, mean=mean, std=std)

    def set_model(self, model: Any) -> None:
        """Attack another model from now on."""
        require(callable(model), "model", type(model).__name__, "a module or a function of images")
        self.model, self.model_name = model, type(model).__name__
        self._share("set_model", model)

    def set_device(self, device: str | torch.device) -> None:
        """Move images and labels there; default: the device of the model's weights."""
        self.device = device
        self._share("set_device", device)

    def set_normalization_used(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take and return images that are (x − mean)/std per channel; eps stays in units of x."""
        require(len(mean) == len(std), "std", list(std), f"of {len(mean)} numbers, as mean")
        require(min(std) > 0, "std", list(std), "numbers > 0")
        self.normalization_used = {
            key: torch.as_tensor(numbers, dtype=torch.float32).reshape(1, -1, 1, 1)
            for key, numbers in (("mean", mean), ("std", std))
        }
        self._share("set_normalization_used", mean, std)

    def normalize(self, inputs: Tensor) -> Tensor:
        """Return (x − mean)/std."""
        mean, std = self._mean_and_std(inputs)
        return (inputs - mean) / std

    def inverse_normalize(self, inputs: Tensor) -> Tensor:
        """Return x·std + mean."""
        mean, std = self._mean_and_std(inputs)
        return inputs * std + mean

    def get_mode(self) -> str:
        """Return the mode, as "default" or "targeted(label)"."""
        return self.attack_mode

    def set_mode_default(self) -> None:
        """Attack away from the labels."""
        self.attack_mode, self.targeted, self._target_map = DEFAULT, False, None
        write_line("Attack mode is changed to 'default.'")
        self._share("set_mode_default")

    def set_mode_targeted_by_label(self, quiet: bool = False) -> None:
        """Take the labels of a call as the classes to reach."""
        self._set_targeted(BY_LABEL, lambda images, labels: labels, quiet)
        self._share("set_mode_targeted_by_label", quiet)

    def set_mode_targeted_by_function(
        self, target_map_function: TargetMap, quiet: bool = False
    ) -> None:
        """Aim at `target_map_function(images, labels)`, as at `(labels + 1) % 10`."""
        self._set_targeted("targeted(custom)", target_map_function, quiet)
        self._share("set_mode_targeted_by_function", target_map_function, quiet)

    def set_mode_targeted_random(self, quiet: bool = False) -> None:
        """Aim at a random wrong class of each image."""
        self._set_targeted("targeted(random)", self._random_targets, quiet)
        self._share("set_mode_targeted_random", quiet)

    def set_mode_targeted_least_likely(self, kth_min: int = 1, quiet: bool = False) -> None:
        """Aim at the wrong class of the k-th smallest logit."""
        require_at_least(1, kth_min=kth_min)

        def least_likely(images: Tensor, labels: Tensor) -> Tensor:
            wrong = self._wrong_classes(images, labels)
            allowed = f"1 to {wrong.shape[1]}, the number of wrong classes"
            require(kth_min <= wrong.shape[1], "kth_min", kth_min, allowed)
            return wrong[:, -kth_min]

        self._set_targeted("targeted(least-likely)", least_likely, quiet)
        self._share("set_mode_targeted_least_likely", kth_min, quiet)

    def set_model_training_mode(
        self,
        model_training: bool = False,
        batchnorm_training: bool = False,
        dropout_training: bool = False,
    ) -> None:
        """Choose the modules' modes during attacks; default: eval. Running statistics stay."""
        self._training = (model_training, batchnorm_training, dropout_training)
        self._share("set_model_training_mode", *self._training)

    def get_logits(self, inputs: Tensor) -> Tensor:
        """Return the model's logits `(b, k)`: in `forward` of the images that it gets, otherwise of
        inputs as the model takes them."""
        return self.model(self.normalize(inputs) if self._inside else inputs)

    def get_target_label(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the classes to reach `(b,)`.

        Raises:
            ValueError: in a mode that is not targeted.
        """
        if self._target_map is None:
            raise ValueError(UNKNOWN_TARGETS)
        return self._target_map(images, labels).detach().long().to(labels.device)

    def save(self, *args: Any, **keywords: Any) -> Any:
        """Attack every batch of a loader and save the points: `saved.save`."""
        return saved.save(self, *args, **keywords)

    @staticmethod
    def load(*args: Any, **keywords: Any) -> Any:
        """Return a `DataLoader` of points that `save` wrote: `saved.load`."""
        return saved.load(*args, **keywords)

    def settings(self) -> dict[str, Any]:
        """Return the public attributes of this attack, as eps and steps."""
        hidden = ("model", "attack", "supported_mode", "members", "calls")
        return {k: v for k, v in vars(self).items() if k[0] != "_" and k not in hidden}

    def __repr__(self) -> str:
        values = self.settings() | {"normalization_used": self.normalization_used is not None}
        return f"{self.attack}({', '.join(f'{key}={value}' for key, value in values.items())})"

    @contextmanager
    def training_modes(self) -> Iterator[str]:
        """Put the modules into the modes that were set, and yield the mode for our attacks."""
        training, batch_norm, dropout = self._training
        if not training or not isinstance(self.model, nn.Module):
            yield "eval"
            return
        before = [(module, module.training) for module in self.model.modules()]
        self.model.train()
        for module, _ in before:
            name = type(module).__name__
            if ("BatchNorm" in name and not batch_norm) or ("Dropout" in name and not dropout):
                module.training = False
        try:
            yield "keep"
        finally:
            for module, mode in before:
                module.training = mode

    def _run(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return what `forward` gives, with the model held still whatever a subclass does to it."""
        with self.training_modes() as mode, freeze.frozen(self.model, mode):
            return self.forward(images, labels)

    def _share(self, setter: str, *values: Any) -> None:
        for member in self.members:
            getattr(member, setter)(*values)

    def _set_targeted(self, mode: str, target_map: TargetMap, quiet: bool) -> None:
        if "targeted" not in self.supported_mode:
            raise ValueError(f"{self.attack}: Targeted mode is not supported.")
        self.attack_mode, self.targeted, self._target_map = mode, True, target_map
        if not quiet:
            write_line(f"Attack mode is changed to '{mode}.'")

    def _wrong_classes(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the k − 1 classes other than the labels, highest logit first `(b, k - 1)`."""
        return wrong_classes(predict.logits(self.network, images), labels)

    def _random_targets(self, images: Tensor, labels: Tensor) -> Tensor:
        others = self._wrong_classes(images, labels).cpu()
        generator = torch.Generator().manual_seed(self.calls)
        draw = torch.randint(others.shape[1], (len(others), 1), generator=generator)
        return others.gather(1, draw)[:, 0].to(labels.device)

    def _mean_and_std(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.normalization_used is None:
            raise ValueError("set_normalization_used(mean, std) was not called")
        mean, std = (self.normalization_used[key].to(inputs) for key in ("mean", "std"))
        return mean, std


class SearchAttack(Attack):
    """Run one of our attacks; a subclass builds it by `native`, from its present attributes."""

    one_target = False  # our attack has no `targeted`: run it once for every class to reach

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        init = cls.__init__

        @functools.wraps(init)
        def init_and_check(self: Any, *args: Any, **keywords: Any) -> None:
            init(self, *args, **keywords)
            self.native()  # a wrong number is refused here, not in the first call

        cls.__init__ = init_and_check  # type: ignore[method-assign]

    def native(self) -> attacks.Attack:
        """Return the attack of ours that a call runs: `native()(model, x, y)`."""
        raise NotImplementedError

    def search(self, attack: Any, model: Any, x: Tensor, y: Tensor) -> Tensor:
        """Return what our attack finds; default: its call."""
        return attack(model, x, y)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return adversarial images `(b, *d)` of our attack, in the attack's mode."""
        with self.training_modes() as mode:
            attack, network = self.native(), self.network
            attack.mode = mode
            attack.reseed(int(getattr(self, "seed", self.calls - 1) or 0))
            if not self.targeted:
                return self.search(attack, network, images, labels)
            targets = self.get_target_label(images, labels)
            if not self.one_target:
                return self.search(attack, network, images, targets)
            x_adv = images.clone()
            for target in targets.unique().tolist():
                rows = (targets == target).nonzero()[:, 0]
                aimed = OneTarget(network, target)
                other = torch.zeros_like(targets[rows])
                x_adv[rows] = self.search(attack, aimed, images[rows], other)
            return x_adv


class OneTarget(nn.Module):
    """Return two logits: the highest of all other classes, and the target's.

    To leave class 0 of this model is to reach the target, so any attack becomes a targeted one.

    >>> OneTarget(nn.Identity(), 2)(torch.tensor([[1.0, 3.0, 2.0]]))
    tensor([[3., 2.]])
    """

    def __init__(self, model: Any, target: int) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        others = torch.ones_like(logits[0], dtype=torch.bool)
        others[self.target] = False
        return torch.stack([logits[:, others].amax(1), logits[:, self.target]], 1)
