-- Format version 3: versions of endpoints take the place of their changes. Those that served a
-- model version that was removed since are gone. head is the highest number ever given.

CREATE TABLE endpoints_3 (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    head INTEGER NOT NULL,
    routing_json TEXT NOT NULL,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;

-- Either a model's version or an answer.
CREATE TABLE endpoint_versions (
    workspace BLOB NOT NULL,
    endpoint BLOB NOT NULL,
    number INTEGER NOT NULL,
    model BLOB,
    model_version INTEGER,
    answer_json TEXT,
    created INTEGER NOT NULL,
    PRIMARY KEY (workspace, endpoint, number),
    FOREIGN KEY (workspace, endpoint) REFERENCES endpoints_3 (workspace, id) ON DELETE CASCADE,
    FOREIGN KEY (workspace, model) REFERENCES models (workspace, id),
    CHECK ((model IS NULL) = (model_version IS NULL)),
    CHECK ((model IS NULL) = (answer_json IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoint_versions_by_model ON endpoint_versions (workspace, model)
    WHERE model IS NOT NULL;

INSERT INTO endpoints_3
    SELECT e.workspace, e.id, e.name, e.created, e.updated, max(c.number), max(c.number), ''
    FROM endpoints e
    JOIN endpoint_changes c ON c.workspace = e.workspace AND c.endpoint = e.id
    GROUP BY e.workspace, e.id;

-- The last change may have followed the model's newest version since.
INSERT INTO endpoint_versions
    SELECT c.workspace, c.endpoint, c.number, c.model, v.number, NULL, c.at
    FROM endpoint_changes c
    JOIN endpoints e ON e.workspace = c.workspace AND e.id = c.endpoint
    JOIN endpoints_3 n ON n.workspace = c.workspace AND n.id = c.endpoint
    JOIN models m ON m.workspace = c.workspace AND m.id = c.model
    JOIN model_versions v ON v.workspace = c.workspace AND v.model = c.model
        AND v.removed IS NULL
        AND v.number = CASE WHEN c.number = n.head THEN coalesce(c.version, m.latest)
                            ELSE c.served END;

DROP TABLE endpoint_changes;
DROP TABLE endpoints;
ALTER TABLE endpoints_3 RENAME TO endpoints;
