-- journal-YYYY-MM-DD.db, version 1: what happened to the messages accepted on one day (UTC) in one shard.

CREATE TABLE event (
    id INTEGER PRIMARY KEY,           -- given by the writer, in the order in which things happened
    segment INTEGER NOT NULL,         -- id >> 13
    sequence INTEGER NOT NULL,        -- the shard's number for it; with `at`, for a shard made anew counts from 1 again
    at REAL NOT NULL,                 -- POSIX seconds
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    sender TEXT NOT NULL,             -- "domain@local", so that one index finds an address and all of a domain
    recipient TEXT NOT NULL,          -- likewise
    credential TEXT NOT NULL,
    header_message_id TEXT NOT NULL,  -- of "accepted" only, without its angle brackets
    event BLOB NOT NULL               -- the whole event, as relay.journal.encoding writes it
) STRICT;

CREATE UNIQUE INDEX event_identity ON event (sequence, at);
CREATE INDEX event_at ON event (at);
CREATE INDEX event_kind ON event (kind, at);
CREATE INDEX event_credential ON event (credential, at);
CREATE INDEX event_message ON event (message);

-- By segment first: what is random (a recipient, a Message-ID) then touches only the pages of the newest 8192 events, and
-- writing stays as cheap in a file of millions as in an empty one. A search asks once for each segment, some microseconds each.
CREATE INDEX event_sender ON event (segment, sender);
CREATE INDEX event_recipient ON event (segment, recipient) WHERE recipient <> '';
CREATE INDEX event_header ON event (segment, header_message_id) WHERE header_message_id <> '';
