-- What each payer was charged for the holds made before `spent_until` (in `meta`), by quarter hours, to which the hours and days
-- of every time zone are whole: what a limit that is added later finds of its window's past. `payer` is the account, with an
-- empty tag; or, of a binding tag, the organization in which it was on requests, and -1 for all of them together.
CREATE TABLE spent (
    payer   INTEGER NOT NULL,
    tag     TEXT    NOT NULL,
    quarter INTEGER NOT NULL,
    model   TEXT    NOT NULL,
    posted  INTEGER NOT NULL,
    PRIMARY KEY (payer, tag, quarter, model)
) STRICT, WITHOUT ROWID;

-- Requests of one key, newest first. A hold enters it once, when it ends and is charged.
CREATE INDEX hold_of_key ON hold (key, created_at) WHERE state IN (1, 3);

-- Sessions come with requests, and whoever looks for changes leaves them out: making one must not pay for that.
DROP INDEX account_changed;
CREATE INDEX account_said ON account (updated_at) WHERE kind <> 'session';
