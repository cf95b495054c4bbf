-- API keys; what they open is found by the hash of what is sent.
CREATE TABLE api_keys (
    id           BYTEA  NOT NULL PRIMARY KEY,
    project      BYTEA  NOT NULL,
    name         TEXT   NOT NULL,
    prefix       TEXT   NOT NULL,
    hash         BYTEA  NOT NULL UNIQUE, -- SHA-256 of the token
    scopes       TEXT   NOT NULL, -- JSON array
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT
);

CREATE INDEX api_keys_of_project ON api_keys (project, id);
