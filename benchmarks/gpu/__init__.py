"""Check and measure on a GPU, in two stages of parts with a time limit each: `scripts/gpu`."""
