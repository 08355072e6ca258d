-- Format version 6: environments, apps with their versions and functions, and what containers
-- are made of. phase is written in apps.rs; an app that has ended gives its name back.

CREATE TABLE environments (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    settings_json TEXT NOT NULL,
    PRIMARY KEY (workspace, id),
    UNIQUE (workspace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE apps (
    workspace BLOB NOT NULL,
    id BLOB NOT NULL,
    environment BLOB NOT NULL,
    name TEXT,
    description TEXT NOT NULL,
    phase INTEGER NOT NULL,
    created INTEGER NOT NULL,
    ended INTEGER,
    revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    detail_json TEXT NOT NULL,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, environment) REFERENCES environments (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX apps_by_name ON apps (workspace, environment, name)
    WHERE name IS NOT NULL AND ended IS NULL;
CREATE INDEX apps_of_environment ON apps (workspace, environment, created, id);
CREATE INDEX apps_by_end ON apps (ended);

CREATE TABLE app_versions (
    workspace BLOB NOT NULL,
    app BLOB NOT NULL,
    number INTEGER NOT NULL,
    created INTEGER NOT NULL,
    layout_json TEXT NOT NULL,
    PRIMARY KEY (workspace, app, number),
    FOREIGN KEY (workspace, app) REFERENCES apps (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- definition and latest are 0 where there is none; a bound function has a base.
CREATE TABLE functions (
    workspace BLOB NOT NULL,
    id BLOB NOT NULL,
    app BLOB NOT NULL,
    tag TEXT NOT NULL,
    created INTEGER NOT NULL,
    base BLOB,
    parameters BLOB NOT NULL,
    options BLOB NOT NULL,
    definition INTEGER NOT NULL,
    latest INTEGER NOT NULL,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, app) REFERENCES apps (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX functions_of_app ON functions (workspace, app, id);

CREATE TABLE function_definitions (
    workspace BLOB NOT NULL,
    function BLOB NOT NULL,
    number INTEGER NOT NULL,
    created INTEGER NOT NULL,
    settings_json TEXT NOT NULL,
    definition BLOB NOT NULL,
    PRIMARY KEY (workspace, function, number),
    FOREIGN KEY (workspace, function) REFERENCES functions (workspace, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE classes (
    workspace BLOB NOT NULL,
    id BLOB NOT NULL,
    app BLOB NOT NULL,
    created INTEGER NOT NULL,
    detail_json TEXT NOT NULL,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, app) REFERENCES apps (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX classes_of_app ON classes (workspace, app);

CREATE TABLE images (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    created INTEGER NOT NULL,
    recipe_json TEXT NOT NULL,
    PRIMARY KEY (workspace, id)
) STRICT;

CREATE TABLE mounts (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    id BLOB NOT NULL,
    created INTEGER NOT NULL,
    files_json TEXT NOT NULL,
    PRIMARY KEY (workspace, id)
) STRICT;

CREATE TABLE secrets (
    workspace BLOB NOT NULL,
    id BLOB NOT NULL,
    environment BLOB NOT NULL,
    name TEXT,
    created INTEGER NOT NULL,
    detail_json TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (workspace, id),
    FOREIGN KEY (workspace, environment) REFERENCES environments (workspace, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX secrets_by_name ON secrets (workspace, environment, name)
    WHERE name IS NOT NULL;

CREATE TABLE files (
    workspace BLOB NOT NULL REFERENCES workspaces (id),
    sha256 BLOB NOT NULL,
    blob BLOB NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (workspace, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_seen ON files (seen);
