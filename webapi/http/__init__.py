"""What every route shares of HTTP: bodies, problems, headers, files and event streams."""
