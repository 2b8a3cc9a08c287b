-- suppression.db, version 1. Times are POSIX seconds; expires_at 0 means never.

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
CREATE INDEX suppression_created ON suppression (created_at);
CREATE INDEX suppression_expires ON suppression (expires_at) WHERE expires_at > 0;

-- Evidence that suppresses only when repeated, one row for each message that met it.
CREATE TABLE strike (
    address TEXT NOT NULL,
    cause TEXT NOT NULL,
    message TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (address, cause, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX strike_at ON strike (at);

-- How far each shard's rows have been taken over. With the time: a shard that was made anew counts from 1 again.
CREATE TABLE absorbed (
    shard INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL,
    at REAL NOT NULL
) STRICT;
