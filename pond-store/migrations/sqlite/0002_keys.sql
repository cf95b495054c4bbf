-- API keys; what they open is found by the hash of what is sent.
CREATE TABLE api_keys (
    id           BLOB   NOT NULL PRIMARY KEY,
    project      BLOB   NOT NULL,
    name         TEXT   NOT NULL,
    prefix       TEXT   NOT NULL,
    hash         BLOB   NOT NULL UNIQUE, -- SHA-256 of the token
    scopes       TEXT   NOT NULL, -- JSON array
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT
) WITHOUT ROWID;

CREATE INDEX api_keys_of_project ON api_keys (project, id);
