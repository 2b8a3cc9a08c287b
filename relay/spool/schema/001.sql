-- The spool of one shard. `message` holds what is asked about often, `content` what is only sent, so that a look through
-- a million messages does not read their contents. A message's number is its queue id without the shard: it sorts by
-- time of acceptance and needs no index of its own.

CREATE TABLE message (
    number INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    credential TEXT NOT NULL,
    facts BLOB NOT NULL                 -- MessagePack array, relay/spool/rows.py
) STRICT;

CREATE TABLE content (
    message INTEGER PRIMARY KEY,
    head BLOB NOT NULL,
    body BLOB NOT NULL,                 -- empty when it is a file
    body_size INTEGER NOT NULL,
    file TEXT                           -- name in content/
) STRICT;

CREATE INDEX content_file ON content (file) WHERE file IS NOT NULL;

CREATE TABLE recipient (
    message INTEGER NOT NULL,
    position INTEGER NOT NULL,
    address TEXT NOT NULL,
    domain TEXT NOT NULL,
    notify TEXT NOT NULL,
    orcpt TEXT NOT NULL,
    status INTEGER NOT NULL,            -- relay/spool/rows.py: FRESH, QUEUED, HELD, INTENDED, DOUBTFUL
    attempts INTEGER NOT NULL,
    due_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    held_at REAL NOT NULL,
    delay_reported INTEGER NOT NULL,
    last_reply TEXT NOT NULL,
    PRIMARY KEY (message, position)
) WITHOUT ROWID, STRICT;

-- A fresh recipient is claimed in memory from the moment it is accepted. It is in no index, and most never are.
CREATE INDEX recipient_due ON recipient (due_at) WHERE status = 1;
CREATE INDEX recipient_domain ON recipient (domain, due_at) WHERE status = 1;
CREATE INDEX recipient_doubtful ON recipient (message) WHERE status = 4;

-- What happened and what is to be suppressed, until it is carried over. Sequences are given by the owner and never
-- repeat: `mark` remembers the last one that was carried over when the table is empty.
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY,
    event BLOB NOT NULL
) STRICT;

CREATE TABLE suppression (
    sequence INTEGER PRIMARY KEY,
    suppression BLOB NOT NULL
) STRICT;

CREATE TABLE mark (
    name TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;

INSERT INTO mark VALUES ('event', 0), ('suppression', 0);
