"""What authors and `make` run: set-up, notebook builder, test run."""
