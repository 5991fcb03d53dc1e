-- What sessions of some names may spend, as an object of patterns and nano-dollars; `session_limit` is for every session.
ALTER TABLE account ADD COLUMN session_limits TEXT NOT NULL DEFAULT '{}';
