-- What other services sent, and what was made of it. Bodies are not kept.
CREATE TABLE deliveries (
    id       INTEGER PRIMARY KEY,
    at       REAL NOT NULL,     -- the first of its `times`
    last     REAL NOT NULL,     -- the newest
    times    INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    provider TEXT NOT NULL,
    verdict  TEXT NOT NULL,
    reason   TEXT,
    delivery TEXT,              -- the sender's own id
    digest   TEXT,              -- of the body
    secret   TEXT,              -- the fingerprint of the one that proved it
    headers  TEXT NOT NULL,     -- JSON: those that may be shown
    landings TEXT NOT NULL,     -- JSON: what it said, where it was not matched
    events   TEXT NOT NULL,     -- JSON: the positions in the log
    mark     TEXT UNIQUE        -- JSON: deliveries with the same are one; the first of an id has [endpoint, id]
);

CREATE INDEX deliveries_endpoint ON deliveries (endpoint, id);
CREATE INDEX deliveries_verdict ON deliveries (verdict, id);
