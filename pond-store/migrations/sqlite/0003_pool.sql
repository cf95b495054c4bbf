-- Keys that all servers of a store share, sealed under its keyring.
CREATE TABLE server_keys (
    name        TEXT   NOT NULL PRIMARY KEY,
    key_version BIGINT NOT NULL,
    sealed      BLOB   NOT NULL
) WITHOUT ROWID;

-- The area of a job whose stage fans out, and what was decided when its live claim was started.
ALTER TABLE jobs ADD COLUMN area BIGINT;
ALTER TABLE jobs ADD COLUMN dispatch TEXT;

-- A job is 3 while it is held: its project has as many in line and claimed as it may.
CREATE TABLE lanes (
    project BLOB   NOT NULL PRIMARY KEY,
    last    BIGINT NOT NULL, -- place of its last job that came into line
    busy    BIGINT NOT NULL, -- its jobs in line and claimed
    held    BIGINT NOT NULL,
    most    BIGINT NOT NULL  -- that many may be busy
) WITHOUT ROWID;
INSERT INTO lanes (project, last, busy, held, most)
    SELECT project, MAX(place), SUM(CASE WHEN status < 2 THEN 1 ELSE 0 END), 0, 32 FROM jobs GROUP BY project;

CREATE INDEX lanes_by_last ON lanes (last);
CREATE INDEX jobs_held ON jobs (project, enqueued_at, stage, area, id) WHERE status = 3;
-- For workers of one project, in place of the index of all its live jobs.
CREATE INDEX jobs_in_line_of_project ON jobs (project, need, place, id) WHERE status = 0;
DROP INDEX jobs_of_project;
-- For those that go with what their run left.
CREATE INDEX jobs_ended_of_run ON jobs (run_id, id) WHERE status = 2;

CREATE TABLE orchestrators (
    id        BLOB   NOT NULL PRIMARY KEY,
    name      TEXT   NOT NULL,
    token     BLOB   NOT NULL, -- SHA-256 of it
    paired_at BIGINT NOT NULL,
    seen_at   BIGINT
) WITHOUT ROWID;

CREATE TABLE workers (
    id           BLOB   NOT NULL PRIMARY KEY,
    orchestrator BLOB   NOT NULL,
    name         TEXT   NOT NULL,
    x25519       BLOB   NOT NULL,
    ed25519      BLOB   NOT NULL,
    tags         TEXT   NOT NULL,
    capabilities TEXT   NOT NULL,
    enrolled_at  BIGINT NOT NULL,
    draining     BIGINT NOT NULL,
    seen_at      BIGINT,
    seen         TEXT   NOT NULL
) WITHOUT ROWID;

CREATE INDEX workers_of_orchestrator ON workers (orchestrator);

-- Codes that were minted and not used yet.
CREATE TABLE codes (
    hash         BLOB   NOT NULL PRIMARY KEY, -- SHA-256 of it
    orchestrator BLOB,            -- of an enrolment code alone
    admits       TEXT   NOT NULL,
    expires_at   BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX codes_by_time ON codes (expires_at);
CREATE INDEX codes_of_orchestrator ON codes (orchestrator) WHERE orchestrator IS NOT NULL;
