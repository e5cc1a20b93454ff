"""The report of a compression: `report.json`, and `report.html` made of it."""
