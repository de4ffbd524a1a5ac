"""Literal, slow twins: Python floats, loops, the letters of the papers; nothing of the library is
used here."""
