"""Ways in and out for frameworks; each needs the package that it is named after."""
