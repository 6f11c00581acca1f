"""Workflows to run, each with its tests."""
