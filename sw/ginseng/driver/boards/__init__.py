"""Boards: one module each, found through the entry-point group ``ginseng.boards``.

`model` is the golden device in Python.
"""
