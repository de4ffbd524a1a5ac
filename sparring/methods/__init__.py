"""Methods: what the adversary climbs and the model descends."""

from .at import AT
from .base import Method
from .combine import SemiSupervised
from .feature_sparsity import FeatureSparsity
from .mart import MART
from .sparsity import Sparsity
from .standard import Standard
from .trades import TRADES
from .uat import UAT

__all__ = [
    "AT",
    "MART",
    "TRADES",
    "UAT",
    "FeatureSparsity",
    "Method",
    "SemiSupervised",
    "Sparsity",
    "Standard",
]
