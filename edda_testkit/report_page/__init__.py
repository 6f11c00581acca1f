"""The page of the report: its markup, style and script, which `report` puts together."""
