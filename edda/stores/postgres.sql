-- The PostgreSQL store: its schema, its functions, and every statement it runs, by name.
--
-- A section begins with `-- name: ...` and goes on to the next one. `edda.` stands for the schema
-- that the URL names: it is put in its place when this file is read. Each method of the store is
-- one call of one function, so a transaction takes one round trip and holds its locks no longer
-- than the server needs. Functions are VOLATILE: under READ COMMITTED each statement in them sees
-- what was committed before it, which what is said below about locks relies on.
--
-- LOCKS (law M5, and the order of the log; docs/decisions/0022). A *lane* is what waits of one
-- shape look for: (shape, wanted). Who accepts an event locks the lanes of its facets before it
-- draws the event's position, and until it commits; who registers a wait shares its lane. So
-- (1) of an event and a wait that meet at the same time one sees the other, and (2) in each lane
-- positions become visible in their order. A queue's lane is locked by all who take from it.
-- Types are shared by both and locked by who adds a shape or drops events. All locks are taken
-- in one order: types, lanes, rows by key. Who wakes an instance locks its row, also when it is
-- leased: a commit that gives the lease back either sees the event or is seen by the waker.
--
-- Times are the database's own, unless `now` is given (by a test). Payloads are text, never
-- jsonb: jsonb refuses \u0000 and changes numbers.

-- name: schema
CREATE TABLE edda.version (version integer NOT NULL);

-- The log's positions, and what orders instances that are ready at one instant.
CREATE SEQUENCE edda.position;
CREATE SEQUENCE edda.ticket;

-- One run of a workflow. `ready` is when it can be claimed next, NULL for never: when it is not
-- leased (`worker` IS NULL) because something is due or came, and when it is leased because the
-- lease lapses then. `born` is the end of the log when it was created (law M2). `cancel`: 0 nobody
-- asked, 1 asked, 2 asked and history has it. `waits` and `channels` count what is open.
CREATE TABLE edda.instance (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    workflow text NOT NULL,
    status text NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    born bigint NOT NULL,
    length integer NOT NULL DEFAULT 1,
    due timestamptz,
    ready timestamptz,
    ticket bigint NOT NULL,
    worker text,
    token bigint NOT NULL DEFAULT 0,
    cancel smallint NOT NULL DEFAULT 0,
    waits integer NOT NULL DEFAULT 0,
    channels integer NOT NULL DEFAULT 0,
    problem text
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX instance_ready ON edda.instance (workflow, ready, ticket) WHERE ready IS NOT NULL;
CREATE INDEX instance_worker ON edda.instance (worker) WHERE worker IS NOT NULL;
CREATE INDEX instance_stuck ON edda.instance (key) WHERE status = 'stuck';
CREATE INDEX instance_live ON edda.instance (workflow, born)
    WHERE status NOT IN ('completed', 'failed', 'cancelled');

-- Histories, as rows of `edda.history`.
CREATE TABLE edda.event (
    instance bigint NOT NULL,
    seq integer NOT NULL,
    head text NOT NULL,
    payload text,
    PRIMARY KEY (instance, seq)
);

-- The log of accepted events. `is_read`: an instance took it.
CREATE TABLE edda.message (
    position bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    id text NOT NULL,
    target text,
    text text NOT NULL,
    is_read boolean NOT NULL DEFAULT false,
    UNIQUE (source, id)
);
CREATE INDEX message_type ON edda.message (type, position);
CREATE INDEX message_at ON edda.message (at);

-- What waits look at: an event type and the sorted paths of a match as a JSON list, '' without a
-- match, 'competing' for waits that compete. As many as there are different waits in the code.
CREATE TABLE edda.shape (
    key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL,
    paths text NOT NULL,
    UNIQUE (type, paths)
);

-- The log seen through each shape: what each message has at its paths. `address` is '' for all,
-- '=id' for one instance, '?' in a queue.
CREATE TABLE edda.facet (
    shape integer NOT NULL,
    found text NOT NULL,
    address text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (shape, found, address, position)
);

-- Open waits, in the order of their registration. `wanted` meets `found`: the match's values, or
-- their digest when they are long. What is for all a wait reads after `since`.
CREATE TABLE edda.wait (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance bigint NOT NULL,
    id text NOT NULL,
    shape integer NOT NULL,
    wanted text NOT NULL,
    match_values text,
    model text,
    on_invalid text NOT NULL,
    mode text,
    since bigint NOT NULL
);
CREATE INDEX wait_instance ON edda.wait (instance);
CREATE INDEX wait_wanted ON edda.wait (shape, wanted, key);

-- Channels that instances read, and since which position.
CREATE TABLE edda.subscription (
    instance bigint NOT NULL,
    type text NOT NULL,
    mode text NOT NULL,
    since bigint NOT NULL,
    PRIMARY KEY (instance, type)
);
CREATE INDEX subscription_type ON edda.subscription (type);

-- Messages of a queue that were given to an instance, until its wait is over.
CREATE TABLE edda.given (
    instance bigint NOT NULL,
    shape integer NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (instance, shape, position)
);

-- The types that instances of a workflow have ever waited for.
CREATE TABLE edda.interest (
    workflow text NOT NULL,
    type text NOT NULL,
    PRIMARY KEY (type, workflow)
);

-- Messages that a live instance took or refused.
CREATE TABLE edda.taken (
    instance bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (instance, position)
);

-- Events that expired, and that no instance ever took.
CREATE TABLE edda.expired (
    position bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    id text NOT NULL
);

-- Events that are committed and not posted yet. `error` is why not, the last time.
CREATE TABLE edda.outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due timestamptz NOT NULL,
    error text
);
CREATE INDEX outbox_due ON edda.outbox (due, position);

-- ---- Locks ----------------------------------------------------------------------------------

-- 64 buckets of each kind, so that no transaction fills the server's table of locks.
CREATE FUNCTION edda.lane(shape integer, wanted text) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT hashtext(shape || ' ' || wanted) & 63 $$;

CREATE FUNCTION edda.lock(types text[], owned integer[], shared integer[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
BEGIN
    FOR one IN SELECT DISTINCT hashtext(type) & 63 AS bucket FROM unnest(types) AS type ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock_shared(hashtext('edda.types'), one.bucket);
    END LOOP;
    FOR one IN
        SELECT bucket, bool_or(is_owned) AS is_owned
        FROM (
            SELECT unnest(owned), true UNION ALL SELECT unnest(shared), false
        ) AS lane (bucket, is_owned)
        GROUP BY bucket ORDER BY bucket
    LOOP
        IF one.is_owned THEN
            PERFORM pg_advisory_xact_lock(hashtext('edda.lanes'), one.bucket);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(hashtext('edda.lanes'), one.bucket);
        END IF;
    END LOOP;
END $$;

-- Whose process has gone while it holds locks must not keep the others: its transaction is ended.
CREATE FUNCTION edda.hasten() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
END $$;

-- Lock types for oneself: nobody accepts an event of them or registers a wait for them then.
CREATE FUNCTION edda.lock_types(types text[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
BEGIN
    PERFORM edda.hasten();
    FOR one IN SELECT DISTINCT hashtext(type) & 63 AS bucket FROM unnest(types) AS type ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(hashtext('edda.types'), one.bucket);
    END LOOP;
END $$;

CREATE FUNCTION edda.lock_rows(keys bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM edda.instance WHERE key = ANY (keys) ORDER BY key FOR NO KEY UPDATE;
END $$;

-- The last position that was given to anybody.
CREATE FUNCTION edda.log_end() RETURNS bigint
LANGUAGE sql AS $$ SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM edda.position $$;

-- The server need not wait for its disk to end this transaction: a lease that a crash of the server
-- takes back is claimed anew, by (worker, token) another one; any later commit writes it, too.
CREATE FUNCTION edda.forgettable() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
END $$;

-- ---- Parts ----------------------------------------------------------------------------------

-- Ready now, unless it is leased (the holder looks), parked, or ready already: it keeps its place.
-- Their rows are locked before. The ids, in this order, each once.
CREATE FUNCTION edda.wake(moment timestamptz, keys bigint[]) RETURNS text[]
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF coalesce(cardinality(keys), 0) = 0 THEN
        RETURN '{}';
    END IF;
    UPDATE edda.instance SET ready = moment, ticket = nextval('edda.ticket')
    WHERE key = ANY (keys) AND worker IS NULL AND (ready IS NULL OR ready > moment)
        AND status NOT IN ('stuck', 'completed', 'failed', 'cancelled');
    RETURN (
        SELECT array_agg(i.id ORDER BY k.place)
        FROM (
            SELECT key, min(place) AS place
            FROM unnest(keys) WITH ORDINALITY AS one (key, place) GROUP BY key
        ) AS k
        JOIN edda.instance AS i ON i.key = k.key
    );
END $$;

-- The open waits that each event fits, by its facets; not those that compete for it.
CREATE FUNCTION edda.fitting(events integer[], shapes integer[], founds text[], addresses text[])
RETURNS TABLE (event integer, wait bigint, instance bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT f.event, w.key, w.instance
    FROM unnest(events, shapes, founds, addresses) AS f (event, shape, found, address)
    JOIN edda.wait AS w ON w.shape = f.shape AND w.wanted = f.found
    WHERE f.address = '' AND w.mode IS DISTINCT FROM 'direct'
    UNION ALL
    -- The `||` keeps the planner on the index by instance.
    SELECT f.event, w.key, w.instance
    FROM unnest(events, shapes, founds, addresses) AS f (event, shape, found, address)
    JOIN edda.instance AS i ON i.id = substr(f.address, 2)
    JOIN edda.wait AS w ON w.instance = i.key AND w.shape + 0 = f.shape AND w.wanted || '' = f.found
    WHERE f.address LIKE '=%';
END $$;

-- Give what is in a queue to those who wait, first come, first served; to whom.
CREATE FUNCTION edda.compete(queue integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    next_position bigint;
    free record;
    woken bigint[] := '{}';
BEGIN
    LOOP
        SELECT f.position INTO next_position FROM edda.facet AS f
        WHERE f.shape = queue AND f.found = '' AND f.address = '?' ORDER BY f.position LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT w.instance, i.id INTO free
        FROM edda.wait AS w JOIN edda.instance AS i ON i.key = w.instance
        WHERE w.shape = queue AND w.wanted = '' AND i.status <> 'stuck' AND NOT EXISTS (
            SELECT FROM edda.given AS g WHERE g.instance = w.instance AND g.shape = queue
        )
        ORDER BY w.key LIMIT 1;
        EXIT WHEN NOT FOUND;
        UPDATE edda.facet AS f SET address = '=' || free.id
        WHERE f.shape = queue AND f.found = '' AND f.address = '?' AND f.position = next_position;
        INSERT INTO edda.given VALUES (free.instance, queue, next_position);
        woken := woken || free.instance;
    END LOOP;
    RETURN woken;
END $$;

-- What was given to an instance and taken is over; what was not goes back, unless it `keeps` it.
CREATE FUNCTION edda.give_back(owner bigint, owner_id text, queue integer, keeps boolean)
RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH over AS (
        DELETE FROM edda.given AS g USING edda.taken AS t
        WHERE g.instance = owner AND g.shape = queue
            AND t.instance = owner AND t.position = g.position
        RETURNING g.position
    )
    DELETE FROM edda.facet AS f USING over
    WHERE f.shape = queue AND f.found = '' AND f.address = '=' || owner_id
        AND f.position = over.position;
    IF NOT keeps THEN
        WITH back AS (
            DELETE FROM edda.given AS g WHERE g.instance = owner AND g.shape = queue
            RETURNING g.position
        )
        UPDATE edda.facet AS f SET address = '?' FROM back
        WHERE f.shape = queue AND f.found = '' AND f.address = '=' || owner_id
            AND f.position = back.position;
    END IF;
END $$;

-- What an instance could take now, in log order: for each of its open waits the first messages
-- that fit and were not taken by it; those for all (some waits take none) after where the wait
-- begins to read, those for it alone from its birth, and what a queue gave it.
CREATE FUNCTION edda.offered(owner bigint, owner_id text, birth bigint, most integer)
RETURNS TABLE ("position" bigint, at timestamptz, words text[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT m.position, m.at, ARRAY[m.type, m.source, m.id, m.text, m.target]
    FROM edda.message AS m
    WHERE m.position IN (
        SELECT one.position
        FROM edda.wait AS w
        CROSS JOIN (VALUES (''), ('=' || owner_id)) AS door (address)
        CROSS JOIN LATERAL (
            SELECT f.position FROM edda.facet AS f
            WHERE f.shape = w.shape AND f.found = w.wanted AND f.address = door.address
                AND (
                    f.position > CASE WHEN door.address = '' THEN w.since ELSE birth END
                    OR w.mode = 'competing' AND EXISTS (
                        SELECT FROM edda.given AS g
                        WHERE g.instance = owner AND g.shape = w.shape AND g.position = f.position
                    )
                )
                AND NOT EXISTS (
                    SELECT FROM edda.taken AS t
                    WHERE t.instance = owner AND t.position = f.position
                )
            ORDER BY f.position LIMIT most
        ) AS one
        WHERE w.instance = owner
            AND (door.address <> '' OR w.mode IS NULL OR w.mode = 'broadcast')
    )
    ORDER BY m.position;
END $$;

-- Whether somebody knows all shapes of these types.
CREATE FUNCTION edda.knows(types text[], counts integer[]) RETURNS boolean
LANGUAGE sql AS $$
    SELECT coalesce(bool_and(
        k.count = (SELECT count(*) FROM edda.shape AS s WHERE s.type = k.type)
    ), true)
    FROM unnest(types, counts) AS k (type, count)
$$;

-- Accept events: their lanes are locked. One row each, in order: its position, NULL for one that
-- was there before, and whom the queues gave something. `words` are type, source, id, target, text.
CREATE FUNCTION edda.accept(
    moment timestamptz, words text[],
    events integer[], shapes integer[], founds text[], addresses text[]
) RETURNS TABLE (event integer, "position" bigint, given bigint[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    queue integer;
BEGIN
    FOR n IN 1 .. coalesce(array_length(words, 1), 0) LOOP
        event := n;
        given := '{}';
        position := NULL;
        IF NOT EXISTS (
            SELECT FROM edda.message AS m WHERE m.source = words[n][2] AND m.id = words[n][3]
        ) THEN
            INSERT INTO edda.message (position, at, type, source, id, target, text)
            VALUES (
                nextval('edda.position'), moment,
                words[n][1], words[n][2], words[n][3], words[n][4], words[n][5]
            )
            ON CONFLICT (source, id) DO NOTHING RETURNING message.position INTO position;
        END IF;
        IF position IS NOT NULL THEN
            INSERT INTO edda.facet
            SELECT f.shape, f.found, f.address, accept.position
            FROM unnest(events, shapes, founds, addresses) AS f (event, shape, found, address)
            WHERE f.event = n;
            FOR queue IN
                SELECT f.shape FROM unnest(events, shapes, addresses) AS f (event, shape, address)
                WHERE f.event = n AND f.address = '?'
            LOOP
                given := given || edda.compete(queue);
            END LOOP;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Who could be woken when something is put into these queues, at most: those who wait longest.
CREATE FUNCTION edda.candidates(queues integer[], more integer, owner bigint) RETURNS bigint[]
LANGUAGE sql AS $$
    SELECT coalesce(array_agg(found.instance), '{}')
    FROM unnest(queues) AS queue
    CROSS JOIN LATERAL (
        SELECT w.instance FROM edda.wait AS w
        WHERE w.shape = queue AND w.wanted = '' AND NOT EXISTS (
            SELECT FROM edda.given AS g WHERE g.instance = w.instance AND g.shape = queue
        )
        ORDER BY w.key
        LIMIT 1 + more + (
            SELECT count(*) FROM edda.given AS g WHERE g.instance = owner AND g.shape = queue
        )
    ) AS found
$$;

-- ---- Methods of the store -------------------------------------------------------------------

CREATE FUNCTION edda.create(
    now timestamptz, new_id text, new_workflow text, begun_at timestamptz,
    new_head text, new_payload text, new_worker text, lease interval
) RETURNS TABLE (is_new boolean, workflow text, head text, payload text, until timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := coalesce(now, clock_timestamp());
    new_key bigint;
BEGIN
    IF new_worker IS NOT NULL THEN
        until := moment + lease;
    END IF;
    INSERT INTO edda.instance
        (id, workflow, status, started_at, updated_at, born, due, ready, ticket, worker, token)
    VALUES (
        new_id, new_workflow, CASE WHEN new_worker IS NULL THEN 'pending' ELSE 'running' END,
        begun_at, moment, edda.log_end(), moment, coalesce(until, moment),
        nextval('edda.ticket'), new_worker, CASE WHEN new_worker IS NULL THEN 0 ELSE 1 END
    )
    ON CONFLICT (id) DO NOTHING RETURNING key INTO new_key;
    is_new := new_key IS NOT NULL;
    IF is_new THEN
        INSERT INTO edda.event VALUES (new_key, 0, new_head, new_payload);
    ELSE
        SELECT i.workflow, e.head, e.payload INTO workflow, head, payload
        FROM edda.instance AS i JOIN edda.event AS e ON e.instance = i.key AND e.seq = 0
        WHERE i.id = new_id;
    END IF;
    RETURN NEXT;
END $$;

-- The longest ready of each workflow by its own piece of the index, and of those the longest
-- ready of all; what another worker is claiming now is passed over. They are leased first and
-- read then, by a statement that sees what the last commit of each wrote.
CREATE FUNCTION edda.claim(
    now timestamptz, claimer text, names text[], most integer, lease interval, extra integer
) RETURNS TABLE (
    key bigint, id text, workflow text, token bigint, until timestamptz, is_asked boolean,
    seqs integer[], heads text[], payloads text[],
    positions bigint[], ats timestamptz[], words text[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := coalesce(now, clock_timestamp());
    chosen bigint[];
BEGIN
    PERFORM edda.forgettable();
    SELECT array_agg(found.key ORDER BY found.ready, found.ticket, found.key) INTO chosen FROM (
        SELECT i.key, i.ready, i.ticket
        FROM (SELECT DISTINCT unnest(names)) AS known (name)
        CROSS JOIN LATERAL (
            SELECT one.key, one.ready, one.ticket FROM edda.instance AS one
            WHERE one.workflow = known.name AND one.ready <= moment
            ORDER BY one.ready, one.ticket LIMIT most
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS i
        ORDER BY i.ready, i.ticket LIMIT most
    ) AS found;
    IF chosen IS NULL THEN
        RETURN;
    END IF;
    UPDATE edda.instance AS i SET status = 'running', worker = claimer, token = i.token + 1,
        ready = moment + lease, ticket = nextval('edda.ticket')
    WHERE i.key = ANY (chosen);
    RETURN QUERY
    SELECT i.key, i.id, i.workflow, i.token, i.ready, i.cancel = 1,
        h.seqs, h.heads, h.payloads, m.positions, m.ats, m.words
    FROM unnest(chosen) WITH ORDINALITY AS c (key, place)
    JOIN edda.instance AS i ON i.key = c.key
    CROSS JOIN LATERAL (
        SELECT array_agg(e.seq ORDER BY e.seq) AS seqs, array_agg(e.head ORDER BY e.seq) AS heads,
            array_agg(e.payload ORDER BY e.seq) AS payloads
        FROM edda.event AS e WHERE e.instance = i.key
    ) AS h
    LEFT JOIN LATERAL (
        SELECT array_agg(o.position) AS positions, array_agg(o.at) AS ats,
            array_agg(o.words) AS words
        FROM edda.offered(i.key, i.id, i.born, i.waits + extra) AS o
    ) AS m ON i.waits > 0
    ORDER BY c.place;
END $$;

-- Apply a step. `outcome`: 'done', 'lost' (the lease), 'stale' (shapes of types of messages are
-- missing), 'again' (two commits of one lease at once); with no effect but in the first case.
CREATE FUNCTION edda.commit(
    now timestamptz, owner_id text, holder text, held bigint, expected integer,
    new_status text, new_due timestamptz, wants_release boolean, new_problem text,
    asks_recorded boolean, is_restart boolean,
    seqs integer[], heads text[], payloads text[],
    taken_positions bigint[],
    wait_words text[],
    channel_types text[], channel_modes text[],
    outgoing text[], cancels text[],
    known_types text[], known_counts integer[], words text[],
    events integer[], shapes integer[], founds text[], addresses text[],
    extra integer, renewed text[]
) RETURNS TABLE (
    outcome text, is_released boolean, is_asked boolean, woken text[], sent boolean,
    positions bigint[], ats timestamptz[], texts text[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    mine edda.instance;
    moment timestamptz;
    is_final boolean := new_status IN ('completed', 'failed', 'cancelled');
    is_parked boolean := new_status = 'stuck';
    is_sending boolean := cardinality(words) > 0 OR cardinality(cancels) > 0;
    stored edda.wait[] := '{}';
    intended edda.wait[] := '{}';
    fresh edda.wait[] := '{}';
    gone bigint[] := '{}';
    queues integer[] := '{}';
    concerned bigint[] := '{}';
    asked bigint[] := '{}';
    queue integer;
    is_changed boolean;
    goes_on boolean;
    new_length integer;
    new_cancel smallint;
    new_waits integer;
BEGIN
    PERFORM edda.hasten();
    SELECT * INTO mine FROM edda.instance AS i WHERE i.id = owner_id;
    outcome := 'lost';
    IF NOT FOUND OR mine.worker IS DISTINCT FROM holder OR mine.token <> held
        OR mine.length <> expected
    THEN
        RETURN NEXT;
        RETURN;
    END IF;
    woken := '{}';
    sent := cardinality(outgoing) > 0;

    -- What is open, and what is to be: nobody but the holder changes that.
    IF mine.waits > 0 THEN
        SELECT coalesce(array_agg(w ORDER BY w.key), '{}') INTO stored
        FROM edda.wait AS w WHERE w.instance = mine.key;
    END IF;
    IF is_parked THEN
        intended := stored;
    ELSIF NOT is_final THEN
        FOR n IN 1 .. coalesce(array_length(wait_words, 1), 0) LOOP
            intended := intended || ROW(
                NULL, mine.key, wait_words[n][1], wait_words[n][2]::integer, wait_words[n][3],
                wait_words[n][4], wait_words[n][5], wait_words[n][6], wait_words[n][7], 0
            )::edda.wait;
        END LOOP;
        SELECT coalesce(array_agg(w), '{}') INTO fresh FROM unnest(intended) AS w
        WHERE NOT EXISTS (
            SELECT FROM unnest(stored) AS s
            WHERE (s.id, s.shape, s.wanted, s.on_invalid) = (w.id, w.shape, w.wanted, w.on_invalid)
                AND (s.model, s.mode) IS NOT DISTINCT FROM (w.model, w.mode)
        );
    END IF;
    SELECT coalesce(array_agg(s.key), '{}') INTO gone FROM unnest(stored) AS s
    WHERE NOT is_parked AND NOT EXISTS (
        SELECT FROM unnest(intended) AS w
        WHERE (s.id, s.shape, s.wanted, s.on_invalid) = (w.id, w.shape, w.wanted, w.on_invalid)
            AND (s.model, s.mode) IS NOT DISTINCT FROM (w.model, w.mode)
    );
    SELECT coalesce(array_agg(DISTINCT w.shape), '{}') INTO queues
    FROM unnest(stored || intended) AS w WHERE w.mode = 'competing';

    -- A look, which is a commit that changes nothing, writes nothing and takes no lock.
    IF NOT wants_release AND cardinality(seqs) = 0 AND cardinality(taken_positions) = 0
        AND NOT is_sending AND NOT sent AND NOT is_restart AND NOT is_parked AND NOT is_final
        AND cardinality(fresh) = 0 AND cardinality(gone) = 0 AND cardinality(renewed) = 0
        AND mine.channels = cardinality(channel_types) AND NOT EXISTS (
            SELECT FROM unnest(channel_types, channel_modes) AS c (type, mode)
            WHERE NOT EXISTS (
                SELECT FROM edda.subscription AS s
                WHERE s.instance = mine.key AND s.type = c.type AND s.mode = c.mode
            )
        )
        AND (mine.due, mine.status, mine.problem)
            IS NOT DISTINCT FROM (new_due, new_status, new_problem)
    THEN
        outcome := 'done';
        is_released := false;
        is_asked := mine.cancel = 1;
        SELECT array_agg(o.position), array_agg(o.at), array_agg(o.words)
        INTO positions, ats, texts
        FROM edda.offered(mine.key, mine.id, mine.born, mine.waits + extra) AS o;
        RETURN NEXT;
        RETURN;
    END IF;

    -- Types, lanes, rows.
    IF cardinality(fresh) > 0 OR cardinality(queues) > 0 OR cardinality(words) > 0 THEN
        PERFORM edda.lock(
            (
                SELECT array_agg(type) FROM (
                    SELECT unnest(known_types)
                    UNION SELECT s.type FROM edda.shape AS s
                    WHERE s.key = ANY (queues)
                        OR s.key IN (SELECT f.shape FROM unnest(fresh) AS f)
                ) AS used (type)
            ),
            (
                SELECT array_agg(edda.lane(s, f)) FROM (
                    SELECT unnest(shapes), unnest(founds) UNION SELECT unnest(queues), ''
                ) AS owned (s, f)
            ),
            (SELECT array_agg(edda.lane(f.shape, f.wanted)) FROM unnest(fresh) AS f)
        );
        IF NOT edda.knows(known_types, known_counts) THEN
            outcome := 'stale';
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF is_sending OR cardinality(queues) > 0 THEN
        SELECT coalesce(array_agg(i.key ORDER BY c.place), '{}') INTO asked
        FROM unnest(cancels) WITH ORDINALITY AS c (id, place)
        JOIN edda.instance AS i ON i.id = c.id;
        SELECT coalesce(array_agg(f.instance), '{}') INTO concerned
        FROM edda.fitting(events, shapes, founds, addresses) AS f;
        PERFORM edda.lock_rows(
            mine.key || asked || concerned || edda.candidates(
                queues || shapes, coalesce(array_length(words, 1), 0), mine.key
            )
        );
    END IF;
    SELECT * INTO mine FROM edda.instance AS i WHERE i.key = mine.key FOR NO KEY UPDATE;
    IF mine.worker IS DISTINCT FROM holder OR mine.token <> held OR mine.length <> expected THEN
        RETURN NEXT;
        RETURN;
    END IF;
    IF mine.waits <> cardinality(stored) THEN
        outcome := 'again';
        RETURN NEXT;
        RETURN;
    END IF;
    moment := coalesce(now, clock_timestamp());
    outcome := 'done';

    -- History.
    new_length := expected + cardinality(seqs);
    new_cancel := mine.cancel;
    IF is_restart THEN
        DELETE FROM edda.event AS e WHERE e.instance = mine.key;
        new_length := 1;
    END IF;
    IF cardinality(seqs) > 0 THEN
        INSERT INTO edda.event
        SELECT mine.key, e.seq, e.head, e.payload
        FROM unnest(seqs, heads, payloads) AS e (seq, head, payload);
    END IF;
    IF asks_recorded OR is_restart AND mine.cancel = 2 THEN
        new_cancel := CASE WHEN is_restart THEN 0 ELSE 2 END;
    END IF;
    IF cardinality(taken_positions) > 0 THEN
        -- What it took of messages that are gone: positions are never used again.
        DELETE FROM edda.taken AS t WHERE t.instance = mine.key
            AND t.position < (SELECT min(m.position) FROM edda.message AS m);
        INSERT INTO edda.taken SELECT mine.key, t FROM unnest(taken_positions) AS t
        ON CONFLICT DO NOTHING;
        UPDATE edda.message AS m SET is_read = true
        WHERE m.position = ANY (taken_positions) AND NOT m.is_read;
    END IF;

    -- A stuck one keeps its waits and due time, and nothing that others could take.
    concerned := '{}';
    IF is_parked THEN
        UPDATE edda.instance AS i SET status = 'stuck', problem = new_problem,
            updated_at = moment, cancel = new_cancel, length = new_length,
            worker = NULL, ready = NULL
        WHERE i.key = mine.key;
        FOREACH queue IN ARRAY queues LOOP
            PERFORM edda.give_back(mine.key, mine.id, queue, false);
            concerned := concerned || edda.compete(queue);
        END LOOP;
        is_released := true;
        is_asked := false;
        woken := edda.wake(moment, concerned);
        RETURN NEXT;
        RETURN;
    END IF;

    -- Channels, then waits.
    is_changed := mine.channels > 0 OR cardinality(channel_types) > 0;
    IF is_changed THEN
        DELETE FROM edda.subscription AS s WHERE s.instance = mine.key AND NOT EXISTS (
            SELECT FROM unnest(channel_types, channel_modes) AS c (type, mode)
            WHERE NOT is_final AND c.type = s.type AND c.mode = s.mode AND c.type <> ALL (renewed)
        );
        IF NOT is_final THEN
            INSERT INTO edda.subscription
            SELECT mine.key, c.type, c.mode, edda.log_end()
            FROM unnest(channel_types, channel_modes) AS c (type, mode)
            ON CONFLICT DO NOTHING;
        END IF;
    END IF;
    IF cardinality(gone) > 0 THEN
        DELETE FROM edda.wait AS w WHERE w.key = ANY (gone);
    END IF;
    FOREACH queue IN ARRAY queues LOOP
        PERFORM edda.give_back(mine.key, mine.id, queue, EXISTS (
            SELECT FROM unnest(intended) AS w WHERE w.shape = queue
        ));
    END LOOP;
    IF cardinality(fresh) > 0 THEN
        INSERT INTO edda.wait
            (instance, id, shape, wanted, match_values, model, on_invalid, mode, since)
        SELECT mine.key, f.id, f.shape, f.wanted, f.match_values, f.model, f.on_invalid, f.mode,
            CASE
                WHEN f.mode IS NULL THEN mine.born
                WHEN f.mode = 'competing' THEN 0
                ELSE coalesce((
                    SELECT s.since FROM edda.subscription AS s
                    JOIN edda.shape AS h ON h.key = f.shape
                    WHERE s.instance = mine.key AND s.type = h.type
                ), edda.log_end())
            END
        FROM unnest(fresh) WITH ORDINALITY AS f (
            key, instance, id, shape, wanted, match_values, model, on_invalid, mode, since, place
        )
        ORDER BY f.place;
        INSERT INTO edda.interest
        SELECT DISTINCT mine.workflow, h.type FROM edda.shape AS h
        WHERE h.key IN (SELECT f.shape FROM unnest(fresh) AS f) AND NOT EXISTS (
            SELECT FROM edda.interest AS n WHERE n.workflow = mine.workflow AND n.type = h.type
        )
        ON CONFLICT DO NOTHING;
    END IF;
    FOREACH queue IN ARRAY queues LOOP
        concerned := concerned || edda.compete(queue);
    END LOOP;

    -- What is sent with the step.
    IF sent THEN
        INSERT INTO edda.outbox (text, due)
        SELECT o.text, moment FROM unnest(outgoing) WITH ORDINALITY AS o (text, place)
        ORDER BY o.place;
    END IF;
    IF is_sending THEN
        concerned := concerned || edda.sent(moment, words, events, shapes, founds, addresses);
        IF mine.key = ANY (asked) AND new_cancel = 0 AND NOT is_final THEN
            new_cancel := 1;
        END IF;
        WITH newly AS (
            UPDATE edda.instance AS i SET cancel = 1
            WHERE i.key = ANY (asked) AND i.cancel = 0 AND i.key <> mine.key
                AND i.status NOT IN ('completed', 'failed', 'cancelled')
            RETURNING i.key
        )
        SELECT concerned || coalesce(array_agg(a.key ORDER BY a.place), '{}') INTO concerned
        FROM unnest(asked) WITH ORDINALITY AS a (key, place)
        WHERE a.key IN (SELECT newly.key FROM newly);
    END IF;
    woken := edda.wake(moment, array_remove(concerned, mine.key));
    IF is_final THEN -- it takes nothing any more
        DELETE FROM edda.taken AS t WHERE t.instance = mine.key;
    END IF;

    -- Its inbox, and whether the lease is kept for it.
    new_waits := cardinality(intended);
    IF new_waits > 0 THEN
        SELECT array_agg(o.position), array_agg(o.at), array_agg(o.words)
        INTO positions, ats, texts
        FROM edda.offered(mine.key, mine.id, mine.born, new_waits + extra) AS o;
    END IF;
    is_asked := new_cancel = 1;
    goes_on := positions IS NOT NULL OR is_asked;
    is_released := is_final OR is_restart OR wants_release AND NOT goes_on;
    UPDATE edda.instance AS i SET
        status = new_status, updated_at = moment, length = new_length, due = new_due,
        ready = CASE WHEN is_final THEN NULL WHEN commit.is_released THEN new_due ELSE i.ready END,
        ticket = CASE WHEN commit.is_released THEN nextval('edda.ticket') ELSE i.ticket END,
        worker = CASE WHEN commit.is_released THEN NULL ELSE i.worker END,
        cancel = new_cancel, problem = new_problem, waits = new_waits,
        channels = CASE WHEN is_final THEN 0 ELSE cardinality(channel_types) END
    WHERE i.key = mine.key;
    IF is_released THEN
        is_asked := false;
        positions := NULL;
    END IF;
    RETURN NEXT;
END $$;

-- Accept events that an instance sends; the instances that have something to do by it.
CREATE FUNCTION edda.sent(
    moment timestamptz, words text[],
    events integer[], shapes integer[], founds text[], addresses text[]
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
    found bigint[] := '{}';
BEGIN
    FOR one IN SELECT * FROM edda.accept(moment, words, events, shapes, founds, addresses) LOOP
        IF one.position IS NOT NULL THEN
            found := found || one.given || coalesce((
                SELECT array_agg(f.instance ORDER BY f.wait)
                FROM edda.fitting(events, shapes, founds, addresses) AS f
                WHERE f.event = one.event
            ), '{}');
        END IF;
    END LOOP;
    RETURN found;
END $$;

-- Accept events, all or none. `outcome` of each row: 'done'; 'stale' (shapes are missing); 'ask'
-- (this wait is to be judged, and everything once more); 'refused'. `asked` are the waits that
-- were judged, by event, and `verdicts` what they said. Only when every wait that an event fits
-- may refuse it are they asked.
CREATE FUNCTION edda.deliver(
    now timestamptz, words text[],
    known_types text[], known_counts integer[],
    events integer[], shapes integer[], founds text[], addresses text[],
    has_judge boolean, asked_events integer[], asked_waits bigint[], verdicts text[]
) RETURNS TABLE (
    outcome text, event integer, "position" bigint, woken text[], text text,
    wait bigint, wait_words text[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
    moment timestamptz;
    concerned bigint[];
    queues integer[];
    fits_events integer[];
    fits_waits bigint[];
    fits_instances bigint[];
BEGIN
    PERFORM edda.lock(
        known_types,
        (SELECT array_agg(edda.lane(f.s, f.f)) FROM unnest(shapes, founds) AS f (s, f)),
        '{}'
    );
    IF NOT edda.knows(known_types, known_counts) THEN
        outcome := 'stale';
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT coalesce(array_agg(f.event), '{}'), coalesce(array_agg(f.wait), '{}'),
        coalesce(array_agg(f.instance), '{}')
    INTO fits_events, fits_waits, fits_instances
    FROM edda.fitting(events, shapes, founds, addresses) AS f;

    IF has_judge AND cardinality(fits_events) > 0 THEN
        FOR one IN
            SELECT f.event, bool_or(a.wait IS NULL) AS is_open
            FROM unnest(fits_events, fits_waits) AS f (event, wait)
            JOIN edda.wait AS w ON w.key = f.wait
            LEFT JOIN unnest(asked_events, asked_waits, verdicts) AS a (event, wait, verdict)
                ON a.event = f.event AND a.wait = f.wait
            WHERE NOT EXISTS (
                SELECT FROM edda.message AS m
                WHERE m.source = words[f.event][2] AND m.id = words[f.event][3]
            )
            GROUP BY f.event
            HAVING bool_and(
                w.model IS NOT NULL AND w.on_invalid <> 'raise'
                AND (a.wait IS NULL OR a.verdict IS NOT NULL)
            )
            ORDER BY f.event
        LOOP
            outcome := CASE WHEN one.is_open THEN 'ask' ELSE 'refused' END;
            event := one.event;
            IF one.is_open THEN
                RETURN QUERY
                SELECT 'ask', one.event, NULL::bigint, NULL::text[], NULL::text, w.key,
                    ARRAY[w.id, s.type, s.paths, w.match_values, w.model, w.on_invalid, w.mode]
                FROM unnest(fits_events, fits_waits) AS f (event, wait)
                JOIN edda.wait AS w ON w.key = f.wait JOIN edda.shape AS s ON s.key = w.shape
                WHERE f.event = one.event ORDER BY w.key;
            ELSE
                RETURN NEXT;
            END IF;
        END LOOP;
        IF outcome IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;

    SELECT array_agg(f.shape) INTO queues
    FROM unnest(shapes, addresses) AS f (shape, address) WHERE f.address = '?';
    concerned := fits_instances;
    IF queues IS NOT NULL THEN
        concerned := concerned || edda.candidates(queues, array_length(words, 1), NULL);
    END IF;
    IF cardinality(concerned) > 0 THEN
        PERFORM edda.lock_rows(concerned);
    END IF;
    moment := coalesce(now, clock_timestamp());
    outcome := 'done';
    FOR one IN SELECT * FROM edda.accept(moment, words, events, shapes, founds, addresses) LOOP
        event := one.event;
        position := one.position;
        woken := '{}';
        text := NULL;
        IF position IS NULL THEN
            SELECT m.text INTO text FROM edda.message AS m
            WHERE m.source = words[one.event][2] AND m.id = words[one.event][3]
                AND m.text <> words[one.event][5];
        ELSIF cardinality(fits_events) > 0 OR cardinality(one.given) > 0 THEN
            woken := edda.wake(moment, one.given || coalesce((
                SELECT array_agg(f.instance ORDER BY f.wait)
                FROM unnest(fits_events, fits_waits, fits_instances) AS f (event, wait, instance)
                WHERE f.event = one.event
            ), '{}'));
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Prolong leases; those that are held still.
CREATE FUNCTION edda.renew(
    now timestamptz, ids text[], workers text[], tokens bigint[], lease interval
) RETURNS TABLE (id text, token bigint, until timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM edda.forgettable();
    PERFORM FROM edda.instance AS i WHERE i.id = ANY (ids) ORDER BY i.key FOR NO KEY UPDATE;
    RETURN QUERY
    UPDATE edda.instance AS i
    SET ready = coalesce(now, clock_timestamp()) + lease, ticket = nextval('edda.ticket')
    FROM unnest(ids, workers, tokens) AS l (id, worker, token)
    WHERE i.id = l.id AND i.worker = l.worker AND i.token = l.token
    RETURNING i.id, i.token, i.ready;
END $$;

-- Make instances ready: those a worker holds, or (without one) the stuck, all or one; their ids.
CREATE FUNCTION edda.free(now timestamptz, holder text, stuck_id text) RETURNS text[]
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := coalesce(now, clock_timestamp());
    keys bigint[];
    freed text[] := '{}';
    one text;
    each bigint;
BEGIN
    IF holder IS NOT NULL THEN
        PERFORM FROM edda.instance WHERE worker = holder ORDER BY key FOR NO KEY UPDATE;
        SELECT array_agg(key ORDER BY ready, ticket) INTO keys
        FROM edda.instance WHERE worker = holder;
    ELSE
        PERFORM FROM edda.instance
        WHERE status = 'stuck' AND (stuck_id IS NULL OR id = stuck_id)
        ORDER BY key FOR NO KEY UPDATE;
        SELECT array_agg(key ORDER BY key) INTO keys FROM edda.instance
        WHERE status = 'stuck' AND (stuck_id IS NULL OR id = stuck_id);
    END IF;
    FOREACH each IN ARRAY coalesce(keys, '{}') LOOP
        UPDATE edda.instance SET worker = NULL, due = moment, ready = moment,
            ticket = nextval('edda.ticket'),
            status = CASE WHEN holder IS NULL THEN 'pending' ELSE status END
        WHERE key = each RETURNING id INTO one;
        freed := freed || one;
    END LOOP;
    RETURN freed;
END $$;

CREATE FUNCTION edda.request_cancel(now timestamptz, wanted_id text) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    mine edda.instance;
BEGIN
    SELECT * INTO mine FROM edda.instance WHERE id = wanted_id FOR NO KEY UPDATE;
    IF NOT FOUND OR mine.status IN ('completed', 'failed', 'cancelled') THEN
        RETURN false;
    END IF;
    IF mine.cancel = 0 THEN
        UPDATE edda.instance SET cancel = 1 WHERE key = mine.key;
        PERFORM edda.wake(coalesce(now, clock_timestamp()), ARRAY[mine.key]);
    END IF;
    RETURN true;
END $$;

-- What is old and nobody who lives could still take: everybody has finished, or began to read
-- later, or took it, or runs a workflow that has never waited for such a type.
CREATE FUNCTION edda.expiring(before timestamptz, most integer, among bigint[])
RETURNS SETOF edda.message
LANGUAGE sql AS $$
    SELECT m.* FROM edda.message AS m
    WHERE m.at < before AND (among IS NULL OR m.position = ANY (among))
        AND NOT EXISTS ( -- by events
            SELECT FROM edda.interest AS n
            JOIN edda.instance AS i ON i.workflow = n.workflow AND i.born < m.position
                AND i.status NOT IN ('completed', 'failed', 'cancelled')
            WHERE n.type = m.type AND (m.target IS NULL OR m.target = i.id)
                AND NOT EXISTS (
                    SELECT FROM edda.subscription AS s
                    WHERE s.instance = i.key AND s.type = m.type
                )
                AND NOT EXISTS (
                    SELECT FROM edda.taken AS t WHERE t.instance = i.key AND t.position = m.position
                )
        )
        AND NOT EXISTS ( -- by channels
            SELECT FROM edda.subscription AS s
            JOIN edda.instance AS i ON i.key = s.instance
                AND i.status NOT IN ('completed', 'failed', 'cancelled')
            WHERE s.type = m.type AND (m.target IS NULL OR m.target = i.id)
                AND NOT EXISTS (
                    SELECT FROM edda.taken AS t WHERE t.instance = i.key AND t.position = m.position
                )
                AND CASE
                    WHEN s.mode = 'competing' AND EXISTS (
                        SELECT FROM edda.facet AS f JOIN edda.shape AS h ON h.key = f.shape
                        WHERE h.type = m.type AND h.paths = 'competing' AND f.found = ''
                            AND f.address IN ('?', '=' || i.id) AND f.position = m.position
                    ) THEN m.target IS NULL OR i.born < m.position
                    WHEN m.target IS NOT NULL THEN i.born < m.position
                    ELSE s.mode = 'broadcast' AND s.since < m.position
                END
        )
    ORDER BY m.position LIMIT most
$$;

-- Every statement of these is a few look-ups by index, however large the tables, and whatever
-- their statistics say about the time when they were small: plans are kept for long.
DO $do$
DECLARE
    one regprocedure;
    setting text;
BEGIN
    FOR one IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace = (
            SELECT relnamespace FROM pg_class WHERE oid = 'edda.instance'::regclass
        ) AND p.proname IN (
            'create', 'claim', 'commit', 'deliver', 'renew', 'free', 'request_cancel', 'expiring'
        )
    LOOP
        FOREACH setting IN ARRAY ARRAY[
            'enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit'
        ] LOOP
            EXECUTE format('ALTER FUNCTION %s SET %I = off', one, setting);
        END LOOP;
    END LOOP;
END $do$;

-- name: version
SELECT version FROM edda.version;

-- name: add_version
INSERT INTO edda.version VALUES ($1);

-- name: is_there
SELECT to_regclass($1) IS NOT NULL,
    EXISTS (
        SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $2
    );

-- name: create
SELECT * FROM edda.create($1, $2, $3, $4, $5, $6, $7, $8);

-- name: claim
SELECT * FROM edda.claim($1, $2, $3, $4, $5, $6);

-- name: park
-- One that nobody here can read must not keep the others from being claimed.
UPDATE edda.instance SET status = 'stuck', problem = $3, worker = NULL, ready = NULL,
    updated_at = coalesce($4, clock_timestamp())
WHERE key = $1 AND token = $2;

-- name: commit
SELECT * FROM edda.commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
    $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29);

-- name: deliver
SELECT * FROM edda.deliver($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: renew
SELECT * FROM edda.renew($1, $2, $3, $4, $5);

-- name: free
SELECT edda.free($1, $2, $3);

-- name: workers
SELECT DISTINCT worker FROM edda.instance WHERE worker IS NOT NULL;

-- name: request_cancel
SELECT edda.request_cancel($1, $2);

-- name: next_due
-- Leased instances count with the end of their lease: a worker that sleeps until then takes over
-- what a dead one held, and nobody polls. With it, what time it is here.
SELECT min(found.ready), clock_timestamp()
FROM unnest($1::text[]) AS known (name)
CROSS JOIN LATERAL (
    SELECT i.ready FROM edda.instance AS i
    WHERE i.workflow = known.name AND i.ready IS NOT NULL ORDER BY i.ready LIMIT 1
) AS found;

-- name: find
SELECT i.id, i.workflow, i.status, i.started_at, i.updated_at, i.due, i.problem,
    e.seq, e.head, e.payload,
    (
        SELECT array_agg(
            ARRAY[w.id, s.type, s.paths, w.match_values, w.model, w.on_invalid, w.mode]
            ORDER BY w.key
        )
        FROM edda.wait AS w JOIN edda.shape AS s ON s.key = w.shape WHERE w.instance = i.key
    )
FROM edda.instance AS i
LEFT JOIN edda.event AS e ON e.instance = i.key AND e.seq = i.length - 1
    AND i.status IN ('completed', 'failed', 'cancelled')
WHERE i.id > $1 AND ($2::text IS NULL OR i.status = $2) AND ($3::text IS NULL OR i.workflow = $3)
ORDER BY i.id LIMIT $4;

-- name: instance
SELECT i.id, i.workflow, i.status, i.started_at, i.updated_at, i.due, i.problem,
    e.seq, e.head, e.payload,
    (
        SELECT array_agg(
            ARRAY[w.id, s.type, s.paths, w.match_values, w.model, w.on_invalid, w.mode]
            ORDER BY w.key
        )
        FROM edda.wait AS w JOIN edda.shape AS s ON s.key = w.shape WHERE w.instance = i.key
    )
FROM edda.instance AS i
LEFT JOIN edda.event AS e ON e.instance = i.key AND e.seq = i.length - 1
    AND i.status IN ('completed', 'failed', 'cancelled')
WHERE i.id = $1;

-- name: history
SELECT e.seq, e.head, e.payload
FROM edda.event AS e JOIN edda.instance AS i ON i.key = e.instance
WHERE i.id = $1 ORDER BY e.seq;

-- name: shapes
SELECT key, type, paths FROM edda.shape WHERE type = ANY ($1) ORDER BY key;

-- name: lock_types
SELECT edda.lock_types($1);

-- name: add_shape
INSERT INTO edda.shape (type, paths) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING key;

-- name: messages_of_type
SELECT position, target, text FROM edda.message WHERE type = $1 AND position > $2
ORDER BY position LIMIT $3;

-- name: add_facets
INSERT INTO edda.facet (shape, found, address, position)
SELECT $1, f.* FROM unnest($2::text[], $3::text[], $4::bigint[]) AS f;

-- name: expiring
SELECT position, at, type, source, id, target, text, is_read
FROM edda.expiring($1, $2, $3);

-- name: drop_facets
DELETE FROM edda.facet AS f
USING unnest($1::integer[], $2::text[], $3::text[], $4::bigint[])
    AS gone (shape, found, address, position)
WHERE (f.shape, f.found, f.address, f.position)
    = (gone.shape, gone.found, gone.address, gone.position);

-- name: drop_messages
WITH gone AS (DELETE FROM edda.message WHERE position = ANY ($1) RETURNING *)
INSERT INTO edda.expired (position, at, type, source, id)
SELECT position, at, type, source, id FROM gone
WHERE NOT is_read AND NOT starts_with(type, $2);

-- name: expired
SELECT position, at, type, source, id FROM edda.expired WHERE position > $1
ORDER BY position LIMIT $2;

-- name: take_outgoing
WITH due AS (
    SELECT position, text, attempts, due, error FROM edda.outbox
    WHERE due <= coalesce($1, clock_timestamp()) ORDER BY due, position LIMIT $2
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE edda.outbox AS o SET due = coalesce($1, clock_timestamp()) + $3::interval
    FROM due WHERE o.position = due.position
)
SELECT position, text, attempts, due, error FROM due ORDER BY due, position;

-- name: drop_outgoing
DELETE FROM edda.outbox WHERE position = $1;

-- name: fail_outgoing
UPDATE edda.outbox
SET attempts = attempts + 1, due = coalesce($2, $4, clock_timestamp()), error = $3
WHERE position = $1;

-- name: outgoing
SELECT position, text, attempts, due, error FROM edda.outbox WHERE position > $1
ORDER BY position LIMIT $2;

-- name: outgoing_due
SELECT min(due) FROM edda.outbox;

-- name: notify
SELECT pg_notify($1, one) FROM unnest($2::text[]) AS one;
