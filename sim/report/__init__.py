"""What a run comes to: `model.py` is the report as data, `summarise.py` makes it, `terminal.py` and JSON show it."""
