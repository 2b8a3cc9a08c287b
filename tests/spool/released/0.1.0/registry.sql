PRAGMA page_size = 4096;
PRAGMA auto_vacuum = 0;
PRAGMA journal_mode = wal;
BEGIN TRANSACTION;
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
INSERT INTO "credential" VALUES(1,'shop','shop-3edsq',1800000000.0,'["*@example.com"]','[]','transactional',0,0,0,0,0.0,'active',0,0,0,'sender','refuse',0.0,'');
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
INSERT INTO "dkim_key" VALUES(1,1,'r20270115','rsa',X'61206B65790A','v=DKIM1; p=a',1800000000.0,'active',0.0,0.0);
CREATE TABLE domain (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL
) STRICT;
INSERT INTO "domain" VALUES(1,'example.com',1800000000.0);
CREATE TABLE known_network (
    credential INTEGER NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    seen_at REAL NOT NULL,
    PRIMARY KEY (credential, network)
) STRICT, WITHOUT ROWID;
CREATE TABLE revision (number INTEGER NOT NULL) STRICT;
INSERT INTO "revision" VALUES(3);
CREATE TABLE secret (
    id INTEGER PRIMARY KEY,
    credential INTEGER NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL,
    last_used_at REAL NOT NULL DEFAULT 0,
    valid_until REAL NOT NULL DEFAULT 0
) STRICT;
INSERT INTO "secret" VALUES(1,1,'661c8a576c1cfa3aa2dcf60bd26a3f9e308f47513d7adad96ab8d7800b19f3f6',1800000000.0,0.0,0.0);
CREATE TABLE usage (
    credential TEXT NOT NULL,
    window TEXT NOT NULL,
    bucket_start INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (credential, window, bucket_start)
) STRICT, WITHOUT ROWID;
CREATE INDEX secret_credential ON secret (credential);
COMMIT;
PRAGMA application_id = 0;
PRAGMA user_version = 1;
