"""Make the pages in docs/results/ and their figures from the files in results/."""
