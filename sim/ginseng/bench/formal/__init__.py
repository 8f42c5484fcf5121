"""Proofs of properties of components, and the planted bugs that each must find."""
