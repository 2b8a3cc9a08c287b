-- registry.db, version 5: days (UTC, as 2026-12-01) on which a provider would have less of an address in its warm-up.
CREATE TABLE setback (
    source TEXT NOT NULL,
    provider TEXT NOT NULL,
    day TEXT NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (source, provider, day)
) STRICT, WITHOUT ROWID;
