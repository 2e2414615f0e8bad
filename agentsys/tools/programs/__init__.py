"""Programs for libraries that must not harm a worker: each runs in a process of its own, see ``sandbox.program``.

They import nothing of ours but ``chamber``, and are imported by nobody: a worker is not made larger by their libraries.
"""
