-- The SQLite store: its schema, and every statement it runs, by name.
--
-- A section begins with `-- name: ...` and goes on to the next one; `edda.stores.sqlite_core`
-- runs them. Times are INTEGER microseconds since 1970 UTC. No semicolon may stand in a comment
-- of the schema. Foreign keys are not declared: rows are only ever written here, by one key.

-- name: schema
-- One run of a workflow. `ready` is when it can be claimed next, NULL for never: when it is not
-- leased (`worker` IS NULL) because something is due or came, and when it is leased because the
-- lease lapses then. `ticket` orders those that are ready at one instant: first come, first
-- served. `born` is the end of the log when it was created: it reads from there (law M2).
-- `cancel`: 0 nobody asked, 1 asked, 2 asked and history has it. `waits` counts its open waits.
CREATE TABLE edda_instance (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    born INTEGER NOT NULL,
    length INTEGER NOT NULL,
    due INTEGER,
    ready INTEGER,
    ticket INTEGER NOT NULL,
    worker TEXT,
    token INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    waits INTEGER NOT NULL DEFAULT 0,
    problem TEXT
);
CREATE INDEX edda_instance_ready ON edda_instance (workflow, ready, ticket)
    WHERE ready IS NOT NULL;
CREATE INDEX edda_instance_stuck ON edda_instance (key) WHERE status = 'stuck';

-- Histories, as rows of `edda.history`.
CREATE TABLE edda_event (
    instance INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    head TEXT NOT NULL,
    payload TEXT,
    PRIMARY KEY (instance, seq)
) WITHOUT ROWID;

-- The log of accepted events. AUTOINCREMENT: a position is never used twice, also when rows go.
CREATE TABLE edda_message (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    target TEXT,
    text TEXT NOT NULL,
    UNIQUE (source, id)
);
CREATE INDEX edda_message_type ON edda_message (type);

-- What waits look at: an event type and the sorted paths of a match as a JSON list, '' without a
-- match. There are as many shapes as there are different `wait_event` calls in the code.
CREATE TABLE edda_shape (
    key INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    paths TEXT NOT NULL,
    UNIQUE (type, paths)
);

-- The log seen through each shape: what each message has at its paths ('' without a match). So a
-- wait finds its messages by index, however long the log (laws M3, M5). `target` is '' for all.
CREATE TABLE edda_facet (
    shape INTEGER NOT NULL,
    found TEXT NOT NULL,
    target TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (shape, found, target, position)
) WITHOUT ROWID;

-- Open waits, in the order of their registration. `wanted` meets `found`.
CREATE TABLE edda_wait (
    key INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL,
    id TEXT NOT NULL,
    shape INTEGER NOT NULL,
    wanted TEXT NOT NULL,
    model TEXT,
    on_invalid TEXT NOT NULL
);
CREATE INDEX edda_wait_instance ON edda_wait (instance);
CREATE INDEX edda_wait_wanted ON edda_wait (shape, wanted);

-- Messages that an instance took or refused, for ever.
CREATE TABLE edda_taken (
    instance INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (instance, position)
) WITHOUT ROWID;

-- name: started
SELECT i.workflow, e.seq, e.head, e.payload
FROM edda_instance AS i JOIN edda_event AS e ON e.instance = i.key AND e.seq = 0
WHERE i.id = ?;

-- name: create
-- The end of the log is the highest position ever given, not the highest still there.
INSERT INTO edda_instance
    (id, workflow, status, started_at, updated_at, born, length, due, ready, ticket, worker, token)
VALUES (?, ?, ?, ?, ?,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'edda_message'), 0),
    1, ?, ?, ?, ?, ?);

-- name: append
INSERT INTO edda_event (instance, seq, head, payload) VALUES (?, ?, ?, ?);

-- name: history
SELECT seq, head, payload FROM edda_event WHERE instance = ? ORDER BY seq;

-- name: history_by_id
SELECT seq, head, payload FROM edda_event
WHERE instance = (SELECT key FROM edda_instance WHERE id = ?) ORDER BY seq;

-- name: ready
-- The longest ready of each workflow by its own piece of the index, and of those the longest
-- ready of all: a workflow nobody here knows costs nothing, however many of it are ready.
SELECT i.key, i.id, i.workflow, i.token, i.born, i.cancel, i.waits, i.length
FROM json_each(:names) AS name
JOIN edda_instance AS i ON i.key IN (
    SELECT key FROM edda_instance
    WHERE workflow = name.value AND ready <= :now
    ORDER BY ready, ticket LIMIT :limit
)
ORDER BY i.ready, i.ticket LIMIT :limit;

-- name: lease
UPDATE edda_instance SET status = 'running', worker = ?, token = ?, ready = ?, ticket = ?
WHERE key = ?;

-- name: park
-- Its waits and due time stand for when it goes on.
UPDATE edda_instance SET status = 'stuck', problem = ?, updated_at = ?, cancel = ?, length = ?,
    worker = NULL, ready = NULL
WHERE key = ?;

-- name: for_commit
SELECT key, born, length, status, due, ready, ticket, worker, token, cancel, problem,
    waits
FROM edda_instance WHERE id = ?;

-- name: update
UPDATE edda_instance SET status = ?, updated_at = ?, length = ?, due = ?, ready = ?, ticket = ?,
    worker = ?, cancel = ?, problem = ?, waits = ?
WHERE key = ?;

-- name: take
INSERT OR IGNORE INTO edda_taken (instance, position) VALUES (?, ?);

-- name: renew
UPDATE edda_instance SET ready = ?, ticket = ? WHERE id = ? AND worker = ? AND token = ?;

-- name: held_by
SELECT key FROM edda_instance WHERE worker = :wanted ORDER BY ready, ticket;

-- name: workers
SELECT DISTINCT worker FROM edda_instance WHERE worker IS NOT NULL;

-- name: give_back
UPDATE edda_instance SET worker = NULL, due = :now, ready = :now, ticket = :ticket WHERE key = :key;

-- name: cancel
UPDATE edda_instance SET cancel = 1 WHERE key = ?;

-- name: wake
-- Ready now, unless it is leased (the holder looks), parked, or ready already: it keeps its place.
UPDATE edda_instance SET ready = :now, ticket = :ticket
WHERE key = :key AND worker IS NULL AND status <> 'stuck' AND (ready IS NULL OR ready > :now);

-- name: stuck
SELECT key FROM edda_instance
WHERE status = 'stuck' AND (:wanted IS NULL OR id = :wanted) ORDER BY key;

-- name: unpark
UPDATE edda_instance SET status = 'pending', due = :now, ready = :now, ticket = :ticket WHERE key = :key;

-- name: next_due
-- Leased instances count with the end of their lease: a worker that sleeps until then takes over
-- what a dead one held, and nobody polls.
SELECT min((
    SELECT ready FROM edda_instance
    WHERE workflow = name.value AND ready IS NOT NULL ORDER BY ready LIMIT 1
))
FROM json_each(?) AS name;

-- name: find
SELECT i.key, i.id, i.workflow, i.status, i.started_at, i.updated_at, i.due, i.problem,
    e.seq, e.head, e.payload
FROM edda_instance AS i
LEFT JOIN edda_event AS e ON e.instance = i.key AND e.seq = i.length - 1
    AND i.status IN ('completed', 'failed', 'cancelled')
WHERE i.id > :after AND (:status IS NULL OR i.status = :status) AND (:workflow IS NULL OR i.workflow = :workflow)
ORDER BY i.id LIMIT :limit;

-- name: instance
SELECT i.key, i.id, i.workflow, i.status, i.started_at, i.updated_at, i.due, i.problem,
    e.seq, e.head, e.payload
FROM edda_instance AS i
LEFT JOIN edda_event AS e ON e.instance = i.key AND e.seq = i.length - 1
    AND i.status IN ('completed', 'failed', 'cancelled')
WHERE i.id = ?;

-- name: waits
SELECT w.key, w.id, s.type, s.paths, w.wanted, w.model, w.on_invalid
FROM edda_wait AS w JOIN edda_shape AS s ON s.key = w.shape
WHERE w.instance = ? ORDER BY w.key;

-- name: add_wait
INSERT INTO edda_wait (instance, id, shape, wanted, model, on_invalid) VALUES (?, ?, ?, ?, ?, ?);

-- name: drop_wait
DELETE FROM edda_wait WHERE key = ?;

-- name: shape
SELECT key FROM edda_shape WHERE type = ? AND paths = ?;

-- name: add_shape
INSERT INTO edda_shape (type, paths) VALUES (?, ?);

-- name: shapes
SELECT key, paths FROM edda_shape WHERE type = ? ORDER BY key;

-- name: messages_of_type
SELECT position, coalesce(target, ''), text FROM edda_message WHERE type = ?;

-- name: add_facet
INSERT INTO edda_facet (shape, found, target, position) VALUES (?, ?, ?, ?);

-- name: offered
-- What an instance could take now, in log order: for each of its open waits the first messages
-- that fit, came after it was created, were for all or for it alone, and were not taken by it.
-- Nothing is remembered about who was offered what, so nothing can be forgotten (law M5).
SELECT DISTINCT m.position, m.at, m.type, m.source, m.id, m.text, m.target
FROM edda_wait AS w
JOIN (SELECT '' AS target UNION ALL SELECT :id) AS door
JOIN edda_message AS m ON m.position IN (
    SELECT f.position FROM edda_facet AS f
    WHERE f.shape = w.shape AND f.found = w.wanted AND f.target = door.target AND f.position > :born
        AND NOT EXISTS (
            SELECT 1 FROM edda_taken AS t
            WHERE t.instance = w.instance AND t.position = f.position
        )
    ORDER BY f.position LIMIT :limit
)
WHERE w.instance = :key
ORDER BY m.position;

-- name: same_message
SELECT text FROM edda_message WHERE source = ? AND id = ?;

-- name: add_message
INSERT INTO edda_message (at, type, source, id, target, text) VALUES (?, ?, ?, ?, ?, ?);

-- name: fitting
SELECT i.key, i.id, w.id, s.type, s.paths, w.wanted, w.model, w.on_invalid
FROM edda_wait AS w
JOIN edda_shape AS s ON s.key = w.shape
JOIN edda_instance AS i ON i.key = w.instance
WHERE w.shape = :shape AND w.wanted = :found ORDER BY w.key;

-- name: fitting_of_one
-- The same for an addressed message. The `+` keeps SQLite on the index by instance.
SELECT i.key, i.id, w.id, s.type, s.paths, w.wanted, w.model, w.on_invalid
FROM edda_instance AS i
JOIN edda_wait AS w ON w.instance = i.key
JOIN edda_shape AS s ON s.key = w.shape
WHERE i.id = :target AND +w.shape = :shape AND +w.wanted = :found ORDER BY w.key;

-- name: data_version
PRAGMA data_version;
