"""What muniment's guarantees cost, measured beside the usual ways. Run it with `make bench`."""
