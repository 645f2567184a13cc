"""The OpenAPI 3.1 document of all routes, built from the routes' own models, and the page that shows it."""
