"""The course as a static website: `make site`, or `python -m tools.website`."""
