PRAGMA page_size = 4096;
PRAGMA auto_vacuum = 0;
PRAGMA journal_mode = wal;
BEGIN TRANSACTION;
CREATE TABLE absorbed (
    shard INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE TABLE strike (
    address TEXT NOT NULL,
    cause TEXT NOT NULL,
    message TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (address, cause, message)
) STRICT, WITHOUT ROWID;
CREATE TABLE suppression (
    id INTEGER PRIMARY KEY,
    address TEXT NOT NULL,  -- domain lower-cased, nothing else folded
    scope TEXT NOT NULL,    -- 'all' or 'credential:NAME/STREAM'
    cause TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    message TEXT NOT NULL,
    reply TEXT NOT NULL,
    UNIQUE (address, scope)
) STRICT;
INSERT INTO "suppression" VALUES(1,'listed@example.org','all','manual',1800000000.0,0.0,'','');
CREATE INDEX suppression_created ON suppression (created_at);
CREATE INDEX suppression_expires ON suppression (expires_at) WHERE expires_at > 0;
CREATE INDEX strike_at ON strike (at);
COMMIT;
PRAGMA application_id = 0;
PRAGMA user_version = 1;
