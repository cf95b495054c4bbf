-- The audit log, and what is kept of requests that are carried out once.

CREATE TABLE audit (
    id         BIGINT NOT NULL PRIMARY KEY, -- 1, 2, 3 …
    at         BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    project    BLOB,
    changed    TEXT   NOT NULL, -- a JSON array of field names
    request_id TEXT,
    prev_hash  BLOB   NOT NULL,
    hash       BLOB   NOT NULL,
    mac        BLOB   NOT NULL
) WITHOUT ROWID;

CREATE TABLE once (
    id         BLOB   NOT NULL PRIMARY KEY,
    body       BLOB   NOT NULL, -- keyed hash of the request's body
    nonce      BLOB   NOT NULL,
    expires_at BIGINT NOT NULL,
    status     BIGINT, -- none while under way
    location   TEXT,
    made_id    TEXT, -- when no answer is kept
    answer     BLOB
) WITHOUT ROWID;

CREATE INDEX once_by_end ON once (expires_at);
