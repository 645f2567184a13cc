"""The kinds of jobs as the API sees them: how it admits a job, and how it returns the result."""
