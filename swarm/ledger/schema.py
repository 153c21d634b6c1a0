"""The ledger's tables: as they are made, and as older ones are brought up to them."""

from __future__ import annotations

SCHEMA_VERSION = 4
"""``PRAGMA user_version`` of the files this program writes; it brings older ones up to it."""
APPLICATION_ID = 0x61637477
"""``PRAGMA application_id``: ``actw``, so that ``file`` and we can tell a ledger apart."""

EVER = -1
"""The day of ``spending`` that holds all time; other days count from 1970 in UTC."""

SPENDING = (
    # Running totals of what attempts count for, so that a budget is not a sum over all of them.
    # Each change of an attempt's usage changes them in the same transaction (rows.recount).
    """CREATE TABLE spending (
        day INTEGER NOT NULL,
        agent TEXT NOT NULL,
        tokens INTEGER,
        usd REAL,
        PRIMARY KEY (day, agent)
    ) WITHOUT ROWID""",
    # What our agents spent on another coordinator's tasks, which are not ours to keep.
    """CREATE TABLE elsewhere (
        task TEXT NOT NULL,
        fence INTEGER NOT NULL,
        agent TEXT NOT NULL,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cost_usd REAL,
        estimate_tokens INTEGER,
        estimate_usd REAL,
        PRIMARY KEY (task, fence)
    ) WITHOUT ROWID""",
)

QUEUES = """CREATE TABLE queues (
        id INTEGER PRIMARY KEY,
        role TEXT NOT NULL,
        lane TEXT NOT NULL,
        labels TEXT NOT NULL,
        UNIQUE (role, lane, labels)
    )"""
"""Tasks that the same agents can take wait in one queue, so that what nobody can take hides
nothing.  ``labels`` is a JSON object with sorted keys."""

READY = """CREATE INDEX tasks_ready ON tasks(queue, priority DESC, seq)
        WHERE state = 'queued' AND blocked = 0 AND paused = 0"""

LANDING = (
    # What was said about a task's work, by landing, checks, reviewers and people; never changed.
    """CREATE TABLE remarks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        task INTEGER NOT NULL REFERENCES tasks(seq),
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        author TEXT NOT NULL DEFAULT '',
        commit_id TEXT,
        verdict TEXT NOT NULL DEFAULT '',
        counts TEXT NOT NULL DEFAULT '{}',
        text TEXT NOT NULL,
        fence INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX remarks_task ON remarks(task, seq)",
    """CREATE INDEX tasks_landing ON tasks(priority DESC, seq)
        WHERE state IN ('landing', 'review')""",
    "CREATE INDEX tasks_in_doubt ON tasks(seq) WHERE in_doubt IS NOT NULL",
    "CREATE INDEX tasks_about ON tasks(about) WHERE about IS NOT NULL",
)
PLANS = (
    """CREATE TABLE plans (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        state TEXT NOT NULL,
        follows INTEGER REFERENCES plans(seq),
        source TEXT NOT NULL DEFAULT '',
        reference TEXT UNIQUE,
        created_at REAL NOT NULL,
        ended_at REAL
    )""",
    "CREATE INDEX tasks_plan ON tasks(plan, seq) WHERE plan IS NOT NULL",
    "CREATE UNIQUE INDEX tasks_plan_key ON tasks(plan, plan_key) WHERE plan IS NOT NULL",
)
NOTICES = (
    # Not yet told, one row a hook: one that failed is tried again, over restarts too.
    """CREATE TABLE notices (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        hook TEXT NOT NULL,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        task TEXT NOT NULL DEFAULT '',
        body TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        due_at REAL NOT NULL
    )""",
    "CREATE INDEX notices_due ON notices(due_at, seq)",
    # How far somebody has read the events.
    "CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
)
LANES = (
    "CREATE INDEX tasks_thread ON tasks(thread, seq) WHERE thread <> ''",
    """CREATE INDEX tasks_respond ON tasks(seq)
        WHERE response_path IS NOT NULL AND responded = 0 AND state = 'done'""",
)
TASK_COLUMNS = (
    # Since version 4.
    "kind TEXT NOT NULL DEFAULT 'work'",
    "queue INTEGER REFERENCES queues(id)",
    "lane TEXT NOT NULL DEFAULT ''",
    "labels TEXT NOT NULL DEFAULT '{}'",
    "review TEXT",
    "merge TEXT",
    "plan INTEGER REFERENCES plans(seq)",
    "plan_key TEXT",
    "on_failed TEXT NOT NULL DEFAULT 'hold'",
    "paused INTEGER NOT NULL DEFAULT 0",
    "thread TEXT NOT NULL DEFAULT ''",
    "parent INTEGER REFERENCES tasks(seq)",
    "folder TEXT NOT NULL DEFAULT ''",
    "request_path TEXT",
    "request_sha256 TEXT",
    "response_path TEXT",
    "response_sha256 TEXT",
    # Its answer is in that file, or never will be: nothing is to be written.
    "responded INTEGER NOT NULL DEFAULT 0",
    # Its work: the branch's tip as the last good report had it, who approved which, what landed.
    "tip TEXT",
    "approved TEXT",
    "landed TEXT",
    # Taken out of `landing` with this commit, and git was not asked yet whether that had landed.
    "in_doubt TEXT",
    "revisions INTEGER NOT NULL DEFAULT 0",
    "retries INTEGER NOT NULL DEFAULT 0",
    # The last attempt's session may be gone on with, however it ended.
    "go_on INTEGER NOT NULL DEFAULT 0",
    # Of a review: the task it judges, and the commit.
    "about INTEGER REFERENCES tasks(seq)",
    "about_commit TEXT",
)

SCHEMA = (
    QUEUES,
    """CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        role TEXT NOT NULL,
        component TEXT NOT NULL,
        title TEXT NOT NULL,
        titled INTEGER NOT NULL DEFAULT 0,
        priority INTEGER NOT NULL,
        repo TEXT,
        reason TEXT NOT NULL DEFAULT '',
        result TEXT,
        answer TEXT NOT NULL DEFAULT '',
        branch TEXT,
        commits TEXT,
        blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked >= 0),
        not_before REAL,
        fence INTEGER NOT NULL DEFAULT 0,
        agent TEXT NOT NULL DEFAULT '',
        agent_id TEXT NOT NULL DEFAULT '',
        held INTEGER NOT NULL DEFAULT 0,
        lease_seconds REAL NOT NULL DEFAULT 0,
        lease_until REAL,
        lost INTEGER NOT NULL DEFAULT 0,
        sender TEXT,
        sender_ref TEXT,
        token_budget INTEGER,
        usd_budget REAL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        ended_at REAL,
        {}
    )""".format(",\n        ".join(TASK_COLUMNS)),
    # A prompt may be 256 KiB, and an UPDATE writes its whole row: it lies apart.
    "CREATE TABLE prompts (task INTEGER PRIMARY KEY REFERENCES tasks(seq), text TEXT NOT NULL)",
    READY,
    """CREATE INDEX tasks_delayed ON tasks(not_before)
        WHERE state = 'queued' AND not_before IS NOT NULL""",
    "CREATE INDEX tasks_held ON tasks(seq) WHERE held = 1",
    "CREATE INDEX tasks_state ON tasks(state)",
    """CREATE UNIQUE INDEX tasks_announced ON tasks(sender, sender_ref)
        WHERE sender IS NOT NULL""",
    """CREATE TABLE dependencies (
        task INTEGER NOT NULL REFERENCES tasks(seq),
        needs INTEGER NOT NULL REFERENCES tasks(seq),
        met INTEGER NOT NULL DEFAULT 0,
        skipped INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (task, needs)
    ) WITHOUT ROWID""",
    "CREATE INDEX dependencies_needs ON dependencies(needs) WHERE met = 0",
    """CREATE TABLE attempts (
        task INTEGER NOT NULL REFERENCES tasks(seq),
        fence INTEGER NOT NULL,
        n INTEGER NOT NULL,
        agent TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        outcome TEXT,
        reported INTEGER NOT NULL DEFAULT 0,
        counted INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        exit_status INTEGER,
        session_id TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        cost_usd REAL,
        estimate_tokens INTEGER,
        estimate_usd REAL,
        base TEXT,
        tip TEXT,
        started_at REAL,
        ended_at REAL,
        PRIMARY KEY (task, fence),
        UNIQUE (task, n)
    ) WITHOUT ROWID""",
    "CREATE INDEX attempts_at ON attempts(coalesce(started_at, ended_at))",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        task INTEGER NOT NULL REFERENCES tasks(seq),
        kind TEXT NOT NULL,
        agent TEXT NOT NULL DEFAULT '',
        fence INTEGER NOT NULL DEFAULT 0,
        detail TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX events_task ON events(task, seq)",
    """CREATE TABLE pauses (
        scope TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        since REAL NOT NULL,
        until REAL
    ) WITHOUT ROWID""",
    "CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
    *SPENDING,
    *LANDING,
    *PLANS,
    *NOTICES,
    *LANES,
)

DAY_OF = "CAST(coalesce(started_at, ended_at) / 86400 AS INTEGER)"

UPGRADES = {
    1: ("ALTER TABLE tasks ADD COLUMN titled INTEGER NOT NULL DEFAULT 0",),
    2: (
        "ALTER TABLE tasks ADD COLUMN token_budget INTEGER",
        "ALTER TABLE tasks ADD COLUMN usd_budget REAL",
        "ALTER TABLE attempts ADD COLUMN estimate_tokens INTEGER",
        "ALTER TABLE attempts ADD COLUMN estimate_usd REAL",
        *SPENDING,
        *(
            f"""INSERT INTO spending (day, agent, tokens, usd)
                SELECT {day} AS d, agent, sum(CASE WHEN coalesce(input_tokens, output_tokens)
                    IS NOT NULL THEN coalesce(input_tokens, 0) + coalesce(output_tokens, 0) END),
                    sum(cost_usd)
                FROM attempts WHERE coalesce(input_tokens, output_tokens, cost_usd) IS NOT NULL
                GROUP BY d, agent"""  # noqa: S608 - no value of anybody's
            for day in (EVER, f"coalesce({DAY_OF}, 0)")
        ),
    ),
    3: (
        QUEUES,
        *(f"ALTER TABLE tasks ADD COLUMN {column}" for column in TASK_COLUMNS),
        "ALTER TABLE attempts ADD COLUMN base TEXT",
        "ALTER TABLE attempts ADD COLUMN tip TEXT",
        # The task was skipped because of this one: a retry of it brings the task back.
        "ALTER TABLE dependencies ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0",
        "INSERT INTO queues (role, lane, labels) SELECT DISTINCT role, '', '{}' FROM tasks",
        "UPDATE tasks SET queue = (SELECT id FROM queues q WHERE q.role = tasks.role)",
        "DROP INDEX tasks_ready",
        READY,
        *LANDING,
        *PLANS,
        *NOTICES,
        *LANES,
    ),
}
"""What makes a ledger of each older version one of the next."""
