"""Planted faults."""
MUTANTS = {}
def plant(name):
    MUTANTS[name]()
