-- The log, the projects and the checkpoint. Instants are UTC epoch seconds; `body` is the JSON of the event's fields.
PRAGMA application_id = 0x53414F45;  -- "SAOE": tells this file from a database of something else

CREATE TABLE events (
    seq    INTEGER PRIMARY KEY,  -- one more than the last: rows never go, so no number is given twice
    at     REAL NOT NULL,
    kind   TEXT NOT NULL,
    key    TEXT,
    sender TEXT NOT NULL,
    body   TEXT NOT NULL,
    subject TEXT,                -- the one node, source or test that the event is about
    run    TEXT                  -- the run that it belongs to
);

CREATE INDEX events_subject ON events (subject, seq) WHERE subject IS NOT NULL;
CREATE INDEX events_run ON events (run, seq) WHERE run IS NOT NULL;
CREATE INDEX events_kind ON events (kind, seq) WHERE kind IN ('EngineStarted', 'RunStarted', 'ProjectLoaded');

CREATE UNIQUE INDEX events_key ON events (key) WHERE key IS NOT NULL;

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'the log of events is append-only');
END;

CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'the log of events is append-only');
END;

-- INSERT OR REPLACE deletes without asking the trigger above.
CREATE TRIGGER events_are_not_replaced BEFORE INSERT ON events
WHEN NEW.seq > 0 AND NEW.seq <= (SELECT max(seq) FROM events)
BEGIN
    SELECT RAISE(ABORT, 'the log of events is append-only');
END;

-- A second event with the key of one that is there is left out, however it is inserted.
CREATE TRIGGER events_have_one_key BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE key = NEW.key)
BEGIN
    SELECT RAISE(IGNORE);
END;

CREATE TABLE projects (
    digest TEXT PRIMARY KEY,
    body   BLOB NOT NULL  -- compressed
);

CREATE TABLE checkpoint (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL,
    body BLOB NOT NULL  -- compressed; may be deleted at any time
);
