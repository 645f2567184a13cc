"""The server of one API process: the deadlines of its connections, and how many one address may open."""
