"""Workflows to judge the judges of determinism by: planted, and clean for all they look."""
