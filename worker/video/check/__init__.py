"""The conformance test of frame models, which their authors run: `stoker check`."""
