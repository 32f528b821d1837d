"""A package outside tfseq2seq that adds a modality: series of numbers from CSV files, labeled with words.

It is what the extension budget promises: five files for a modality (spec, frontend, source, inputs, and this one).
"""

from series import frontend, inputs, source, spec  # noqa: F401  (importing them registers the modality)
