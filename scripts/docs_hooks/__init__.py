"""Pages that the documentation site generates, and its links: hooks of MkDocs."""
