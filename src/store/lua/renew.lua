-- Extends the lease, counted from now.
--
-- KEYS  updater
-- ARGV  owner attempt gen lease_ms
-- Replies
--       1 (extended) | 0 (lost)
if not is_of(redis.call('GET', KEYS[1]), ARGV[3], ARGV[1], ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3] .. ':' .. ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[4], 'PX', ARGV[4])
return 1
