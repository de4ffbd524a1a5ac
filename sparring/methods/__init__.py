"""Methods: what the adversary climbs and the model descends."""

from .alp import ALP
from .at import AT
from .base import Method
from .jr import JR, TransportJR
from .mart import MART
from .otjr import OTJR
from .sat import SAT
from .standard import Standard
from .trades import TRADES
from .uad import UAD

__all__ = [
    "ALP",
    "AT",
    "JR",
    "MART",
    "OTJR",
    "SAT",
    "TRADES",
    "UAD",
    "Method",
    "Standard",
    "TransportJR",
]
