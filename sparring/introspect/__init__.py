"""Look inside a model, or freeze it, without changing it.

Submodules are named as in `model.named_modules()` of the bare model: the names look through a
`ModelView`, an average (`AveragedModel`) or a DDP wrapper around it.
"""
