-- Reads what a claim of each would be answered with, without a right to fetch; changes nothing.
--
-- KEYS  token meta, of each
-- Replies, for each
--       token gen value left_ms life_ms doubted
--       none
local found = {}
for at = 1, #KEYS, 2 do
  local token = redis.call('HMGET', KEYS[at], 'gen', 'value', 'life_ms')
  local meta = redis.call('HMGET', KEYS[at + 1], 'invalidated', 'doubted')
  local gen, life = tonumber(token[1] or 0), tonumber(token[3] or 0)
  if gen > tonumber(meta[1] or 0) then
    local usable = math.max(math.min(redis.call('PTTL', KEYS[at]), life), 0)
    found[#found + 1] = {'token', token[1], token[2], usable, life, gen <= tonumber(meta[2] or 0) and 1 or 0}
  else
    found[#found + 1] = {'none'}
  end
end
return found
