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
from .nfgsm import NFGSM
from .noise import Noise
from .pgd import BIM, FGSM, FGSM_RS, PGD
from .sparse import SparseRS
from .spsa import NES, SPSA
from .square import Square
from .transfer import Transfer
from .warm_start import WarmStart

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
    "NFGSM",
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
    "WarmStart",
]


# names of other libraries, with our call
ELSEWHERE = {
    "AutoAttack": "a suite: sparring.evaluate(model, data=(x, y), eps=8/255, suite='autoattack')",
    "PGDL2": "PGD in another ball: PGD(L2(0.5))(model, x, y)",
    "FFGSM": "FGSM_RS(Linf(8/255), ratio=1.25)(model, x, y)",
    "EADL1": "EAD(L1(10))(model, x, y)",
    "MultiAttack": "a suite: evaluation.Suite(name, 1, [(label, make), …])",
    "LinfPGD": "PGD(Linf(8/255))(model, x, y)",
    "L2PGD": "PGD(L2(0.5))(model, x, y)",
    "ProjectedGradientDescent": "PGD(Linf(8/255))(model, x, y)",
    "FastGradientMethod": "FGSM(Linf(8/255))(model, x, y)",
    "CarliniL2Method": "CW(L2(0.5))(model, x, y)",
    "CarliniWagnerL2": "CW(L2(0.5))(model, x, y)",
    "SquareAttack": "Square(Linf(8/255))(model, x, y)",
}


def __getattr__(name: str) -> object:
    """Raise `AttributeError`, with our call where another library's name is asked for."""
    text = f"module {__name__!r} has no attribute {name!r}"
    if name in ELSEWHERE:
        text += (
            f": it is {ELSEWHERE[name]}; or keep the call: from sparring.compat import torchattacks"
        )
    raise AttributeError(text)


def __dir__() -> list[str]:
    return sorted(__all__)
