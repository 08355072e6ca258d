-- Format version 7: the labeling functions of data sets, a document for each version. What they
-- refer to is referred to by the data set, and goes with it.

CREATE TABLE labeling_versions (
    workspace BLOB NOT NULL,
    dataset BLOB NOT NULL,
    number INTEGER NOT NULL,
    document BLOB NOT NULL,
    functions INTEGER NOT NULL,
    created INTEGER NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (workspace, dataset, number),
    FOREIGN KEY (workspace, dataset) REFERENCES datasets (workspace, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
