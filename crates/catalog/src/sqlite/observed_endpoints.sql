-- Format version 4: what is watched of endpoints, and what they used hour by hour. Usage is kept
-- by the endpoint's name, so that it stays when the endpoint goes.

ALTER TABLE endpoints ADD COLUMN observing_json TEXT NOT NULL DEFAULT '';

CREATE TABLE usage (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    hour INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    requests INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    texts INTEGER NOT NULL,
    core_micros INTEGER NOT NULL,
    memory_byte_seconds INTEGER NOT NULL,
    PRIMARY KEY (workspace, hour, endpoint)
) STRICT, WITHOUT ROWID;
