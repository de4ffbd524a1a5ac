"""torchrun's own parser reads our options too, before it hands them on."""

from __future__ import annotations

import pytest
from torch.distributed.run import get_args_parser
from typer.main import get_command

from sparring.cli.main import app

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
SHARED = ("train", "evaluate", "metrics", "study")
TAKEN = {"--n", "--start"}  # which have a second name, --samples and --from


@pytest.mark.parametrize("verb", SHARED)
def test_every_option_has_a_name_that_torchrun_hands_on(verb):
    for option in COMMANDS[verb].params:
        names = {n for n in (*option.opts, *option.secondary_opts) if n.startswith("-")}
        for name in names - TAKEN:
            argv = ["--nproc-per-node", "2", "-m", "sparring", verb, "x", name, "1"]
            assert get_args_parser().parse_args(argv).training_script_args[-2:] == [name, "1"]
        assert not names or names - TAKEN


def test_the_option_that_torchrun_takes_is_still_taken(capsys):
    with pytest.raises(SystemExit):
        get_args_parser().parse_args(["-m", "sparring", "evaluate", "x", "--n", "1"])
    assert "ambiguous option: --n" in capsys.readouterr().err
