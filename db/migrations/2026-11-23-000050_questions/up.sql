-- Questions to hosts and their answers (api/src/exchange). Not logged: a crash of the database ends them, as it ends
-- the requests that asked. A question is gone once its answer is read, or a minute after its time.
CREATE UNLOGGED TABLE host_questions (
    id          uuid PRIMARY KEY,
    host        integer NOT NULL,              -- hosts.number
    question    text NOT NULL,                 -- JSON; text, for jsonb refuses some of it
    answer      text,                          -- of the host
    asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    until       timestamptz NOT NULL           -- nobody waits for an answer any more
);
CREATE INDEX host_questions_open ON host_questions (host, asked_at) WHERE answer IS NULL;
