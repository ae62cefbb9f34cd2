-- Ends the pauses of the fleet and of an egress.
-- KEYS: meta pause
-- ARGV: none
-- Replies: 1
redis.call('HDEL', KEYS[1], 'cool_until', 'cool_us', 'cool_class', 'cool_gen', 'fails')
redis.call('DEL', KEYS[2])
return 1
