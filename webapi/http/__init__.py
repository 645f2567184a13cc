"""HTTP parts that all routes share: request bodies, error documents, headers, files and event streams."""
