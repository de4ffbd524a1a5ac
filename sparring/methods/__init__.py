"""Methods: what the adversary climbs and the model descends."""

from .at import AT
from .base import Method
from .mart import MART
from .standard import Standard
from .trades import TRADES
from .uad import UAD

__all__ = ["AT", "MART", "TRADES", "UAD", "Method", "Standard"]
