-- A blog of 20 posts. Loading it again changes nothing.
BEGIN;

CREATE TABLE IF NOT EXISTS posts (
    id integer PRIMARY KEY,
    title text NOT NULL CHECK (title <> ''),
    description text NOT NULL,
    written date NOT NULL
);

INSERT INTO posts (id, title, description, written) VALUES
    (1, 'Hello, PostgreSQL', 'The first post of a blog that lives in a database instance.', '2026-01-01'),
    (2, 'Why a blog', 'Twenty small rows are enough to see that nothing is lost.', '2026-01-02'),
    (3, 'One table', 'Posts have a title, a body and the day they were written.', '2026-01-03'),
    (4, 'Primary keys', 'Every row gets a number that is never used again.', '2026-01-04'),
    (5, 'Transactions', 'Either all of these posts arrive, or none.', '2026-01-05'),
    (6, 'Constraints', 'A post without a title is refused by the server, not by us.', '2026-01-06'),
    (7, 'Indexes', 'Twenty rows need none. Twenty million do.', '2026-01-07'),
    (8, 'Views', 'A view of the newest posts is a query with a name.', '2026-01-08'),
    (9, 'Joins', 'Comments would be a second table.', '2026-01-09'),
    (10, 'Full text', 'The server can find words: try to_tsvector.', '2026-01-10'),
    (11, 'JSON', 'Some things have no columns. jsonb keeps them.', '2026-01-11'),
    (12, 'Roles', 'The application logs in with a role of its own.', '2026-01-12'),
    (13, 'Passwords', 'They travel as scram proofs, over TLS.', '2026-01-13'),
    (14, 'Backups', 'A copy that was never restored is a hope, not a backup.', '2026-01-14'),
    (15, 'Replicas', 'A second server follows the first one''s log.', '2026-01-15'),
    (16, 'Failover', 'When the first one dies, the second takes over.', '2026-01-16'),
    (17, 'Vacuum', 'Old versions of rows are swept up in the background.', '2026-01-17'),
    (18, 'Settings', 'SHOW tells what the server runs with.', '2026-01-18'),
    (19, 'Crashes', 'Kill the server. Committed rows are still there.', '2026-01-19'),
    (20, 'Goodbye', 'Delete the instance, and its data goes with it.', '2026-01-20')
ON CONFLICT (id) DO NOTHING;

COMMIT;
