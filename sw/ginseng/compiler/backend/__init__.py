"""From a quantised graph to instructions: tiling, scheduling, tokens, chunks, assembly.

`lowering` walks the graph; operators emit through a `lowering.Layer`; `stream` orders the
instructions with tokens; `kernels` keeps micro-ops; `cost` and `replay` are the cost model;
`chunks` shapes the units of authentication; `image` makes a program or a bare DRAM image.
"""
