DROP FUNCTION used_in_stripes(uuid, text);
DROP FUNCTION own_limit(uuid, text);
