"""What stands in graph files: YAML with places, names, edges, templates, included files."""
