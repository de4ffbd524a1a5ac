"""Methods: what the adversary climbs and the model descends."""

from .at import AT
from .base import Method
from .mart import MART
from .sparsity import Sparsity
from .standard import Standard
from .trades import TRADES

__all__ = ["AT", "MART", "TRADES", "Method", "Sparsity", "Standard"]
