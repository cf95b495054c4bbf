-- Times are microseconds since 1970, money is pico-USD, booleans are 0 and 1; ids and digests are BYTEA, JSON is TEXT.
-- Texts that are sorted by compare by bytes, whatever the database's own collation.
-- Status of a run: 0 queued, 1 running, 2 done, 3 failed, 4 cancelled. Of a job: 0 waiting, 1 claimed, 2 ended.

CREATE TABLE definitions (
    digest BYTEA NOT NULL PRIMARY KEY,
    body   TEXT NOT NULL
);

CREATE TABLE runs (
    id          BYTEA   NOT NULL PRIMARY KEY,
    project     BYTEA   NOT NULL,
    trigger     TEXT   NOT NULL,
    definition  BYTEA   NOT NULL,
    created_at  BIGINT NOT NULL,
    owner       BYTEA   NOT NULL,
    revision    BIGINT NOT NULL,
    next_event  BIGINT NOT NULL,
    log_bytes   BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    started_at  BIGINT,
    finished_at BIGINT,
    cancel_at   BIGINT,
    state       TEXT   NOT NULL
);

CREATE INDEX runs_by_time ON runs (created_at, id);
CREATE INDEX runs_of_project ON runs (project, created_at, id);
-- The runs that an engine drives; small, as ended runs leave it.
CREATE INDEX runs_live ON runs (owner, project) WHERE finished_at IS NULL;

CREATE TABLE run_inputs (
    run_id BYTEA NOT NULL PRIMARY KEY,
    body   TEXT NOT NULL
);

CREATE TABLE segments (
    run_id      BYTEA   NOT NULL,
    first_event BIGINT NOT NULL,
    last_event  BIGINT NOT NULL,
    body        BYTEA   NOT NULL,
    PRIMARY KEY (run_id, first_event)
);

CREATE TABLE artifacts (
    run_id     BYTEA   NOT NULL,
    stage      BIGINT NOT NULL,
    substage   TEXT COLLATE "C"   NOT NULL, -- empty for none
    name       TEXT COLLATE "C"   NOT NULL,
    stage_key  TEXT   NOT NULL,
    size       BIGINT NOT NULL,
    sha256     BYTEA   NOT NULL,
    redacted   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    blob       TEXT   NOT NULL,
    PRIMARY KEY (run_id, stage, substage, name)
);

CREATE TABLE usage (
    run_id          BYTEA   NOT NULL,
    stage           TEXT COLLATE "C"   NOT NULL,
    substage        TEXT COLLATE "C"   NOT NULL, -- empty for none
    model           TEXT COLLATE "C"   NOT NULL,
    calls           BIGINT NOT NULL,
    input           BIGINT NOT NULL,
    output          BIGINT NOT NULL,
    cache_read      BIGINT NOT NULL,
    cache_write     BIGINT NOT NULL,
    cost            BIGINT NOT NULL,
    unpriced_calls  BIGINT NOT NULL,
    estimated_calls BIGINT NOT NULL,
    PRIMARY KEY (run_id, stage, substage, model)
);

CREATE TABLE needs (
    digest BYTEA NOT NULL PRIMARY KEY,
    body   TEXT NOT NULL
);

CREATE TABLE jobs (
    id          BYTEA   NOT NULL PRIMARY KEY,
    run_id      BYTEA   NOT NULL,
    project     BYTEA   NOT NULL,
    stage       BIGINT NOT NULL,
    need        BYTEA   NOT NULL,
    place       BIGINT NOT NULL,
    enqueued_at BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    claims      BIGINT NOT NULL,
    cancelled   BIGINT NOT NULL,
    token       BYTEA,
    worker      BYTEA,
    boot        BYTEA,
    lease_until BIGINT,
    pieces      TEXT   NOT NULL -- next piece of each stream of the live claim
);

CREATE INDEX jobs_in_line ON jobs (need, place, id) WHERE status = 0;
CREATE INDEX jobs_by_lease ON jobs (lease_until, id) WHERE status = 1;
CREATE INDEX jobs_by_worker ON jobs (worker) WHERE status = 1;
CREATE INDEX jobs_of_project ON jobs (project, status) WHERE status < 2;

CREATE TABLE engines (
    id          BYTEA   NOT NULL PRIMARY KEY,
    alive_until BIGINT NOT NULL
);

CREATE TABLE config (
    kind        TEXT COLLATE "C"   NOT NULL,
    owner       BYTEA   NOT NULL, -- empty for the org
    name        TEXT COLLATE "C"   NOT NULL,
    body        TEXT   NOT NULL,
    key_version BIGINT,
    sealed      BYTEA,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (kind, owner, name)
);

CREATE TABLE config_revision (
    revision BIGINT NOT NULL
);
INSERT INTO config_revision VALUES (0);

CREATE TABLE projects (
    id         BYTEA   NOT NULL PRIMARY KEY,
    slug       TEXT COLLATE "C"   NOT NULL UNIQUE,
    name       TEXT COLLATE "C"   NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE keyring (
    version BIGINT NOT NULL PRIMARY KEY,
    wrapped BYTEA   NOT NULL
);

-- Lets statements that open a JSON parameter read the same in both dialects.
CREATE FUNCTION unhex(digits TEXT) RETURNS BYTEA
    LANGUAGE SQL IMMUTABLE STRICT PARALLEL SAFE
    RETURN decode(digits, 'hex');
