"""Fuzz targets: parsers of bytes that others send. `make fuzz` tries many more examples than `make test`."""
