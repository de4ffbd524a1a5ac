"""Methods: what the adversary climbs and the model descends."""

from .at import AT
from .base import Method
from .combine import SemiSupervised
from .mart import MART
from .sparsity import Sparsity
from .standard import Standard
from .trades import TRADES
from .uat import UAT

__all__ = ["AT", "MART", "TRADES", "UAT", "Method", "SemiSupervised", "Sparsity", "Standard"]
