"""That a script which was interrupted and resumed in a fresh process ends as one that never was.

``scripts/`` holds training scripts as people write them; :mod:`tests.resume.harness` interrupts and resumes them, and
compares; ``python -m tests.resume.quick NAME`` does that for one, ``python -m tests.resume.table`` for all.
"""
