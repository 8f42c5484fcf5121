"""Myelin: differentially private training, compiled for enclaves (Myelin specification)."""
