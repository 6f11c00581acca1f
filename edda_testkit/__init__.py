"""The pytest-first kit that tests Edda workflows in virtual time."""
