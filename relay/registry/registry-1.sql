-- registry.db, version 1. Times are POSIX seconds; 0 means never. Lists are JSON arrays of text.

-- Grows with every change that a running relay must see, and with nothing else: last use does not wake its readers.
CREATE TABLE revision (number INTEGER NOT NULL) STRICT;
INSERT INTO revision VALUES (1);

CREATE TABLE credential (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    login TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    senders TEXT NOT NULL,
    networks TEXT NOT NULL,
    stream TEXT NOT NULL,
    limit_second INTEGER NOT NULL,
    limit_hour INTEGER NOT NULL,
    limit_day INTEGER NOT NULL,
    limit_recipients INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'hold', 'revoked')),
    null_sender INTEGER NOT NULL,
    allow_unsigned INTEGER NOT NULL,
    encode_8bit INTEGER NOT NULL,
    reports TEXT NOT NULL CHECK (reports IN ('sender', 'none')),
    suppressed TEXT NOT NULL CHECK (suppressed IN ('refuse', 'accept')),
    last_used_at REAL NOT NULL DEFAULT 0,
    last_used_from TEXT NOT NULL DEFAULT ''
) STRICT;

-- Of a secret only the SHA-256 (hexadecimal) is kept.
CREATE TABLE secret (
    id INTEGER PRIMARY KEY,
    credential INTEGER NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    last_used_at REAL NOT NULL DEFAULT 0,
    valid_until REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX secret_credential ON secret (credential);

-- From where a login succeeded: an IPv4 address, or the /64 of an IPv6 address.
CREATE TABLE known_network (
    credential INTEGER NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    seen_at REAL NOT NULL,
    PRIMARY KEY (credential, network)
) STRICT, WITHOUT ROWID;

-- The limits' counters, by name: they outlive a credential that is removed and made again under its name.
CREATE TABLE usage (
    credential TEXT NOT NULL,
    window TEXT NOT NULL,
    bucket_start INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (credential, window, bucket_start)
) STRICT, WITHOUT ROWID;

CREATE TABLE domain (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE dkim_key (
    id INTEGER PRIMARY KEY,
    domain INTEGER NOT NULL REFERENCES domain (id) ON DELETE CASCADE,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL CHECK (algorithm IN ('rsa', 'ed25519')),
    private_pem BLOB NOT NULL,
    public_record TEXT NOT NULL,
    created_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'pending', 'retired')),
    seen_at REAL NOT NULL DEFAULT 0,
    retired_at REAL NOT NULL DEFAULT 0,
    UNIQUE (domain, selector)
) STRICT;
