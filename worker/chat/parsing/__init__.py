"""Parsers of answers: they separate an answer's text, its reasoning and its calls of tools."""
