-- Returns entries of a token's log, the oldest first.
--
-- KEYS  log
-- ARGV  count                 how many at the most
--       after                 an id: the first ones after it; empty: the last ones
-- Replies
--       {id, {'entry', entry, field, value, ...}} ...
if ARGV[2] ~= '' then
  local found = redis.call('XRANGE', KEYS[1], ARGV[2], '+', 'COUNT', ARGV[1] + 1)
  if found[1] and found[1][1] == ARGV[2] then
    table.remove(found, 1)
  end
  return found
end
local found, turned = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1]), {}
for at = #found, 1, -1 do
  turned[#turned + 1] = found[at]
end
return turned
