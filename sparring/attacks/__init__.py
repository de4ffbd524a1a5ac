"""Attacks: how the adversary searches."""

from .apgd import APGD, APGDT
from .base import Attack, Maximizer
from .cw import CW
from .deepfool import DeepFool
from .ead import EAD
from .fab import FAB
from .free import Free
from .hopskipjump import HopSkipJump
from .jsma import JSMA
from .momentum import MIFGSM
from .noise import Noise
from .pgd import BIM, FGSM, FGSM_RS, PGD
from .sparse import SparseRS
from .spsa import NES, SPSA
from .square import Square
from .transfer import Transfer

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "CW",
    "EAD",
    "FAB",
    "FGSM",
    "FGSM_RS",
    "JSMA",
    "MIFGSM",
    "NES",
    "PGD",
    "SPSA",
    "Attack",
    "DeepFool",
    "Free",
    "HopSkipJump",
    "Maximizer",
    "Noise",
    "SparseRS",
    "Square",
    "Transfer",
]
