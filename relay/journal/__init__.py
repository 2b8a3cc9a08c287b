"""journal: what happened to each message, kept by the day and searchable.

The spool is the truth about what is still owed, the journal about what happened. Events are born in the shard, in the
transaction of the change they tell of; the mover carries them to the day file of their message. Retention deletes day
files and touches nothing else.
"""
