"""Git: checkouts of the configured remote, and what its host is told of a pull request."""
