-- Adds an entry to a token's log, unless it is among the last ones already.
--
-- KEYS  log
-- ARGV  keep                  about how many entries are kept
--       entry                 what this entry has and no other
--       field, value, ...     what it tells
-- Replies
--       1
for _, last in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 32)) do
  if last[2][2] == ARGV[2] then -- the first reply to this call was lost
    return 1
  end
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'entry', ARGV[2], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], 2592000000)
return 1
