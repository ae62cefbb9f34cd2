-- Invalidates every generation up to one.
--
-- KEYS  token meta
-- ARGV  channel gen
-- Replies
--       1 (invalidated now) | 0 (it was so before)
local stored = redis.call('HGET', KEYS[1], 'gen')
if tonumber(ARGV[2]) <= tonumber(redis.call('HGET', KEYS[2], 'invalidated') or 0) then
  return 0
end
redis.call('HSET', KEYS[2], 'invalidated', ARGV[2])
redis.call('PEXPIRE', KEYS[2], 2592000000)
if stored == ARGV[2] then
  redis.call('DEL', KEYS[1])
end
redis.pcall('PUBLISH', ARGV[1], 'invalidated ' .. ARGV[2])
return 1
