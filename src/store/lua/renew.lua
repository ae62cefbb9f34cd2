-- Extends the lease, counted from now.
--
-- KEYS  updater
-- ARGV  owner attempt gen lease_ms
--       [present]  from now on the updater holds a subscription by which it can be seen; renewals keep that
-- Replies
--       1 (extended) | 0 (lost)
local updater = redis.call('GET', KEYS[1])
if not is_of(updater, ARGV[3], ARGV[1], ARGV[2]) then
  return 0
end
local present = (ARGV[5] or string.match(updater, ':present:%d+$')) and ':present' or ''
redis.call('SET', KEYS[1], lease_of(ARGV[3], ARGV[1], ARGV[2]) .. present .. ':' .. ARGV[4], 'PX', ARGV[4])
return 1
