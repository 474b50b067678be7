-- The spool's first schema: migration 1. Never edited once released: add a step to migrations.py.
-- Written by store_write.py, read by store_read.py. Times are seconds since the epoch, UTC; sizes are octets.

-- One message that has not ended for all its recipients.
CREATE TABLE message (
  id           INTEGER PRIMARY KEY,  -- core/ids.py: time-ordered, unique over all shards
  received_at  REAL    NOT NULL,     -- seconds since the epoch, UTC
  size         INTEGER NOT NULL,     -- octets of content
  in_file      INTEGER NOT NULL,     -- 1: the content is the file bodies/<id>; 0: it is in table content
  content_hash BLOB    NOT NULL,     -- BLAKE2b, 16 octets, of the content: checked when it is opened
  head_hash    BLOB    NOT NULL,     -- BLAKE2b, 16 octets, of all columns above and the envelope: checked when claimed
  envelope     BLOB    NOT NULL      -- core/envelope.py Envelope as msgpack
) STRICT;

-- The content of a small message. A table of its own, so that a listing of a million messages does not read it.
CREATE TABLE content (
  id     INTEGER PRIMARY KEY,  -- message.id
  octets BLOB    NOT NULL      -- as it came in, trace fields included
) STRICT;

-- One recipient that still waits for something. No row: it has ended.
CREATE TABLE delivery (
  message_id INTEGER NOT NULL,  -- message.id
  number     INTEGER NOT NULL,  -- index into the envelope's recipients
  domain     TEXT    NOT NULL,  -- of the recipient: A-labels in lower case or a literal; checked against the envelope when claimed
  priority   INTEGER NOT NULL,  -- MT-PRIORITY, -9 to 9 (RFC 6710 section 3)
  state      INTEGER NOT NULL,  -- core/outcome.py DeliveryState
  attempts   INTEGER NOT NULL,  -- attempts recorded; written with the outcome, not at the claim
  due_at     REAL    NOT NULL,  -- next attempt, seconds since the epoch, UTC
  warned     INTEGER NOT NULL,  -- 1: a delay report was made or may not be
  last       BLOB,              -- core/outcome.py Outcome of the last attempt as msgpack; NULL: none yet
  PRIMARY KEY (message_id, number)
) STRICT, WITHOUT ROWID;

-- Claims (by domain and priority, then due) and the counts that the start reads in one scan.
CREATE INDEX delivery_queue ON delivery (domain, state, priority, due_at);
-- Reports due (states 2 and up). Costs a delivery that is never reported nothing.
CREATE INDEX delivery_report ON delivery (message_id) WHERE state >= 2;

-- Recipients that ended on purpose, without delivery and without report. Kept for a while, then pruned.
CREATE TABLE dropped (
  message_id INTEGER NOT NULL,  -- of a message that may be gone
  number     INTEGER NOT NULL,  -- index into its recipients
  recipient  TEXT    NOT NULL,  -- the address, as text
  rule       TEXT    NOT NULL,  -- the rule or person that ended it
  reply      TEXT    NOT NULL,  -- the last reply heard; empty if none
  at         REAL    NOT NULL   -- seconds since the epoch, UTC
) STRICT;

-- Rows that did not hold what we wrote. Out of the queue, never deleted by the relay.
CREATE TABLE damaged (
  number     INTEGER PRIMARY KEY,  -- counts
  message_id INTEGER NOT NULL,     -- the row's message
  kind       TEXT    NOT NULL,     -- table it stood in: message, content or delivery
  why        TEXT    NOT NULL,     -- what was wrong, for a person
  raw        BLOB    NOT NULL,     -- the row as found: its columns in order, as a msgpack array
  found_at   REAL    NOT NULL      -- seconds since the epoch, UTC
) STRICT;
CREATE INDEX damaged_message ON damaged (message_id);

-- Deliveries that ended while their rows lay in a database since set aside as damaged: salvage leaves them out.
CREATE TABLE settled (
  message_id INTEGER NOT NULL,  -- message in a damaged database
  number     INTEGER NOT NULL,  -- index into its recipients
  at         REAL    NOT NULL,  -- seconds since the epoch, UTC
  PRIMARY KEY (message_id, number)
) STRICT, WITHOUT ROWID;

-- One row, changed with every batch in its transaction.
CREATE TABLE total (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  messages INTEGER NOT NULL,  -- rows in table message
  octets   INTEGER NOT NULL,  -- sum of message.size
  last_id  INTEGER NOT NULL   -- largest id ever put: new ids are larger, also after the clock was set back
) STRICT;
INSERT INTO total VALUES (1, 0, 0, 0);
