"""Graph files: YAML with places, shorthand, templates, and files that they include."""
