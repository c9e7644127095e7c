-- A blog of 20 posts. Load it once: a second time is refused, because the table is there.
BEGIN;

CREATE TABLE posts (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL CHECK (title <> ''),
    description text NOT NULL,
    written date NOT NULL
);

INSERT INTO posts (title, description, written) VALUES
    ('Hello, PostgreSQL', 'The first post of a blog that lives in a database instance.', '2026-01-01'),
    ('Why a blog', 'Twenty small rows are enough to see that nothing is lost.', '2026-01-02'),
    ('One table', 'Posts have a title, a body and the day they were written.', '2026-01-03'),
    ('Primary keys', 'Every row gets a number that is never used again.', '2026-01-04'),
    ('Transactions', 'Either all of these posts arrive, or none.', '2026-01-05'),
    ('Constraints', 'A post without a title is refused by the server, not by us.', '2026-01-06'),
    ('Indexes', 'Twenty rows need none. Twenty million do.', '2026-01-07'),
    ('Views', 'A view of the newest posts is a query with a name.', '2026-01-08'),
    ('Joins', 'Comments would be a second table.', '2026-01-09'),
    ('Full text', 'The server can find words: try to_tsvector.', '2026-01-10'),
    ('JSON', 'Some things have no columns. jsonb keeps them.', '2026-01-11'),
    ('Roles', 'The application logs in with a role of its own.', '2026-01-12'),
    ('Passwords', 'They travel as scram proofs, over TLS.', '2026-01-13'),
    ('Backups', 'A copy that was never restored is a hope, not a backup.', '2026-01-14'),
    ('Replicas', 'A second server follows the first one''s log.', '2026-01-15'),
    ('Failover', 'When the first one dies, the second takes over.', '2026-01-16'),
    ('Vacuum', 'Old versions of rows are swept up in the background.', '2026-01-17'),
    ('Settings', 'SHOW tells what the server runs with.', '2026-01-18'),
    ('Crashes', 'Kill the server. Committed rows are still there.', '2026-01-19'),
    ('Goodbye', 'Delete the instance, and its data goes with it.', '2026-01-20');

COMMIT;
