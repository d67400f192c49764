-- Deliveries of which something is about no source, or about one that is not known yet.
CREATE INDEX deliveries_lost ON deliveries (id) WHERE landings <> '[]';
