"""Make docs/explanation/scale.md's table, figure and worked example from the benchmark's file."""
