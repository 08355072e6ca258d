//! What `corral doctor` asks: whether the file is sound and its records agree.

use rusqlite::Connection;

use super::Outcome;

/// Findings of each kind at most: a damaged file could have millions.
const MAX_FINDINGS: usize = 100;

/// What must never be: a question that gives one text for each case, and how to say it.
const CONTRADICTIONS: [(&str, &str); 10] = [
    (
        "data set without its newest version",
        "SELECT name FROM datasets d WHERE NOT EXISTS (SELECT 1 FROM dataset_versions v
         WHERE v.workspace = d.workspace AND v.dataset = d.id AND v.number = d.head)",
    ),
    (
        "taxonomy without its newest version",
        "SELECT name FROM taxonomies t WHERE NOT EXISTS (SELECT 1 FROM taxonomy_versions v
         WHERE v.workspace = t.workspace AND v.taxonomy = t.id AND v.number = t.head)",
    ),
    (
        "model whose newest version is not the one noted",
        "SELECT name FROM models m WHERE m.latest IS NOT (SELECT max(number)
         FROM model_versions v WHERE v.workspace = m.workspace AND v.model = m.id
         AND v.removed IS NULL)",
    ),
    (
        "endpoint without a version",
        "SELECT name FROM endpoints e WHERE NOT EXISTS (SELECT 1 FROM endpoint_versions v
         WHERE v.workspace = e.workspace AND v.endpoint = e.id AND v.number <= e.head)",
    ),
    (
        "endpoint version whose model version is removed",
        "SELECT e.name || '/' || v.number FROM endpoint_versions v
         JOIN endpoints e ON e.workspace = v.workspace AND e.id = v.endpoint
         WHERE v.model IS NOT NULL AND NOT EXISTS (SELECT 1 FROM model_versions m
         WHERE m.workspace = v.workspace AND m.model = v.model AND m.number = v.model_version
         AND m.removed IS NULL)",
    ),
    (
        "data set version without a reference to its manifest",
        "SELECT lower(hex(manifest)) FROM dataset_versions v WHERE NOT EXISTS
         (SELECT 1 FROM blob_references r WHERE r.workspace = v.workspace AND r.owner_kind = 2
         AND r.owner = v.dataset AND r.blob = v.manifest)",
    ),
    (
        "taxonomy version without a reference to its document",
        "SELECT lower(hex(document)) FROM taxonomy_versions v WHERE NOT EXISTS
         (SELECT 1 FROM blob_references r WHERE r.workspace = v.workspace AND r.owner_kind = 3
         AND r.owner = v.taxonomy AND r.blob = v.document)",
    ),
    (
        "model version without a reference to its file",
        "SELECT lower(hex(file)) FROM model_versions v WHERE v.removed IS NULL AND NOT EXISTS
         (SELECT 1 FROM blob_references r WHERE r.workspace = v.workspace AND r.owner_kind = 4
         AND substr(r.owner, 1, 16) = v.model
         AND substr(r.owner, 17) = unhex(printf('%08x', v.number)) AND r.blob = v.file)",
    ),
    (
        "app without its newest version",
        "SELECT coalesce(name, description) FROM apps a WHERE a.version > 0 AND NOT EXISTS
         (SELECT 1 FROM app_versions v WHERE v.workspace = a.workspace AND v.app = a.id
         AND v.number = a.version)",
    ),
    (
        "function without its definition",
        "SELECT tag FROM functions f WHERE f.definition > 0 AND NOT EXISTS
         (SELECT 1 FROM function_definitions d WHERE d.workspace = f.workspace
         AND d.function = f.id AND d.number = f.definition)",
    ),
];

pub(super) fn check(connection: &Connection) -> Outcome<Vec<String>> {
    let mut findings = Vec::new();
    let sql = format!("PRAGMA integrity_check({MAX_FINDINGS})");
    let mut integrity = connection.prepare(&sql)?;
    for line in integrity.query_map([], |row| row.get::<_, String>(0))? {
        let line = line?;
        if line != "ok" {
            findings.push(line);
        }
    }
    let mut foreign_keys = connection.prepare("PRAGMA foreign_key_check")?;
    let lost = foreign_keys.query_map([], |row| {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        Ok(format!("a record of {table} belongs to one of {parent} that is not there"))
    })?;
    for line in lost.take(MAX_FINDINGS) {
        findings.push(line?);
    }
    for (what, sql) in CONTRADICTIONS {
        let mut statement = connection.prepare(sql)?;
        for name in statement.query_map([], |row| row.get::<_, String>(0))?.take(MAX_FINDINGS) {
            findings.push(format!("{what}: {}", name?));
        }
    }
    Ok(findings)
}
