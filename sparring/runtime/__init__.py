"""Run things: processes, files, seeds, compiled models, progress; nothing of the formula."""
