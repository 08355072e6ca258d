-- Format version 1. Never edited once released: changes are migrations of their own.
-- Ids are 16 bytes, big endian, so that they sort by creation time; hashes are 32 bytes;
-- times are milliseconds since 1970.

CREATE TABLE workspaces (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id BLOB PRIMARY KEY,
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    secret BLOB NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    expires INTEGER,
    last_used INTEGER,
    revoked INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_of_workspace ON tokens (workspace, id);

-- owner_kind and owner are written in blobs.rs.
CREATE TABLE blob_references (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    owner_kind INTEGER NOT NULL,
    owner BLOB NOT NULL,
    blob BLOB NOT NULL,
    PRIMARY KEY (workspace, owner_kind, owner, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX references_to_blob ON blob_references (blob, workspace);

CREATE TABLE datasets (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    head INTEGER NOT NULL,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE dataset_versions (
    workspace BLOB NOT NULL,
    dataset BLOB NOT NULL,
    number INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    "rows" INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created INTEGER NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (workspace, dataset, number),
    FOREIGN KEY (workspace, dataset) REFERENCES datasets (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE taxonomies (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    head INTEGER NOT NULL,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE taxonomy_versions (
    workspace BLOB NOT NULL,
    taxonomy BLOB NOT NULL,
    number INTEGER NOT NULL,
    document BLOB NOT NULL,
    classes INTEGER NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (workspace, taxonomy, number),
    FOREIGN KEY (workspace, taxonomy) REFERENCES taxonomies (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- head is the highest number ever given, latest the highest that is not removed.
CREATE TABLE models (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    head INTEGER NOT NULL,
    latest INTEGER,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE model_versions (
    workspace BLOB NOT NULL,
    model BLOB NOT NULL,
    number INTEGER NOT NULL,
    file BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    job BLOB,
    dataset BLOB,
    dataset_version INTEGER,
    taxonomy BLOB,
    taxonomy_version INTEGER,
    metrics_json TEXT NOT NULL,
    encoder BLOB,
    created INTEGER NOT NULL,
    removed INTEGER,
    PRIMARY KEY (workspace, model, number),
    FOREIGN KEY (workspace, model) REFERENCES models (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX model_versions_by_job ON model_versions (workspace, job) WHERE job IS NOT NULL;
CREATE INDEX model_versions_by_encoder ON model_versions (workspace, encoder)
    WHERE encoder IS NOT NULL;

CREATE TABLE encoders (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    file BLOB NOT NULL,
    name TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created INTEGER NOT NULL,
    is_default INTEGER NOT NULL,
    PRIMARY KEY (workspace, file),
    UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;

-- version is null for "the latest".
CREATE TABLE endpoints (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    model BLOB NOT NULL,
    version INTEGER,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, name),
    FOREIGN KEY (workspace, model) REFERENCES models (workspace, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoints_by_model ON endpoints (workspace, model);

CREATE TABLE endpoint_changes (
    workspace BLOB NOT NULL,
    endpoint BLOB NOT NULL,
    number INTEGER NOT NULL,
    model BLOB NOT NULL,
    version INTEGER,
    served INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (workspace, endpoint, number),
    FOREIGN KEY (workspace, endpoint) REFERENCES endpoints (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    job BLOB NOT NULL,
    number INTEGER NOT NULL,
    status INTEGER NOT NULL,
    params_json TEXT NOT NULL,
    metrics_json TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    PRIMARY KEY (workspace, job, number)
) STRICT, WITHOUT ROWID;

-- status and body are null until the request is finished.
CREATE TABLE requests (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    key TEXT NOT NULL,
    route TEXT NOT NULL,
    request BLOB NOT NULL,
    status INTEGER,
    body BLOB,
    begun INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (workspace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_expiry ON requests (expires);

CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
