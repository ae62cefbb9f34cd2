-- Puts back a token that was lost here, unless anything known here speaks against it.
--
-- KEYS  token meta, and of the grant: updater
-- ARGV  channel gen value left_ms life_ms
-- Replies
--       1 (it is here) | 0 (not taken)
local gen = tonumber(ARGV[2])
local token = redis.call('HMGET', KEYS[1], 'gen', 'value')
local meta = redis.call('HMGET', KEYS[2], 'gen', 'invalidated', 'doubted')
local stored = tonumber(token[1] or 0)
if stored >= gen then
  return stored == gen and token[2] == ARGV[3] and 1 or 0
end
local doubtful = math.max(tonumber(meta[2] or 0), tonumber(meta[3] or 0))
if redis.call('EXISTS', KEYS[3]) == 1 or gen < tonumber(meta[1] or 0) or gen <= doubtful then
  return 0
end
redis.call('HSET', KEYS[2], 'gen', ARGV[2])
redis.call('PEXPIRE', KEYS[2], 2592000000)
redis.call('HSET', KEYS[1], 'value', ARGV[3], 'gen', ARGV[2], 'life_ms', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.pcall('PUBLISH', ARGV[1], 'committed ' .. ARGV[2])
return 1
