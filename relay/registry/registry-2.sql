-- registry.db, version 2: secrets for a test message, beside those of the application. They are valid for minutes, are
-- counted as no use of the credential, and are bound to none of its networks.
CREATE TABLE trial (
    sha256 TEXT PRIMARY KEY,
    credential INTEGER NOT NULL REFERENCES credential (id) ON DELETE CASCADE,
    created_at REAL NOT NULL,
    valid_until REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX trial_credential ON trial (credential);
