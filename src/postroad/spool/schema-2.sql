-- Migration 2: messages move from shard to shard (transfer.py). Never edited once released: add a step to migrations.py.
-- Written and read by store_transfer.py.

-- Messages that came from another shard and may not have been removed there yet: a repeated transfer passes them over.
CREATE TABLE arrived (
  message_id INTEGER PRIMARY KEY,  -- of a message that may have left this shard meanwhile
  from_shard INTEGER NOT NULL      -- number of the shard it came from; forgotten when that one's removal is durable
) STRICT;

-- How far the rows of a table that has no key of its own were copied from another shard, which keeps them to its end.
CREATE TABLE copied (
  source     BLOB    NOT NULL,  -- identity.token of the other shard's database
  kind       TEXT    NOT NULL,  -- the table: dropped or damaged
  from_shard INTEGER NOT NULL,  -- the other shard's number
  up_to      INTEGER NOT NULL,  -- rowid in the other shard
  PRIMARY KEY (source, kind)
) STRICT, WITHOUT ROWID;

-- One row: which database this is. A shard that is made anew under the same number has another.
CREATE TABLE identity (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  token BLOB NOT NULL  -- 16 octets of chance
) STRICT;
INSERT INTO identity VALUES (1, randomblob(16));
