"""Attacks: how the adversary searches."""

from .base import Attack, Maximizer
from .free import Free
from .noise import Noise
from .pgd import BIM, FGSM, FGSM_RS, PGD

__all__ = ["BIM", "FGSM", "FGSM_RS", "PGD", "Attack", "Free", "Maximizer", "Noise"]
