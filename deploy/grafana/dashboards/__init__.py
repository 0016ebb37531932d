"""Trana's dashboards as code: what each shows, from which queries. Writes nothing: `generate.py` does."""
