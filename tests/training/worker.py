"""What each process runs in `test_distributed.py`: four trainings, and what came out of them."""

import sys
from pathlib import Path

import torch

from sparring.runtime import distributed
from sparring.training import parallel
from tests.training.small import tensors, trainer


def train(out: Path, *, noisy: bool, stop: int = 0) -> dict:
    """Go on with the run in `out`; everything that has moved, and how far processes differ."""
    run = trainer(out, noisy=noisy, resume=True)
    for epoch in run:
        if epoch.number == stop:
            break
    state = {key: value.double() for key, value in tensors(run.stepper.state_dict()).items()}
    spread = max(float((distributed.mean(value) - value).abs().max()) for value in state.values())
    return {"state": state, "spread": spread, "world": distributed.world()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    runs = {"two": train(folder / "two", noisy=False)}
    train(folder / "resumed", noisy=True, stop=1)
    runs["resumed"] = train(folder / "resumed", noisy=True)
    runs["whole"] = train(folder / "whole", noisy=True)
    if parallel.is_main():
        torch.save(runs, folder / "runs.pt")
    parallel.barrier()
    parallel.leave_process_group()
