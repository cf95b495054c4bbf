-- The audit log, and what is kept of requests that are carried out once.

CREATE TABLE audit (
    id         BIGINT NOT NULL PRIMARY KEY, -- 1, 2, 3 …
    at         BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    project    BYTEA,
    changed    TEXT   NOT NULL, -- a JSON array of field names
    request_id TEXT,
    prev_hash  BYTEA  NOT NULL,
    hash       BYTEA  NOT NULL,
    mac        BYTEA  NOT NULL
);

CREATE TABLE once (
    id         BYTEA  NOT NULL PRIMARY KEY,
    body       BYTEA  NOT NULL, -- keyed hash of the request's body
    nonce      BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL,
    status     BIGINT, -- none while under way
    location   TEXT,
    made_id    TEXT, -- when no answer is kept
    answer     BYTEA
);

CREATE INDEX once_by_end ON once (expires_at);
