"""The API, below `/v1`."""
