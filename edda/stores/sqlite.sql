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
-- `cancel`: 0 nobody asked, 1 asked, 2 asked and history has it. `waits` and `subscriptions` count
-- what is open.
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
    subscriptions INTEGER NOT NULL DEFAULT 0,
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

-- The log of accepted events. `is_read`: an instance took it. AUTOINCREMENT: a position is never used twice, also when rows go.
CREATE TABLE edda_message (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    target TEXT,
    text TEXT NOT NULL,
    is_read INTEGER NOT NULL DEFAULT 0,
    UNIQUE (source, id)
);
CREATE INDEX edda_message_type ON edda_message (type);

-- What waits look at: an event type and the sorted paths of a match as a JSON list, '' without a
-- match, 'competing' for waits that compete for messages. There are as many shapes as there are
-- different waits in the code.
CREATE TABLE edda_shape (
    key INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    paths TEXT NOT NULL,
    UNIQUE (type, paths)
);

-- The log seen through each shape: what each message has at its paths ('' without a match). So a
-- wait finds its messages by index, however long the log (laws M3, M5). `target` is '' for all,
-- '=id' for one instance, '?' in a queue until it is given to one.
CREATE TABLE edda_facet (
    shape INTEGER NOT NULL,
    found TEXT NOT NULL,
    target TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (shape, found, target, position)
) WITHOUT ROWID;

-- Open waits, in the order of their registration. `wanted` meets `found`. A wait reads the log
-- after `since`. `mode` is that of its subscription, NULL for an event. `is_busy`: it competes, and
-- its instance has been given a message of that queue, or is parked.
CREATE TABLE edda_wait (
    key INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL,
    id TEXT NOT NULL,
    shape INTEGER NOT NULL,
    wanted TEXT NOT NULL,
    model TEXT,
    on_invalid TEXT NOT NULL,
    mode TEXT,
    since INTEGER NOT NULL,
    is_busy INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX edda_wait_instance ON edda_wait (instance);
CREATE INDEX edda_wait_free ON edda_wait (shape) WHERE mode = 'competing' AND is_busy = 0;
CREATE INDEX edda_wait_wanted ON edda_wait (shape, wanted);

-- Channels that instances read, and since which position.
CREATE TABLE edda_subscription (
    instance INTEGER NOT NULL,
    type TEXT NOT NULL,
    mode TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (instance, type)
) WITHOUT ROWID;
CREATE INDEX edda_subscription_type ON edda_subscription (type, mode, since);

-- Messages of a queue that were given to an instance: they have no facet in the queue meanwhile.
CREATE TABLE edda_given (
    instance INTEGER NOT NULL,
    shape INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (instance, shape, position)
) WITHOUT ROWID;
CREATE INDEX edda_given_position ON edda_given (position);

-- The types that instances of a workflow have ever waited for, and how (`mode` of the wait, '' for
-- an event).
CREATE TABLE edda_interest (
    type TEXT NOT NULL,
    mode TEXT NOT NULL,
    workflow TEXT NOT NULL,
    PRIMARY KEY (type, mode, workflow)
) WITHOUT ROWID;

-- The instances that have not ended, by where they begin to read: whom old messages are kept for.
CREATE TABLE edda_live (
    workflow TEXT NOT NULL,
    born INTEGER NOT NULL,
    instance INTEGER NOT NULL,
    PRIMARY KEY (workflow, born, instance)
) WITHOUT ROWID;

-- Events that expired, and that no instance ever took.
CREATE TABLE edda_expired (
    position INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    type TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL
);

-- Events that are committed and not posted yet. `error` is why not, the last time.
CREATE TABLE edda_outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL,
    error TEXT
);
CREATE INDEX edda_outbox_due ON edda_outbox (due);

-- Messages that a live instance took or refused.
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

-- name: live
INSERT INTO edda_live (workflow, born, instance)
SELECT workflow, born, key FROM edda_instance WHERE key = ?;

-- name: ended
DELETE FROM edda_live WHERE workflow = ? AND born = ? AND instance = ?;

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
SELECT i.key, i.id, i.workflow, i.token, i.cancel, i.born, i.waits, i.length
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
SELECT key, workflow, born, length, status, due, ready, ticket, worker, token, cancel, problem,
    waits, subscriptions
FROM edda_instance WHERE id = ?;

-- name: update
UPDATE edda_instance SET status = ?, updated_at = ?, length = ?, due = ?, ready = ?, ticket = ?,
    worker = ?, cancel = ?, problem = ?, waits = ?, subscriptions = ?
WHERE key = ?;

-- name: extend
-- Where nothing else has changed, no index is touched.
UPDATE edda_instance SET updated_at = ?, length = ? WHERE key = ?;

-- name: forget
DELETE FROM edda_event WHERE instance = ?;

-- name: mark_read
UPDATE edda_message SET is_read = 1 WHERE position = ? AND is_read = 0;

-- name: take
INSERT OR IGNORE INTO edda_taken (instance, position) VALUES (?, ?);

-- name: trim_taken
-- What it took of messages that are gone: positions are never used again.
DELETE FROM edda_taken
WHERE instance = ? AND position < (SELECT min(position) FROM edda_message);

-- name: drop_taken
DELETE FROM edda_taken WHERE instance = ?;

-- name: renew
UPDATE edda_instance SET ready = ?, ticket = ? WHERE id = ? AND worker = ? AND token = ?;

-- name: held_by
SELECT key FROM edda_instance WHERE worker = :wanted ORDER BY ready, ticket;

-- name: workers
SELECT DISTINCT worker FROM edda_instance WHERE worker IS NOT NULL;

-- name: give_back
UPDATE edda_instance SET worker = NULL, due = :now, ready = :now, ticket = :ticket WHERE key = :key;

-- name: status
SELECT key, status, cancel FROM edda_instance WHERE id = ?;

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
SELECT w.key, w.shape, w.id, s.type, s.paths, w.wanted, w.model, w.on_invalid, w.mode
FROM edda_wait AS w JOIN edda_shape AS s ON s.key = w.shape
WHERE w.instance = ? ORDER BY w.key;

-- name: add_wait
INSERT INTO edda_wait (instance, id, shape, wanted, model, on_invalid, mode, since, is_busy)
VALUES (:key, :id, :shape, :wanted, :model, :on_invalid, :mode, :since,
    :mode IS 'competing' AND EXISTS (
        SELECT 1 FROM edda_given WHERE instance = :key AND shape = :shape
    ));

-- name: add_interest
INSERT OR IGNORE INTO edda_interest (workflow, type, mode) VALUES (?, ?, ?);

-- name: subscriptions
SELECT type, mode FROM edda_subscription WHERE instance = ?;

-- name: subscribed_since
-- The end of the log without a subscription: such a wait has no past.
SELECT coalesce(
    (SELECT since FROM edda_subscription WHERE instance = ? AND type = ?),
    (SELECT seq FROM sqlite_sequence WHERE name = 'edda_message'),
    0
);

-- name: drop_subscription
DELETE FROM edda_subscription WHERE instance = ? AND type = ?;

-- name: add_subscription
INSERT INTO edda_subscription (instance, type, mode, since) VALUES (?, ?, ?,
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'edda_message'), 0));

-- name: queued
SELECT position FROM edda_facet WHERE shape = ? AND found = '' AND target = '?'
ORDER BY position LIMIT 1;

-- name: free
-- The one that waits longest of those that have nothing given to them.
SELECT w.instance, i.id
FROM edda_wait AS w JOIN edda_instance AS i ON i.key = w.instance
WHERE w.shape = ? AND w.mode = 'competing' AND w.is_busy = 0
ORDER BY w.key LIMIT 1;

-- name: set_busy
UPDATE edda_wait SET is_busy = ? WHERE instance = ? AND +shape = ?;

-- name: set_parked
UPDATE edda_wait SET is_busy = ? WHERE instance = ? AND mode = 'competing';

-- name: give
INSERT INTO edda_given (instance, shape, position) VALUES (?, ?, ?);

-- name: given
SELECT shape, position FROM edda_given WHERE instance = ?;

-- name: drop_given
DELETE FROM edda_given WHERE instance = ? AND shape = ? AND position = ?;

-- name: drop_wait
DELETE FROM edda_wait WHERE key = ?;

-- name: shape
SELECT key FROM edda_shape WHERE type = ? AND paths = ?;

-- name: add_shape
INSERT INTO edda_shape (type, paths) VALUES (?, ?);

-- name: shapes
SELECT key, paths FROM edda_shape WHERE type = ? ORDER BY key;

-- name: messages_of_type
SELECT position, target, text FROM edda_message WHERE type = ?;

-- name: add_facet
INSERT INTO edda_facet (shape, found, target, position) VALUES (?, ?, ?, ?);

-- name: drop_facet
DELETE FROM edda_facet WHERE shape = ? AND found = ? AND target = ? AND position = ?;

-- name: offered
-- What an instance could take now, in log order: for each of its open waits the first messages
-- that fit, came after where it begins to read (what is for it alone: after its birth), were for
-- all or for it alone (some waits take only the latter), and were not taken by it. And what it was
-- given. Nothing is remembered about who was offered what, so nothing can be forgotten (law M5).
SELECT m.position, m.at, m.type, m.source, m.id, m.text, m.target
FROM edda_wait AS w
JOIN (SELECT '' AS target UNION ALL SELECT :mine) AS door
    ON door.target <> '' OR w.mode IS NULL OR w.mode = 'broadcast'
JOIN edda_message AS m ON m.position IN (
    SELECT f.position FROM edda_facet AS f
    WHERE f.shape = w.shape AND f.found = w.wanted AND f.target = door.target
        AND f.position > CASE door.target WHEN '' THEN w.since ELSE :born END
        AND NOT EXISTS (
            SELECT 1 FROM edda_taken AS t
            WHERE t.instance = w.instance AND t.position = f.position
        )
    ORDER BY f.position LIMIT :limit
)
WHERE w.instance = :key
UNION
SELECT m.position, m.at, m.type, m.source, m.id, m.text, m.target
FROM edda_given AS g JOIN edda_message AS m ON m.position = g.position
WHERE g.instance = :key
ORDER BY 1;

-- name: is_offered
-- Whether there may be anything: a quick look, where mostly there is nothing.
SELECT EXISTS (
    SELECT 1 FROM edda_wait AS w
    JOIN edda_facet AS f ON f.shape = w.shape AND f.found = w.wanted
        AND f.target IN ('', :mine) AND f.position > min(w.since, :born)
    WHERE w.instance = :key AND NOT EXISTS (
        SELECT 1 FROM edda_taken AS t WHERE t.instance = w.instance AND t.position = f.position
    )
) OR EXISTS (SELECT 1 FROM edda_given WHERE instance = :key);

-- name: same_message
SELECT text FROM edda_message WHERE source = ? AND id = ?;

-- name: add_message
INSERT INTO edda_message (at, type, source, id, target, text) VALUES (?, ?, ?, ?, ?, ?);

-- name: fitting
SELECT i.key, i.id, w.id, s.type, s.paths, w.wanted, w.model, w.on_invalid, w.mode
FROM edda_wait AS w
JOIN edda_shape AS s ON s.key = w.shape
JOIN edda_instance AS i ON i.key = w.instance
WHERE w.shape = :shape AND w.wanted = :found AND w.mode IS NOT 'direct' ORDER BY w.key;

-- name: fitting_of_one
-- The same for an addressed message. The `+` keeps SQLite on the index by instance.
SELECT i.key, i.id, w.id, s.type, s.paths, w.wanted, w.model, w.on_invalid, w.mode
FROM edda_instance AS i
JOIN edda_wait AS w ON w.instance = i.key
JOIN edda_shape AS s ON s.key = w.shape
WHERE i.id = :target AND +w.shape = :shape AND +w.wanted = :found ORDER BY w.key;

-- name: expiring
-- Some messages in log order, and whether each is old and nobody who lives could still take it.
-- Who could: its addressee; an instance that was there before it and whose workflow has waited for
-- such an event; a broadcast subscriber; and in a queue, who competes or may do so. Each question
-- goes by index and ends with the first who could; the price is those who took it already.
SELECT m.position, m.at, m.at < :before AND NOT CASE WHEN m.target IS NOT NULL THEN EXISTS (
    SELECT 1 FROM edda_instance AS i
    WHERE i.id = m.target AND i.born < m.position
        AND i.status NOT IN ('completed', 'failed', 'cancelled')
        AND NOT EXISTS (
            SELECT 1 FROM edda_taken AS t WHERE t.instance = i.key AND t.position = m.position
        )
        AND (
            EXISTS (
                SELECT 1 FROM edda_subscription AS s WHERE s.instance = i.key AND s.type = m.type
            )
            OR EXISTS (
                SELECT 1 FROM edda_interest AS n
                WHERE n.type = m.type AND n.mode IN ('', 'broadcast', 'competing', 'direct')
                    AND n.workflow = i.workflow
            )
        )
) ELSE
    EXISTS (
        SELECT 1 FROM edda_interest AS n
        JOIN edda_live AS l ON l.workflow = n.workflow AND l.born < m.position
        WHERE n.type = m.type AND n.mode = '' AND NOT EXISTS (
            SELECT 1 FROM edda_taken AS t WHERE t.instance = l.instance AND t.position = m.position
        )
    )
    OR EXISTS (
        SELECT 1 FROM edda_subscription AS s
        WHERE s.type = m.type AND s.mode = 'broadcast' AND s.since < m.position AND NOT EXISTS (
            SELECT 1 FROM edda_taken AS t WHERE t.instance = s.instance AND t.position = m.position
        )
    )
    OR EXISTS (SELECT 1 FROM edda_given AS g WHERE g.position = m.position)
    OR EXISTS (
        SELECT 1 FROM edda_facet AS f
        WHERE f.shape = (SELECT key FROM edda_shape WHERE type = m.type AND paths = :competing)
            AND f.found = '' AND f.target = '?' AND f.position = m.position
    ) AND (
        EXISTS (
            SELECT 1 FROM edda_subscription AS s WHERE s.type = m.type AND s.mode = 'competing'
        )
        OR EXISTS (
            SELECT 1 FROM edda_interest AS n
            JOIN edda_live AS l ON l.workflow = n.workflow AND l.born < m.position
            WHERE n.type = m.type AND n.mode = 'competing'
        )
    )
END
FROM edda_message AS m WHERE m.position > :after
ORDER BY m.position LIMIT :limit;

-- name: message
SELECT at, type, source, id, target, text, is_read FROM edda_message WHERE position = ?;

-- name: add_expired
INSERT INTO edda_expired (position, at, type, source, id) VALUES (?, ?, ?, ?, ?);

-- name: drop_message
DELETE FROM edda_message WHERE position = ?;

-- name: expired
SELECT position, at, type, source, id FROM edda_expired WHERE position > ?
ORDER BY position LIMIT ?;

-- name: add_outgoing
INSERT INTO edda_outbox (text, due) VALUES (?, ?);

-- name: due_outgoing
SELECT position, text, attempts, due, error FROM edda_outbox WHERE due <= ?
ORDER BY due, position LIMIT ?;

-- name: lease_outgoing
UPDATE edda_outbox SET due = ? WHERE position = ?;

-- name: drop_outgoing
DELETE FROM edda_outbox WHERE position = ?;

-- name: fail_outgoing
UPDATE edda_outbox SET attempts = attempts + 1, due = ?, error = ? WHERE position = ?;

-- name: outgoing
SELECT position, text, attempts, due, error FROM edda_outbox WHERE position > ?
ORDER BY position LIMIT ?;

-- name: outgoing_due
SELECT min(due) FROM edda_outbox;

-- name: data_version
PRAGMA data_version;
