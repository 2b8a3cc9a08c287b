-- CRC-32 of what never changes once it is written (relay/spool/checksums.py), so that a flipped byte does not go out
-- unseen. NULL: written by version 1, and not verified.
ALTER TABLE message ADD COLUMN checksum INTEGER;
ALTER TABLE content ADD COLUMN checksum INTEGER;
ALTER TABLE recipient ADD COLUMN checksum INTEGER;

-- Why a held recipient was set aside: what is kept of it, or of its message, is not what was accepted.
ALTER TABLE recipient ADD COLUMN damage TEXT;
