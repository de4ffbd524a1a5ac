"""What runs: processes, files, seeds, compiled graphs, provenance; nothing of the formula."""
