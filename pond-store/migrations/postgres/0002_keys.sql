-- API keys, the audit log, and what is kept of requests that are carried out once.

CREATE TABLE api_keys (
    id           BYTEA  NOT NULL PRIMARY KEY,
    hash         BYTEA  NOT NULL UNIQUE, -- SHA-256 of the token
    project      BYTEA  NOT NULL,
    name         TEXT   NOT NULL,
    prefix       TEXT   NOT NULL,
    scopes       TEXT   NOT NULL, -- names, separated by commas
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT
);

CREATE INDEX api_keys_of_project ON api_keys (project, id);

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
