-- registry.db, version 3: how many first-time recipients a credential may send to in a day; 0 for no limit.
ALTER TABLE credential ADD COLUMN limit_first_time INTEGER NOT NULL DEFAULT 0;
