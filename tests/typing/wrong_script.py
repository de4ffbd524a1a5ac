"""Mistakes that a type checker must find, each in a line of its own."""

import sparring

result = sparring.evaluate("runs/digits-mart", suit="quick")
accuracy: str = result.clean.accuracy
sparring.trian("digits-mart")
