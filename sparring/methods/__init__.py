"""Methods: the gain that the adversary maximizes, and the loss that the model minimizes."""

from .alp import ALP
from .at import AT
from .base import Method
from .combine import SemiSupervised
from .feature_sparsity import FeatureSparsity
from .jr import JR, TransportJR
from .mart import MART
from .otjr import OTJR
from .sat import SAT
from .sparsity import Sparsity
from .standard import Standard
from .trades import TRADES
from .uad import UAD
from .uat import UAT

__all__ = [
    "ALP",
    "AT",
    "JR",
    "MART",
    "OTJR",
    "SAT",
    "TRADES",
    "UAD",
    "UAT",
    "FeatureSparsity",
    "Method",
    "SemiSupervised",
    "Sparsity",
    "Standard",
    "TransportJR",
]


def __dir__() -> list[str]:
    return sorted(__all__)
