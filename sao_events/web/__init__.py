"""HTTP: events come in; what is on record goes out as JSON, a page, live. `app` puts it together, `server` runs it."""
