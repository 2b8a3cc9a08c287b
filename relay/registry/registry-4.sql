-- registry.db, version 4: the sites that an operator has suspended, with the MX hosts they had then (a JSON array).
-- until: 0 until it is resumed. resumed_by: who ended it before its time; then until is when.
CREATE TABLE suspension (
    site TEXT PRIMARY KEY,
    mx_hosts TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    suspended_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    resumed_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
