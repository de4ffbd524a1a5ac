"""Mistakes that a type checker must find, each in a line of its own; nobody runs them."""

import sparring


def script() -> None:
    result = sparring.evaluate("runs/digits-mart", suit="quick")
    accuracy: str = result.clean.accuracy
    sparring.trian(accuracy)
