"""The calls of other libraries, answered by this one: switch in one import.

>>> from sparring.compat import torchattacks  # in place of: import torchattacks
>>> from sparring.compat.autoattack import AutoAttack  # of: from autoattack import AutoAttack
>>> from sparring.compat.robustbench import benchmark  # of: from robustbench.eval import benchmark
"""
