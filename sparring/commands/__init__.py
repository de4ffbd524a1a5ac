"""Run a verb of the command line from Python: `sparring X` is `commands/X.py`."""
