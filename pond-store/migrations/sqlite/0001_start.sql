-- Times are microseconds since 1970, money is pico-USD, booleans are 0 and 1; ids and digests are BLOBs, JSON is TEXT.
-- Status of a run: 0 queued, 1 running, 2 done, 3 failed, 4 cancelled. Of a job: 0 waiting, 1 claimed, 2 ended.

CREATE TABLE definitions (
    digest BLOB NOT NULL PRIMARY KEY,
    body   TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE runs (
    id          BLOB   NOT NULL PRIMARY KEY,
    project     BLOB   NOT NULL,
    trigger     TEXT   NOT NULL,
    definition  BLOB   NOT NULL,
    created_at  BIGINT NOT NULL,
    owner       BLOB   NOT NULL,
    revision    BIGINT NOT NULL,
    next_event  BIGINT NOT NULL,
    log_bytes   BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    started_at  BIGINT,
    finished_at BIGINT,
    cancel_at   BIGINT,
    state       TEXT   NOT NULL
) WITHOUT ROWID;

CREATE INDEX runs_by_time ON runs (created_at, id);
CREATE INDEX runs_of_project ON runs (project, created_at, id);
-- The runs that an engine drives; small, as ended runs leave it.
CREATE INDEX runs_live ON runs (owner, project) WHERE finished_at IS NULL;

CREATE TABLE run_inputs (
    run_id BLOB NOT NULL PRIMARY KEY,
    body   TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE segments (
    run_id      BLOB   NOT NULL,
    first_event BIGINT NOT NULL,
    last_event  BIGINT NOT NULL,
    body        BLOB   NOT NULL,
    PRIMARY KEY (run_id, first_event)
) WITHOUT ROWID;

CREATE TABLE artifacts (
    run_id     BLOB   NOT NULL,
    stage      BIGINT NOT NULL,
    substage   TEXT   NOT NULL, -- empty for none
    name       TEXT   NOT NULL,
    stage_key  TEXT   NOT NULL,
    size       BIGINT NOT NULL,
    sha256     BLOB   NOT NULL,
    redacted   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    blob       TEXT   NOT NULL,
    PRIMARY KEY (run_id, stage, substage, name)
) WITHOUT ROWID;

CREATE TABLE usage (
    run_id          BLOB   NOT NULL,
    stage           TEXT   NOT NULL,
    substage        TEXT   NOT NULL, -- empty for none
    model           TEXT   NOT NULL,
    calls           BIGINT NOT NULL,
    input           BIGINT NOT NULL,
    output          BIGINT NOT NULL,
    cache_read      BIGINT NOT NULL,
    cache_write     BIGINT NOT NULL,
    cost            BIGINT NOT NULL,
    unpriced_calls  BIGINT NOT NULL,
    estimated_calls BIGINT NOT NULL,
    PRIMARY KEY (run_id, stage, substage, model)
) WITHOUT ROWID;

CREATE TABLE needs (
    digest BLOB NOT NULL PRIMARY KEY,
    body   TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE jobs (
    id          BLOB   NOT NULL PRIMARY KEY,
    run_id      BLOB   NOT NULL,
    project     BLOB   NOT NULL,
    stage       BIGINT NOT NULL,
    need        BLOB   NOT NULL,
    place       BIGINT NOT NULL,
    enqueued_at BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    claims      BIGINT NOT NULL,
    cancelled   BIGINT NOT NULL,
    token       BLOB,
    worker      BLOB,
    boot        BLOB,
    lease_until BIGINT,
    pieces      TEXT   NOT NULL -- next piece of each stream of the live claim
) WITHOUT ROWID;

CREATE INDEX jobs_in_line ON jobs (need, place, id) WHERE status = 0;
CREATE INDEX jobs_by_lease ON jobs (lease_until, id) WHERE status = 1;
CREATE INDEX jobs_by_worker ON jobs (worker) WHERE status = 1;
CREATE INDEX jobs_of_project ON jobs (project, status) WHERE status < 2;

CREATE TABLE engines (
    id          BLOB   NOT NULL PRIMARY KEY,
    alive_until BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE config (
    kind        TEXT   NOT NULL,
    owner       BLOB   NOT NULL, -- empty for the org
    name        TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    key_version BIGINT,
    sealed      BLOB,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (kind, owner, name)
) WITHOUT ROWID;

CREATE TABLE config_revision (
    revision BIGINT NOT NULL
);
INSERT INTO config_revision VALUES (0);

CREATE TABLE projects (
    id         BLOB   NOT NULL PRIMARY KEY,
    slug       TEXT   NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE keyring (
    version BIGINT NOT NULL PRIMARY KEY,
    wrapped BLOB   NOT NULL
) WITHOUT ROWID;
