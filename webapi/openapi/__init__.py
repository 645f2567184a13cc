"""The OpenAPI 3.1 document of all routes, made from the models that serve them, and a page to read it."""
