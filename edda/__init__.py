"""Edda: a compact durable-execution engine."""
