"""Audits: what a mechanism does is measured, and held against what is claimed of it."""
