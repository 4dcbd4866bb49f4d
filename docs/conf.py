"""Sphinx settings, which rosdoc2 adds to its own."""

# It would mock what package.xml names, by names that are not those of modules, and torch cannot be
# mocked: `rosdoc2 build --package-path .` runs where the package does.
rosdoc2_settings = {'enable_autodoc': False}
extensions = ['sphinx.ext.autodoc']
# Pages link to files of the repository, which are not among the documents.
suppress_warnings = ['myst.xref_missing', 'image.not_readable']
