-- What a job that draws from a budget was granted in all, and what it has spent; money is pico-USD.
CREATE TABLE draws (
    run_id         BYTEA  NOT NULL,
    job            BYTEA  NOT NULL,
    stage          BIGINT NOT NULL,
    granted_usd    BIGINT NOT NULL,
    granted_tokens BIGINT NOT NULL,
    granted_calls  BIGINT NOT NULL,
    spent_usd      BIGINT NOT NULL,
    spent_tokens   BIGINT NOT NULL,
    spent_calls    BIGINT NOT NULL,
    PRIMARY KEY (run_id, job)
);

-- Ids of what was told under live claims, so that each counts once.
CREATE TABLE told (
    job BYTEA  NOT NULL,
    id  BYTEA  NOT NULL,
    PRIMARY KEY (job, id)
);

-- Whether a job has drawn, and whether anything was told under its live claim; most jobs do neither.
ALTER TABLE jobs ADD COLUMN drawn BIGINT;
ALTER TABLE jobs ADD COLUMN told BIGINT;
