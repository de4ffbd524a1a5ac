import io

from rich.console import Console

from sparring.runtime.progress import EvaluationProgress


def shown(on, terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
    with EvaluationProgress(on, console) as display:
        display.begin("FGSM · Linf 0.1", 30, wrong=10)
        display.step(20, 10)
        display.step(10, 5)
    return file.getvalue()


def test_a_terminal_shows_the_attack_and_the_accuracy_so_far():
    text = shown(True, True)
    assert "FGSM · Linf 0.1" in text
    assert "30/30" in text
    assert "37.50%" in text


def test_nothing_else_does():
    assert shown(True, False).strip() == ""
    assert shown(False, True).strip() == ""
