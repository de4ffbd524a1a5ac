"""Attacks: how the adversary searches."""

from .base import Attack, Maximizer
from .free import Free
from .momentum import MIFGSM
from .noise import Noise
from .pgd import BIM, FGSM, FGSM_RS, PGD

__all__ = ["BIM", "FGSM", "FGSM_RS", "MIFGSM", "PGD", "Attack", "Free", "Maximizer", "Noise"]
