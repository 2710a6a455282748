ALTER TABLE feed DROP COLUMN history;
DROP FUNCTION feed_history();
