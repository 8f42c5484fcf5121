"""Whole systems, and how they become Verilog."""
