-- Which identity each state of a node or test has, and texts by their digest: compiled SQL, and what identities are
-- made of.
CREATE TABLE identities (
    node     TEXT NOT NULL,
    inputs   TEXT NOT NULL,  -- digest of everything that the state is made from
    identity TEXT NOT NULL,  -- of states that do the same
    rest     TEXT NOT NULL,
    key      TEXT NOT NULL,  -- what the SQL was rendered from and by
    compiled TEXT NOT NULL,
    again    TEXT NOT NULL,
    PRIMARY KEY (node, inputs)
);

CREATE INDEX identities_inputs ON identities (inputs);

CREATE TABLE texts (
    digest TEXT PRIMARY KEY,
    body   BLOB NOT NULL  -- compressed
);
