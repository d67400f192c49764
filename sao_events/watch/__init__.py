"""Local development: a saved file is an event, and what comes of it is shown as it happens."""
