-- The newest posts of the blog.
SELECT id, title, written FROM posts ORDER BY written DESC, id DESC LIMIT 5;
