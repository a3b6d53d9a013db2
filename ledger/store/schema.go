package store

// version is the schema's: a file of another one is made anew from the log.
const version = 3

// schema is made when a file is new. Rows of messages and recipients come in the
// order of time, so that what is written stays together.
//
// Numbers of opened, state, place, last and reason are those of package fold
// and of the enums of the schemas.
const schema = `
CREATE TABLE messages (
	id           BLOB NOT NULL, -- ULID, 16 bytes
	born_ms      INTEGER NOT NULL,
	opened       INTEGER NOT NULL,
	reverse_path TEXT NOT NULL,
	header_id    TEXT NOT NULL,
	size         INTEGER NOT NULL,
	parent       BLOB,          -- of a DSN
	told         BLOB NOT NULL, -- its events: fold.Told
	PRIMARY KEY (id)
) WITHOUT ROWID;

CREATE TABLE recipients (
	id       BLOB NOT NULL,
	number   INTEGER NOT NULL,
	address  TEXT NOT NULL,
	tenant   TEXT NOT NULL,
	opened   INTEGER NOT NULL,
	leg      INTEGER NOT NULL,
	state    INTEGER NOT NULL,
	ended_ms INTEGER NOT NULL,
	ends     INTEGER NOT NULL,
	last     INTEGER NOT NULL, -- type of the last event
	last_ms  INTEGER NOT NULL,
	offset   INTEGER NOT NULL, -- of that event
	seq      INTEGER NOT NULL, -- as in meta, when it was folded
	PRIMARY KEY (id, number)
) WITHOUT ROWID;

-- Unfinished legs only. Every open recipient is in one.
CREATE TABLE legs (
	id          BLOB NOT NULL,
	number      INTEGER NOT NULL, -- -1: in front of the router
	born_ms     INTEGER NOT NULL,
	tenant      TEXT NOT NULL,
	queue       TEXT NOT NULL,
	destination TEXT NOT NULL,
	step        INTEGER NOT NULL,
	attempt     INTEGER NOT NULL,
	place       INTEGER NOT NULL,
	since_ms    INTEGER NOT NULL,
	due_ms      INTEGER NOT NULL,
	reason      INTEGER NOT NULL,
	code        INTEGER NOT NULL,
	reply       TEXT NOT NULL,
	host        TEXT NOT NULL,
	recipients  INTEGER NOT NULL, -- open ones
	offset      INTEGER NOT NULL,
	seq         INTEGER NOT NULL,
	user        TEXT NOT NULL,    -- who handed it in
	size        INTEGER NOT NULL,
	report      INTEGER NOT NULL, -- 1: null reverse-path
	PRIMARY KEY (id, number)
) WITHOUT ROWID;

CREATE TABLE accounts (
	tenant    TEXT NOT NULL,
	hour      INTEGER NOT NULL, -- of birth: fold.Hour
	accepted  INTEGER NOT NULL,
	generated INTEGER NOT NULL,
	unopened  INTEGER NOT NULL,
	delivered INTEGER NOT NULL,
	bounced   INTEGER NOT NULL,
	expired   INTEGER NOT NULL,
	discarded INTEGER NOT NULL,
	again     INTEGER NOT NULL,
	PRIMARY KEY (tenant, hour)
) WITHOUT ROWID;

-- Legs that came and left in the last minutes.
CREATE TABLE rates (
	minute      INTEGER NOT NULL,
	tenant      TEXT NOT NULL,
	queue       TEXT NOT NULL,
	destination TEXT NOT NULL,
	came        INTEGER NOT NULL,
	left        INTEGER NOT NULL,
	deferred    INTEGER NOT NULL,
	PRIMARY KEY (minute, tenant, queue, destination)
) WITHOUT ROWID;

-- What messages are found by, as hashes. They come at random: in runs, so that
-- only the newest run's few pages are written, whatever the size; a search looks
-- into each run.
CREATE TABLE names (
	run  INTEGER NOT NULL,
	hash INTEGER NOT NULL,
	id   BLOB NOT NULL,
	PRIMARY KEY (run, hash, id)
) WITHOUT ROWID;

CREATE TABLE runs (
	run       INTEGER PRIMARY KEY,
	newest_ms INTEGER NOT NULL -- birth of the newest message in it
);

-- The next event to fold of each partition.
CREATE TABLE positions (
	partition INTEGER PRIMARY KEY,
	offset    INTEGER NOT NULL
);

CREATE TABLE meta (
	topic TEXT NOT NULL,    -- cluster and topic that the positions are of
	seq   INTEGER NOT NULL  -- how many events were folded
);
`
