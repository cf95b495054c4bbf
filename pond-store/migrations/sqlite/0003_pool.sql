-- Keys that all servers of a store share, sealed under its keyring.
CREATE TABLE server_keys (
    name        TEXT   NOT NULL PRIMARY KEY,
    key_version BIGINT NOT NULL,
    sealed      BLOB   NOT NULL
) WITHOUT ROWID;

-- The area of a job whose stage fans out, and what was decided when its live claim was started.
ALTER TABLE jobs ADD COLUMN area BIGINT;
ALTER TABLE jobs ADD COLUMN dispatch TEXT;
