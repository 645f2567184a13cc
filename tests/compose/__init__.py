"""The test of the deployment: compose.yaml under a real Docker engine, with faults."""
