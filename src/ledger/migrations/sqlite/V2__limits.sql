-- Limits of one model, limits that only warn, rates, tags and sessions with budgets, sums of what is long past.

CREATE TABLE new_limit (
    budget_limit INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL REFERENCES account,
    "window"     TEXT    NOT NULL,
    -- Only requests of this model count; empty: all do.
    model        TEXT    NOT NULL DEFAULT '',
    amount       INTEGER NOT NULL,
    duration     TEXT,
    main         INTEGER NOT NULL,
    observe      INTEGER NOT NULL,
    -- Only warns.
    soft         INTEGER NOT NULL DEFAULT 0,
    -- At which parts of the amount an event is recorded, in percent.
    thresholds   TEXT    NOT NULL DEFAULT '[]',
    UNIQUE (account, "window", model, soft)
) STRICT;
INSERT INTO new_limit (budget_limit, account, "window", amount, duration, main, observe)
    SELECT budget_limit, account, "window", amount, duration, main, observe FROM budget_limit;
DROP TABLE budget_limit;
ALTER TABLE new_limit RENAME TO budget_limit;

CREATE TABLE new_balance (
    balance      INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL REFERENCES account,
    "window"     TEXT    NOT NULL,
    model        TEXT    NOT NULL DEFAULT '',
    window_start INTEGER NOT NULL,
    posted       INTEGER NOT NULL DEFAULT 0,
    pending      INTEGER NOT NULL DEFAULT 0,
    charged_at   INTEGER,
    -- Over the other columns; unset: written before there were any.
    checksum     INTEGER,
    UNIQUE (account, "window", model, window_start)
) STRICT;
INSERT INTO new_balance (balance, account, "window", window_start, posted, pending, charged_at)
    SELECT balance, account, "window", window_start, posted, pending, charged_at FROM balance;
DROP TABLE balance;
ALTER TABLE new_balance RENAME TO balance;

CREATE INDEX account_session ON account (account) WHERE kind = 'session' AND deleted_at IS NULL;
ALTER TABLE account ADD COLUMN session_limit INTEGER;
ALTER TABLE account ADD COLUMN client_tags_bind INTEGER NOT NULL DEFAULT 0;

-- How many of a hold's tags, from the first on, are charged to the accounts of their name.
ALTER TABLE hold ADD COLUMN binding_tags INTEGER NOT NULL DEFAULT 0;
-- The rates that it counts in, and with how much, as a list of numbers.
ALTER TABLE hold ADD COLUMN rates BLOB;
-- The beginning of the SHA-256 of the tags: they are too long for an index.
ALTER TABLE hold ADD COLUMN tags_digest INTEGER NOT NULL DEFAULT 0;
CREATE INDEX hold_made ON hold (created_at);
CREATE INDEX hold_expired ON hold (created_at) WHERE state = 3;

-- Rates. `state` is when the next unit is due, in Unix nanoseconds; for requests at once, how many are open.
CREATE TABLE rate (
    rate    INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account,
    kind    TEXT    NOT NULL,
    model   TEXT    NOT NULL DEFAULT '',
    amount  INTEGER NOT NULL,
    observe INTEGER NOT NULL DEFAULT 0,
    state   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account, kind, model)
) STRICT;
INSERT INTO rate (account, kind, amount) SELECT account, 'rpm', rpm_limit FROM account WHERE rpm_limit IS NOT NULL;
INSERT INTO rate (account, kind, amount) SELECT account, 'tpm', tpm_limit FROM account WHERE tpm_limit IS NOT NULL;
ALTER TABLE account DROP COLUMN rpm_limit;
ALTER TABLE account DROP COLUMN tpm_limit;

-- A limit of which a part was spent: once for each window and part. Whoever delivers them keeps a cursor.
CREATE TABLE crossing (
    crossing     INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    account      INTEGER NOT NULL REFERENCES account,
    "window"     TEXT    NOT NULL,
    model        TEXT    NOT NULL,
    soft         INTEGER NOT NULL,
    window_start INTEGER NOT NULL,
    threshold    INTEGER NOT NULL,
    amount       INTEGER NOT NULL,
    posted       INTEGER NOT NULL,
    UNIQUE (account, "window", model, soft, window_start, threshold)
) STRICT;

-- Sums of the holds made before `rolled_until` (in `meta`), by hour: what reports and new limits read of what is long past.
-- -1 stands for no account, an empty text for no tags.
CREATE TABLE rollup (
    hour           INTEGER NOT NULL,
    key            INTEGER NOT NULL,
    organization   INTEGER NOT NULL,
    team           INTEGER NOT NULL,
    "user"         INTEGER NOT NULL,
    model          TEXT    NOT NULL,
    priced_model   TEXT    NOT NULL,
    provider       TEXT    NOT NULL,
    tags           TEXT    NOT NULL,
    tags_digest    INTEGER NOT NULL,
    binding_tags   INTEGER NOT NULL,
    requests       INTEGER NOT NULL,
    posted         INTEGER NOT NULL,
    input          INTEGER NOT NULL,
    cache_read     INTEGER NOT NULL,
    cache_write_5m INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    output         INTEGER NOT NULL,
    web_searches   INTEGER NOT NULL,
    PRIMARY KEY (hour, key, organization, team, "user", model, priced_model, provider, tags_digest, binding_tags)
) STRICT, WITHOUT ROWID;

-- What has changed since somebody looked: what is said of accounts, and windows that ended.
CREATE INDEX account_changed ON account (updated_at);
CREATE INDEX limit_of_window ON budget_limit ("window");

-- Lines that were exported are dropped, and what they summed up to is carried forward: only then may one go.
DROP TRIGGER entry_is_never_removed;
CREATE TRIGGER entry_is_never_removed BEFORE DELETE ON entry
    WHEN NOT EXISTS (SELECT 1 FROM meta WHERE name = 'retiring')
    BEGIN SELECT RAISE(ABORT, 'the journal is only ever added to'); END;
