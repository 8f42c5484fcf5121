"""What the hardware must do, in slow and obvious Python.

One model per block, written from the specifications on library cryptography and NumPy. It imports
`ginseng.isa` and nothing else of the project: the gates are checked against it, so it may share no
code with them.
"""
