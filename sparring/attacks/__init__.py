"""Attacks: how the adversary searches."""

from .apgd import APGD, APGDT
from .base import Attack, Maximizer
from .bit_beam import BitBeam
from .bit_boundary import BitBoundary
from .bit_exact import LinearBits, MonotoneBits
from .bits import BCA, BGA, DFGSM, RFGSM, Grosse
from .cw import CW
from .deepfool import DeepFool
from .ead import EAD
from .fab import FAB
from .free import Free
from .greedy import BitSearch
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
    "BCA",
    "BGA",
    "BIM",
    "CW",
    "DFGSM",
    "EAD",
    "FAB",
    "FGSM",
    "FGSM_RS",
    "JSMA",
    "MIFGSM",
    "NES",
    "PGD",
    "RFGSM",
    "SPSA",
    "Attack",
    "BitBeam",
    "BitBoundary",
    "BitSearch",
    "DeepFool",
    "Free",
    "Grosse",
    "HopSkipJump",
    "LinearBits",
    "Maximizer",
    "MonotoneBits",
    "Noise",
    "SparseRS",
    "Square",
    "Transfer",
]


def __dir__() -> list[str]:
    return sorted(__all__)
