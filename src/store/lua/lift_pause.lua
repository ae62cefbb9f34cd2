-- Ends the pauses of the fleet and of an egress.
--
-- KEYS  meta (of the grant) pause
-- Replies
--       1
redis.call('HDEL', KEYS[1], 'pause_until', 'pause_us', 'pause_class', 'pause_gen', 'fails')
redis.call('DEL', KEYS[2])
return 1
