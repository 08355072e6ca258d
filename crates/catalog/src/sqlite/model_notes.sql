-- kind is 0 for a tag and 1 for a metric.
ALTER TABLE model_versions ADD COLUMN code TEXT;
CREATE TABLE model_notes (
    workspace BLOB NOT NULL,
    model BLOB NOT NULL,
    number INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (workspace, model, number, kind, name),
    FOREIGN KEY (workspace, model, number)
        REFERENCES model_versions (workspace, model, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
