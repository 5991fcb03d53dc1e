-- The books. Instants are Unix milliseconds in UTC, amounts nano-dollars.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Every price book that holds were made by: each is settled by the prices of its hold.
CREATE TABLE price_book (
    revision INTEGER PRIMARY KEY,
    text     TEXT NOT NULL
) STRICT;

-- Who pays. A deleted account keeps its row, because its balances outlive it and remaking it opens no fresh money.
CREATE TABLE account (
    account         INTEGER PRIMARY KEY,
    kind            TEXT    NOT NULL,
    scope           TEXT    NOT NULL DEFAULT '',
    id              TEXT    NOT NULL,
    alias           TEXT,
    organization    INTEGER REFERENCES account,
    team            INTEGER REFERENCES account,
    user            INTEGER REFERENCES account,
    models          TEXT    NOT NULL DEFAULT '[]',
    tags            TEXT    NOT NULL DEFAULT '[]',
    -- Extras that no request may ask for, and tags that every one must carry.
    forbidden       TEXT    NOT NULL DEFAULT '[]',
    required_tags   TEXT    NOT NULL DEFAULT '[]',
    budget_duration TEXT,
    blocked         INTEGER NOT NULL DEFAULT 0,
    expires_at      INTEGER,
    rpm_limit       INTEGER,
    tpm_limit       INTEGER,
    metadata        TEXT    NOT NULL DEFAULT '{}',
    -- Rises with every change; part of the version of the policies that it concerns.
    revision        INTEGER NOT NULL DEFAULT 1,
    -- Which interface may change it, and for whom.
    managed_by      TEXT    NOT NULL DEFAULT 'api',
    owner_scope     TEXT    NOT NULL DEFAULT '',
    created_by      TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER,
    UNIQUE (kind, scope, id)
) STRICT;
CREATE INDEX account_of_organization ON account (organization) WHERE organization IS NOT NULL;
CREATE INDEX account_of_team ON account (team) WHERE team IS NOT NULL;
CREATE INDEX account_of_user ON account (user) WHERE user IS NOT NULL;
CREATE UNIQUE INDEX account_key_alias ON account (alias) WHERE kind = 'key' AND deleted_at IS NULL;

-- A virtual key is a credential of its account, known by its SHA-256.
CREATE TABLE credential (
    digest     BLOB    PRIMARY KEY,
    account    INTEGER NOT NULL REFERENCES account,
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_of_account ON credential (account);

CREATE TABLE budget_limit (
    budget_limit INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL REFERENCES account,
    "window"     TEXT    NOT NULL,
    amount       INTEGER NOT NULL,
    duration     TEXT,
    main         INTEGER NOT NULL,
    observe      INTEGER NOT NULL,
    UNIQUE (account, "window")
) STRICT;

-- What an account spent and holds in one window. Every account has its lifetime's; the others are made by the first
-- hold in them.
CREATE TABLE balance (
    balance      INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL REFERENCES account,
    "window"     TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    posted       INTEGER NOT NULL DEFAULT 0,
    pending      INTEGER NOT NULL DEFAULT 0,
    charged_at   INTEGER,
    UNIQUE (account, "window", window_start)
) STRICT;

-- How each hold stands: a projection of its entries, and what the request was. Rows are in the order of `created_at`.
CREATE TABLE hold (
    hold            INTEGER PRIMARY KEY,
    id              BLOB    NOT NULL UNIQUE,
    state           INTEGER NOT NULL,
    digest          BLOB    NOT NULL,
    key             INTEGER NOT NULL REFERENCES account,
    organization    INTEGER REFERENCES account,
    team            INTEGER REFERENCES account,
    user            INTEGER REFERENCES account,
    model           TEXT    NOT NULL,
    provider        TEXT    NOT NULL,
    api             TEXT    NOT NULL,
    fallback_models TEXT,
    bounds          BLOB    NOT NULL,
    service_tier    TEXT,
    speed           TEXT,
    inference_geo   TEXT,
    tags            TEXT,
    session         TEXT,
    end_user        TEXT,
    client          TEXT,
    price_revision  INTEGER NOT NULL,
    -- The balances that it charges, as a list of numbers.
    balances        BLOB    NOT NULL,
    -- What it holds, or held when it ended.
    amount          INTEGER NOT NULL,
    posted          INTEGER NOT NULL DEFAULT 0,
    overrun         INTEGER NOT NULL DEFAULT 0,
    -- Why a limit that only observes would have refused it.
    would_deny      TEXT,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    sequence        INTEGER NOT NULL DEFAULT 0,
    -- The model that was priced, where it is not the one that was asked for.
    priced_model    TEXT,
    input           INTEGER,
    cache_read      INTEGER,
    cache_write_5m  INTEGER,
    cache_write_1h  INTEGER,
    output          INTEGER,
    web_searches    INTEGER,
    estimated       INTEGER NOT NULL DEFAULT 0,
    end_reason      TEXT,
    status          INTEGER,
    first_byte_at   INTEGER,
    ended_at        INTEGER
) STRICT;
CREATE INDEX hold_due ON hold (expires_at) WHERE state = 0;

-- Voids that came before their hold: they refuse it.
CREATE TABLE tombstone (
    id     BLOB    PRIMARY KEY,
    digest BLOB    NOT NULL,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_at ON tombstone (at);

-- The journal: for each balance, the sum of the entries that name it is what it says.
CREATE TABLE entry (
    entry     INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    -- hold, adjust, settle, void, expire, correct; or count: a new limit counts what was there before it.
    kind      TEXT    NOT NULL,
    hold      INTEGER REFERENCES hold,
    balances  BLOB    NOT NULL,
    posted    INTEGER NOT NULL,
    pending   INTEGER NOT NULL,
    model     TEXT,
    usage     BLOB,
    estimated INTEGER NOT NULL DEFAULT 0,
    overrun   INTEGER NOT NULL DEFAULT 0,
    checksum  INTEGER NOT NULL
) STRICT;
CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'the journal is only ever added to'); END;
CREATE TRIGGER entry_is_never_removed BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'the journal is only ever added to'); END;
