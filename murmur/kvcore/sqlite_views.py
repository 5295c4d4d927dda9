"""Views."""

VIEWS = ""
